#include "protocol/message.h"

#include "protocol/documents.h"
#include "protocol/payload.h"
#include "protocol/rng.h"
#include "protocol/schema.capnp.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

template <typename Id>
Id id_of(int seed) {
  Id id;
  for (std::size_t i = 0; i < Id::size; ++i)
    id.bytes[i] = static_cast<std::byte>(seed * 31 + static_cast<int>(i));
  return id;
}

Envelope some_envelope(int seed) {
  return {copy_of(bytes_of("payload " + std::to_string(seed))), id_of<Signature>(seed)};
}

/// One of each kind, with no field at its default.
std::vector<Message> one_of_each() {
  const TaskId task = id_of<TaskId>(1);
  const ContentId content = id_of<ContentId>(2);
  SignedTrust trust{copy_of(bytes_of("doc")), {{id_of<PublicKey>(3), id_of<Signature>(4)}}};
  return {
      message::TrustChain{{trust, trust}},
      message::TrustRequest{7},
      message::Hello{1, 2, id_of<FleetId>(5), "rivulet 0.1"},
      message::Enrol{1, 2, id_of<FleetId>(5), "rivulet 0.1", id_of<JoinSecret>(6)},
      message::Enrolled{"river"},
      message::Welcome{1, some_envelope(1), 60},
      message::Refused{Reason::revoked, "revoked by the operator"},
      message::Backoff{Reason::overloaded, 1500},
      message::Ready{3, 9, 120, 30, {task}, {task, id_of<TaskId>(8)}},
      message::Assignment{some_envelope(2)},
      message::Task{task,
                    message::TaskType::evaluate,
                    4,
                    60000,
                    some_envelope(3),
                    {5, 10, 0.05, 0.9, 1e-4, 0.01, 2.5, 99, 1, 1},
                    some_envelope(4)},
      message::TaskCancelled{task, Reason::round_closed},
      message::Fetch{content, 1 << 20, 65536, true},
      message::ContentList{content, {3 << 20, {id_of<Digest>(1), id_of<Digest>(2), id_of<Digest>(3)}}},
      message::Chunk{content, 65536, Bytes(65536, std::byte{42})},
      message::Credit{content, 131072},
      message::NoContent{content},
      message::Offer{some_envelope(5)},
      message::Receipt{task, message::ReceiptOutcome::refused, Reason::norm_too_large,
                       "norm 9 over 4 times 2"},
      message::Verdicts{{{task, message::VerdictOutcome::aggregated, Reason::none, 12},
                         {id_of<TaskId>(9), message::VerdictOutcome::discarded, Reason::round_failed, 0}}},
      message::Evaluation{some_envelope(6)},
      message::Heartbeat{},
      message::Telemetry{3, 120, 30, 1000, 2},
      message::Activation{4, 10, Reason::worse_on_holdout, "0.81 after 0.93"},
  };
}

}  // namespace

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
    const Bytes frame = encode(Message(message::Hello{1, 1, {}, "a\nlevel=error"}));
    CHECK(decode_message(frame).error().code == Errc::corrupt);
  }
}

TEST_CASE("signed documents come back as they were, and only in their own context", "[protocol][documents]") {
  const UpdateHeader header{id_of<FleetId>(1),
                            id_of<TaskId>(2),
                            id_of<PublicKey>(3),
                            4,
                            id_of<Digest>(5),
                            1,
                            1000,
                            50,
                            2.5,
                            0.5,
                            id_of<ContentId>(6),
                            1234,
                            UtcTime(std::chrono::milliseconds(1700000000123))};
  CHECK(decode_update_header(encode(header)).value() == header);
  const EvaluationReport report{id_of<FleetId>(1),
                                id_of<TaskId>(2),
                                id_of<PublicKey>(3),
                                id_of<Digest>(4),
                                id_of<Digest>(5),
                                10,
                                2,
                                3,
                                4,
                                1.5,
                                1.25,
                                UtcTime(std::chrono::milliseconds(7))};
  CHECK(decode_evaluation_report(encode(report)).value() == report);
  CHECK(report.samples() == 19);
  const SignedTime time{id_of<FleetId>(1), UtcTime(std::chrono::milliseconds(1700000000123))};
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
