#pragma once

#include "coordinator/core/step.h"

/// How rounds go on: one function per phase and event. For this folder's sources only.
namespace rivulet::coordinator {

// ---- What time and circumstances allow. @return whether the phase changed.
bool advance(Step& step, Idle& phase);
bool advance(Step& step, Selecting& phase);
bool advance(Step& step, Training& phase);
bool advance(Step& step, Aggregating& phase);
bool advance(Step& step, Gating& phase);
bool advance(Step& step, Publishing& phase);
bool advance(Step& step, Failed& phase);
/// Until nothing more happens by itself. Nothing does while the store takes no writes.
void advance_round(Step& step);

// ---- From phase to phase
void enter_training(Step& step, const std::vector<PublicKey>& cohort);
void enter_aggregating(Step& step, SealedSet sealed);
void enter_gating(Step& step, SealedSet sealed, CandidateBuilt candidate);
void enter_publishing(Step& step, SealedSet sealed, CandidateBuilt candidate, std::optional<Metrics> metrics);

/// How a round ended without a version.
enum class Ending { failed, refused };
/// Ends the round in progress: verdicts, audit entry, the pause before the next one.
void end_round(Step& step, Ending ending, const std::string& why);
/// Ends it as what was computed for it failed. What made one round fail so may make every one: after
/// refusals_max of them the schedule stops. @param what "aggregation" or "publication".
void end_failed_work(Step& step, const std::string& what, const Error& error);
/// Ends a round that waits for room in a quota which its own contents fill, so that they go.
void give_up_for_room(Step& step);
/// The round is over: listed, and told to who waits for it.
void close_round(Step& step, std::string state, const std::string& reason);
void stop_schedule(Step& step, const std::string& why);
void reply_to_waiters(Step& step, RoundNumber ended);
/// Whether rounds may run: a release that has not expired, under trust that has not.
Status may_publish(const State& state, const Now& now);

// ---- Events
void on_offer(Step& step, Node& node, const Envelope& header);
void on(Step& step, const event::UpdateStored& event);
void on(Step& step, const event::UpdateRejected& event);
void on(Step& step, const event::UpdateTransferFailed& event);
void on(Step& step, const event::Aggregated& event);
void on(Step& step, const event::AggregationFailed& event);
void on_evaluation(Step& step, Node& node, const Envelope& report);
void on_declined(Step& step, Node& node, const message::Declined& declined);
void on(Step& step, const event::CandidateScored& event);
void on(Step& step, const event::VersionSealed& event);
void on(Step& step, const event::PublicationFailed& event);
/// A node that became ready, or told of new samples, may be wanted as an evaluator.
void consider_evaluator(Step& step, Node& node);
/// Asks another node in the place of an evaluator that declined, if there is one.
void replace_evaluator(Step& step, Gating& phase);
/// Whose tasks were declined and why, as the end of a sentence: "; declined: 2 training_failed"; or empty.
std::string declined_words(const RoundPhase& phase);
/// Whether a task that no open round has was this node's in one of the last rounds.
bool is_of_past_round(const State& state, const TaskId& task, const PublicKey& node);
/// Takes its open task from a node, which gets no other for it.
void withdraw_task(Step& step, Node& node, Reason reason);
/// Takes what a revoked node brought out of the round in progress.
void exclude_from_round(Step& step, const PublicKey& key);

// ---- Pieces
/// The accepted update of this task that has no verdict yet, or null.
const UpdateRecord* find_update(const RoundPhase& phase, const TaskId& task);
/// The message for a node's open task, with the time that is left for it.
std::optional<Message> task_message(const State& state, const Node& node, const Now& now);
/// One durable verdict for an update; told at once to a node that is there.
void give_verdict(Step& step, const UpdateRecord& update, Reason discarded_for, VersionNumber version);
void put_round(Step& step);
/// Tells a node to come again later.
void back_off(Step& step, SessionId session, Reason reason, std::chrono::milliseconds wait);
/// Answers with Backoff while no promise can be kept. @return whether it did.
bool shed(Step& step, SessionId session);
void send_receipt(Step& step, const Node& node, const TaskId& task, message::ReceiptOutcome outcome,
                  Reason reason, std::string detail);
/// Takes a task that is over from its node, and from the store.
void finish_task(Step& step, const TaskId& task, const PublicKey& node);
/// … and all of a training phase, with what came of their contents.
void finish_training_tasks(Step& step, const Training& phase);
SealedSet seal_set(std::uint32_t attempt, std::vector<UpdateRecord> updates, const RoundPlan& plan);
/// Records a sealed version, assigns it to everybody, and lets old blobs go.
void publish(Step& step, VersionRecord version, const std::vector<LeftOut>& left_out);
void put_registry(Step& step);

}  // namespace rivulet::coordinator
