#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "protocol/codec/mixed.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

ReadBytes from(const Bytes& wire) {
  return [&wire](std::uint64_t offset, std::span<std::byte> out) -> Status {
    if (offset + out.size() > wire.size()) return fail(Errc::corrupt, "too short");
    std::copy_n(wire.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  };
}

Result<std::vector<float>> decode(Codec codec, const Bytes& wire, std::size_t entries,
                                  const std::vector<CoordinateRange>& exact) {
  const auto source = open_mixed(codec, from(wire), wire.size(), entries, exact);
  if (!source) return std::unexpected(source.error());
  std::vector<float> out(entries);
  Bytes scratch;
  for (std::size_t i = 0; i < segment_count(entries); ++i) {
    const Status status = (*source)->read(
        i, std::span(out).subspan(i * segment_entries, entries_in_segment(entries, i)), scratch);
    if (!status) return std::unexpected(status.error());
  }
  return out;
}

}  // namespace

TEST_CASE("the exact part of a delta lies as float32 behind the codec's", "[codec][mixed]") {
  // By hand: five entries of which the 2nd and the last two are exact.
  const std::vector<float> delta{1.0F, -0.1F, 0.5F, 3e-20F, 7.0F};
  const std::vector<CoordinateRange> exact{{1, 2}, {3, 5}};
  Rng rng(1);
  const Bytes wire = encode_mixed(Codec::fp32, delta, exact, rng).value();
  Bytes expected;
  append_le(expected, std::uint64_t{5});
  append_le(expected, std::uint32_t{20});
  for (const float x : {1.0F, 0.0F, 0.5F, 0.0F, 0.0F, -0.1F, 3e-20F, 7.0F}) append_le(expected, x);
  CHECK(wire == expected);
  CHECK(mixed_bytes(Codec::fp32, 5, exact) == 8 + 4 + 20 + 12);
  CHECK(decode(Codec::fp32, wire, 5, exact).value() == delta);
}

TEST_CASE("exact entries survive a coarse codec bit for bit, across borders of segments", "[codec][mixed]") {
  const std::size_t entries = 2 * segment_entries + 100;
  const std::vector<CoordinateRange> exact{
      {0, 3}, {segment_entries - 2, segment_entries + 2}, {entries - 1, entries}};
  std::vector<float> delta(entries);
  Rng values(5);
  for (float& x : delta) x = static_cast<float>(uniform_unit(values) - 0.5);
  delta[1] = 1e6F;  // Would make the scale of its block useless for all others.
  Rng rng(2);
  const Bytes wire = encode_mixed(Codec::int8, delta, exact, rng).value();
  CHECK(wire.size() == mixed_bytes(Codec::int8, entries, exact));
  const auto decoded = decode(Codec::int8, wire, entries, exact).value();
  for (const auto [begin, end] : exact) {
    for (std::size_t i = begin; i < end; ++i) CHECK(decoded[i] == delta[i]);
  }
  float worst = 0;
  for (std::size_t i = 3; i < 200; ++i) worst = std::max(worst, std::abs(decoded[i] - delta[i]));
  CHECK(worst <= 0.5F / 127);
}

TEST_CASE("without exact entries the wire form is the codec's own", "[codec][mixed]") {
  const std::vector<float> delta{1, 2, 3};
  Rng one(3), two(3);
  CHECK(encode_mixed(Codec::int8, delta, {}, one).value() == encode(Codec::int8, delta, two).value());
  CHECK(mixed_bytes(Codec::int8, 3, {}) == encoded_bytes(Codec::int8, 3));
}

TEST_CASE("an exact part of another length or with an entry that is not finite is refused",
          "[codec][mixed]") {
  const std::vector<float> delta{1, 2, 3, 4};
  const std::vector<CoordinateRange> exact{{1, 3}};
  Rng rng(1);
  const Bytes wire = encode_mixed(Codec::int8, delta, exact, rng).value();
  REQUIRE(decode(Codec::int8, wire, 4, exact));
  for (std::size_t size = 0; size < wire.size(); ++size) {
    Bytes shorter(wire.begin(), wire.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK(decode(Codec::int8, shorter, 4, exact).error().code == Errc::corrupt);
  }
  Bytes longer = wire;
  longer.push_back(std::byte{0});
  CHECK(decode(Codec::int8, longer, 4, exact).error().code == Errc::corrupt);
  CHECK(decode(Codec::int8, encode(Codec::int8, delta, rng).value(), 4, exact).error().code == Errc::corrupt);
  for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    Bytes changed = wire;
    const auto bits = std::bit_cast<std::uint32_t>(bad);
    std::memcpy(changed.data() + changed.size() - 4, &bits, 4);
    CHECK(decode(Codec::int8, changed, 4, exact).error().reason == Reason::not_finite);
    CHECK_FALSE(encode_mixed(Codec::int8, std::vector<float>{1, 2, bad, 4}, exact, rng));
  }
}
