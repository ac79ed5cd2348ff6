#pragma once

#include <string>
#include <vector>

#include "node/core/transfers.h"
#include "node/core/turn.h"

/// What this node serves: assigned, fetched, tried, kept, and left again when it fails.
namespace rivulet::node {

void on_assignment(Turn& turn, const message::Assignment& assignment);
void on_activation_done(Turn& turn, const event::ActivationDone& event);
void on_activation_failed(Turn& turn, const event::ActivationFailed& event);
void on_active_model_failed(Turn& turn, const event::ActiveModelFailed& event);

/// Loads the model that was in service; falls back from one that has ended the process at each of the last
/// starts.
void start_serving(Turn& turn);
/// What is being loaded or tried ends with the process, and is begun again at the next start.
void stop_serving(Turn& turn);
/// Judges the assignment once its release is known, and starts the trial once all content is there.
void settle_serving(Turn& turn);

void add_serving_needs(const State& state, std::vector<Need>& needs);
void fail_assignment_with(Turn& turn, const ContentId& content, Reason reason, const std::string& detail);

/// Whether inference has no model, or one that was taken back, until the driver has answered an Activate:
/// evaluations, which a driver may do on the same thread, give way to it.
bool activation_pressing(const State& state);

/// What Ready and Telemetry say: 0 = nothing.
VersionNumber served_version(const State& state);

}  // namespace rivulet::node
