#include "protocol/codec/codec.h"

#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "tests/catch.h"
#include "tests/temporary_folder.h"
#include "tests/vector_targets.h"

using namespace rivulet;

namespace {

std::vector<float> random_delta(std::size_t entries, std::uint64_t seed, double magnitude = 0.01) {
  Rng rng(seed);
  std::vector<float> delta(entries);
  for (float& x : delta) x = static_cast<float>((uniform_unit(rng) * 2 - 1) * magnitude);
  return delta;
}

Bytes encoded(Codec codec, std::span<const float> delta, std::uint64_t seed = 1) {
  Rng rng(seed);
  return encode(codec, delta, rng).value();
}

std::vector<float> decoded(Codec codec, ByteSpan wire, std::size_t entries) {
  return EncodedDelta::parse(codec, wire, entries).value().decode().value();
}

/// The scale of the block that holds entry `i`, read from the wire by the header's grammar.
float scale_of(ByteSpan wire, std::size_t entries, std::size_t i) {
  const std::size_t segments = (entries + 65535) / 65536;
  std::size_t at = 8 + 4 * segments;
  for (std::size_t s = 0; s < i / 65536; ++s) at += load_le<std::uint32_t>(wire, 8 + 4 * s);
  at += i % 65536 / 256 * 260;
  return load_le<float>(wire, at);
}

}  // namespace

TEST_CASE("codecs go by the names fp32 and int8 and the numbers of the schema", "[codec]") {
  CHECK(name(Codec::fp32) == "fp32");
  CHECK(name(Codec::int8) == "int8");
  CHECK(parse_codec("fp32") == Codec::fp32);
  CHECK(parse_codec("int8") == Codec::int8);
  CHECK(parse_codec("INT8").error().code == Errc::invalid);
  CHECK(codec_from_number(0) == Codec::fp32);
  CHECK(codec_from_number(1) == Codec::int8);
  CHECK(codec_from_number(2).error().code == Errc::unsupported);
  CHECK(codec_from_number(256).error().code == Errc::unsupported);
}

TEST_CASE("the wire form of a small delta is the bytes worked out by hand", "[codec]") {
  // 1 = 0x3f800000, -2.5 = -1.25 * 2 = 0xc0200000
  const std::vector<float> two{1.0F, -2.5F};
  CHECK(to_hex(encoded(Codec::fp32, two)) ==
        "0200000000000000"
        "08000000"
        "0000803f"
        "000020c0");
  // max|x| = 127, so the scale is 1 and every entry a whole number of steps: nothing is random.
  const std::vector<float> four{127.0F, -127.0F, 0.0F, 64.0F};
  const std::string hex =
      "0400000000000000"
      "08000000"
      "0000803f"
      "7f"
      "81"
      "00"
      "40";
  CHECK(to_hex(encoded(Codec::int8, four)) == hex);
  CHECK(decoded(Codec::int8, *from_hex(hex), 4) == four);
  // Three steps of 0.5 (0x3f000000), written by hand rather than by the encoder.
  CHECK(decoded(Codec::int8,
                *from_hex("030000000000000007000000"
                          "0000003f"
                          "fd0001"),
                3) == std::vector<float>{-1.5F, 0.0F, 0.5F});
  CHECK(to_hex(encoded(Codec::int8, {})) == "0000000000000000");
}

