#include <algorithm>

#include "link/log.h"
#include "node/core/agent.h"
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
    const auto run = caught([&]() -> Result<std::optional<Event>> {
      return run_training(task, *folder.blobs, training_engine, *stop);
    });
    std::optional<Event> event =
        run ? *run : event::TaskFailed{task.task, Reason::training_failed, run.error().detail};
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
  const auto stop = std::make_shared<std::atomic<bool>>(false);
  evaluations[effect.task] = stop;
  judge.post([this, task = effect, stop] {
    judging_engine.begin_comparison(stop.get());
    const auto run = caught([&]() -> Result<std::optional<Event>> {
      return run_evaluation(task, *folder.blobs, judging_engine, stop.get());
    });
    judging_engine.end_comparison();
    crash_point("node.candidate_judged");
    std::optional<Event> event =
        run ? *run : event::TaskFailed{task.task, Reason::training_failed, run.error().detail};
    const auto* done = event ? std::get_if<event::EvaluationDone>(&*event) : nullptr;
    if (done != nullptr &&
        done->both_right + done->parent_only + done->candidate_only + done->both_wrong == 0) {
      event =
          event::TaskFailed{task.task, Reason::too_few_samples, "the node has no labelled holdout sample"};
    }
    post([this, id = task.task, stop, event = std::move(event)]() mutable {
      const auto mine = evaluations.find(id);
      if (mine != evaluations.end() && mine->second == stop) evaluations.erase(mine);
      if (!event) return metrics.evaluated("stopped");
      watch_disk(*event);
      const auto* failed = std::get_if<event::TaskFailed>(&*event);
      metrics.evaluated(failed != nullptr ? name(failed->reason) : "done");
      handle(std::move(*event));
    });
  });
}

void AgentDriver::Impl::carry_out(effect::StopTask& effect) {
  if (training && training->task == effect.task) *training->stop = true;
  const auto evaluation = evaluations.find(effect.task);
  if (evaluation != evaluations.end()) *evaluation->second = true;
}

void AgentDriver::Impl::carry_out(effect::Activate& effect) {
  judge.post([this, effect] {
    const std::uint64_t manifest = effect.manifest.manifest_version;
    const auto prepared = caught([&] { return prepare(effect); });
    judging_engine.end_comparison();
    if (prepared) {
      post([this, manifest, prepared = *prepared] { put_in_service(manifest, prepared); });
      return;
    }
    const Error& error = prepared.error();
    // The daemon ends: its next start tries again.
    if (error.code == Errc::cancelled) return;
    const auto damaged = caught(
        [&]() -> Result<std::vector<ContentId>> { return damaged_contents(*folder.blobs, effect.manifest); });
    event::ActivationFailed failed{manifest, reason_of(error, Reason::not_loadable), error.detail,
                                   damaged.value_or(std::vector<ContentId>())};
    post([this, failed = std::move(failed)] {
      if (failed.reason == Reason::storage_failed) break_down({Errc::storage, failed.detail});
      handle(failed);
    });
  });
}

void AgentDriver::Impl::carry_out(effect::Unload&) { inference.swap(nullptr); }

Result<AgentDriver::Impl::Prepared> AgentDriver::Impl::prepare(const effect::Activate& effect) {
  judging_engine.begin_comparison();
  auto ready = prepare_activation(effect, activated.get(), {}, *folder.blobs, judging_engine);
  if (!ready) return std::unexpected(ready.error());
  const auto info = std::ranges::find(effect.manifest.variants, effect.variant, &VariantInfo::name);
  std::vector<float> calibration, check;
  OwnSamples own;
  if (info != effect.manifest.variants.end()) own = own_samples(ready->release, *info, calibration, check);
  // What served goes on, whatever the operator changed since.
  const bool restoring = effect.kind == effect::Activate::Kind::restoration;
  const std::uint64_t memory_max = restoring ? 0 : folder.config.memory_max;
  auto model = loader.load(*ready, effect.manifest, effect.variant, own, memory_max);
  if (!model) return std::unexpected(model.error());
  set_fit(ready->release);
  return Prepared{std::move(*model), std::make_shared<Activation>(std::move(*ready))};
}

/// The whole store is read for them: only where int8 has to be calibrated or checked.
OwnSamples AgentDriver::Impl::own_samples(const Release& release, const VariantInfo& variant,
                                          std::vector<float>& calibration, std::vector<float>& check) {
  constexpr std::size_t samples_max = 200;
  // Without them int8 may be left out; no damage to samples takes a model out of service.
  const auto read = [&](Split split, std::vector<float>& samples) {
    auto drawn = judging_engine.own_samples(release, split, samples_max);
    if (!drawn) log_event(LogLevel::error, "samples_unreadable", {{"detail", drawn.error().detail}});
    samples = std::move(drawn).value_or(std::vector<float>());
  };
  if (variant.own_ranges) read(Split::training, calibration);
  if (variant.own_ranges || variant.int8_kernels) read(Split::holdout, check);
  return {calibration, check};
}

void AgentDriver::Impl::set_fit(const Release& release) {
  const auto status = folder.samples->set_fit(fit_of(release));
  if (!status) log_event(LogLevel::error, "samples_unreadable", {{"detail", status.error().detail}});
}

void AgentDriver::Impl::put_in_service(std::uint64_t manifest_version, Prepared prepared) {
  if (!wants_activation(state, manifest_version)) {
    judge.post([this] {
      if (activated) set_fit(activated->release);
    });
    return handle(event::ActivationFailed{manifest_version, Reason::none, "a newer assignment took it back"});
  }
  inference.swap(std::move(prepared.model));
  // Before the next trial, which comes after ActivationDone.
  judge.post([this, now = std::move(prepared.activation)] { activated = now; });
  crash_point("node.version_loaded");
  handle(event::ActivationDone{manifest_version});
}

}  // namespace rivulet::node
