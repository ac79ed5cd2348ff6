#include "coordinator/aggregation/server_optimizer.h"

#include <cmath>
#include <limits>

#include "protocol/rng.h"
#include "tests/catch.h"

using namespace rivulet;

TEST_CASE("FedAvg adds the mean delta, times its rate, to the master", "[aggregation][optimizer]") {
  const ServerState state{.master = {1.0F, -2.0F, 0.5F}, .moments = {}};
  const std::vector<float> delta{0.25F, 2.0F, -4.0F};
  const auto fedavg = make_fedavg();
  CHECK(fedavg->moments_per_entry() == 0);
  CHECK(fedavg->step(state, delta, {}) == ServerState{.master = {1.25F, 0.0F, -3.5F}, .moments = {}});
  CHECK(make_fedavg(0.5F)->step(state, delta, {}) ==
        ServerState{.master = {1.125F, -1.0F, -1.5F}, .moments = {}});
  CHECK(state.master == std::vector<float>{1.0F, -2.0F, 0.5F});
}

TEST_CASE("statistics step at rate 1 and variances stay at 0 or above", "[aggregation][optimizer]") {
  const ServerState state{.master = {1.0F, 1.0F, 1.0F, 1.0F, 1.0F}, .moments = {}};
  const std::vector<float> delta{-2.0F, -2.0F, -2.0F, 2.0F, -2.0F};
  const StatisticRanges statistics{.all = {{1, 4}}, .variances = {{2, 4}}};
  CHECK(make_fedavg(0.5F)->step(state, delta, statistics).value().master ==
        std::vector<float>{0.0F, -1.0F, 0.0F, 3.0F, 0.0F});
}

TEST_CASE("a step is rounded once, to the nearest float", "[aggregation][optimizer]") {
  Rng rng(1);
  ServerState state;
  std::vector<float> delta;
  for (int i = 0; i < 1001; ++i) {
    state.master.push_back(static_cast<float>(uniform_unit(rng) - 0.5));
    delta.push_back(static_cast<float>((uniform_unit(rng) - 0.5) * 1e-4));
  }
  const float rate = 0.7F;
  const auto next = make_fedavg(rate)->step(state, delta, {}).value();
  std::size_t different = 0;
  for (std::size_t i = 0; i < delta.size(); ++i) {
    if (next.master[i] !=
        static_cast<float>(std::fma(double{rate}, double{delta[i]}, double{state.master[i]}))) {
      ++different;
    }
  }
  CHECK(different == 0);
}

TEST_CASE("a step to a master that is not finite is refused", "[aggregation][optimizer]") {
  const ServerState state{.master = {0.0F, std::numeric_limits<float>::max()}, .moments = {}};
  const auto next = make_fedavg()->step(state, std::vector<float>{0.0F, 1e38F}, {});
  REQUIRE_FALSE(next);
  CHECK(next.error().code == Errc::refused);
  CHECK(next.error().detail.find("entry 1") != std::string::npos);
}
