#pragma once

#include <map>
#include <string>
#include <vector>

#include "coordinator/core/coordinator.h"
#include "coordinator/core/records.h"
#include "protocol/documents.h"
#include "protocol/keys.h"

/// A coordinator's core over a store that is a map, and the fleet's keys.
namespace rivulet::coordinator::testing {

using namespace std::chrono_literals;

const SecretKey& root_key();
const SecretKey& release_key();
const SecretKey& coordinator_key();
/// The key of node `n`; always the same.
const SecretKey& node_key(unsigned n);
PublicKey node_id(unsigned n);

FleetId test_fleet();
JoinSecret test_secret(unsigned n);
ContentId content(const std::string& text);
TrustDocument test_trust();
/// A softmax regression with 2 inputs and 2 classes: 6 parameters.
Release test_release();
/// Small cohorts, no waits that a test does not ask for, validation by nodes alone.
Config test_config();

using Records = std::map<std::string, std::map<Bytes, Bytes>>;
void store_into(Records& records, const WriteBatch& writes);
/// Reads such records as a store does.
class RecordStore final : public Store {
 public:
  /// @param records outlive it.
  explicit RecordStore(const Records& records) : records_(records) {}

  Status commit(const WriteBatch& batch, Durability durability) override;
  Status sync() override { return {}; }
  Result<std::optional<Bytes>> get(std::string_view family, ByteSpan key) const override;
  Status scan(std::string_view family, ByteSpan prefix, const Visitor& visit, ByteSpan from) const override;
  Result<std::optional<Entry>> last(std::string_view family, ByteSpan prefix) const override;

 private:
  [[nodiscard]] const std::map<Bytes, Bytes>& of(std::string_view family) const;

  const Records& records_;
};
std::vector<std::string> audit_of(const Records& records);

template <typename T>
std::vector<T> all_of(const std::vector<Effect>& effects) {
  std::vector<T> found;
  for (const Effect& effect : effects) {
    if (const T* one = std::get_if<T>(&effect)) found.push_back(*one);
  }
  return found;
}

/// The messages of one kind that a session was sent.
template <typename T>
std::vector<T> sent(const std::vector<Effect>& effects, SessionId session = 0) {
  std::vector<T> found;
  for (const effect::Send& send : all_of<effect::Send>(effects)) {
    if (session != 0 && send.session != session) continue;
    if (const T* one = std::get_if<T>(&send.message)) found.push_back(*one);
  }
  return found;
}

/// Steps by hand: every transition is committed at once.
struct Bench {
  explicit Bench(Config config = test_config());

  std::vector<Effect> give(Event event);
  /// Lets both clocks run, and ticks.
  std::vector<Effect> pass(std::chrono::milliseconds time);
  /// A crash after the last commit: the state is read from the store anew.
  std::vector<Effect> restart();
  std::vector<Effect> import(const Release& release = test_release(), bool has_holdout = false,
                             bool has_test = false);
  void enrol(unsigned n);
  /// Opens a session with number `session`, or n if that is 0, and says Ready.
  std::vector<Effect> connect(unsigned n, std::uint64_t samples = 100, std::uint64_t holdout = 50,
                              SessionId session = 0);
  std::vector<Effect> start(std::uint32_t count = 1);
  /// Nodes 1..count, enrolled, a model, and everybody connected.
  void fleet(unsigned count);

  [[nodiscard]] TaskId task_of(unsigned n) const;
  /// What an honest node offers for its open task.
  [[nodiscard]] UpdateHeader header_of(unsigned n, const std::string& delta = "delta") const;
  std::vector<Effect> offer(unsigned n, const UpdateHeader& header);
  /// Offer and upload: the effects of UpdateStored.
  std::vector<Effect> upload(unsigned n, double norm = 1.0);
  std::vector<Effect> report(unsigned n, std::uint64_t parent_only, std::uint64_t candidate_only,
                             std::uint64_t samples = 100);
  std::vector<Effect> aggregated(const effect::Aggregate& question, double distance = 1.0);
  std::vector<Effect> sealed(const effect::SealVersion& question);
  /// From Selecting to Gating: everybody who was asked uploads, the candidate is built.
  std::vector<Effect> up_to_gating();
  /// Runs one round until it is published.
  void publish_one();

  template <typename Phase>
  [[nodiscard]] bool in() const {
    return std::holds_alternative<Phase>(state.round.phase);
  }
  [[nodiscard]] std::optional<VerdictRecord> verdict_of(const TaskId& task) const;

  State state;
  Records records;
  Now now{1h, UtcTime(std::chrono::milliseconds(1'800'000'000'000))};
  RequestId last_request = 0;
};

CandidateBuilt candidate_for(const effect::Aggregate& question, double distance = 1.0);
event::VersionSealed seal_for(const effect::SealVersion& question);
EvaluationReport report_for(const State& state, const PublicKey& node, const TaskId& task,
                            std::uint64_t parent_only, std::uint64_t candidate_only, std::uint64_t samples);

}  // namespace rivulet::coordinator::testing
