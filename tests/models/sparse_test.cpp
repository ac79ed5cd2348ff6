#include "models/package/sparse.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "protocol/rng.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

using Small = std::vector<std::int8_t>;
using Floats = std::vector<float>;

template <typename Entry>
Bytes coded(const std::vector<Entry>& entries) {
  Bytes out;
  append_sparse(std::span<const Entry>(entries), out);
  return out;
}

template <typename Entry>
Status decoded(ByteSpan& source, std::vector<Entry>& out) {
  return take_sparse(source, std::span(out));
}

/// Whether `hex` is refused as `size` entries, in these words.
template <typename Entry = std::int8_t>
void check_refused(const char* hex, std::size_t size, const std::string& words) {
  CAPTURE(hex);
  const Bytes bytes = from_hex(hex).value();
  ByteSpan source(bytes);
  std::vector<Entry> out(size);
  const Status status = decoded(source, out);
  REQUIRE_FALSE(status.has_value());
  CHECK(status.error().code == Errc::corrupt);
  CHECK(status.error().detail.find(words) != std::string::npos);
}

Small with(std::size_t size, std::initializer_list<std::pair<std::size_t, int>> nonzero) {
  Small entries(size);
  for (const auto& [at, value] : nonzero) entries[at] = static_cast<std::int8_t>(value);
  return entries;
}

template <typename Entry>
Entry random_entry(Rng& rng) {
  // Negative zeros and infinities too: a coding carries bits.
  if constexpr (sizeof(Entry) == 1) return static_cast<Entry>(uniform_below(rng, 256));
  constexpr std::array<std::uint32_t, 4> some{0x80000000U, 0x3f800000U, 0x7f800000U, 1U};
  const auto bits =
      uniform_below(rng, 4) == 0 ? some[uniform_below(rng, 4)] : static_cast<std::uint32_t>(rng() | 1);
  if constexpr (sizeof(Entry) == 4) return std::bit_cast<Entry>(bits);
}

template <typename Entry>
std::vector<Entry> random_entries(Rng& rng, std::size_t size, double density) {
  std::vector<Entry> entries(size);
  for (Entry& entry : entries) {
    if (uniform_unit(rng) < density) entry = random_entry<Entry>(rng);
  }
  return entries;
}

template <typename Entry>
ByteSpan bits_of(const std::vector<Entry>& entries) {
  return std::as_bytes(std::span(entries));
}

template <typename Entry>
bool same_bits(const std::vector<Entry>& one, const std::vector<Entry>& other) {
  return std::ranges::equal(bits_of(one), bits_of(other));
}

}  // namespace

TEST_CASE("entries have the bytes of the shortest coding", "[models][sparse]") {
  // Three of three: 1 + 3 bytes dense, 1 + 1 + 3 with a bitmap.
  CHECK(to_hex(coded(Small{1, 2, -3})) == "000102fd");
  // Two of eight: bits 2 and 6.
  CHECK(to_hex(coded(Small{0, 0, 5, 0, 0, 0, -1, 0})) == "014405ff");
  // Two of 200: behind 130 zeros (0x82 0x01 in groups of seven bits), and behind none.
  CHECK(to_hex(coded(with(200, {{130, 7}, {131, -2}}))) ==
        "0202000000820107"
        "00fe");
  CHECK(to_hex(coded(Floats{0.0F, 1.0F, -0.0F})) == "01060000803f00000080");
  CHECK(to_hex(coded(Floats{1.0F})) == "000000803f");
}

TEST_CASE("nothing, and nothing but zeros, have codings too", "[models][sparse]") {
  CHECK(to_hex(coded(Small{})) == "00");
  CHECK(to_hex(coded(Small{0})) == "0000");  // Equally short: the first.
  CHECK(to_hex(coded(Small{0, 0, 0})) == "0100");
  CHECK(to_hex(coded(Small(32))) == "0100000000");  // Four bytes of bits, or of the count.
  CHECK(to_hex(coded(Small(33))) == "0200000000");
  CHECK(to_hex(coded(Floats(1000))) == "0200000000");
}

