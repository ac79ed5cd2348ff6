#include <sys/stat.h>

#include <fstream>

#include "protocol/content.h"
#include "protocol/keys.h"
#include "protocol/now.h"
#include "protocol/rng.h"
#include "protocol/sha256.h"
#include "protocol/text.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;

TEST_CASE("SHA-256 gives the digests of FIPS 180-4's examples", "[protocol][sha256]") {
  CHECK(sha256(bytes_of("abc")).hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256({}).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 pieces;
  for (int i = 0; i < 1000; ++i) pieces.update(bytes_of(std::string(1000, 'a')));
  CHECK(pieces.finish().hex() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("Ed25519 keys and signatures are those of RFC 8032 section 7.1", "[protocol][keys]") {
  struct Vector {
    const char* seed;
    const char* key;
    const char* message;
    const char* signature;
  };
  const Vector vector = GENERATE(
      Vector{
          "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
          "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
          "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
          "d25bf5f0595bbe24655141438e7a100b"},
      Vector{
          "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
          "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
          "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
          "4a7c15e9716ed28dc027beceea1ec40a"});
  const Bytes seed = *from_hex(vector.seed);
  const Bytes message = *from_hex(vector.message);
  const SecretKey key = SecretKey::from_seed(std::span<const std::byte, 32>(seed.data(), 32));
  CHECK(key.public_key().hex() == vector.key);
  const Signature signature = key.sign(message);
  CHECK(signature.hex() == vector.signature);
  CHECK(verify(key.public_key(), message, signature));
  for (std::size_t bit = 0; bit < 512; bit += 37) {
    Signature flipped = signature;
    flipped.bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    CHECK_FALSE(verify(key.public_key(), message, flipped));
  }
}

TEST_CASE("a key file is readable by its owner alone and comes back as the same key", "[protocol][keys]") {
  const TemporaryFolder folder;
  const auto file = folder.path / "node.key";
  const SecretKey key = SecretKey::generate();
  REQUIRE(key.save(file));
  CHECK((std::filesystem::status(file).permissions() & std::filesystem::perms::mask) ==
        (std::filesystem::perms::owner_read | std::filesystem::perms::owner_write));
  CHECK(SecretKey::load(file).value().public_key() == key.public_key());
  CHECK(key.save(file).error().code == Errc::conflict);

  ::chmod(file.c_str(), 0640);
  CHECK(SecretKey::load(file).error().code == Errc::permission);
  CHECK(SecretKey::load(folder.path / "none").error().code == Errc::not_found);

  const auto damaged = folder.path / "damaged.key";
  const std::string text =
      GENERATE(std::string(""), std::string(63, 'a'), std::string(65, 'a'), std::string(64, 'g'));
  std::ofstream(damaged) << text;
  ::chmod(damaged.c_str(), 0600);
  CHECK(SecretKey::load(damaged).error().code == Errc::corrupt);
}

TEST_CASE("a content id is the hash of length and chunk digests, however the bytes arrive",
          "[protocol][content]") {
  const std::size_t size = GENERATE(std::size_t{0}, std::size_t{1}, chunk_bytes - 1, chunk_bytes,
                                    chunk_bytes + 1, 3 * chunk_bytes);
  Bytes content(size);
  for (std::size_t i = 0; i < size; ++i) content[i] = static_cast<std::byte>(i * 131 >> 3);
  const ChunkList list = chunk_list_of(content);
  CHECK(list.length == size);
  REQUIRE(list.chunks.size() == (size + chunk_bytes - 1) / chunk_bytes);
  for (std::size_t i = 0; i < list.chunks.size(); ++i) {
    const std::size_t begin = i * chunk_bytes;
    CHECK(list.chunks[i] ==
          sha256(ByteSpan(content).subspan(begin, std::min<std::size_t>(chunk_bytes, size - begin))));
  }
  ChunkHasher hasher;
  for (std::size_t at = 0; at < size; at += 65521) {
    hasher.update(ByteSpan(content).subspan(at, std::min<std::size_t>(65521, size - at)));
  }
  CHECK(hasher.finish() == list);
  CHECK(check(list, list.id()));

  ChunkList longer = list;
  longer.length += 1;
  CHECK(longer.id() != list.id());
  ChunkList extra = list;
  extra.chunks.push_back(Digest{});
  CHECK(check(extra, extra.id()).error().code == Errc::corrupt);
  CHECK(check(list, ContentId{}).error().code == Errc::corrupt);
}

TEST_CASE("hexadecimal and Base64 take back only what they write", "[protocol][bytes]") {
  // RFC 4648 section 10, without padding.
  CHECK(to_base64url(bytes_of("")) == "");
  CHECK(to_base64url(bytes_of("f")) == "Zg");
  CHECK(to_base64url(bytes_of("fo")) == "Zm8");
  CHECK(to_base64url(bytes_of("foobar")) == "Zm9vYmFy");
  CHECK(to_base64url(*from_hex("fbff")) == "-_8");
  CHECK(text_of(*from_base64url("Zm9vYmE")) == "fooba");
  CHECK_FALSE(from_base64url("Z"));
  CHECK_FALSE(from_base64url("Zh"));
  CHECK_FALSE(from_base64url("Zg=="));
  CHECK(to_hex(*from_hex("00fF10")) == "00ff10");
  CHECK_FALSE(from_hex("0"));
  CHECK_FALSE(from_hex("0g"));
}

TEST_CASE("times are written and read as RFC 3339", "[protocol][now]") {
  const UtcTime time = UtcTime(std::chrono::milliseconds(1784733602987));
  CHECK(to_rfc3339(time) == "2026-07-22T15:20:02.987Z");
  CHECK(parse_rfc3339("2026-07-22T15:20:02.987Z").value() == time);
  CHECK(parse_rfc3339("1970-01-01T00:00:00Z").value() == UtcTime{});
  for (const char* bad :
       {"", "2026-02-30T00:00:00Z", "2026-07-22 15:20:02Z", "2026-07-22T24:00:00Z", "2026-07-22T15:20:02"}) {
    CHECK_FALSE(parse_rfc3339(bad));
  }
  CHECK(parse_duration("1h").value() == std::chrono::seconds(3600));
  CHECK(parse_duration("365d").value() == std::chrono::days(365));
  for (const char* bad : {"", "1", "h", "-1h", "1.5h", "1w", "99999999999999999999s", "36501d"}) {
    CHECK_FALSE(parse_duration(bad));
  }
}

TEST_CASE("uniform_below reaches every value equally often", "[protocol][rng]") {
  Rng rng(7);
  std::array<int, 6> counts{};
  for (int i = 0; i < 60000; ++i) ++counts[uniform_below(rng, 6)];
  // Each count is binomial(60000, 1/6): five standard deviations are 456.
  for (const int count : counts) CHECK(std::abs(count - 10000) < 456);
}

TEST_CASE("any text becomes one that a peer takes, and printable text stays as it is", "[protocol][text]") {
  // Well-formed UTF-8 by RFC 3629, and what is not: a continuation alone, one that is missing, overlong
  // forms, a surrogate, a number beyond U+10FFFF.
  for (const std::string_view text : {"", "plain words", "Grüße, 河, 🌊", "\xf4\x8f\xbf\xbf"}) {
    CHECK(is_printable(text));
    CHECK(to_printable(text) == text);
  }
  for (const std::string_view text : {"two\nlines", "\x1b[31m", "\x7f", "\x80", "\xc3", "\xc0\xaf",
                                      "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff"}) {
    CHECK_FALSE(is_printable(text));
    CHECK(is_printable(to_printable(text)));
    CHECK(to_printable(text).size() == text.size());
  }
  CHECK(to_printable("one\ttwo\xc3 three") == "one two  three");
  // Cut between characters: "ü" has two bytes, and only one of them would fit.
  CHECK(to_printable("Grüße", 3) == "Gr");
  CHECK(to_printable("Grüße", 4) == "Grü");
  CHECK(to_printable(std::string(5000, 'x')).size() == 1024);
  CHECK(is_printable(std::string_view("\0", 1)) == false);
}
