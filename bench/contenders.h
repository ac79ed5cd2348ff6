#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace rivulet {

struct Contender {
  std::string name;
  std::function<void()> run;
  std::vector<double> times = {};  ///< Microseconds of each call, from take_turns().
};

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

/// Each round runs all in turn, so that a disturbance meets all, and in an order of its own, so that none is
/// always behind the same one; each for a burst of calls behind one that is not timed, so that it finds its
/// own weights in the cache and not those of the others.
inline void take_turns(std::span<Contender> contenders, int rounds, int burst) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  std::vector<Contender*> order;
  for (Contender& contender : contenders) order.push_back(&contender);
  std::mt19937 random(1);
  for (int round = 0; round < rounds; ++round) {
    std::ranges::shuffle(order, random);
    for (Contender* contender : order) {
      contender->run();
      for (int call = 0; call < burst; ++call) {
        const auto begin = now();
        contender->run();
        contender->times.push_back(std::chrono::duration<double, std::micro>(now() - begin).count());
      }
    }
  }
}

}  // namespace rivulet
