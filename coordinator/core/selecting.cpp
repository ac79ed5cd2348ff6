#include <algorithm>

#include "coordinator/core/phases.h"
#include "coordinator/core/records.h"
#include "protocol/rng.h"

namespace rivulet::coordinator {
namespace {

/// Tells the draw of a cohort from the other draws of its round.
constexpr std::uint64_t cohort_label = 1;

}  // namespace

bool advance(Step& step, Selecting& phase) {
  const Fleet& fleet = step.state.fleet;
  const RoundPlan& plan = step.state.round.plan;
  const bool late = phase.deadline.passed(step.now);
  // A node that is offline might still come; once all are here, waiting brings nobody.
  const bool all_here = fleet.active == fleet.active_ready;
  const bool enough_will_do = all_here || late || phase.patience.passed(step.now);
  if (phase.patience.passed(step.now)) phase.patience = phase.deadline;  // Nothing more happens before.
  // Looking at the whole fleet costs: only when it can help.
  const std::size_t needed = enough_will_do ? plan.config.cohort_min : plan.invited_max;
  if (fleet.active_ready >= needed) {
    std::vector<PublicKey> eligible = eligible_trainers(fleet, plan.config.samples_min);
    if (eligible.size() >= needed) {
      const std::uint64_t seed = derive_seed(derive_seed(step.state.seed, plan.round), cohort_label);
      enter_training(step, draw(std::move(eligible), plan.invited_max, seed));
      return true;
    }
  }
  if (!late) return false;
  const std::size_t eligible = eligible_trainers(fleet, plan.config.samples_min).size();
  end_round(step, Ending::failed,
            std::to_string(eligible) + " nodes could train, " + std::to_string(plan.config.cohort_min) +
                " are needed: " + std::to_string(fleet.active_ready) + " of " + std::to_string(fleet.active) +
                " are connected, and each needs " + std::to_string(plan.config.samples_min) +
                " labelled samples");
  return true;
}

void enter_training(Step& step, const std::vector<PublicKey>& cohort) {
  State& state = step.state;
  Round& round = state.round;
  round.plan.goal_count = std::min<std::uint64_t>(round.plan.goal_count, cohort.size());
  round.summary.state = "training";
  round.summary.invited = cohort.size();
  Training training;
  training.deadline = Deadline::after(step.now, round.plan.config.deadline);
  training.open = cohort.size();
  for (const PublicKey& key : cohort) {
    const TaskRecord task{task_id(state.trust.fleet, round.plan.round, key, message::TaskType::train, 0), key,
                          round.plan.round, message::TaskType::train, std::nullopt};
    training.tasks[task.id].node = key;
    state.fleet.find(key)->task = task.id;
    step.put("tasks", task.id.span(), to_json(task));
  }
  round.phase = std::move(training);
  put_round(step);
  for (const PublicKey& key : cohort) {
    const Node& node = *state.fleet.find(key);
    if (auto message = task_message(state, node, step.now)) step.send(node, std::move(*message));
  }
  step.notice(effect::Level::info, "round_started", "",
              {{"round", std::to_string(round.plan.round)}, {"invited", std::to_string(cohort.size())}});
}

}  // namespace rivulet::coordinator
