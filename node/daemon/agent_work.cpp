#include "link/log.h"
#include "node/daemon/agent_impl.h"
#include "storage/crash_point.h"

namespace rivulet::node {
namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

void AgentDriver::Impl::carry_out(effect::Train& effect) {
  training = Training{effect.task, std::make_shared<std::atomic<bool>>(false)};
  training_limit.expires_after(folder.config.training_time_max);
  training_limit.async_wait([this, task = effect.task](const std::error_code& error) {
    if (error || !training || training->task != task) return;
    training->too_long = true;
    *training->stop = true;
  });
  log_event(LogLevel::info, "training_begins",
            {{"task", effect.task.hex()}, {"round", std::to_string(effect.round)}});
  trainer.post([this, task = effect, stop = training->stop] {
    const auto begin = std::chrono::steady_clock::now();
    auto event = run_training(task, *folder.blobs, training_engine, *stop);
    crash_point("node.update_trained");
    post([this, task = task.task, event = std::move(event), seconds = seconds_since(begin)]() mutable {
      trained(task, std::move(event), seconds);
    });
  });
}

void AgentDriver::Impl::watch_disk(const Event& event) {
  const auto* failed = std::get_if<event::TaskFailed>(&event);
  if (failed != nullptr && failed->reason == Reason::storage_failed)
    break_down({Errc::storage, failed->detail});
}

void AgentDriver::Impl::trained(const TaskId& task, std::optional<Event> event, double seconds) {
  const bool mine = training && training->task == task;
  const bool too_long = mine && training->too_long;
  if (mine) {
    training.reset();
    training_limit.cancel();
  }
  if (!event && too_long) {
    event = event::TaskFailed{task, Reason::training_failed,
                              "the training took longer than training.time_max allows"};
  }
  std::string outcome = "stopped";
  if (event) {
    const auto* failed = std::get_if<event::TaskFailed>(&*event);
    outcome = failed != nullptr ? std::string(name(failed->reason)) : "done";
  }
  metrics.trained(outcome, seconds);
  if (event) watch_disk(*event);
  log_event(LogLevel::info, "training_ended",
            {{"task", task.hex()}, {"outcome", outcome}, {"seconds", std::to_string(seconds)}});
  if (event) handle(std::move(*event));
}

void AgentDriver::Impl::carry_out(effect::Evaluate& effect) {
  judge.post([this, task = effect] {
    judging_engine.begin_comparison();
    Event event = run_evaluation(task, *folder.blobs, judging_engine);
    crash_point("node.candidate_judged");
    const auto* done = std::get_if<event::EvaluationDone>(&event);
    if (done != nullptr &&
        done->both_right + done->parent_only + done->candidate_only + done->both_wrong == 0) {
      event =
          event::TaskFailed{task.task, Reason::too_few_samples, "the node has no labelled holdout sample"};
    }
    post([this, event = std::move(event)]() mutable {
      watch_disk(event);
      const auto* failed = std::get_if<event::TaskFailed>(&event);
      metrics.evaluated(failed != nullptr ? name(failed->reason) : "done");
      handle(std::move(event));
    });
  });
}

void AgentDriver::Impl::carry_out(effect::StopTask& effect) {
  if (training && training->task == effect.task) *training->stop = true;
}

void AgentDriver::Impl::carry_out(effect::Activate& effect) {
  judge.post([this, effect] {
    const std::uint64_t manifest = effect.manifest.manifest_version;
    const Status status = activate(effect);
    if (status) {
      post([this, manifest] { handle(event::ActivationDone{manifest}); });
      return;
    }
    // The daemon ends: its next start tries again.
    if (status.error().code == Errc::cancelled) return;
    event::ActivationFailed failed{manifest, reason_of(status.error(), Reason::not_loadable),
                                   status.error().detail, damaged_contents(*folder.blobs, effect.manifest)};
    post([this, failed = std::move(failed)] {
      if (failed.reason == Reason::storage_failed) break_down({Errc::storage, failed.detail});
      handle(failed);
    });
  });
}

Status AgentDriver::Impl::activate(const effect::Activate& effect) {
  judging_engine.begin_comparison();
  auto ready =
      prepare_activation(effect, activated ? &*activated : nullptr, {}, *folder.blobs, judging_engine);
  if (!ready) return std::unexpected(ready.error());
  constexpr std::size_t samples_max = 200;
  // The whole store is read for them: only where the manifest leaves ranges to the node.
  const bool wanted = leaves_ranges(effect.manifest, effect.variant);
  Result<std::vector<float>> training_samples, holdout;
  if (wanted) training_samples = judging_engine.own_samples(ready->release, Split::training, samples_max);
  if (!training_samples) return std::unexpected(training_samples.error());
  if (wanted) holdout = judging_engine.own_samples(ready->release, Split::holdout, samples_max);
  if (!holdout) return std::unexpected(holdout.error());
  auto model = loader.load(*ready, effect.manifest, effect.variant, {*training_samples, *holdout});
  if (!model) return std::unexpected(model.error());
  if (const auto status = folder.samples->set_fit(fit_of(ready->release)); !status) {
    return std::unexpected(status.error());
  }
  inference.swap(std::move(*model));
  activated = std::move(*ready);
  crash_point("node.version_loaded");
  return {};
}

}  // namespace rivulet::node
