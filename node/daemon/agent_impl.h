#pragma once

// Includes Asio: only for the .cpp files of the driver.
#include <asio/io_context.hpp>
#include <asio/post.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>

#include <map>
#include <memory>

#include "link/connection.h"
#include "node/daemon/agent_driver.h"
#include "node/daemon/model_loader.h"
#include "node/daemon/steady_calendar.h"
#include "node/daemon/torch_engine.h"
#include "node/daemon/worker.h"
#include "node/work/tasks.h"
#include "storage/commit_queue.h"

namespace rivulet::node {

constexpr int training_nice = 10;

struct AgentDriver::Impl final : private ConnectionUser {
  Impl(NodeFolder& where, State recovered, Inference& answering, Metrics& counting);

  NodeFolder& folder;
  State state;
  Inference& inference;
  Metrics& metrics;
  const Limits limits;
  core::CreditPool credit;
  VerifiedParts parts;
  std::optional<TlsContext> tls;
  TorchEngine training_engine;            // of the training thread
  TorchEngine judging_engine;             // of the judging thread, as is what serves:
  std::shared_ptr<Activation> activated;  // for the comparison with the next version
  ModelLoader loader{steady_stopwatch()};

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
  std::optional<std::pair<ContentId, ChunkList>> offered;  // What this connection was offered last.
  SampleCounts told_counts;
  std::uint64_t told_inferences = 0;
  std::uint64_t told_errors = 0;
  int periods = 0;
  std::atomic<std::int64_t> signed_time = 0;  // State's, in ms, for other threads.
  SteadyCalendar calendar;                    // of the storage thread
  bool samples_damaged = false;               // of the storage thread: it has been told

  struct Training {
    TaskId task;
    std::shared_ptr<std::atomic<bool>> stop;  // Shared with the training thread.
    bool too_long = false;
  };
  std::optional<Training> training;
  // What stops each, shared with the judging thread.
  std::map<TaskId, std::shared_ptr<std::atomic<bool>>> evaluations;

  // Last, so that the threads end before what they use.
  Worker storage{Worker::AtEnd::finish};
  Worker trainer{Worker::AtEnd::discard, training_nice};
  Worker judge{Worker::AtEnd::discard};

  // agent_driver.cpp: events and commits, start and end
  template <typename Function>
  void post(Function function) {
    asio::post(io, std::move(function));
  }
  void handle(Event event);
  void pump();
  void release();
  /// @param writes shared by the two threads, one after the other.
  void commit(std::shared_ptr<WriteBatch> writes);
  void committed(const std::shared_ptr<WriteBatch>& writes, const Status& status);
  void break_down(const Error& error);
  void wake_at_deadline();
  void keep_house();
  /// On the storage thread.
  void care_for_samples(bool expire);
  /// What to make of an error of the sample store. On the storage thread.
  void judge_samples(const Error& error);
  /// The later of the local clock and the highest signed time, as the agent takes it. From any thread.
  UtcTime utc() const;
  void tell_counts();
  Status run();
  void begin_stop();
  asio::awaitable<void> say_goodbye();
  void carry_out(effect::SealUpdate& effect);
  void carry_out(effect::SealReport& effect);
  void carry_out(effect::Notice& effect);

  // agent_link.cpp: the connection and what comes over it
  asio::awaitable<void> dial(std::uint64_t number);
  void drop_connection(Reason reason, const std::string& detail);
  void deliver(Connection& from, Message message) override;
  void finish_fetch(Connection&, const ContentId& content) override;
  void fetch_failed(Connection& from, const ContentId& content, Error error) override;
  void content_failed(const ContentId& content, const Error& error);
  void fetch_done(const ContentId& content);
  std::optional<ChunkList> chunk_list(const ContentId& content) override;
  void count_sent(std::uint64_t bytes) override;
  void count_received(std::uint64_t bytes) override;
  void carry_out(effect::Connect& effect);
  void carry_out(effect::Disconnect& effect);
  void carry_out(effect::Send& effect);
  void carry_out(effect::Fetch& effect);
  void carry_out(effect::DropContent& effect);

  // agent_work.cpp: training, evaluation, activation
  void carry_out(effect::Train& effect);
  /// Ends the daemon if a task has met a failed disk, of which nobody knows what it kept.
  void watch_disk(const Event& event);
  void trained(const TaskId& task, std::optional<Event> event, double seconds);
  void carry_out(effect::Evaluate& effect);
  void carry_out(effect::StopTask& effect);
  void carry_out(effect::Activate& effect);
  void carry_out(effect::Unload& effect);
  /// What is to serve.
  struct Prepared {
    std::shared_ptr<const ServedModel> model;
    std::shared_ptr<Activation> activation;  // Handed on between the agent's and the judging thread.
  };
  /// On the judging thread.
  Result<Prepared> prepare(const effect::Activate& effect);
  OwnSamples own_samples(const Release& release, const VariantInfo& variant, std::vector<float>& calibration,
                         std::vector<float>& check);
  /// What the API takes and counts is up to the release that serves. On the judging thread.
  void set_fit(const Release& release);
  /// On the agent's thread, so that nothing comes between the question whether it is wanted and the swap.
  void put_in_service(std::uint64_t manifest_version, Prepared prepared);
};

}  // namespace rivulet::node
