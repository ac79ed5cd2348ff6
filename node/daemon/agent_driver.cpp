#include "node/daemon/agent_driver.h"

#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <csignal>
#include <future>
#include <nlohmann/json.hpp>

#include "link/connection.h"
#include "link/log.h"
#include "link/system_clock.h"
#include "node/core/agent.h"
#include "node/daemon/torch_engine.h"
#include "node/daemon/worker.h"
#include "node/work/tasks.h"
#include "protocol/envelope.h"
#include "protocol/transport/connector.h"
#include "storage/commit_queue.h"
#include "storage/crash_point.h"

namespace rivulet::node {
namespace {

using namespace std::chrono_literals;

constexpr int training_nice = 10;
constexpr auto full_retry = 1s;          // Between two commits on a full disk.
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

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

std::string status_document(const State& state, const SampleCounts& samples, const ServedModel* served, bool running) {
  nlohmann::json json = status(state, system_now());
  json["running"] = running;
  json["samples"] = samples.training;
  json["holdout_samples"] = samples.holdout;
  json["unlabelled_samples"] = samples.unlabelled;
  json["buffer_bytes"] = samples.bytes;
  json["serving"] = nullptr;
  if (served != nullptr) json["serving"] = {{"version", served->version}, {"variant", served->variant}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

struct AgentDriver::Impl final : private ConnectionUser {
  Impl(NodeFolder& where, State recovered, Inference& answering, Metrics& counting)
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
        tasks(io.get_executor(), [](std::string_view what) { log_event(LogLevel::error, "bug", {{"detail", std::string(what)}}); }) {}

  NodeFolder& folder;
  State state;
  Inference& inference;
  Metrics& metrics;
  const Limits limits;
  core::CreditPool credit;
  std::optional<TlsContext> tls;
  TorchEngine training_engine;          // of the training thread
  TorchEngine judging_engine;           // of the judging thread, as is what serves:
  std::optional<Activation> activated;  // for the comparison with the next version

  asio::io_context io{1};
  asio::signal_set signals;
  asio::steady_timer wake;            // the agent's next deadline
  asio::steady_timer retry;           // of a commit on a full disk
  asio::steady_timer period;          // housekeeping
  asio::steady_timer training_limit;  // NodeConfig::training_time_max
  TaskGroup tasks;
  CommitQueue<Effect> commits;
  bool pumping = false;
  bool disk_full = false;
  bool stopping = false;
  std::optional<Error> broken;
  std::function<void(bool)> on_stop;
  std::uint64_t connection_number = 0;
  std::shared_ptr<Connection> connection;  // Shared with the coroutine that runs it.
  std::optional<effect::Fetch> fetch;
  SampleCounts told_counts;
  std::uint64_t told_inferences = 0;
  std::uint64_t told_errors = 0;
  int periods = 0;

  struct Training {
    TaskId task;
    std::shared_ptr<std::atomic<bool>> stop;  // Shared with the training thread.
    bool too_long = false;
  };
  std::optional<Training> training;

  // Last, so that the threads end before what they use.
  Worker storage{Worker::AtEnd::finish};
  Worker trainer{Worker::AtEnd::discard, training_nice};
  Worker judge{Worker::AtEnd::discard};

  // ---- Events and commits ----------------------------------------------------------------------------

  template <typename Function>
  void post(Function function) {
    asio::post(io, std::move(function));
  }

  void handle(Event event) {
    Transition transition = step(state, event, system_now());
    commits.push(std::move(transition.writes), std::move(transition.effects));
    pump();
    metrics.link_up(std::holds_alternative<Online>(state.link.phase));
    wake_at_deadline();
  }

  void pump() {
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

  void release() {
    for (Effect& effect : commits.finish()) std::visit([this](auto& value) { carry_out(value); }, effect);
  }

  /// @param writes shared by the two threads, one after the other.
  void commit(std::shared_ptr<WriteBatch> writes) {
    storage.post([this, writes] {
      auto status = folder.store->commit(*writes, Durability::synced);
      post([this, writes, status = std::move(status)] { committed(writes, status); });
    });
  }

  void committed(const std::shared_ptr<WriteBatch>& writes, const Status& status) {
    if (!status && status.error().code == Errc::storage_full) {
      if (!std::exchange(disk_full, true)) log_event(LogLevel::error, "disk_full", {{"detail", status.error().detail}});
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

  void break_down(const Error& error) {
    if (broken) return;
    log_event(LogLevel::error, "disk_failed", {{"detail", error.detail}});
    broken = error;
    begin_stop();
  }

  void wake_at_deadline() {
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

  void keep_house() {
    period.expires_after(housekeeping_period);
    period.async_wait([this](const std::error_code& error) {
      if (error || stopping) return;
      const bool expire = ++periods % expiry_every == 0;
      storage.post([this, expire] { care_for_samples(expire); });
      tell_counts();
      keep_house();
    });
  }

  /// On the storage thread.
  void care_for_samples(bool expire) {
    Status status;
    if (expire) {
      const auto expired = folder.samples->expire(system_now().utc);
      if (expired) {
        metrics.samples_expired(*expired);
      } else {
        status = std::unexpected(expired.error());
      }
    }
    if (status) status = folder.samples->sync();
    if (status || status.error().code == Errc::storage_full) return;
    post([this, error = status.error()] { break_down(error); });
  }

  void tell_counts() {
    const SampleCounts counts = folder.samples->counts();
    if (counts != told_counts) {
      told_counts = counts;
      handle(event::SampleCounts{counts.training, counts.holdout});
    }
    const std::uint64_t inferences = inference.inferences(), errors = inference.errors();
    if (inferences != told_inferences || errors != told_errors) {
      told_inferences = inferences;
      told_errors = errors;
      handle(event::InferenceCounts{inferences, errors});
    }
  }

  // ---- Start and end ---------------------------------------------------------------------------------

  Status run() {
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
    Transition transition = start(state, system_now());
    commits.push(std::move(transition.writes), std::move(transition.effects));
    pump();
    told_counts = folder.samples->counts();
    handle(event::SampleCounts{told_counts.training, told_counts.holdout});
    keep_house();
    io.run();
    if (broken) return std::unexpected(*broken);
    return {};
  }

  void begin_stop() {
    if (std::exchange(stopping, true)) return;
    if (on_stop) on_stop(broken.has_value());
    handle(event::ShuttingDown{});
    if (training) *training->stop = true;
    trainer.stop();
    judge.stop();
    period.cancel();
    asio::co_spawn(io, say_goodbye(), [this](const std::exception_ptr& exception) {
      if (exception) std::rethrow_exception(exception);
      io.stop();
    });
  }

  asio::awaitable<void> say_goodbye() {
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

  // ---- The connection --------------------------------------------------------------------------------

  asio::awaitable<void> dial(std::uint64_t number) {
    const Deadline deadline = deadline_in(state.config.connect_timeout);
    auto connecting = connect(io.get_executor(), folder.config.coordinator, *tls, deadline);
    auto stream = co_await std::move(connecting);
    if (number != connection_number || stopping) {
      if (stream) {
        auto closing = (*stream)->close();
        co_await std::move(closing);
      }
      co_return;
    }
    if (!stream) {
      handle(event::Disconnected{number, stream.error()});
      co_return;
    }
    const PublicKey peer = (*stream)->peer_key();
    ConnectionUser& self = *this;
    const auto mine = std::make_shared<Connection>(std::move(*stream), core::Role::node, limits, credit, *folder.blobs, self);
    connection = mine;
    handle(event::Connected{number, peer});
    auto running = mine->run();
    co_await std::move(running);
    if (connection == mine) connection.reset();
    if (number == connection_number) {
      const auto& end = mine->end();
      const std::string why = end.detail.empty() ? std::string(name(end.reason)) : end.detail;
      handle(event::Disconnected{number, {Errc::disconnected, why, end.reason}});
    }
  }

  void drop_connection(Reason reason, const std::string& detail) {
    if (connection) connection->close(reason, detail);
    connection.reset();
  }

  void deliver(Connection& from, Message message) override {
    if (&from == connection.get()) handle(event::MessageReceived{connection_number, std::move(message)});
  }

  void finish_fetch(Connection&, const ContentId& content) override {
    storage.post([this, content] {
      auto status = folder.blobs->finish_part(content);
      post([this, content, status = std::move(status)] {
        if (status) return fetch_done(content);
        if (status.error().code == Errc::storage) break_down(status.error());
        content_failed(content, status.error());
      });
    });
  }

  void fetch_failed(Connection& from, const ContentId& content, Error error) override {
    if (&from != connection.get()) return;
    // It comes from within the session, which the agent's answer may want to use.
    post([this, content, error = std::move(error)] { content_failed(content, error); });
  }

  void content_failed(const ContentId& content, const Error& error) {
    if (!fetch || fetch->content != content) return;
    fetch.reset();
    handle(event::ContentFailed{content, error});
  }

  void fetch_done(const ContentId& content) {
    if (!fetch || fetch->content != content) return;
    event::ContentReceived received{content, {}};
    if (fetch->want_bytes) {
      auto bytes = folder.blobs->read_all(content);
      if (!bytes) return content_failed(content, bytes.error());
      received.bytes = std::move(*bytes);
    }
    fetch.reset();
    handle(std::move(received));
  }

  std::optional<ChunkList> chunk_list(const ContentId& content) override {
    for (const auto& [task, entry] : state.outbox) {
      if (entry.content != content) continue;
      auto list = hash_blob(*folder.blobs, content);
      if (list && list->id() == content) return std::move(*list);
    }
    return std::nullopt;
  }

  void count_sent(std::uint64_t bytes) override { metrics.transferred(bytes, 0); }
  void count_received(std::uint64_t bytes) override { metrics.transferred(0, bytes); }

  // ---- Effects ---------------------------------------------------------------------------------------

  void carry_out(effect::Connect& effect) {
    drop_connection(Reason::replaced, "a new connection takes its place");
    connection_number = effect.connection;
    tasks.spawn(dial(effect.connection));
  }

  void carry_out(effect::Disconnect& effect) {
    if (effect.connection == connection_number) drop_connection(effect.reason, effect.detail);
  }

  void carry_out(effect::Send& effect) {
    if (effect.connection == connection_number && connection) connection->send(std::move(effect.message));
  }

  void carry_out(effect::Fetch& effect) {
    fetch = effect;
    // After the removals that were asked for before, which the storage thread does too.
    storage.post([this, content = effect.content] {
      const bool here = folder.blobs->contains(content);
      post([this, content, here] {
        if (!fetch || fetch->content != content) return;
        if (here) {
          fetch_done(content);
        } else if (connection) {
          connection->fetch(content, fetch->max_bytes);
        }
      });
    });
  }

  void carry_out(effect::DropContent& effect) {
    storage.post([this, content = effect.content] {
      std::ignore = folder.blobs->erase(content);  // Best effort: a restart sweeps what is left.
      std::ignore = folder.blobs->erase_part(content);
    });
  }

  void carry_out(effect::Train& effect) {
    training = Training{effect.task, std::make_shared<std::atomic<bool>>(false)};
    training_limit.expires_after(folder.config.training_time_max);
    training_limit.async_wait([this, task = effect.task](const std::error_code& error) {
      if (error || !training || training->task != task) return;
      training->too_long = true;
      *training->stop = true;
    });
    log_event(LogLevel::info, "training_begins", {{"task", effect.task.hex()}, {"round", std::to_string(effect.round)}});
    trainer.post([this, task = effect, stop = training->stop] {
      const auto begin = std::chrono::steady_clock::now();
      auto event = run_training(task, *folder.blobs, training_engine, *stop);
      crash_point("node.update_trained");
      post([this, task = task.task, event = std::move(event), seconds = seconds_since(begin)]() mutable {
        trained(task, std::move(event), seconds);
      });
    });
  }

  void trained(const TaskId& task, std::optional<Event> event, double seconds) {
    const bool mine = training && training->task == task;
    const bool too_long = mine && training->too_long;
    if (mine) {
      training.reset();
      training_limit.cancel();
    }
    if (!event && too_long) {
      event = event::TaskFailed{task, Reason::training_failed, "the training took longer than training.time_max allows"};
    }
    std::string outcome = "stopped";
    if (event) {
      const auto* failed = std::get_if<event::TaskFailed>(&*event);
      outcome = failed != nullptr ? std::string(name(failed->reason)) : "done";
    }
    metrics.trained(outcome, seconds);
    log_event(LogLevel::info, "training_ended",
              {{"task", task.hex()}, {"outcome", outcome}, {"seconds", std::to_string(seconds)}});
    if (event) handle(std::move(*event));
  }

  void carry_out(effect::Evaluate& effect) {
    judge.post([this, task = effect] {
      judging_engine.begin_comparison();
      Event event = run_evaluation(task, *folder.blobs, judging_engine);
      crash_point("node.candidate_judged");
      const auto* done = std::get_if<event::EvaluationDone>(&event);
      if (done != nullptr && done->both_right + done->parent_only + done->candidate_only + done->both_wrong == 0) {
        event = event::TaskFailed{task.task, Reason::too_few_samples, "the node has no labelled holdout sample"};
      }
      post([this, event = std::move(event)]() mutable {
        const auto* failed = std::get_if<event::TaskFailed>(&event);
        metrics.evaluated(failed != nullptr ? name(failed->reason) : "done");
        handle(std::move(event));
      });
    });
  }

  void carry_out(effect::StopTask& effect) {
    if (training && training->task == effect.task) *training->stop = true;
  }

  void carry_out(effect::SealUpdate& effect) {
    handle(event::UpdateSealed{effect.header.task, seal(folder.key, Context::update, encode(effect.header))});
  }

  void carry_out(effect::SealReport& effect) {
    handle(event::ReportSealed{effect.report.task, seal(folder.key, Context::evaluation, encode(effect.report))});
  }

  void carry_out(effect::Activate& effect) {
    judge.post([this, effect] {
      const std::uint64_t manifest = effect.manifest.manifest_version;
      const Status status = activate(effect);
      if (status) {
        post([this, manifest] { handle(event::ActivationDone{manifest}); });
        return;
      }
      const Reason reason = status.error().reason == Reason::none ? Reason::not_loadable : status.error().reason;
      post([this, manifest, reason, detail = status.error().detail] {
        handle(event::ActivationFailed{manifest, reason, detail});
      });
    });
  }

  /// On the judging thread.
  Status activate(const effect::Activate& effect) {
    judging_engine.begin_comparison();
    auto ready = prepare_activation(effect, activated ? &*activated : nullptr, {}, *folder.blobs, judging_engine);
    if (!ready) return std::unexpected(ready.error());
    auto model = load_served_model(ready->release, ready->weights, effect.manifest, effect.variant);
    if (!model) return std::unexpected(model.error());
    inference.swap(std::move(*model));
    activated = std::move(*ready);
    crash_point("node.version_loaded");
    return {};
  }

  void carry_out(effect::Notice& effect) { log_event(level_of(effect.level), effect.event, effect.fields); }
};

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