TEST_CASE("what was coded comes back bit for bit, and leaves what lies behind it", "[models][sparse]") {
  const auto density = GENERATE(0.0, 0.004, 0.05, 0.124, 0.4, 0.9, 1.0);
  const auto seed = GENERATE(range<std::uint64_t>(0, 12));
  CAPTURE(density, seed);
  const auto check = [&](auto zero) {
    using Entry = decltype(zero);
    Rng rng(seed);
    const auto size = static_cast<std::size_t>(uniform_below(rng, seed % 2 == 0 ? 40 : 5000));
    const auto entries = random_entries<Entry>(rng, size, density);
    const Bytes bytes = coded(entries);
    CHECK(bytes.size() <= 1 + size * sizeof(Entry));
    Bytes longer = bytes;
    longer.push_back(std::byte{42});
    ByteSpan source(longer);
    std::vector<Entry> back(size, random_entry<Entry>(rng));
    REQUIRE(decoded(source, back));
    CHECK(same_bits(back, entries));
    REQUIRE(source.size() == 1);
    CHECK(source.front() == std::byte{42});
    for (const std::size_t cut : {std::size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
      ByteSpan part = ByteSpan(bytes).first(cut);
      CHECK_FALSE(decoded(part, back));
    }
  };
  check(std::int8_t{});
  check(float{});
}

TEST_CASE("bytes that nobody writes are refused, with what is wrong", "[models][sparse]") {
  check_refused("", 8, "cut short");
  check_refused("03", 8, "in coding 3, which there is not");
  check_refused("0001", 2, "cut short");
  check_refused("0144", 8, "cut short");
  check_refused("014405", 8, "cut short");
  check_refused("01", 9, "cut short");
  check_refused("014405ffff", 7 - 1, "behind the last entry");  // bit 6 of six entries
  check_refused("0144ff00", 8, "listed as nonzero is 0");
  check_refused<float>("010200000000", 3, "listed as nonzero is 0");
  check_refused("02010000", 200, "cut short");
  check_refused("0201000000c80107", 200, "leads behind the last entry");      // 200 zeros of 200
  check_refused("020200000082010745fe", 200, "leads behind the last entry");  // 131 + 69
  check_refused("0201000000820100", 200, "listed as nonzero is 0");
  check_refused("020100000082810007", 200, "longer than it needs to be");
  check_refused("0201000000808080808010", 200, "more bytes than any needs");
  check_refused("0201000000ffffffff7f07", 200, "leads behind the last entry");
  check_refused("02ffffffff820107", 200, "cut short");
  check_refused("0203000000c7010700070007", 200, "leads behind the last entry");
}

TEST_CASE("the same entries in a longer coding are refused", "[models][sparse]") {
  check_refused(
      "000000050000"
      "00ff00",
      8, "though another is shorter");
  check_refused("0107010203", 3, "though another is shorter");
  check_refused(
      "02020000000205"
      "03ff",
      8, "though another is shorter");
  check_refused("0100", 1, "though another is shorter");
}

TEST_CASE("whatever bytes come, they are refused or are the ones that would be written", "[models][sparse]") {
  Rng rng(7);
  std::size_t taken = 0;
  for (int attempt = 0; attempt < 20'000; ++attempt) {
    const std::size_t size = uniform_below(rng, 300);
    const double density = attempt % 3 == 0 ? 0.02 : attempt % 3 == 1 ? 0.3 : 0.95;
    Bytes bytes = coded(random_entries<std::int8_t>(rng, size, density));
    for (std::uint64_t changes = 1 + uniform_below(rng, 3); changes > 0; --changes) {
      const std::size_t at = uniform_below(rng, bytes.size());
      const auto byte = static_cast<std::byte>(uniform_below(rng, 256));
      const auto kind = uniform_below(rng, 4);
      if (kind < 2) bytes[at] = kind == 0 ? byte : bytes[at] ^ (std::byte{1} << (to_integer<int>(byte) % 8));
      if (kind == 2) bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), byte);
      if (kind == 3 && bytes.size() > 1) bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(at));
    }
    ByteSpan source(bytes);
    Small out(size);
    if (!decoded(source, out)) continue;
    ++taken;
    const ByteSpan used = ByteSpan(bytes).first(bytes.size() - source.size());
    const Bytes again = coded(out);
    REQUIRE(std::ranges::equal(again, used));
  }
  CHECK(taken > 1000);  // Changed values are values as good as any.
}
