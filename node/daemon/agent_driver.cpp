#include "node/daemon/agent_driver.h"

#include <csignal>
#include <future>
#include <nlohmann/json.hpp>

#include "link/disk.h"
#include "link/log.h"
#include "link/system_clock.h"
#include "node/core/agent.h"
#include "node/daemon/agent_impl.h"
#include "protocol/envelope.h"

namespace rivulet::node {
namespace {

using namespace std::chrono_literals;

constexpr auto full_retry = 1s;           // Between two commits on a full disk.
constexpr auto housekeeping_period = 1s;  // Bounds what a crash takes of the samples.
constexpr int expiry_every = 60;          // … of these periods.
constexpr auto farewell = 2s;             // For commits and goodbyes when the process ends.
constexpr auto status_patience = 2s;

LogLevel level_of(effect::Notice::Level level) {
  switch (level) {
    case effect::Notice::Level::info: return LogLevel::info;
    case effect::Notice::Level::warning: return LogLevel::warning;
    case effect::Notice::Level::error: return LogLevel::error;
  }
  return LogLevel::info;
}

}  // namespace

std::string status_document(const State& state, const SampleCounts& samples, const ServedModel* served,
                            bool running) {
  nlohmann::json json = status(state, system_now());
  json["running"] = running;
  json["samples"] = samples.training;
  json["holdout_samples"] = samples.holdout;
  json["unlabelled_samples"] = samples.unlabelled;
  json["unused_samples"] =
      samples.training + samples.holdout -
      std::min(samples.training + samples.holdout, samples.used_training + samples.used_holdout);
  json["buffer_bytes"] = samples.bytes;
  json["serving"] = nullptr;
  if (served != nullptr) {
    json["serving"] = {
        {"version", served->version}, {"variant", served->variant}, {"engine", name(served->model.engine())}};
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

AgentDriver::Impl::Impl(NodeFolder& where, State recovered, Inference& answering, Metrics& counting)
    : folder(where),
      state(std::move(recovered)),
      inference(answering),
      metrics(counting),
      credit(limits.transfer_memory),
      training_engine(*where.samples, counting),
      judging_engine(*where.samples, counting),
      signals(io, SIGTERM, SIGINT),
      wake(io),
      retry(io),
      period(io),
      training_limit(io),
      tasks(io.get_executor(), [](std::string_view what) {
        log_event(LogLevel::error, "bug", {{"detail", std::string(what)}});
      }) {}

// ---- Events and commits ----

void AgentDriver::Impl::handle(Event event) {
  Transition transition = step(state, event, system_now());
  commits.push(std::move(transition.writes), std::move(transition.effects));
  pump();
  metrics.link_up(std::holds_alternative<Online>(state.link.phase));
  if (state.trust.document) metrics.trust_expires(state.trust.document->expires);
  signed_time = state.trust.signed_time.time_since_epoch().count();
  wake_at_deadline();
}

void AgentDriver::Impl::pump() {
  // Effects give new events; their effects come after those that wait here.
  if (pumping) return;
  pumping = true;
  while (commits.ready()) {
    WriteBatch writes = commits.start();
    if (!writes.empty()) {
      commit(std::make_shared<WriteBatch>(std::move(writes)));
      break;
    }
    release();
  }
  pumping = false;
}

void AgentDriver::Impl::release() {
  for (Effect& effect : commits.finish()) std::visit([this](auto& value) { carry_out(value); }, effect);
}

void AgentDriver::Impl::commit(std::shared_ptr<WriteBatch> writes) {
  storage.post([this, writes] {
    auto status = folder.store->commit(*writes, Durability::synced);
    post([this, writes, status = std::move(status)] { committed(writes, status); });
  });
}

void AgentDriver::Impl::committed(const std::shared_ptr<WriteBatch>& writes, const Status& status) {
  if (!status && status.error().code == Errc::storage_full) {
    if (!std::exchange(disk_full, true))
      log_event(LogLevel::error, "disk_full", {{"detail", status.error().detail}});
    retry.expires_after(full_retry);
    retry.async_wait([this, writes](const std::error_code& error) {
      if (!error) commit(writes);
    });
    return;
  }
  if (!status) return break_down(status.error());
  if (std::exchange(disk_full, false)) log_event(LogLevel::info, "disk_has_room");
  pumping = true;
  release();
  pumping = false;
  pump();
  wake_at_deadline();
}

void AgentDriver::Impl::break_down(const Error& error) {
  if (broken) return;
  log_event(LogLevel::error, "disk_failed", {{"detail", error.detail}});
  broken = told_to_mend(error);
  begin_stop();
}

void AgentDriver::Impl::wake_at_deadline() {
  const auto next = next_deadline(state);
  if (!next) {
    wake.cancel();
    return;
  }
  const MonotonicTime at = std::max(*next, system_now().monotonic + 1ms);
  wake.expires_at(Deadline(std::chrono::duration_cast<Deadline::duration>(at)));
  wake.async_wait([this](const std::error_code& error) {
    if (!error) handle(event::Tick{});
  });
}

void AgentDriver::Impl::keep_house() {
  period.expires_after(housekeeping_period);
  period.async_wait([this](const std::error_code& error) {
    if (error || stopping) return;
    const bool expire = ++periods % expiry_every == 0;
    storage.post([this, expire] { care_for_samples(expire); });
    tell_counts();
    keep_house();
  });
}

void AgentDriver::Impl::care_for_samples(bool expire) {
  // By what was learnt or set a moment ago, samples would seem old that have just come.
  const Now now{system_now().monotonic, utc()};
  if (expire && calendar.runs(now)) {
    const auto expired = folder.samples->expire(now.utc);
    metrics.samples_expired(expired.value_or(0));
    if (!expired) judge_samples(expired.error());
  }
  if (const auto synced = folder.samples->sync(); !synced) judge_samples(synced.error());
}

void AgentDriver::Impl::judge_samples(const Error& error) {
  if (error.code == Errc::storage) return post([this, error] { break_down(error); });
  // A full disk has room again some day; a damaged sample keeps no model from serving.
  if (error.code == Errc::storage_full || std::exchange(samples_damaged, true)) return;
  log_event(LogLevel::error, "samples_unreadable", {{"detail", error.detail}});
}

UtcTime AgentDriver::Impl::utc() const {
  return std::max(system_now().utc, UtcTime(std::chrono::milliseconds(signed_time.load())));
}

void AgentDriver::Impl::tell_counts() {
  const SampleCounts counts = folder.samples->counts();
  if (counts != told_counts) {
    told_counts = counts;
    handle(event::SampleCounts{counts.used_training, counts.used_holdout});
  }
  const std::uint64_t inferences = inference.inferences(), errors = inference.errors();
  if (inferences != told_inferences || errors != told_errors) {
    told_inferences = inferences;
    told_errors = errors;
    handle(event::InferenceCounts{inferences, errors});
  }
}

// ---- Start and end ----

Status AgentDriver::Impl::run() {
  const auto identity = TlsIdentity::make(folder.key);
  if (!identity) return std::unexpected(identity.error());
  auto context = TlsContext::make(*identity);
  if (!context) return std::unexpected(context.error());
  tls.emplace(std::move(*context));
  signals.async_wait([this](const std::error_code& error, int signal) {
    if (error) return;
    log_event(LogLevel::info, "signal", {{"number", std::to_string(signal)}});
    begin_stop();
  });
  inference.set_on_failure([this](std::uint64_t manifest, const std::string& detail) {
    post([this, manifest, detail] { handle(event::ActiveModelFailed{manifest, detail}); });
  });
  signed_time = state.trust.signed_time.time_since_epoch().count();
  Transition transition = start(state, system_now());
  commits.push(std::move(transition.writes), std::move(transition.effects));
  pump();
  told_counts = folder.samples->counts();
  handle(event::SampleCounts{told_counts.used_training, told_counts.used_holdout});
  keep_house();
  io.run();
  if (broken) return std::unexpected(*broken);
  return {};
}

void AgentDriver::Impl::begin_stop() {
  if (std::exchange(stopping, true)) return;
  if (on_stop) on_stop(broken.has_value());
  handle(event::ShuttingDown{});
  if (training) *training->stop = true;
  for (const auto& [task, stop] : evaluations) *stop = true;
  loader.stop();
  trainer.stop();
  judge.stop();
  period.cancel();
  asio::co_spawn(io, say_goodbye(), [this](const std::exception_ptr& exception) {
    if (exception) std::rethrow_exception(exception);
    io.stop();
  });
}

asio::awaitable<void> AgentDriver::Impl::say_goodbye() {
  const auto patience = deadline_in(farewell);
  // What the agent still writes; a broken or full disk takes nothing more.
  while (commits.in_flight() && !broken && std::chrono::steady_clock::now() < patience) {
    asio::awaitable<Status> moment = sleep_until(deadline_in(5ms));
    std::ignore = co_await std::move(moment);
  }
  if (connection) connection->close(Reason::shutting_down, "the node stops");
  asio::awaitable<void> closing = tasks.close();
  co_await std::move(closing);
}

// ---- Effects ----

void AgentDriver::Impl::carry_out(effect::SealUpdate& effect) {
  handle(event::UpdateSealed{effect.header.task, seal(folder.key, Context::update, encode(effect.header))});
}

void AgentDriver::Impl::carry_out(effect::SealReport& effect) {
  handle(
      event::ReportSealed{effect.report.task, seal(folder.key, Context::evaluation, encode(effect.report))});
}

void AgentDriver::Impl::carry_out(effect::Notice& effect) {
  log_event(level_of(effect.level), effect.event, effect.fields);
  metrics.noticed(effect);
}

AgentDriver::AgentDriver(NodeFolder& folder, State state, Inference& inference, Metrics& metrics)
    : impl_(std::make_unique<Impl>(folder, std::move(state), inference, metrics)) {}

AgentDriver::~AgentDriver() = default;

Status AgentDriver::run(std::function<void(bool)> on_stop) {
  impl_->on_stop = std::move(on_stop);
  return impl_->run();
}

void AgentDriver::stop() {
  impl_->post([impl = impl_.get()] { impl->begin_stop(); });
}

void AgentDriver::fail_with(const Error& error) {
  impl_->post([impl = impl_.get(), error] { impl->break_down(error); });
}

UtcTime AgentDriver::utc() const { return impl_->utc(); }

Result<std::string> AgentDriver::status() {
  // Shared, since the one that asks may have gone when the agent answers.
  const auto answer = std::make_shared<std::promise<std::string>>();
  auto future = answer->get_future();
  impl_->post([impl = impl_.get(), answer] {
    const auto served = impl->inference.served();
    answer->set_value(status_document(impl->state, impl->folder.samples->counts(), served.get(), true));
  });
  if (future.wait_for(status_patience) == std::future_status::ready) return future.get();
  return fail(Errc::busy, "the agent does not answer: it is starting or ending");
}

}  // namespace rivulet::node
