#include <cmath>
#include <limits>

#include "models/package/snapshot.h"
#include "protocol/rng.h"
#include "tests/catch.h"

using namespace rivulet;

namespace {

constexpr float largest = std::numeric_limits<float>::max();
constexpr float subnormal = std::numeric_limits<float>::denorm_min();

const ParameterLayout two_by_four{{{"w", {2, 4}, TensorKind::parameter}, {"b", {2}, TensorKind::parameter}}};

const ParameterLayout mixed{{{"conv", {3, 2, 5}, TensorKind::parameter},
                             {"bias", {3}, TensorKind::parameter},
                             {"statistic", {3, 7}, TensorKind::statistic},
                             {"scalar", {}, TensorKind::parameter}}};

std::vector<float> random_weights(const ParameterLayout& layout, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> weights(layout.size());
  for (float& weight : weights) {
    const int exponent = static_cast<int>(uniform_below(rng, 20)) - 10;
    weight = static_cast<float>(std::ldexp(uniform_unit(rng) - 0.5, exponent));
  }
  return weights;
}

}  // namespace

TEST_CASE("an int8 snapshot has the bytes that its grammar says", "[models][snapshot]") {
  // Scales 1 and 0; halves go to the even neighbour; the bias stays float32.
  const std::vector<float> weights = {127.0F, -63.5F, 0.5F, 1.5F, 0.0F, -0.0F, 0.0F, 0.0F, 1.0F, -2.5F};
  const auto encoded = encode_snapshot(SnapshotForm::int8, two_by_four, weights);
  REQUIRE(encoded.has_value());
  CHECK(to_hex(*encoded) ==
        "0000803f"
        "00000000"
        "7fc00002"
        "00000000"
        "0000803f"
        "000020c0");
  CHECK(decode_snapshot(SnapshotForm::int8, two_by_four, *encoded) ==
        std::vector<float>{127.0F, -64.0F, 0.0F, 2.0F, 0.0F, 0.0F, 0.0F, 0.0F, 1.0F, -2.5F});
}

TEST_CASE("an fp32 snapshot is the weights' own bytes", "[models][snapshot]") {
  const std::vector<float> weights = random_weights(mixed, 1);
  const auto encoded = encode_snapshot(SnapshotForm::fp32, mixed, weights);
  REQUIRE(encoded.has_value());
  CHECK(encoded->size() == 4 * (30 + 3 + 21 + 1));
  CHECK(decode_snapshot(SnapshotForm::fp32, mixed, *encoded) == weights);
}

TEST_CASE("statistics, vectors and scalars stay float32 in int8 form", "[models][snapshot]") {
  CHECK(snapshot_size(SnapshotForm::int8, mixed) == (3 * 4 + 30) + 3 * 4 + 21 * 4 + 4);
  const std::vector<float> weights = random_weights(mixed, 2);
  const auto decoded =
      decode_snapshot(SnapshotForm::int8, mixed, *encode_snapshot(SnapshotForm::int8, mixed, weights));
  REQUIRE(decoded.has_value());
  CHECK(std::equal(weights.begin() + 30, weights.end(), decoded->begin() + 30));
}

TEST_CASE("int8 restores each entry to within half a step, and its own output exactly",
          "[models][snapshot]") {
  const auto seed = GENERATE(range<std::uint64_t>(0, 30));
  CAPTURE(seed);
  const std::vector<float> weights = random_weights(mixed, seed);
  const auto encoded = encode_snapshot(SnapshotForm::int8, mixed, weights);
  const auto decoded = decode_snapshot(SnapshotForm::int8, mixed, *encoded);
  REQUIRE(decoded.has_value());
  for (std::size_t channel = 0; channel < 3; ++channel) {
    float peak = 0.0F;
    for (std::size_t i = channel * 10; i < channel * 10 + 10; ++i)
      peak = std::max(peak, std::fabs(weights[i]));
    for (std::size_t i = channel * 10; i < channel * 10 + 10; ++i) {
      REQUIRE(std::fabs((*decoded)[i] - weights[i]) <= peak / 127.0F * 0.50001F);
    }
  }
  // What was decoded is w_t: coding it again must not move it, or holders would drift apart.
  CHECK(decode_snapshot(SnapshotForm::int8, mixed, *encode_snapshot(SnapshotForm::int8, mixed, *decoded)) ==
        *decoded);
}

