#include <algorithm>

#include "coordinator/aggregation/accumulate.h"
#include "coordinator/aggregation/aggregation_rule.h"
#include "protocol/assert.h"

namespace rivulet {
namespace {

// Also in the denominator, so that the weights of a mean add up to 1 and no entry can leave the
// interval of its inputs.
float rounded_weight(const SealedUpdate& update) { return static_cast<float>(update.weight); }

class WeightedMean final : public AggregationRule {
 public:
  explicit WeightedMean(std::vector<CoordinateRange> statistics) : statistics_(std::move(statistics)) {}

  [[nodiscard]] std::size_t minimum_updates() const override { return 1; }

  Status aggregate(std::span<const SealedUpdate> updates, CoordinateRange range,
                   std::span<float> out) const override {
    RIVULET_ASSERT(range.begin % segment_entries == 0 && out.size() == range.end - range.begin);
    RIVULET_ASSERT(std::ranges::is_sorted(updates, {}, &SealedUpdate::id));
    if (updates.empty()) return fail(Errc::refused, "a weighted mean needs 1 update or more");
    double total_weight = 0;
    for (const SealedUpdate& update : updates) total_weight += static_cast<double>(rounded_weight(update));

    Scratch scratch;
    for (std::size_t begin = range.begin; begin < range.end; begin += segment_entries) {
      const CoordinateRange segment{begin, std::min(begin + segment_entries, range.end)};
      const Status summed = sum_segment(updates, segment, scratch);
      if (!summed) return summed;
      for (std::size_t i = 0; i < segment.end - begin; ++i) {
        out[begin - range.begin + i] = static_cast<float>(scratch.sums[i] / total_weight);
      }
    }
    return {};
  }

 private:
  struct Scratch {
    std::vector<double> sums;
    std::vector<float> decoded = std::vector<float>(segment_entries);
    Bytes wire;
  };

  Status sum_segment(std::span<const SealedUpdate> updates, CoordinateRange segment, Scratch& scratch) const {
    const std::size_t size = segment.end - segment.begin;
    scratch.sums.assign(size, 0.0);
    const std::span<float> decoded = std::span(scratch.decoded).first(size);
    for (const SealedUpdate& update : updates) {
      const Status got = update.delta->read(segment.begin / segment_entries, decoded, scratch.wire);
      if (!got) return fail_at("update " + update.id.hex(), got.error());
      add(update, segment, scratch.sums, decoded);
    }
    return {};
  }

  void add(const SealedUpdate& update, CoordinateRange segment, std::span<double> sums,
           std::span<const float> decoded) const {
    const float weight = rounded_weight(update);
    const float scaled = static_cast<float>(static_cast<double>(weight) * update.scale);
    std::size_t done = segment.begin;
    const auto add_until = [&](std::size_t end, float factor) {
      accumulate(sums.subspan(done - segment.begin, end - done),
                 decoded.subspan(done - segment.begin, end - done), factor);
      done = end;
    };
    for_each_overlap(statistics_, segment, [&](CoordinateRange part) {
      add_until(part.begin, scaled);
      add_until(part.end, weight);
    });
    add_until(segment.end, scaled);
  }

  std::vector<CoordinateRange> statistics_;
};

}  // namespace

std::unique_ptr<AggregationRule> make_weighted_mean(std::vector<CoordinateRange> statistics) {
  RIVULET_ASSERT(are_ordered(statistics, std::size_t(-1)));
  return std::make_unique<WeightedMean>(std::move(statistics));
}

}  // namespace rivulet
