#include "bench/fleet/fleet.h"

#include <cstdio>

namespace rivulet::bench {

Fleet::Fleet(FleetPlan plan, const SharedDelta& delta, asio::any_io_executor executor)
    : board_{.plan = std::move(plan),
             .delta = delta,
             .limits = {},
             .download = {},
             .counts = {},
             .on_all_downloaded = {}},
      executor_(std::move(executor)),
      tasks_(executor_, [](std::string_view what) {
        std::fprintf(stderr, "fleet_bench: bug in a node: %.*s\n", static_cast<int>(what.size()),
                     what.data());
      }) {
  board_.on_all_downloaded = [this] {
    for (const auto& node : nodes_) node->begin_upload();
  };
}

Status Fleet::start() {
  for (std::uint32_t i = 0; i < board_.plan.nodes; ++i) {
    auto node = SyntheticNode::make(board_, i, executor_);
    if (!node) return std::unexpected(node.error());
    nodes_.push_back(std::move(*node));
  }
  for (const auto& node : nodes_) tasks_.spawn(node->live());
  return {};
}

}  // namespace rivulet::bench