TEST_CASE("the ends of float32's range survive", "[models][snapshot]") {
  const auto peak = GENERATE(values<float>(
      {largest, -largest, std::nextafter(largest, 0.0F), subnormal, 100.0F * subnormal, 1e-38F}));
  CAPTURE(peak);
  const ParameterLayout row{{{"w", {1, 3}, TensorKind::parameter}}};
  const std::vector<float> weights = {peak, -peak, 0.0F};
  const auto encoded = encode_snapshot(SnapshotForm::int8, row, weights);
  REQUIRE(encoded.has_value());
  const auto decoded = decode_snapshot(SnapshotForm::int8, row, *encoded);
  REQUIRE(decoded.has_value());
  CHECK(std::isfinite((*decoded)[0]));
  CHECK((*decoded)[0] == -(*decoded)[1]);
  // A subnormal scale is coarse, as float32 has no finer one.
  if (std::fabs(peak) > 1e-30F) CHECK((*decoded)[0] == Approx(peak).epsilon(1e-6));
}

TEST_CASE("weights that are not finite have no snapshot", "[models][snapshot]") {
  const auto form = GENERATE(SnapshotForm::fp32, SnapshotForm::int8);
  const auto at = GENERATE(0U, 31U, 54U);
  const auto value = GENERATE(std::nanf(""), std::numeric_limits<float>::infinity());
  std::vector<float> weights = random_weights(mixed, 3);
  weights[at] = value;
  CHECK(encode_snapshot(form, mixed, weights).error().code == Errc::invalid);
}

TEST_CASE("foreign snapshots are checked before they are weights", "[models][snapshot]") {
  const std::vector<float> weights = {1, 2, 3, 4, 0, 0, 0, 0, 5, 6};
  const Bytes good = *encode_snapshot(SnapshotForm::int8, two_by_four, weights);
  const auto refused = [&](std::size_t at, std::initializer_list<int> bytes) {
    Bytes bad = good;
    for (const int byte : bytes) bad[at++] = static_cast<std::byte>(byte);
    const auto decoded = decode_snapshot(SnapshotForm::int8, two_by_four, bad);
    return !decoded && decoded.error().code == Errc::corrupt;
  };
  CHECK(refused(0, {0, 0, 0x80, 0x7f}));        // scale = infinity
  CHECK(refused(0, {0, 0, 0xc0, 0x7f}));        // scale = NaN
  CHECK(refused(0, {0, 0, 0x80, 0xbf}));        // scale = -1
  CHECK(refused(0, {0, 0, 0, 0x80}));           // scale = -0
  CHECK(refused(0, {0xff, 0xff, 0x7f, 0x7f}));  // scale * 127 = infinity
  CHECK(refused(8, {0x80}));                    // entry = -128
  CHECK(refused(12, {1}));                      // entry beside a scale of 0
  CHECK(refused(16, {0, 0, 0x80, 0xff}));       // bias = -infinity
  CHECK_FALSE(refused(8, {0x81}));
  for (const std::size_t size : {std::size_t{0}, good.size() - 1}) {
    CHECK(decode_snapshot(SnapshotForm::int8, two_by_four, ByteSpan(good).first(size)).error().code ==
          Errc::corrupt);
  }
  Bytes longer = good;
  longer.push_back(std::byte{0});
  CHECK(decode_snapshot(SnapshotForm::int8, two_by_four, longer).error().code == Errc::corrupt);
  CHECK(decode_snapshot(SnapshotForm::fp32, two_by_four, good).error().code == Errc::corrupt);
}

TEST_CASE("the hash of weights is SHA-256 of their little-endian float32 bytes", "[models][snapshot]") {
  // hashlib.sha256(struct.pack('<2f', 1.0, -2.5)).hexdigest()
  CHECK(weights_hash_of(std::vector<float>{1.0F, -2.5F}).hex() ==
        "48943f7a0ea247f8e3c9386d0c5822fe181d323a9289980426638cc4e72a43e1");
}
