#include "coordinator/aggregation/aggregation_rule.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <deque>
#include <limits>

#include "coordinator/aggregation/accumulate.h"
#include "tests/catch.h"
#include "tests/vector_targets.h"

using namespace rivulet;

namespace {

TaskId task(unsigned number) {
  TaskId id;
  id.bytes[0] = static_cast<std::byte>(number >> 8);
  id.bytes[1] = static_cast<std::byte>(number);
  return id;
}

/// Sealed updates together with the bytes that they are read from.
class Updates {
 public:
  void add(unsigned number, Codec codec, std::span<const float> delta, double weight, double scale = 1) {
    Rng rng(number);
    const Bytes& wire = wires_.emplace_back(encode(codec, delta, rng).value());
    const EncodedDelta& view = views_.emplace_back(EncodedDelta::parse(codec, wire, delta.size()).value());
    sealed_.push_back({.id = task(number), .weight = weight, .scale = scale, .delta = &view});
  }
  std::vector<SealedUpdate>& sealed() { return sealed_; }

 private:
  std::deque<Bytes> wires_;
  std::deque<EncodedDelta> views_;
  std::vector<SealedUpdate> sealed_;
};

std::vector<float> random_vector(std::size_t entries, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(entries);
  for (float& x : values) x = static_cast<float>((uniform_unit(rng) - 0.5) * 0.02);
  return values;
}

Updates random_updates(std::size_t entries, unsigned count) {
  Updates updates;
  for (unsigned k = 0; k < count; ++k) {
    updates.add(k, k % 3 == 0 ? Codec::fp32 : Codec::int8, random_vector(entries, k), 10.0 + 37.0 * k,
                k % 4 == 1 ? 1.0 / 3.0 : 1.0);
  }
  return updates;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

/// The definition, one coordinate at a time, with std::fma.
std::vector<float> scalar_mean(std::vector<SealedUpdate> updates, std::size_t entries) {
  std::ranges::sort(updates, {}, &SealedUpdate::id);
  std::vector<std::vector<float>> decoded;
  for (const SealedUpdate& update : updates) {
    decoded.push_back(dynamic_cast<const EncodedDelta&>(*update.delta).decode().value());
  }
  std::vector<float> mean(entries);
  for (std::size_t i = 0; i < entries; ++i) {
    double sum = 0;
    double total = 0;
    for (std::size_t k = 0; k < updates.size(); ++k) {
      const auto weight = static_cast<float>(updates[k].weight);
      const auto factor = static_cast<float>(double{weight} * updates[k].scale);
      sum = std::fma(double{factor}, double{decoded[k][i]}, sum);
      total += double{weight};
    }
    mean[i] = static_cast<float>(sum / total);
  }
  return mean;
}

}  // namespace

TEST_CASE("the weighted mean is that of hand arithmetic", "[aggregation]") {
  Updates updates;
  updates.add(1, Codec::fp32, std::vector<float>{1.0F, -2.0F, 8.0F}, 1);
  updates.add(2, Codec::fp32, std::vector<float>{5.0F, 6.0F, 0.0F}, 3);
  // (1 * 1 + 3 * 5) / 4, (1 * -2 + 3 * 6) / 4, (1 * 8 + 3 * 0) / 4
  CHECK(aggregate_in_parallel(*make_weighted_mean(), updates.sealed(), 3, 1) ==
        std::vector<float>{4.0F, 4.0F, 2.0F});
  updates.sealed()[1].scale = 0.5;
  // The scale halves the second delta and leaves its weight: (1 + 3 * 2.5) / 4, (-2 + 3 * 3) / 4, 8 / 4
  CHECK(aggregate_in_parallel(*make_weighted_mean(), updates.sealed(), 3, 1) ==
        std::vector<float>{2.125F, 1.75F, 2.0F});
}

TEST_CASE("no scale touches the coordinates of statistics", "[aggregation]") {
  Updates updates;
  updates.add(1, Codec::fp32, std::vector<float>{4.0F, 4.0F, 4.0F, 4.0F, 4.0F}, 2, 0.25);
  CHECK(aggregate_in_parallel(*make_weighted_mean({{1, 3}, {4, 5}}), updates.sealed(), 5, 1) ==
        std::vector<float>{1.0F, 4.0F, 4.0F, 1.0F, 4.0F});

  const std::size_t entries = 2 * segment_entries + 9;
  Updates large;
  large.add(1, Codec::fp32, std::vector<float>(entries, 4.0F), 2, 0.25);
  const CoordinateRange statistics{segment_entries - 3, 2 * segment_entries + 2};
  const auto mean =
      aggregate_in_parallel(*make_weighted_mean({statistics}), large.sealed(), entries, 2).value();
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < entries; ++i) {
    if (mean[i] != (i >= statistics.begin && i < statistics.end ? 4.0F : 1.0F)) ++wrong;
  }
  CHECK(wrong == 0);
}

