#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "node/core/agent.h"
#include "node/core/records.h"
#include "tests/node_core/fleet.h"

namespace rivulet::node::testing {

/// A node's driver without a node: carries out effects by the rules that effects.h states, on a store
/// and a blob store in memory that survive a crash, and asserts what must hold of each effect. What a
/// test wants to do by itself it switches off and does with step().
class Rig {
 public:
  explicit Rig(Fleet& fleet);
  virtual ~Rig() = default;

  /// Recovers from what is durable, sweeps blobs and starts.
  void boot();
  /// A transition that is committed, its effects carried out and all that follows from them.
  void step(const Event& event);
  void run();
  /// Lets time pass, with ticks when they are due.
  void advance(std::chrono::nanoseconds by);
  void hear(Message message) { step(event::MessageReceived{state.link.connection, std::move(message)}); }
  void lose_connection();
  /// All but `durable` and `blobs` is gone; boot() comes next.
  void crash();

  [[nodiscard]] bool online() const { return std::holds_alternative<Online>(state.link.phase); }
  /// Messages of one kind that were sent since clear().
  template <typename Kind>
  [[nodiscard]] std::vector<Kind> sent_of() const {
    std::vector<Kind> found;
    for (const Message& message : sent) {
      if (const auto* kind = std::get_if<Kind>(&message)) found.push_back(*kind);
    }
    return found;
  }
  template <typename Kind>
  [[nodiscard]] std::vector<Kind> done_of() const {
    std::vector<Kind> found;
    for (const Effect& effect : done) {
      if (const auto* kind = std::get_if<Kind>(&effect)) found.push_back(*kind);
    }
    return found;
  }
  [[nodiscard]] bool noticed(const std::string& event, const std::string& detail = "") const;
  [[nodiscard]] std::string outcome_of(const TaskId& task) const;
  void clear();

  /// What the coordinator holds.
  void serve(const Model& model, const VersionManifest& manifest);

  Fleet& fleet;
  Config config;
  State state;
  Now now{std::chrono::hours(1), today};
  UtcTime coordinator_utc = today;
  message::TrustChain trust;
  std::map<std::pair<std::string, Bytes>, Bytes> durable;
  std::set<ContentId> blobs;
  std::map<ContentId, Bytes> library;  ///< The coordinator's contents; empty bytes for all but releases.
  std::vector<Message> sent;
  std::vector<Effect> done;
  VersionNumber in_service = 0;  ///< What the driver serves.

  bool answers_connect = true;
  bool answers_fetch = true;
  bool trains = true;
  bool evaluates = true;
  bool activates = true;
  bool seals = true;

  /// Transitions that may still be committed before commits are held back; negative: all.
  int commits_left = -1;
  int transitions = 0;

 protected:
  virtual void on_sent(const Message&) {}
  void reply(Message message);
  bool step_once();
  std::deque<Event> events;

 private:
  void apply(Transition transition);
  void commit(const Transition& transition);
  void carry_out(const Effect& effect);
  void carry_out_on(const effect::Connect& connect);
  void carry_out_on(const effect::Disconnect& disconnect);
  void carry_out_on(const effect::Send& send);
  void carry_out_on(const effect::Fetch& fetch);
  void carry_out_on(const effect::DropContent& drop);
  void carry_out_on(const effect::Train& train);
  void carry_out_on(const effect::Evaluate& evaluate);
  void carry_out_on(const effect::StopTask& stop);
  void carry_out_on(const effect::SealUpdate& seal);
  void carry_out_on(const effect::SealReport& seal);
  void carry_out_on(const effect::Activate& activate);
  void carry_out_on(const effect::Unload&) { in_service = 0; }
  void carry_out_on(const effect::Notice&) {}
  void require_whole(const VersionManifest& manifest) const;

  std::deque<Effect> effects_;
  std::uint64_t open_ = 0;
  int deltas_ = 0;
  std::set<TaskId> running_;
};

}  // namespace rivulet::node::testing
