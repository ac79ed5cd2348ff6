#pragma once

#include <span>
#include <string_view>

namespace rivulet::sim {

/// An experiment that is part of the program: a file of sim/experiments.
struct Bundled {
  std::string_view name;
  std::string_view text;  ///< TOML; its first line is a comment that says what it is.
};

std::span<const Bundled> bundled_experiments();

}  // namespace rivulet::sim