TEST_CASE("the weighted mean agrees with a sum in long double", "[aggregation]") {
  const std::size_t entries = segment_entries + 1000;
  Updates updates = random_updates(entries, 9);
  const auto mean = aggregate_in_parallel(*make_weighted_mean(), updates.sealed(), entries, 2).value();
  std::vector<std::vector<float>> decoded;
  for (const auto& update : updates.sealed()) {
    decoded.push_back(dynamic_cast<const EncodedDelta&>(*update.delta).decode().value());
  }
  double worst = 0;
  for (std::size_t i = 0; i < entries; ++i) {
    long double sum = 0;
    long double total = 0;
    for (std::size_t k = 0; k < decoded.size(); ++k) {
      sum += static_cast<long double>(updates.sealed()[k].weight * updates.sealed()[k].scale) *
             static_cast<long double>(decoded[k][i]);
      total += static_cast<long double>(updates.sealed()[k].weight);
    }
    worst = std::max(worst, std::abs(static_cast<double>(sum / total) - double{mean[i]}));
  }
  // Entries are below 0.01: half a float32 step of the result, and one of the rounded factors.
  CHECK(worst < 0.01 * 0x1p-23);
}

TEST_CASE("any order of arrival and any number of threads gives the same bits", "[aggregation]") {
  const std::size_t entries = 3 * segment_entries + 17;
  Updates updates = random_updates(entries, 7);
  const auto rule = make_weighted_mean();
  const auto expected = aggregate_in_parallel(*rule, updates.sealed(), entries, 1).value();
  REQUIRE(same_bits(expected, scalar_mean(updates.sealed(), entries)));
  for (std::size_t threads = 1; threads <= 8; ++threads) {
    Rng rng(threads);
    auto arrived = updates.sealed();
    shuffle(std::span(arrived), rng);
    CAPTURE(threads);
    CHECK(same_bits(aggregate_in_parallel(*rule, arrived, entries, threads).value(), expected));
  }
}

TEST_CASE("every instruction set gives the bits of std::fma", "[aggregation]") {
  const std::size_t entries = segment_entries + 29;
  Updates updates = random_updates(entries, 5);
  const auto expected = scalar_mean(updates.sealed(), entries);
  std::vector<double> sums(1001);
  std::vector<float> values = random_vector(sums.size(), 99);
  values[0] = std::numeric_limits<float>::max();
  values[1] = std::numeric_limits<float>::denorm_min();
  values[1000] = -std::numeric_limits<float>::denorm_min();
  std::vector<double> oracle(sums.size(), 0.1);
  for (const float factor : {1.0F, 0.333333343F, 16777215.0F, 1e-30F}) {
    for (std::size_t i = 0; i < oracle.size(); ++i)
      oracle[i] = std::fma(double{factor}, double{values[i]}, oracle[i]);
  }
  std::size_t sets = 0;
  for_each_instruction_set([&](const std::string& set) {
    CAPTURE(set);
    ++sets;
    std::ranges::fill(sums, 0.1);
    for (const float factor : {1.0F, 0.333333343F, 16777215.0F, 1e-30F}) accumulate(sums, values, factor);
    CHECK(std::memcmp(sums.data(), oracle.data(), sums.size() * sizeof(double)) == 0);
    CHECK(same_bits(aggregate_in_parallel(*make_weighted_mean(), updates.sealed(), entries, 2).value(),
                    expected));
  });
  CHECK(sets >= 1);
}

