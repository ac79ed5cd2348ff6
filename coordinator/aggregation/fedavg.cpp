#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "coordinator/aggregation/server_optimizer.h"
#include "protocol/assert.h"

namespace rivulet {
namespace {

class FedAvg final : public ServerOptimizer {
 public:
  explicit FedAvg(float rate) : rate_(rate) {}

  [[nodiscard]] std::size_t moments_per_entry() const override { return 0; }

  [[nodiscard]] Result<ServerState> step(const ServerState& state, std::span<const float> mean_delta,
                                         const StatisticRanges& statistics) const override {
    const std::size_t entries = state.master.size();
    RIVULET_ASSERT(mean_delta.size() == entries && state.moments.empty());
    RIVULET_ASSERT(are_ordered(statistics.all, entries) && are_ordered(statistics.variances, entries));
    ServerState next{.master = state.master, .moments = {}};
    // The product of two float32 is exact in double, so that fusing or not gives the same bits.
    const auto add = [&](std::size_t begin, std::size_t end, float rate) {
      for (std::size_t i = begin; i < end; ++i) {
        next.master[i] = static_cast<float>(static_cast<double>(next.master[i]) +
                                            static_cast<double>(rate) * static_cast<double>(mean_delta[i]));
      }
    };
    std::size_t done = 0;
    for (const auto [begin, end] : statistics.all) {
      add(done, begin, rate_);
      add(begin, end, 1.0F);
      done = end;
    }
    add(done, entries, rate_);
    for (const auto [begin, end] : statistics.variances) {
      for (std::size_t i = begin; i < end; ++i) {
        if (next.master[i] < 0.0F) next.master[i] = 0.0F;
      }
    }
    const auto bad = std::ranges::find_if_not(next.master, [](float x) { return std::isfinite(x); });
    if (bad != next.master.end()) {
      return fail(Errc::refused,
                  fmt::format("the step makes entry {} of the master not finite", bad - next.master.begin()));
    }
    return next;
  }

 private:
  float rate_;
};

}  // namespace

std::unique_ptr<ServerOptimizer> make_fedavg(float server_learning_rate) {
  RIVULET_ASSERT(std::isfinite(server_learning_rate) && server_learning_rate > 0.0F);
  return std::make_unique<FedAvg>(server_learning_rate);
}

}  // namespace rivulet
