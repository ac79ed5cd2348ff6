#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "bench/fleet/node_contents.h"
#include "protocol/limits.h"
#include "protocol/now.h"
#include "protocol/token.h"

namespace rivulet::bench {

/// What all synthetic nodes are told.
struct FleetPlan {
  std::uint32_t nodes = 0;
  JoinToken token;
  std::uint64_t parameters = 0;
  std::uint64_t samples = 100;  ///< That each node says it has.
  std::uint32_t cut_every =
      10;  ///< One node of so many loses its connection once in each direction; 0: none.
};

/// What they have seen so far.
struct FleetCounts {
  std::uint32_t connections = 0;
  std::uint32_t ready = 0;       ///< Nodes that have said so.
  std::uint32_t downloaded = 0;  ///< Nodes that have verified the whole model.
  std::uint32_t accepted = 0;    ///< Receipts.
  std::uint32_t refused = 0;     ///< Receipts that are not "accepted".
  std::uint32_t aggregated = 0;  ///< Verdicts.
  std::uint32_t discarded = 0;
  std::uint32_t cuts = 0;
  std::uint64_t bytes_down = 0;  ///< Content alone, with what cuts made go twice.
  std::uint64_t bytes_up = 0;
  std::optional<MonotonicTime> first_task;
  std::optional<MonotonicTime> last_download;
  std::optional<MonotonicTime> first_offer;
  std::optional<MonotonicTime> last_receipt;
  std::optional<MonotonicTime> first_verdict;
  std::map<std::string, std::uint32_t> troubles;  ///< What went wrong without being asked for.
};

/// What the nodes of one fleet share. All references outlive it.
struct Board {
  FleetPlan plan;
  const SharedDelta& delta;
  Limits limits;
  SharedDownload download;
  FleetCounts counts;
  std::function<void()> on_all_downloaded;

  [[nodiscard]] bool all_downloaded() const { return counts.downloaded == plan.nodes; }
  [[nodiscard]] bool all_answered() const { return counts.accepted + counts.refused == plan.nodes; }
  /// Every update has had its last word.
  [[nodiscard]] bool all_settled() const {
    return counts.refused + counts.aggregated + counts.discarded == plan.nodes;
  }
};

}  // namespace rivulet::bench
