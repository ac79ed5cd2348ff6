#include "protocol/message.h"

#include "protocol/documents.h"
#include "protocol/payload.h"
#include "protocol/rng.h"
#include "protocol/schema.capnp.h"
#include "tests/catch.h"
#include "tests/protocol/values.h"

using namespace rivulet;
using namespace rivulet::testing;

TEST_CASE("every message comes back as it was sent", "[protocol][message]") {
  const auto messages = one_of_each();
  REQUIRE(messages.size() == std::variant_size_v<Message>);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    CAPTURE(name(messages[i]));
    REQUIRE(messages[i].index() == i);
    const Bytes frame = encode(messages[i]);
    const auto decoded = decode_message(frame);
    REQUIRE(decoded);
    CHECK((*decoded == messages[i]));
  }
  const Message large = message::Chunk{id_of<ContentId>(2), 65536, Bytes(65536, std::byte{42})};
  CHECK((decode_message(encode(large)).value() == large));
}

TEST_CASE("a frame that is cut, extended or damaged is refused or read as a message, never worse",
          "[protocol][message]") {
  Rng rng(2026);
  for (const Message& message : one_of_each()) {
    const Bytes frame = encode(message);
    for (int trial = 0; trial < 200; ++trial) {
      Bytes damaged = frame;
      for (std::uint64_t flips = 1 + uniform_below(rng, 4); flips > 0; --flips) {
        damaged[uniform_below(rng, damaged.size())] = static_cast<std::byte>(rng());
      }
      std::ignore = decode_message(damaged);
      CHECK_FALSE(decode_message(ByteSpan(frame).first(uniform_below(rng, frame.size()))));
    }
    Bytes longer = frame;
    longer.resize(frame.size() + 8);
    CHECK(decode_message(longer).error().code == Errc::corrupt);
  }
}

TEST_CASE("messages made to exhaust a reader are refused", "[protocol][message]") {
  SECTION("more than one segment") {
    Bytes frame = encode(Message(message::Heartbeat{}));
    frame[0] = std::byte{1};
    CHECK(decode_message(frame).error().code == Errc::corrupt);
    for (int i = 0; i < 4; ++i) frame[static_cast<std::size_t>(i)] = std::byte{0xff};
    CHECK(decode_message(frame).error().code == Errc::corrupt);
  }
  SECTION("a ready that names more tasks than any node has") {
    const auto tasks = [](unsigned count) {
      std::vector<TaskId> ids(count);
      for (unsigned i = 0; i < count; ++i) ids[i].bytes[0] = static_cast<std::byte>(i);
      return ids;
    };
    message::Ready ready{1, 1, 10, 5, tasks(256), tasks(256)};
    CHECK((decode_message(encode(Message(ready))).value() == Message(ready)));
    ready.open_tasks = tasks(257);
    CHECK(decode_message(encode(Message(ready))).error().code == Errc::corrupt);
    ready.open_tasks.clear();
    ready.awaiting_verdict = tasks(257);
    CHECK(decode_message(encode(Message(ready))).error().code == Errc::corrupt);
  }
  SECTION("a list of 2^29 elements without size") {
    capnp::MallocMessageBuilder builder;
    builder.initRoot<wire::Message>().initVerdicts();
    Bytes frame = payload::to_bytes(builder);
    // Root: 1 data word, 1 pointer; Verdicts: 1 pointer. Point it at a zero-sized struct list.
    append_le(frame, std::uint64_t{0});
    const std::uint32_t words = static_cast<std::uint32_t>((frame.size() - 8) / 8);
    std::memcpy(frame.data() + 4, &words, 4);
    const std::uint64_t composite = 1 | (7ULL << 32) | (0ULL << 35);
    std::memcpy(frame.data() + frame.size() - 16, &composite, 8);
    const std::uint64_t tag = 0x1fffffffULL << 2;
    std::memcpy(frame.data() + frame.size() - 8, &tag, 8);
    const auto decoded = decode_message(frame);
    CHECK_FALSE(decoded);
  }
  SECTION("an unknown type of message is said to be unsupported") {
    capnp::MallocMessageBuilder builder;
    builder.initRoot<wire::Message>().setHeartbeat();
    Bytes frame = payload::to_bytes(builder);
    // The discriminant is the first 16 bits of the data section, behind table and root pointer.
    frame[16] = std::byte{0xff};
    CHECK(decode_message(frame).error().code == Errc::unsupported);
  }
  SECTION("text that would forge a log line") {
    for (const Message& message : {Message(message::Hello{1, 1, {}, "a\nlevel=error"}),
                                   Message(message::Declined{{}, Reason::none, "a\x1b[2J"})}) {
      CHECK(decode_message(encode(message)).error().code == Errc::corrupt);
    }
  }
  SECTION("text that would fill a log") {
    const auto declined = [](std::size_t bytes) {
      return decode_message(encode(Message(message::Declined{{}, Reason::none, std::string(bytes, 'x')})));
    };
    CHECK(declined(1024));
    CHECK(declined(1025).error().code == Errc::corrupt);
  }
}

TEST_CASE("signed documents come back as they were, and only in their own context", "[protocol][documents]") {
  const UpdateHeader header = some_header();
  CHECK(decode_update_header(encode(header)).value() == header);
  const EvaluationReport report = some_report();
  CHECK(decode_evaluation_report(encode(report)).value() == report);
  CHECK(report.samples() == 19);
  const SignedTime time = some_time();
  CHECK(decode_signed_time(encode(time)).value() == time);

  CHECK(decode_envelope(encode(some_envelope(1))).value() == some_envelope(1));

  const SecretKey key = SecretKey::generate();
  const Envelope envelope = seal(key, Context::update, encode(header));
  CHECK(verify_envelope(key.public_key(), Context::update, envelope));
  for (const Context other : {Context::trust, Context::release, Context::version, Context::candidate,
                              Context::evaluation, Context::time}) {
    CHECK(verify_envelope(key.public_key(), other, envelope).error().code == Errc::refused);
  }
  CHECK_FALSE(verify_envelope(SecretKey::generate().public_key(), Context::update, envelope));
}
