#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sim/world/virtual_coordinator.h"

namespace rivulet::sim {

struct WorldOptions {
  std::uint64_t seed = 1;
  std::size_t nodes = 10;
  SeededBug bug = SeededBug::none;
};

struct WorldReport {
  std::vector<std::string> violations;           ///< Empty if every promise was kept.
  std::map<std::string, std::uint64_t> fired;    ///< How often each kind of fault struck.
  std::map<std::string, std::uint64_t> crashed;  ///< How often each durable step was crashed at.
  std::size_t versions = 0;
  std::size_t updates = 0;
  std::uint64_t actions = 0;
  std::uint64_t digest = 0;  ///< Of all that happened: the same seed gives the same.
};

/// One fleet's life from one seed: it is founded, its nodes join, rounds run while everything that can
/// fail does, then the world heals and must come to rest: another version published, served by every
/// node, and each accepted update decided.
WorldReport run_world(const WorldOptions& options);

}  // namespace rivulet::sim
