#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
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

/// Each round runs all in turn, so that a disturbance meets all; each for a burst of calls behind one that is
/// not timed, so that it finds its own weights in the cache and not those of the others.
inline void take_turns(std::span<Contender> contenders, int rounds, int burst) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  for (int round = 0; round < rounds; ++round) {
    for (Contender& contender : contenders) {
      contender.run();
      for (int call = 0; call < burst; ++call) {
        const auto begin = now();
        contender.run();
        contender.times.push_back(std::chrono::duration<double, std::micro>(now() - begin).count());
      }
    }
  }
}

}  // namespace rivulet
