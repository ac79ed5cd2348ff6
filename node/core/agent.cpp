#include "node/core/agent.h"

#include <algorithm>

#include "node/core/link.h"
#include "node/core/outbox.h"
#include "node/core/serving.h"
#include "node/core/transfers.h"
#include "node/core/turn.h"
#include "node/core/work.h"

namespace rivulet::node {
namespace {

/// A session's messages beyond its opening; all else is left to the session layer.
void on_message(Turn& turn, const Message& message) {
  std::visit(Overloaded{[&](const message::TrustChain& chain) { on_trust_chain(turn, chain); },
                        [&](const message::Welcome& welcome) {
                          if (!on_welcome(turn, welcome)) return;
                          restart_transfers(turn.state);
                          greet(turn);
                        },
                        [&](const message::Refused& refused) { on_refused(turn, refused); },
                        [&](const message::Backoff& backoff) { on_backoff(turn, backoff); },
                        [&](const auto& other) {
                          if (!online(turn.state)) return;  // Nobody is believed before the welcome.
                          using Other = std::decay_t<decltype(other)>;
                          if constexpr (std::is_same_v<Other, message::Assignment>)
                            on_assignment(turn, other);
                          if constexpr (std::is_same_v<Other, message::Task>) on_task(turn, other);
                          if constexpr (std::is_same_v<Other, message::TaskCancelled>)
                            on_task_cancelled(turn, other);
                          if constexpr (std::is_same_v<Other, message::Receipt>) on_receipt(turn, other);
                          if constexpr (std::is_same_v<Other, message::Verdicts>) on_verdicts(turn, other);
                        }},
             message);
}

void shut_down(Turn& turn) {
  stop_work(turn);
  stop_serving(turn);
  leave(turn);
  turn.state.stopping = true;
}

bool of_this_connection(const State& state, std::uint64_t connection) {
  return connection == state.link.connection && !std::holds_alternative<Offline>(state.link.phase);
}

void handle(Turn& turn, const Event& event) {
  State& state = turn.state;
  std::visit(Overloaded{
                 [&](const event::Connected& connected) {
                   if (of_this_connection(state, connected.connection)) on_connected(turn, connected);
                 },
                 [&](const event::Disconnected& disconnected) {
                   if (of_this_connection(state, disconnected.connection))
                     on_disconnected(turn, disconnected);
                 },
                 [&](const event::MessageReceived& received) {
                   if (of_this_connection(state, received.connection)) on_message(turn, received.message);
                 },
                 [](const event::Tick&) {},
                 [&](const event::SampleCounts& counts) { on_sample_counts(turn, counts); },
                 [&](const event::InferenceCounts& counts) {
                   state.counts.inferences = counts.inferences;
                   state.counts.inference_errors = counts.errors;
                 },
                 [&](const event::ContentReceived& received) { on_content_received(turn, received); },
                 [&](const event::ContentFailed& failed) { on_content_failed(turn, failed); },
                 [&](const event::TrainingDone& done) { on_training_done(turn, done); },
                 [&](const event::EvaluationDone& done) { on_evaluation_done(turn, done); },
                 [&](const event::TaskFailed& failed) { on_task_failed(turn, failed); },
                 [&](const event::UpdateSealed& sealed) { on_update_sealed(turn, sealed); },
                 [&](const event::ReportSealed& sealed) { on_report_sealed(turn, sealed); },
                 [&](const event::ActivationDone& done) { on_activation_done(turn, done); },
                 [&](const event::ActivationFailed& failed) { on_activation_failed(turn, failed); },
                 [&](const event::ActiveModelFailed& failed) { on_active_model_failed(turn, failed); },
                 [&](const event::ShuttingDown&) { shut_down(turn); },
             },
             event);
}

/// What follows from the state, whichever event led there.
void settle(Turn& turn) {
  settle_link(turn);
  settle_serving(turn);
  settle_work(turn);
  settle_outbox(turn);
  if (turn.collect) collect_garbage(turn);
  settle_transfers(turn);
}

void earlier(std::optional<MonotonicTime>& next, const std::optional<MonotonicTime>& other) {
  if (other && (!next || *other < *next)) next = other;
}

}  // namespace

Transition start(State& state, Now now) {
  Turn turn(state, now);
  start_serving(turn);
  start_work(turn);
  connect(turn);
  turn.collect = true;
  settle(turn);
  return std::move(turn.out);
}

Transition step(State& state, const Event& event, Now now) {
  if (state.stopping) return {};
  Turn turn(state, now);
  handle(turn, event);
  if (!state.stopping) settle(turn);
  return std::move(turn.out);
}

std::optional<MonotonicTime> next_deadline(const State& state) {
  if (state.stopping) return std::nullopt;
  std::optional<MonotonicTime> next = link_deadline(state);
  earlier(next, work_deadline(state));
  earlier(next, transfers_deadline(state));
  return next;
}

}  // namespace rivulet::node