TEST_CASE("a mean never leaves the interval of its inputs, even at the end of the float range",
          "[aggregation]") {
  constexpr float largest = std::numeric_limits<float>::max();
  Updates updates;
  // 16777219 is no float32: its rounding must not lift the mean above the largest float.
  updates.add(1, Codec::fp32, std::vector<float>{largest, -largest}, 16777219.0);
  updates.add(2, Codec::fp32, std::vector<float>{largest, -largest}, 1.0 / 3.0);
  CHECK(aggregate_in_parallel(*make_weighted_mean(), updates.sealed(), 2, 1) ==
        std::vector<float>{largest, -largest});
}

TEST_CASE("a sealed set with a fault is refused, naming the update", "[aggregation][fault]") {
  const std::vector<float> delta{1.0F, 2.0F};
  const auto rule = make_weighted_mean();
  Updates updates;
  updates.add(1, Codec::fp32, delta, 1);
  updates.add(0x0abc, Codec::fp32, delta, 1);
  REQUIRE(aggregate_in_parallel(*rule, updates.sealed(), 2, 2));
  const auto expect = [&](const std::vector<SealedUpdate>& sealed, std::size_t entries, Errc code) {
    const auto mean = aggregate_in_parallel(*rule, sealed, entries, 2);
    REQUIRE_FALSE(mean);
    CHECK(mean.error().code == code);
    return mean.error().detail;
  };
  auto sealed = updates.sealed();
  sealed.push_back(sealed[1]);
  CHECK(expect(sealed, 2, Errc::conflict).find("0abc") != std::string::npos);
  for (const double weight :
       {0.0, -1.0, std::nan(""), 1e39, std::numeric_limits<double>::infinity(), 1e-60}) {
    sealed = updates.sealed();
    sealed[1].weight = weight;
    CHECK(expect(sealed, 2, Errc::invalid).find("0abc") != std::string::npos);
  }
  for (const double scale : {-0.1, 1.1, std::nan("")}) {
    sealed = updates.sealed();
    sealed[1].scale = scale;
    CHECK(expect(sealed, 2, Errc::invalid).find("0abc") != std::string::npos);
  }
  expect(updates.sealed(), 3, Errc::invalid);
  expect({}, 2, Errc::refused);
}

TEST_CASE("a delta that can't be read fails the aggregation, naming the update", "[aggregation][fault]") {
  const std::size_t entries = 4 * segment_entries;
  Rng rng(1);
  const Bytes wire = encode(Codec::int8, random_vector(entries, 1), rng).value();
  std::atomic<int> reads = 0;
  const ReadBytes read_bytes = [&](std::uint64_t offset, std::span<std::byte> out) -> Status {
    ++reads;
    if (offset > wire.size() / 2) return fail(Errc::storage, "EIO");
    std::memcpy(out.data(), wire.data() + offset, out.size());
    return {};
  };
  const auto broken = open_segments(Codec::int8, read_bytes, wire.size(), entries).value();
  Updates updates = random_updates(entries, 3);
  updates.sealed().push_back({.id = task(0x0777), .weight = 1, .scale = 1, .delta = broken.get()});
  const auto mean = aggregate_in_parallel(*make_weighted_mean(), updates.sealed(), entries, 3);
  REQUIRE_FALSE(mean);
  CHECK(mean.error().code == Errc::storage);
  CHECK(mean.error().detail == "update " + task(0x0777).hex() + ": EIO");
  CHECK(reads > 1);
}

TEST_CASE("an empty model has an empty mean", "[aggregation]") {
  Updates updates;
  updates.add(1, Codec::int8, {}, 1);
  CHECK(aggregate_in_parallel(*make_weighted_mean(), updates.sealed(), 0, 4) == std::vector<float>{});
}
