#pragma once

#include <optional>
#include <string>
#include <vector>

#include "node/core/transfers.h"
#include "node/core/turn.h"

/// Tasks: taken, prepared, trained or evaluated, signed.
namespace rivulet::node {

/// Takes it, or declines it; one that this node gave up before is declined again.
void on_task(Turn& turn, message::Task task);
/// Ends what has no receipt yet, offered or not; an accepted update has its verdict to come.
void on_task_cancelled(Turn& turn, const message::TaskCancelled& cancelled);
void on_training_done(Turn& turn, const event::TrainingDone& event);
void on_evaluation_done(Turn& turn, const event::EvaluationDone& event);
void on_task_failed(Turn& turn, const event::TaskFailed& event);
void on_update_sealed(Turn& turn, const event::UpdateSealed& event);
void on_report_sealed(Turn& turn, const event::ReportSealed& event);

/// Makes deadlines monotonic ones after a restart.
void start_work(Turn& turn);
/// What is running starts anew after the next start.
void stop_work(Turn& turn);
/// Ends tasks whose time is up or whose release forbids them, puts evaluations off while inference waits for a
/// model, and starts the next.
void settle_work(Turn& turn);

/// Missing content of all tasks, by order of arrival.
void add_task_needs(const State& state, std::vector<Need>& needs);
/// A task's release turned out bad, or its content never comes.
void fail_tasks_with(Turn& turn, const ContentId& content, Reason reason, const std::string& detail);
std::optional<MonotonicTime> work_deadline(const State& state);

}  // namespace rivulet::node
