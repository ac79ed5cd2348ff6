#pragma once

#include <memory>
#include <span>
#include <vector>

#include "protocol/codec/norm.h"
#include "protocol/result.h"

namespace rivulet {

/// What a version's training goes on from: stored per version, and replaced only on publication.
struct ServerState {
  std::vector<float> master;   ///< [P] the fp32 model that never leaves the coordinator.
  std::vector<float> moments;  ///< The optimizer's own; see moments_per_entry().

  bool operator==(const ServerState&) const = default;
};

/// The coordinates of batch norm's running statistics; both lists are ordered.
struct StatisticRanges {
  std::vector<CoordinateRange> all;        ///< Averaged: their step has rate 1 and no moments.
  std::vector<CoordinateRange> variances;  ///< Those among them that stay at 0 or above.

  bool operator==(const StatisticRanges&) const = default;
};

/// Applies a round's mean delta to the master. Pure; thread-safe. Same inputs, same bits.
class ServerOptimizer {
 public:
  virtual ~ServerOptimizer() = default;
  /// The length of ServerState::moments is this many times the master's.
  [[nodiscard]] virtual std::size_t moments_per_entry() const = 0;
  /// @param state  that of the parent version; stays as it is, for the candidate may be refused.
  /// @param mean_delta  [P] float32.
  /// @return the state after the step; refused if an entry would not be finite.
  [[nodiscard]] virtual Result<ServerState> step(const ServerState& state, std::span<const float> mean_delta,
                                                 const StatisticRanges& statistics) const = 0;
};

/// m' = m + server_learning_rate * mean_delta, in double, rounded to float32 once; no moments. With
/// rate 1 it is FedAvg. Source: Reddi et al. 2021, arXiv:2003.00295, Algorithm 1 with SGD.
/// @param server_learning_rate  above 0 and finite.
std::unique_ptr<ServerOptimizer> make_fedavg(float server_learning_rate = 1.0F);

}  // namespace rivulet
