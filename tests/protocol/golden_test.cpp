#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "protocol/payload.h"
#include "tests/catch.h"
#include "tests/protocol/values.h"

using namespace rivulet;
using namespace rivulet::testing;

namespace {

/// A frame, or a signed payload, of protocol version 1: hexadecimal, 32 bytes a line.
std::filesystem::path file_of(std::string_view name) {
  return std::filesystem::path("tests/protocol/golden") / (std::string(name) + ".hex");
}

/// What stands there for good. With RIVULET_WRITE_GOLDEN=1 a file that is missing is written first, as for a
/// new kind of message; one that is there never is.
Bytes golden(std::string_view name, const Bytes& ours) {
  const std::filesystem::path path = file_of(name);
  if (std::getenv("RIVULET_WRITE_GOLDEN") != nullptr && !std::filesystem::exists(path)) {
    std::ofstream out(path);
    const std::string digits = to_hex(ours);
    for (std::size_t at = 0; at < digits.size(); at += 64) out << digits.substr(at, 64) << "\n";
  }
  std::ifstream in(path);
  INFO("no " << path << ": write it with RIVULET_WRITE_GOLDEN=1, from the repository's root");
  REQUIRE(in.is_open());
  std::string digits;
  for (std::string line; std::getline(in, line);) digits += line;
  const auto bytes = from_hex(digits);
  REQUIRE(bytes);
  return *bytes;
}

template <typename Value, typename Decode>
void check_payload(std::string_view name, const Value& value, Decode decode) {
  CAPTURE(name);
  const Bytes stored = golden(name, encode(value));
  CHECK(decode(ByteSpan(stored)).value() == value);
  CHECK(to_hex(encode(value)) == to_hex(stored));
}

/// The names of the signed payloads; all other files are frames.
const std::set<std::string> payload_names = {"update_header", "evaluation_report", "signed_time",
                                             "trust_document", "envelope"};

}  // namespace

TEST_CASE("each stored frame of version 1 reads and writes as on its first day", "[protocol][golden]") {
  const auto messages = one_of_each();
  REQUIRE(messages.size() == std::variant_size_v<Message>);
  for (const Message& message : messages) {
    CAPTURE(name(message));
    const Bytes stored = golden(name(message), encode(message));
    const auto decoded = decode_message(stored);
    REQUIRE(decoded);
    CHECK((*decoded == message));
    CHECK(to_hex(encode(message)) == to_hex(stored));
  }
}

TEST_CASE("so does what is signed", "[protocol][golden]") {
  check_payload("update_header", some_header(), decode_update_header);
  check_payload("evaluation_report", some_report(), decode_evaluation_report);
  check_payload("signed_time", some_time(), decode_signed_time);
  check_payload("trust_document", some_trust(), decode_trust);
  check_payload("envelope", some_envelope(1), decode_envelope);
}

TEST_CASE("no stored frame lacks its test", "[protocol][golden]") {
  std::set<std::string> expected = payload_names;
  for (const Message& message : one_of_each()) expected.emplace(name(message));
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator("tests/protocol/golden")) {
    found.insert(entry.path().stem().string());
  }
  CHECK(found == expected);
}

TEST_CASE("a frame is what Cap'n Proto's encoding says, word by word", "[protocol][golden]") {
  // By hand, from https://capnproto.org/encoding.html: one segment; the root's pointer (a struct right behind
  // it, 1 word of data, 1 pointer); the kind of message in the first 16 bits of data; the pointer.
  const auto frame = [](const std::string& words) { return from_hex(words).value(); };
  const Bytes heartbeat = frame(
      "0000000003000000"
      "0000000001000100"
      "1500000000000000"  // heartbeat @21
      "0000000000000000");
  CHECK(encode(Message(message::Heartbeat{})) == heartbeat);
  const Bytes request = frame(
      "0000000004000000"
      "0000000001000100"
      "0100000000000000"    // trustRequest @1
      "0000000001000000"    // a struct right behind, 1 word of data
      "0700000000000000");  // fromVersion
  CHECK(encode(Message(message::TrustRequest{7})) == request);
  const Bytes declined = frame(
      "0000000009000000"
      "0000000001000100"
      "1800000000000000"  // declined @24
      "0000000001000200"  // a struct right behind, 1 word of data, 2 pointers
      "4700000000000000"  // reason: 71
      "0500000082000000"  // task: 16 bytes, 1 word further on
      "090000001a000000"  // detail: 3 bytes with the final zero, 2 words further on
      "000102030405060708090a0b0c0d0e0f"
      "6f6b000000000000");  // "ok"
  TaskId task;
  for (std::size_t i = 0; i < TaskId::size; ++i) task.bytes[i] = static_cast<std::byte>(i);
  CHECK(to_hex(encode(Message(message::Declined{task, Reason::training_failed, "ok"}))) == to_hex(declined));
}
