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

const ParameterLayout wide{{{"fc.weight", {4, 300}, TensorKind::parameter},
                            {"fc.bias", {4}, TensorKind::parameter},
                            {"mean", {70}, TensorKind::statistic}}};

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
        "803f"
        "0000"
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
  CHECK(snapshot_size(SnapshotForm::int8, mixed) == (3 * 2 + 30) + 3 * 4 + 21 * 4 + 4);
  const std::vector<float> weights = random_weights(mixed, 2);
  const auto decoded =
      decode_snapshot(SnapshotForm::int8, mixed, *encode_snapshot(SnapshotForm::int8, mixed, weights));
  REQUIRE(decoded.has_value());
  CHECK(std::equal(weights.begin() + 30, weights.end(), decoded->begin() + 30));
}

TEST_CASE("a scale is rounded to the nearest bfloat16, halves to even", "[models][snapshot]") {
  const ParameterLayout row{{{"w", {1, 2}, TensorKind::parameter}}};
  const auto [peak, bytes] = GENERATE(table<float, std::string>({
      {1.0F, "013c7f00"},                  // 1 / 127 is 3c010204.
      {127.0F * 1.00390625F, "803f7f00"},  // 3f808000
      {127.0F * 1.01171875F, "823f7f00"},  // 3f818000
      {-127.0F * 1.0078125F, "813f8100"},  // 3f810000
  }));
  CHECK(to_hex(*encode_snapshot(SnapshotForm::int8, row, std::vector<float>{peak, 0})) == bytes);
}

// Rounding the scale moves it by a 256th of itself at most, and with it half a step.
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
      REQUIRE(std::fabs((*decoded)[i] - weights[i]) <= peak / 127.0F * 0.502F);
    }
  }
  // What was decoded is w_t: coding it again must not move it, or holders would drift apart.
  CHECK(*encode_snapshot(SnapshotForm::int8, mixed, *decoded) == *encoded);
}

TEST_CASE("a sparse snapshot has the bytes that its grammar says", "[models][snapshot]") {
  const std::vector<float> weights = {127.0F, -63.5F, 0.5F, 1.5F, 0.0F, -0.0F, 0.0F, 0.0F, 1.0F, -2.5F};
  // Scales 1 and 0; of the eight entries 127, -64, 0, 2, 0... three under a bitmap; the bias dense.
  const auto encoded = encode_snapshot(SnapshotForm::sparse_int8, two_by_four, weights);
  REQUIRE(encoded.has_value());
  CHECK(to_hex(*encoded) ==
        "803f"
        "0000"
        "010b7fc002"
        "00"
        "0000803f"
        "000020c0");
  // Here -0.0 is a value: bits 0 to 3 and 5.
  CHECK(to_hex(*encode_snapshot(SnapshotForm::sparse_fp32, two_by_four, weights)) ==
        "012f"
        "0000fe42"
        "00007ec2"
        "0000003f"
        "0000c03f"
        "00000080"
        "00"
        "0000803f"
        "000020c0");
}

TEST_CASE("a sparse form decodes to the bits of its dense one, in no more bytes than a coding each",
          "[models][snapshot]") {
  const auto dense = GENERATE(SnapshotForm::fp32, SnapshotForm::int8);
  const auto density = GENERATE(0.0, 0.01, 0.1, 0.4, 1.0);
  const auto seed = GENERATE(range<std::uint64_t>(0, 8));
  CAPTURE(name(dense), density, seed);
  const ParameterLayout layout = seed % 2 == 0 ? mixed : wide;
  std::vector<float> weights = random_weights(layout, seed);
  Rng rng(seed + 100);
  for (float& weight : weights) weight = uniform_unit(rng) < density ? weight : 0.0F;
  const SnapshotForm sparse = sparse_form(dense);
  const Bytes bytes = *encode_snapshot(sparse, layout, weights);
  CHECK(bytes.size() <= snapshot_size(dense, layout) + layout.tensors.size());
  CHECK(snapshot_size(sparse, layout) == snapshot_size(dense, layout) + layout.tensors.size());
  if (density < 0.5 && seed % 2 == 1) CHECK(bytes.size() < snapshot_size(dense, layout));
  const auto decoded = decode_snapshot(sparse, layout, bytes);
  REQUIRE(decoded.has_value());
  CHECK(weights_hash_of(*decoded) ==
        weights_hash_of(*decode_snapshot(dense, layout, *encode_snapshot(dense, layout, weights))));
  CHECK(*encode_snapshot(sparse, layout, *decoded) == bytes);
}

