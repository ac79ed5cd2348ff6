#pragma once

#include <deque>
#include <set>

#include "protocol/rng.h"
#include "tests/coordinator_core/support.h"

namespace rivulet::coordinator::testing {

struct WorldPlan {
  unsigned nodes = 6;
  std::uint32_t rounds = 2;
  std::size_t batch = 1;          ///< Transitions that are committed together.
  std::set<std::size_t> crashes;  ///< After these steps.
  std::size_t revoke_at = 0;      ///< Node 2 is revoked after this step; 0: never.
  RoundNumber refused_round = 0;  ///< Nodes find this round's candidate worse.
  bool retrained = false;         ///< A node that offers again has other content.
  bool shuffled = false;          ///< Events arrive in an order that the seed draws.
  std::uint64_t seed = 1;
  /// Breaks the store on purpose: the check must notice.
  enum class Fault { none, forgets_update, counts_twice } fault = Fault::none;
};

/// A whole fleet with its operator around the core: nodes that keep their promises over crashes of the
/// coordinator, which loses what was not committed, and everything in flight.
class World {
 public:
  explicit World(WorldPlan plan);

  /// Runs until all rounds are over and every node has heard. Throws std::runtime_error with what is
  /// wrong as soon as a promise is broken.
  void run();
  [[nodiscard]] std::size_t steps() const { return steps_; }
  [[nodiscard]] const Records& records() const { return records_; }
  [[nodiscard]] const State& state() const { return state_; }

 private:
  struct TestNode {
    unsigned n = 0;
    SessionId session = 0;
    bool out = false;
    std::set<TaskId> open;
    std::map<TaskId, ContentId> offered;
    std::map<TaskId, ContentId> accepted;
    std::set<TaskId> awaiting;
    std::map<TaskId, message::Verdict> verdicts;
    VersionNumber serves = 0;
    std::uint64_t manifest_version = 0;
    unsigned offers = 0;
  };

  void connect(TestNode& node);
  void operate();
  void step_one();
  void commit(std::size_t count, bool release);
  void crash();
  void expect(bool holds, const std::string& what) const;
  [[nodiscard]] bool done() const;
  [[nodiscard]] bool stored(const char* family, const Bytes& key) const;
  [[nodiscard]] bool is_promised(const TaskId& task) const;
  TestNode* of_session(SessionId session);

  void carry_out(const Effect& effect);
  void hear(TestNode& node, const Message& message);
  void hear(TestNode& node, const message::Task& task);
  void hear(TestNode& node, const message::Receipt& receipt);
  void hear(TestNode& node, const message::Verdicts& verdicts);
  void hear(TestNode& node, const message::Assignment& assignment);
  void check_end() const;
  void check_versions() const;

  WorldPlan plan_;
  Rng rng_;
  Config config_;
  State state_;
  Records records_;
  Now now_{1h, UtcTime(std::chrono::milliseconds(1'800'000'000'000))};
  std::deque<Event> events_;
  std::vector<Transition> pending_;
  std::vector<TestNode> nodes_;
  std::set<ContentId> blobs_;
  std::set<Bytes> durable_tasks_;  ///< Ever; a batch may hold a task's beginning and its end.
  std::map<std::uint64_t, VersionNumber> manifests_;  ///< That a node saw.
  std::size_t steps_ = 0;
  SessionId last_session_ = 0;
  RequestId last_request_ = 0;
};

}  // namespace rivulet::coordinator::testing
