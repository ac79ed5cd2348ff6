#include <cmath>
#include <limits>

#include "protocol/codec/codec.h"
#include "tests/catch.h"
#include "tests/vector_targets.h"

using namespace rivulet;

namespace {

std::vector<float> some_delta(std::size_t entries) {
  Rng rng(entries);
  std::vector<float> delta(entries);
  for (float& x : delta) x = static_cast<float>(uniform_unit(rng) - 0.5);
  return delta;
}

Bytes encoded(Codec codec, std::size_t entries) {
  Rng rng(1);
  return encode(codec, some_delta(entries), rng).value();
}

Result<std::vector<float>> try_decode(Codec codec, ByteSpan wire, std::size_t entries) {
  const auto view = EncodedDelta::parse(codec, wire, entries);
  if (!view) return std::unexpected(view.error());
  return view->decode();
}

Bytes int8_block(float scale, std::initializer_list<int> entries) {
  Bytes wire;
  append_le(wire, std::uint64_t{entries.size()});
  append_le(wire, static_cast<std::uint32_t>(4 + entries.size()));
  append_le(wire, scale);
  for (const int entry : entries) append_le(wire, static_cast<std::int8_t>(entry));
  return wire;
}

}  // namespace

TEST_CASE("a wire form that is shorter or longer by any number of bytes is refused", "[codec][fault]") {
  const auto codec = GENERATE(Codec::fp32, Codec::int8);
  const auto entries = GENERATE(1u, 5u, 257u);
  const Bytes wire = encoded(codec, entries);
  REQUIRE(try_decode(codec, wire, entries));
  for (std::size_t size = 0; size < wire.size(); ++size) {
    const auto view = EncodedDelta::parse(codec, ByteSpan(wire).first(size), entries);
    REQUIRE_FALSE(view);
    CHECK(view.error().code == Errc::corrupt);
  }
  Bytes longer = wire;
  for (int extra = 0; extra < 300; ++extra) {
    longer.push_back(std::byte{0});
    CHECK(EncodedDelta::parse(codec, longer, entries).error().code == Errc::corrupt);
  }
  CHECK_FALSE(EncodedDelta::parse(codec, wire, entries - 1));
  CHECK_FALSE(EncodedDelta::parse(codec, wire, entries + 1));
}

TEST_CASE("every changed byte of the head is refused", "[codec][fault]") {
  const auto codec = GENERATE(Codec::fp32, Codec::int8);
  const std::size_t entries = segment_entries + 3;
  const Bytes wire = encoded(codec, entries);
  for (std::size_t at = 0; at < 8 + 2 * 4; ++at) {
    for (int value = 0; value < 256; ++value) {
      Bytes changed = wire;
      changed[at] = static_cast<std::byte>(value);
      if (changed[at] == wire[at]) continue;
      const auto view = EncodedDelta::parse(codec, changed, entries);
      REQUIRE_FALSE(view);
      REQUIRE(view.error().code == Errc::corrupt);
    }
  }
}

TEST_CASE("lengths that sum up rightly but move a border between segments are refused", "[codec][fault]") {
  const std::size_t entries = 2 * segment_entries;
  Bytes wire = encoded(Codec::int8, entries);
  const auto length = load_le<std::uint32_t>(wire, 8);
  const std::uint32_t moved[] = {length + 260, length - 260};
  std::memcpy(wire.data() + 8, moved, sizeof moved);
  CHECK(EncodedDelta::parse(Codec::int8, wire, entries).error().code == Errc::corrupt);
}

TEST_CASE("a claim of more entries than the model has costs no memory and is refused", "[codec][fault]") {
  Bytes wire;
  append_le(wire, std::numeric_limits<std::uint64_t>::max());
  wire.resize(4096, std::byte{0xff});
  CHECK(EncodedDelta::parse(Codec::int8, wire, 1000).error().code == Errc::corrupt);
  // Nor does a huge model with a short wire form reserve anything for its table.
  CHECK(EncodedDelta::parse(Codec::int8, wire, std::size_t{1} << 50).error().code == Errc::corrupt);
}

TEST_CASE("int8 blocks that no encoder writes are corrupt", "[codec][fault]") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  CHECK(try_decode(Codec::int8, int8_block(0.5F, {127, -127, 0}), 3) ==
        std::vector<float>{63.5F, -63.5F, 0.0F});
  CHECK(try_decode(Codec::int8, int8_block(0.0F, {0, 0, 0}), 3) == std::vector<float>{0.0F, 0.0F, 0.0F});
  const auto scale =
      GENERATE_COPY(0.0F, -0.0F, -1.0F, infinity, -infinity, std::numeric_limits<float>::quiet_NaN(),
                    std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min(),
                    std::numeric_limits<float>::max() / 126.0F);
  CAPTURE(scale);
  CHECK(try_decode(Codec::int8, int8_block(scale, {0, 1, 0}), 3).error().code == Errc::corrupt);
  CHECK(try_decode(Codec::int8, int8_block(0.5F, {0, 0, -128}), 3).error().code == Errc::corrupt);
}

