#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "coordinator/core/coordinator.h"
#include "coordinator/server/chunk_lists.h"
#include "coordinator/server/datasets.h"
#include "coordinator/server/job_thread.h"
#include "coordinator/server/log_limit.h"
#include "coordinator/server/metrics.h"
#include "coordinator/server/uploads.h"
#include "coordinator/work/model_runner.h"
#include "link/log.h"
#include "protocol/keys.h"
#include "storage/blob_store.h"
#include "storage/commit_queue.h"
#include "storage/store.h"

namespace rivulet::coordinator {

/// How the driver reaches nodes; what names a session that is gone does nothing.
class Links {
 public:
  virtual ~Links() = default;
  virtual void send(SessionId session, Message message) = 0;
  /// The peer has proven to belong to the fleet.
  virtual void welcome(SessionId session, message::Welcome welcome) = 0;
  /// @return false if it had ended before.
  virtual bool close(SessionId session, Reason reason, std::string detail) = 0;
  /// @return false if the session is over.
  virtual bool fetch(SessionId session, const ContentId& content, std::uint64_t bytes_max) = 0;
  /// Ends that fetch; no word of it comes any more.
  virtual void stop_fetch(SessionId session, const ContentId& content) = 0;
  [[nodiscard]] virtual bool open(SessionId session) const = 0;
  virtual void show(ServerMetrics::Gauges& gauges) const = 0;
};

/// Drives the coordinator's core in real time: steps it, commits its writes on a storage thread, and
/// then carries out its effects; a worker thread aggregates, scores and seals, a third one makes uploads
/// durable and inspects them. All calls on one thread,
/// the one that `post` runs actions on, unless said otherwise.
class Driver {
 public:
  /// All references outlive the driver.
  struct Parts {
    Store& store;
    BlobStore& blobs;
    const SecretKey& key;
    ModelRunner& runner;
    Datasets& datasets;
    ServerMetrics& metrics;
    std::size_t worker_threads = 1;
    std::uint64_t blob_quota_bytes = 0;
    std::filesystem::path folder;  ///< Whose disk is asked for room.
  };
  struct Hooks {
    std::function<Now()> now;
    std::function<void(std::function<void()>)>
        post;  ///< Runs it on the driver's thread, soon. Any thread calls it.
    std::function<void(MonotonicTime)> wake_at;  ///< Call tick() then; replaces what was asked for before.
    std::function<void(const Error&)> broken;    ///< The disk failed: nothing more can be promised.
  };

  Driver(const Parts& parts, Hooks hooks);
  ~Driver();

  /// Reads the state from the store and sweeps the blobs. @return as recover(); what sweeping failed with.
  Status recover(const Config& config);
  /// Takes up what a crash interrupted; from now on events are handled.
  void start(Links& links);

  void handle(Event event);
  void tick();
  /// An admin command: `done` gets its reply.
  void request(const std::function<Event(RequestId)>& make, std::function<void(Result<nlohmann::json>)> done);
  /// Bytes of content that went to a node or came from one.
  void count_sent(std::uint64_t bytes);
  void count_received(std::uint64_t bytes) { parts_.metrics.count_received(bytes); }

  [[nodiscard]] const State& state() const { return *state_; }
  [[nodiscard]] Now now() const { return hooks_.now(); }
  [[nodiscard]] Uploads& uploads() { return *uploads_; }
  [[nodiscard]] Store& store() { return parts_.store; }
  [[nodiscard]] BlobStore& blobs() { return parts_.blobs; }
  [[nodiscard]] Datasets& datasets() { return parts_.datasets; }
  [[nodiscard]] ServerMetrics& metrics() { return parts_.metrics; }
  /// The trust documents that are durable, from the first one on.
  [[nodiscard]] const std::vector<SignedTrust>& trust_chain() const { return trust_chain_; }
  /// @return nothing if nodes may not have it, or it is not here.
  std::optional<ChunkList> served_list(const ContentId& content);
  /// Does `job` on the worker thread, and then `done` on the driver's.
  template <typename T>
  void work(std::function<T()> job, std::function<void(T)> done) {
    run_on(worker_, std::move(job), std::move(done));
  }
  /// The same on a thread for uploads: they are read whole, which commits need not wait for.
  template <typename T>
  void work_on_contents(std::function<T()> job, std::function<void(T)> done) {
    run_on(contents_, std::move(job), std::move(done));
  }
  /// The disk has no room for content. Rounds pause until there is.
  void no_room();
  void broken(const Error& error);
  /// A line of the log that anybody may cause: as many as LogLimit lets through.
  void log_of_stranger(LogLevel level, std::string_view event, const LogFields& fields);
  /// The disk has changed what was stored. For the log and the metrics; any thread.
  void tell_damaged(const ContentId& content, std::string detail);
  /// Answers every admin command that still waits.
  void fail_requests(const std::string& why);
  /// Metrics with what is read at this moment.
  [[nodiscard]] std::string metrics_text();