TEST_CASE("an fp32 delta comes back bit for bit, an int8 one to within one scale step", "[codec]") {
  const auto entries = GENERATE(0u, 1u, 255u, 256u, 257u, 65'535u, 65'536u, 65'537u, 3 * 65'536u - 100u);
  const auto delta = random_delta(entries, entries);
  CAPTURE(entries);
  const Bytes fp32 = encoded(Codec::fp32, delta);
  CHECK(fp32.size() == encoded_bytes(Codec::fp32, entries));
  CHECK(decoded(Codec::fp32, fp32, entries) == delta);

  const Bytes int8 = encoded(Codec::int8, delta);
  CHECK(int8.size() == encoded_bytes(Codec::int8, entries));
  const std::vector<float> back = decoded(Codec::int8, int8, entries);
  REQUIRE(back.size() == delta.size());
  std::size_t too_far = 0;
  std::size_t wrong_scale = 0;
  for (std::size_t i = 0; i < delta.size(); ++i) {
    const float scale = scale_of(int8, entries, i);
    if (!(std::abs(double{back[i]} - double{delta[i]}) < double{scale})) ++too_far;
    if (i % 256 == 0) {
      double largest = 0;
      for (std::size_t j = i; j < std::min<std::size_t>(i + 256, entries); ++j) {
        largest = std::max(largest, std::abs(double{delta[j]}));
      }
      if (std::abs(double{scale} * 127 - largest) > largest * 2e-7) ++wrong_scale;
    }
  }
  CHECK(too_far == 0);
  CHECK(wrong_scale == 0);
}

TEST_CASE("each segment decodes alone to its part of the whole", "[codec]") {
  const auto codec = GENERATE(Codec::fp32, Codec::int8);
  const auto delta = random_delta(2 * segment_entries + 300, 5);
  const Bytes wire = encoded(codec, delta);
  const EncodedDelta view = EncodedDelta::parse(codec, wire, delta.size()).value();
  const std::vector<float> whole = view.decode().value();
  REQUIRE(view.segments() == 3);
  std::vector<float> last(300);
  REQUIRE(view.decode_segment(2, last));
  CHECK(std::ranges::equal(last, std::span(whole).last(300)));
  std::vector<float> middle(segment_entries);
  REQUIRE(view.decode_segment(1, middle));
  CHECK(std::ranges::equal(middle, std::span(whole).subspan(segment_entries, segment_entries)));
}

TEST_CASE("int8 rounding is unbiased: means agree with the entry to within five standard errors", "[codec]") {
  const auto x = GENERATE(0.3F, -0.3F, 0.001F, -0.77777F, 0.00001F, 0.99F);
  CAPTURE(x);
  std::vector<float> delta(4 * segment_entries, x);
  for (std::size_t i = 0; i < delta.size(); i += 256) delta[i] = 1.0F;  // fixes each scale at 1 / 127
  const std::vector<float> back = decoded(Codec::int8, encoded(Codec::int8, delta, 77), delta.size());
  double sum = 0;
  std::size_t count = 0;
  for (std::size_t i = 0; i < delta.size(); ++i) {
    if (i % 256 == 0) continue;
    sum += back[i];
    ++count;
  }
  // A value between two steps deviates by sqrt(p (1 - p)) steps, at most half of one.
  const double steps = std::abs(double{x}) * 127;
  const double p = steps - std::floor(steps);
  const double standard_error = std::sqrt(p * (1 - p) / static_cast<double>(count)) / 127;
  CHECK(std::abs(sum / static_cast<double>(count) - double{x}) < 5 * standard_error + 1e-8);
  CHECK(standard_error > 0);
}

TEST_CASE("the same seed gives the same int8 bytes and another seed gives others", "[codec]") {
  const auto delta = random_delta(1000, 3);
  CHECK(encoded(Codec::int8, delta, 4) == encoded(Codec::int8, delta, 4));
  CHECK(encoded(Codec::int8, delta, 4) != encoded(Codec::int8, delta, 5));
}

TEST_CASE("int8 keeps its bound at the ends of the float range and for zeros", "[codec]") {
  constexpr float largest = std::numeric_limits<float>::max();
  constexpr float smallest = std::numeric_limits<float>::denorm_min();
  const auto block =
      GENERATE(std::vector<float>{0.0F, -0.0F, 0.0F}, std::vector<float>{largest, -largest, 1.0F},
               std::vector<float>{smallest, -190 * smallest, 0.0F},
               std::vector<float>{std::numeric_limits<float>::min(), 3e-38F, -2e-38F});
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const Bytes wire = encoded(Codec::int8, block, seed);
    const float scale = scale_of(wire, block.size(), 0);
    const auto back = decoded(Codec::int8, wire, block.size());
    for (std::size_t i = 0; i < block.size(); ++i) {
      CAPTURE(seed, i, block[i], back[i], scale);
      CHECK(std::isfinite(back[i]));
      CHECK((back[i] == block[i] || std::abs(double{back[i]} - double{block[i]}) < double{scale}));
    }
  }
}