TEST_CASE("an fp32 entry that is not finite is corrupt wherever it stands", "[codec][fault]") {
  const auto at = GENERATE(0u, 1u, 511u, 65'535u, 65'536u, 65'540u);
  const auto bits = GENERATE(0x7f80'0000u, 0xff80'0000u, 0x7fc0'0000u, 0x7f80'0001u);
  const std::size_t entries = segment_entries + 5;
  Bytes wire = encoded(Codec::fp32, entries);
  std::memcpy(wire.data() + 8 + 2 * 4 + 4 * at, &bits, sizeof bits);
  const EncodedDelta view = EncodedDelta::parse(Codec::fp32, wire, entries).value();
  const auto result = view.decode();
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Errc::corrupt);
  CHECK(result.error().detail.find("segment " + std::to_string(at / segment_entries)) != std::string::npos);
  CHECK(inspect(view, {}).error().code == Errc::corrupt);
}

TEST_CASE("every instruction set finds the entry that is not finite, and lets the largest floats pass",
          "[codec][fault]") {
  const std::size_t entries = 77;
  Bytes wire = encoded(Codec::fp32, entries);
  for_each_instruction_set([&](const std::string& set) {
    CAPTURE(set);
    for (std::size_t at = 0; at < entries; ++at) {
      for (const auto& [bits, sound] : {std::pair{0x7f80'0000u, false},
                                        {0xffff'ffffu, false},
                                        {0x7f7f'ffffu, true},
                                        {0xff7f'ffffu, true},
                                        {0x8000'0000u, true},
                                        {0x0000'0001u, true}}) {
        Bytes changed = wire;
        std::memcpy(changed.data() + 12 + 4 * at, &bits, sizeof bits);
        const auto result = try_decode(Codec::fp32, changed, entries);
        REQUIRE(result.has_value() == sound);
        if (sound) REQUIRE(std::memcmp(result->data(), changed.data() + 12, 4 * entries) == 0);
      }
    }
  });
}

TEST_CASE("random damage never yields an entry that is not finite", "[codec][fault]") {
  const auto codec = GENERATE(Codec::fp32, Codec::int8);
  const std::size_t entries = 700;
  const Bytes wire = encoded(codec, entries);
  std::size_t accepted = 0;
  std::size_t refused = 0;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    Rng rng(seed);
    Bytes damaged = wire;
    for (std::uint64_t n = 1 + uniform_below(rng, 40); n > 0; --n) {
      damaged[12 * uniform_below(rng, 2) + uniform_below(rng, damaged.size() - 12)] =
          static_cast<std::byte>(rng());
    }
    if (uniform_below(rng, 20) == 0) damaged.resize(uniform_below(rng, damaged.size() + 10));
    const auto result = try_decode(codec, damaged, entries);
    if (!result) {
      ++refused;
      CHECK(result.error().code == Errc::corrupt);
      continue;
    }
    ++accepted;
    CAPTURE(seed);
    REQUIRE(result->size() == entries);
    REQUIRE(std::ranges::all_of(*result, [](float x) { return std::isfinite(x); }));
  }
  CHECK(accepted > 20);
  CHECK(refused > 100);
}

TEST_CASE("a source whose head can't be read or is wrong does not open", "[codec][fault]") {
  const Bytes wire = encoded(Codec::int8, 100);
  const auto reader = [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
    if (offset + out.size() > wire.size()) return fail(Errc::storage, "past the end");
    std::memcpy(out.data(), wire.data() + offset, out.size());
    return {};
  };
  CHECK(open_segments(Codec::int8, reader, wire.size(), 100));
  CHECK(open_segments(Codec::fp32, reader, wire.size(), 100).error().code == Errc::corrupt);
  CHECK(open_segments(Codec::int8, reader, wire.size() - 1, 100).error().code == Errc::corrupt);
  CHECK(open_segments(Codec::int8, reader, 3, 100).error().code == Errc::corrupt);
  const auto broken = [](std::uint64_t, std::span<std::byte>) -> Status {
    return fail(Errc::storage, "EIO");
  };
  CHECK(open_segments(Codec::int8, broken, wire.size(), 100).error().code == Errc::storage);
}
