#include "models/runtime/training_plan.h"

#include <spdlog/fmt/fmt.h>

namespace rivulet {
namespace {

Result<OptimizerKind> optimizer_of(std::uint16_t number) {
  if (number == static_cast<std::uint16_t>(OptimizerKind::sgd)) return OptimizerKind::sgd;
  if (number == static_cast<std::uint16_t>(OptimizerKind::adam)) return OptimizerKind::adam;
  return fail(Errc::unsupported, fmt::format("the optimizer {} is not known here: update the node", number),
              Reason::training_failed);
}

}  // namespace

Result<TrainingParameters> training_parameters(const message::TrainingPlan& plan, const Release& release) {
  const auto optimizer = optimizer_of(plan.optimizer);
  if (!optimizer) return std::unexpected(optimizer.error());
  return TrainingParameters{.epochs = plan.epochs,
                            .batch_size = plan.batch_size,
                            .learning_rate = plan.learning_rate,
                            .momentum = plan.momentum,
                            .weight_decay = plan.weight_decay,
                            .proximal_mu = plan.proximal_mu,
                            .clip_norm = plan.norm_bound,
                            .seed = plan.seed,
                            .optimizer = *optimizer,
                            .pruned = hides_pruned_weights(release.pruning, release.layout)};
}

}  // namespace rivulet