TEST_CASE("a delta that is not finite is never encoded", "[codec]") {
  const auto codec = GENERATE(Codec::fp32, Codec::int8);
  const auto bad = GENERATE(std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN());
  std::vector<float> delta(300, 0.5F);
  delta[299] = bad;
  Rng rng(1);
  const auto wire = encode(codec, delta, rng);
  REQUIRE_FALSE(wire);
  CHECK(wire.error().code == Errc::invalid);
  CHECK(wire.error().detail.find("299") != std::string::npos);
}

TEST_CASE("every instruction set decodes int8 to the bits of one multiplication an entry", "[codec]") {
  const std::size_t entries = segment_entries + 301;  // a short block, with a rest for every vector length
  const Bytes wire = encoded(Codec::int8, random_delta(entries, 8, 1e-3));
  std::size_t sets = 0;
  for_each_instruction_set([&](const std::string& set) {
    CAPTURE(set);
    ++sets;
    const auto back = decoded(Codec::int8, wire, entries);
    std::size_t different = 0;
    std::size_t at = 8 + 2 * 4;
    for (std::size_t i = 0; i < entries; ++i) {
      if (i % 256 == 0) at += 4;
      const float expected =
          scale_of(wire, entries, i) * static_cast<float>(load_le<std::int8_t>(wire, at++));
      if (std::bit_cast<std::uint32_t>(back[i]) != std::bit_cast<std::uint32_t>(expected)) ++different;
    }
    CHECK(different == 0);
    Bytes bad = wire;
    bad.back() = std::byte{0x80};
    CHECK(EncodedDelta::parse(Codec::int8, bad, entries).value().decode().error().code == Errc::corrupt);
    bad = wire;
    bad[8 + 2 * 4 + 4] = std::byte{0x80};
    CHECK(EncodedDelta::parse(Codec::int8, bad, entries).value().decode().error().code == Errc::corrupt);
  });
  CHECK(sets >= 1);
}

TEST_CASE("a delta read piece by piece from a file is the one in memory", "[codec]") {
  const auto codec = GENERATE(Codec::fp32, Codec::int8);
  const TemporaryFolder folder;
  const auto delta = random_delta(2 * segment_entries + 77, 9);
  const Bytes wire = encoded(codec, delta);
  const auto file = folder.path / "update";
  std::ofstream(file, std::ios::binary) << text_of(wire);
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  REQUIRE(descriptor >= 0);
  std::size_t most = 0;
  const ReadBytes read_bytes = [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
    most = std::max(most, out.size());
    const auto got = ::pread(descriptor, out.data(), out.size(), static_cast<off_t>(offset));
    if (got != static_cast<ssize_t>(out.size())) return fail(Errc::storage, "short read");
    return {};
  };
  const auto source = open_segments(codec, read_bytes, wire.size(), delta.size());
  REQUIRE(source);
  const auto whole = decoded(codec, wire, delta.size());
  Bytes scratch;
  for (const std::size_t i : {2u, 0u, 1u}) {
    std::vector<float> out(entries_in_segment(delta.size(), i));
    REQUIRE((*source)->read(i, out, scratch));
    CHECK(std::ranges::equal(out, std::span(whole).subspan(i * segment_entries, out.size())));
  }
  CHECK(most == segment_bytes(codec, segment_entries));
  ::close(descriptor);
  std::vector<float> out(segment_entries);
  CHECK((*source)->read(0, out, scratch).error().code == Errc::storage);
}