  /// Whether all writes are durable and all effects carried out.
  [[nodiscard]] bool settled() const { return !queue_.in_flight() && !queue_.ready(); }
  /// Whether no thread has a job. Any thread.
  [[nodiscard]] bool idle() const { return worker_.idle() && contents_.idle() && storage_.idle(); }

 private:
  template <typename T>
  void run_on(JobThread& thread, std::function<T()> job, std::function<void(T)> done) {
    thread.post([this, job = std::move(job), done = std::move(done)] {
      auto result = std::make_shared<T>(job());  // Shared, since std::function is copied.
      hooks_.post([result, done] { done(std::move(*result)); });
    });
  }

  void pump();
  void commit(std::shared_ptr<WriteBatch> batch);
  void committed(const std::shared_ptr<WriteBatch>& batch, const Status& status);
  void release();
  void rearm();
  void look_for_room();
  void room_again();
  [[nodiscard]] std::uint64_t room_wanted() const;
  [[nodiscard]] bool over_quota() const;
  [[nodiscard]] bool has_room() const;
  void count_rounds();
  /// Does it in a moment, as something of ours is short that comes back by itself.
  void again_later(Effect effect, const Error& why);
  void do_delayed();
  void tell_left_out();
  /// Any thread.
  std::optional<ChunkList> list_of(const ContentId& content);
  /// Hashes what nodes will ask for, off the sockets' thread.
  void warm_lists();
  /// Of a registered release, or of the one that is being imported. @return null if there is none.
  [[nodiscard]] const Release* find_release(const ReleaseId& id) const;

  // effects.cpp
  /// Remembers what the receipts among these effects answer, as they don't tell it themselves.
  void expect_receipts(const Event& cause, const std::vector<Effect>& effects);
  void count(const message::Receipt& receipt);
  void carry_out(effect::Send& effect);
  void carry_out(effect::SendWelcome& effect);
  void carry_out(effect::Close& effect);
  void carry_out(effect::FetchUpdate& effect);
  void carry_out(effect::DropFetch& effect);
  void carry_out(effect::Aggregate& effect);
  void carry_out(effect::ScoreCandidate& effect);
  void carry_out(effect::SealVersion& effect);
  void carry_out(effect::ServeTrust& effect);
  void carry_out(effect::EraseContent& effect);
  void carry_out(effect::Reply& effect);
  void carry_out(effect::Notice& effect);
  /// Null if there is none, or it is damaged. @return storage.
  Result<const ScoringData*> scoring_data(const ReleaseId& release, Split split);

  Parts parts_;
  Hooks hooks_;
  Links* links_ = nullptr;  // Null until start().
  std::optional<State> state_;
  std::vector<SignedTrust> trust_chain_;
  std::unique_ptr<Uploads> uploads_;
  ChunkLists chunk_lists_;
  LogLimit log_limit_;
  CommitQueue<Effect> queue_;
  enum class Answer : std::uint8_t { to_update, to_report, to_decline };
  std::deque<Answer> receipts_;  // Of those in the queue, in their order.
  bool releasing_ = false;
  bool broken_ = false;
  std::shared_ptr<WriteBatch> waiting_for_room_;  // A commit that found the disk full.
  std::optional<MonotonicTime> look_again_;       // For room.
  std::vector<Effect> delayed_;                   // What is done again at …
  std::optional<MonotonicTime> delayed_until_;    // … this time.
  bool told_full_ = false;                        // The log says that there is none.
  std::uint64_t sent_bytes_ = 0;                  // Not yet told to the core.
  RoundNumber counted_round_ = 0;
  RequestId next_request_ = 1;
  std::map<RequestId, std::function<void(Result<nlohmann::json>)>> replies_;
  // Last, so that their threads end before what they use.
  JobThread worker_;
  JobThread contents_;
  JobThread storage_;
};

}  // namespace rivulet::coordinator
