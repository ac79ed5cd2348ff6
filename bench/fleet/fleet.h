#pragma once

#include <vector>

#include "bench/fleet/synthetic_node.h"

namespace rivulet::bench {

/// Hundreds of synthetic nodes on one thread.
class Fleet {
 public:
  /// @param delta outlives the fleet.
  Fleet(FleetPlan plan, const SharedDelta& delta, asio::any_io_executor executor);

  /// Makes every node's key and lets it live.
  Status start();
  /// Ends all nodes. To be awaited before destruction.
  asio::awaitable<void> close() { return tasks_.close(); }

  [[nodiscard]] const Board& board() const { return board_; }

 private:
  Board board_;
  asio::any_io_executor executor_;
  std::vector<std::unique_ptr<SyntheticNode>> nodes_;
  TaskGroup tasks_;
};

}  // namespace rivulet::bench