TEST_CASE("whatever bytes come as a sparse snapshot, they are refused or are its own", "[models][snapshot]") {
  const auto form = GENERATE(SnapshotForm::sparse_fp32, SnapshotForm::sparse_int8);
  Rng rng(3);
  std::size_t taken = 0;
  for (int attempt = 0; attempt < 5'000; ++attempt) {
    std::vector<float> weights = random_weights(wide, rng());
    const double density = 0.02 + 0.3 * uniform_unit(rng);
    for (float& weight : weights) weight = uniform_unit(rng) < density ? weight : 0.0F;
    Bytes bytes = *encode_snapshot(form, wide, weights);
    const std::size_t at = uniform_below(rng, bytes.size());
    const auto kind = uniform_below(rng, 3);
    if (kind == 0) bytes[at] = static_cast<std::byte>(uniform_below(rng, 256));
    if (kind == 1) bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(at));
    if (kind == 2) bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), std::byte{1});
    const auto decoded = decode_snapshot(form, wide, bytes);
    if (!decoded) {
      REQUIRE(decoded.error().code == Errc::corrupt);
      continue;
    }
    ++taken;
    for (const float weight : *decoded) REQUIRE(std::isfinite(weight));
    // Of int8 a scale may be another than its entries ask for, and what it decodes to is w_t all the same.
    if (form == SnapshotForm::sparse_fp32) REQUIRE(*encode_snapshot(form, wide, *decoded) == bytes);
  }
  CHECK(taken > 100);
}

TEST_CASE("a sparse snapshot is checked from its length to its last byte", "[models][snapshot]") {
  const std::vector<float> weights = {1, 0, 0, 4, 0, 0, 0, 0, 5, 6};
  const Bytes good = *encode_snapshot(SnapshotForm::sparse_int8, two_by_four, weights);
  const auto detail_of = [&](const Bytes& bytes) {
    const auto decoded = decode_snapshot(SnapshotForm::sparse_int8, two_by_four, bytes);
    REQUIRE_FALSE(decoded.has_value());
    REQUIRE(decoded.error().code == Errc::corrupt);
    return decoded.error().detail;
  };
  using Catch::Matchers::Contains;
  for (std::size_t size = 0; size < good.size(); ++size) {
    CHECK_THAT(detail_of(copy_of(ByteSpan(good).first(size))), Contains("cut short"));
  }
  Bytes longer = good;
  longer.push_back(std::byte{0});
  CHECK_THAT(detail_of(longer), Contains("1 bytes behind its last tensor"));
  longer.resize(2 * 2 + 8 + 8 + 2 + 1);
  CHECK_THAT(detail_of(longer), Contains("23 bytes; the layout asks for at most 22"));
  const auto changed = [&](std::size_t at, int byte) {
    Bytes bad = good;
    bad[at] = static_cast<std::byte>(byte);
    return detail_of(bad);
  };
  CHECK_THAT(changed(1, 0x7f), Contains("the scale of channel 0"));
  CHECK_THAT(changed(4, 9), Contains("tensor 'w': the entries are in coding 9"));
  CHECK_THAT(changed(5, 0x11), Contains("entry 4 of tensor 'w' is 127 beside a scale of 0"));
  CHECK_THAT(changed(6, 0x80), Contains("entry 0 of tensor 'w' is -128"));
  CHECK_THAT(changed(12, 0xff), Contains("entry 0 of tensor 'b' is not finite"));
}

TEST_CASE("forms have names, and sparse ones the dense form of their values", "[models][snapshot]") {
  CHECK(name(SnapshotForm::fp32) == "fp32");
  CHECK(name(SnapshotForm::int8) == "int8");
  CHECK(name(SnapshotForm::sparse_fp32) == "sparse_fp32");
  CHECK(name(SnapshotForm::sparse_int8) == "sparse_int8");
  CHECK(sparse_form(SnapshotForm::fp32) == SnapshotForm::sparse_fp32);
  CHECK(sparse_form(SnapshotForm::sparse_int8) == SnapshotForm::sparse_int8);
  CHECK(dense_form(SnapshotForm::sparse_int8) == SnapshotForm::int8);
  CHECK(dense_form(SnapshotForm::sparse_fp32) == SnapshotForm::fp32);
  CHECK(variant_form("int8", SnapshotForm::fp32) == SnapshotForm::int8);
  CHECK(variant_form("fp32", SnapshotForm::int8) == SnapshotForm::fp32);
  CHECK(variant_form("int8", SnapshotForm::sparse_fp32) == SnapshotForm::sparse_int8);
  CHECK(variant_form("fp32", SnapshotForm::sparse_int8) == SnapshotForm::sparse_fp32);
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
  CHECK(*encode_snapshot(SnapshotForm::int8, row, *decoded) == *encoded);
  // What no normal scale fits is 0. The last scale is a 128th below the next, which is infinite.
  if (std::fabs(peak) > 1e-30F) {
    CHECK((*decoded)[0] == Approx(peak).epsilon(1.0 / 128));
  } else {
    CHECK((*decoded)[0] == 0.0F);
  }
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
  CHECK(refused(0, {0x80, 0x7f}));         // scale = infinity
  CHECK(refused(0, {0xc0, 0x7f}));         // scale = NaN
  CHECK(refused(0, {0x80, 0xbf}));         // scale = -1
  CHECK(refused(0, {0, 0x80}));            // scale = -0
  CHECK(refused(0, {0x7f, 0x7f}));         // scale * 127 = infinity
  CHECK(refused(4, {0x80}));               // entry = -128
  CHECK(refused(8, {1}));                  // entry beside a scale of 0
  CHECK(refused(12, {0, 0, 0x80, 0xff}));  // bias = -infinity
  CHECK_FALSE(refused(4, {0x81}));
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
