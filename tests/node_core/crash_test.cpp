#include <map>
#include <set>

#include "protocol/documents.h"
#include "tests/catch.h"
#include "tests/node_core/rig.h"

using namespace rivulet;
using namespace rivulet::node;
using namespace rivulet::node::testing;
using namespace std::chrono_literals;

namespace {

/// A coordinator that wants this of the node: serve version 1, train from it, evaluate a candidate,
/// serve version 2, train from that. It keeps what it recorded over all the node's crashes.
class Story : public Rig {
 public:
  explicit Story(Fleet& the_fleet) : Rig(the_fleet) {
    serve(model_, first_);
    serve(model_, second_);
    library[fleet.candidate(first_, 2).snapshot] = {};
  }

  [[nodiscard]] bool finished() const {
    return state.tasks.empty() && state.outbox.empty() && receipts_.size() == 3 && state.serving.active &&
           state.serving.active->manifest.version == 2 && !state.serving.pending && told_ == 2;
  }

  void check_durable() {
    const bool active = durable.contains({"manifests", copy_of(bytes_of("active"))});
    REQUIRE((active || !ever_active_));
    ever_active_ = active;
  }

  /// Runs until `transitions_max`, or to the end of the story. @return whether it ended.
  bool run_story(int transitions_max) {
    for (int rounds = 0; rounds < 40; ++rounds) {
      while (transitions < transitions_max && step_once()) check_durable();
      if (transitions >= transitions_max) return false;
      if (finished()) return true;
      if (commits_left == 0) return false;  // Nothing more happens without effects.
      // Verdicts come with the next session.
      if (online()) {
        lose_once();
      } else {
        wait_for_deadline();
      }
    }
    return finished();
  }

  const std::map<TaskId, ContentId>& receipts() const { return receipts_; }

 private:
  void lose_once() {
    events.push_back(event::Disconnected{state.link.connection, {Errc::disconnected, "gone"}});
  }
  void wait_for_deadline() {
    const auto next = next_deadline(state);
    REQUIRE(next);
    now.monotonic = std::max(now.monotonic, *next);
    events.push_back(event::Tick{});
  }

  void on_sent(const Message& message) override {
    if (const auto* ready = std::get_if<message::Ready>(&message)) on_ready(*ready);
    if (const auto* offer = std::get_if<message::Offer>(&message)) on_offer(*offer);
    if (const auto* report = std::get_if<message::Evaluation>(&message)) on_report(*report);
    if (const auto* activation = std::get_if<message::Activation>(&message)) {
      REQUIRE(activation->outcome == Reason::activated);
      told_ = activation->version;
    }
  }

  void on_ready(const message::Ready& ready) {
    message::Verdicts verdicts;
    for (const TaskId& task : ready.awaiting_verdict) {
      REQUIRE(receipts_.contains(task));
      verdicts.entries.push_back({task, message::VerdictOutcome::aggregated, Reason::none, 2});
    }
    if (!verdicts.entries.empty()) reply(verdicts);
    assign();
    const std::set<TaskId> open(ready.open_tasks.begin(), ready.open_tasks.end());
    if (!open.contains(current_task().id)) give_task();
  }

  void on_offer(const message::Offer& offer) {
    const UpdateHeader header = decode_update_header(offer.header.payload).value();
    REQUIRE(header.node == fleet.node.public_key());
    const auto [recorded, fresh] = receipts_.emplace(header.task, header.content);
    REQUIRE(recorded->second == header.content);  // Never two contents for one task.
    reply(message::Receipt{header.task, message::ReceiptOutcome::accepted, Reason::none, ""});
    if (fresh) go_on();
  }

  void on_report(const message::Evaluation& evaluation) {
    REQUIRE(verify_envelope(fleet.node.public_key(), Context::evaluation, evaluation.report));
    const EvaluationReport report = decode_evaluation_report(evaluation.report.payload).value();
    REQUIRE(report.samples() == 50);
    const bool fresh = receipts_.emplace(report.task, ContentId{}).second;
    reply(message::Receipt{report.task, message::ReceiptOutcome::accepted, Reason::none, ""});
    if (fresh) go_on();
  }

  message::Task current_task() const {
    if (receipts_.empty()) return fleet.training(1, first_);
    if (receipts_.size() == 1) return fleet.evaluation(2, first_);
    return fleet.training(3, second_);
  }
  void assign() { reply(message::Assignment{fleet.sealed(receipts_.size() < 2 ? first_ : second_)}); }
  void give_task() {
    if (receipts_.size() < 3) reply(current_task());
  }
  void go_on() {
    if (receipts_.size() == 2) assign();
    give_task();
  }

  Model model_ = fleet.model();
  VersionManifest first_ = fleet.manifest(model_, 1, 1);
  VersionManifest second_ = fleet.manifest(model_, 4, 2);
  std::map<TaskId, ContentId> receipts_;
  VersionNumber told_ = 0;
  bool ever_active_ = false;
};

void check_end(const Story& story) {
  REQUIRE(story.finished());
  CHECK(story.in_service == 2);
  CHECK(story.state.serving.previous->manifest.version == 1);
  CHECK(story.outcome_of(task_id(1)) == "aggregated");
  CHECK(story.outcome_of(task_id(2)) == "reported");
  CHECK(story.outcome_of(task_id(3)) == "aggregated");
  // Nothing is lost, and nothing is left over.
  CHECK(story.blobs == referenced_contents(story.state));
  CHECK(story.state.transfers.present == story.blobs);
}

void check_held(const std::optional<Held>& recovered, const std::optional<Held>& held) {
  REQUIRE(recovered.has_value() == held.has_value());
  if (!held) return;
  REQUIRE(recovered->manifest == held->manifest);
  REQUIRE(recovered->variant == held->variant);
}

void check_serving(const Serving& recovered, const Serving& serving) {
  REQUIRE(recovered.highest_manifest == serving.highest_manifest);
  REQUIRE(recovered.epoch_floor == serving.epoch_floor);
  REQUIRE(recovered.attempts == serving.attempts);
  REQUIRE(recovered.outcome == serving.outcome);
  check_held(recovered.active, serving.active);
  check_held(recovered.previous, serving.previous);
  REQUIRE(recovered.pending.has_value() == serving.pending.has_value());
  if (!serving.pending) return;
  REQUIRE(recovered.pending->manifest == serving.pending->manifest);
  REQUIRE(recovered.pending->attempts == serving.pending->attempts);
}

void check_tasks(const State& recovered, const State& state) {
  REQUIRE(recovered.tasks.size() == state.tasks.size());
  for (const auto& [id, task] : state.tasks) {
    const Task& other = recovered.tasks.at(id);
    REQUIRE(other.sequence == task.sequence);
    REQUIRE(other.task == task.task);
    REQUIRE(other.base == task.base);
    REQUIRE(other.candidate == task.candidate);
    REQUIRE(other.deadline_utc == task.deadline_utc);
    REQUIRE(other.attempts == task.attempts);
  }
  REQUIRE(recovered.outbox.size() == state.outbox.size());
  for (const auto& [id, entry] : state.outbox) {
    const OutboxEntry& other = recovered.outbox.at(id);
    REQUIRE(other.sequence == entry.sequence);
    REQUIRE(other.kind == entry.kind);
    REQUIRE(other.envelope == entry.envelope);
    REQUIRE(other.content == entry.content);
    REQUIRE(other.content_bytes == entry.content_bytes);
    REQUIRE(other.accepted == entry.accepted);
    REQUIRE(other.made == entry.made);
  }
  REQUIRE(recovered.ended.size() == state.ended.size());
  for (const auto& [sequence, ended] : state.ended) {
    const Ended& other = recovered.ended.at(sequence);
    REQUIRE(other.task == ended.task);
    REQUIRE(other.outcome == ended.outcome);
    REQUIRE(other.reason == ended.reason);
    REQUIRE(other.version == ended.version);
    REQUIRE(other.time == ended.time);
    REQUIRE(other.detail == ended.detail);
  }
}

/// All that is durable. @param seen gains what there was to compare.
void check_recovered(const State& recovered, const State& state, std::set<std::string>& seen) {
  REQUIRE(recovered.trust.document == state.trust.document);
  REQUIRE(recovered.trust.signed_time == state.trust.signed_time);
  REQUIRE(recovered.releases == state.releases);
  REQUIRE(recovered.transfers.present == state.transfers.present);
  REQUIRE(recovered.next_sequence == state.next_sequence);
  check_serving(recovered.serving, state.serving);
  check_tasks(recovered, state);
  if (!state.transfers.present.empty()) seen.insert("present");
  if (!state.ended.empty()) seen.insert("ended");
  if (state.serving.active) seen.insert("active");
  if (state.serving.previous) seen.insert("previous");
  if (state.serving.pending) seen.insert("pending");
  if (state.serving.outcome) seen.insert("outcome");
  for (const auto& [id, task] : state.tasks) seen.insert(task.candidate ? "candidate" : "task");
  for (const auto& [id, entry] : state.outbox)
    seen.insert(entry.kind == OutboxEntry::Kind::report ? "report" : entry.accepted ? "accepted" : "outbox");
}

constexpr int no_limit = 100'000;

}  // namespace

TEST_CASE("a node serves, trains, evaluates and switches for a scripted coordinator", "[node][crash]") {
  Fleet fleet;
  Story story(fleet);
  story.boot();
  REQUIRE(story.run_story(no_limit));
  check_end(story);
  CHECK(story.done_of<effect::Train>().size() == 2);
  CHECK(story.done_of<effect::Evaluate>().size() == 1);
}

TEST_CASE("after a crash at any step, with any suffix of transitions lost, the node ends in the same place",
          "[node][crash]") {
  Fleet fleet;
  int steps = 0;
  {
    Story story(fleet);
    story.boot();
    REQUIRE(story.run_story(no_limit));
    steps = story.transitions;
  }
  REQUIRE(steps > 30);
  int crashes = 0;
  for (int at = 1; at <= steps; ++at) {
    for (const int lost : {0, 1, 2, 4}) {
      if (lost >= at) continue;
      INFO("crash after transition " << at << ", the last " << lost << " of them lost");
      Story story(fleet);
      story.commits_left = at - lost;
      story.boot();
      story.run_story(at);
      story.crash();
      ++crashes;
      story.boot();
      REQUIRE(story.run_story(no_limit));
      check_end(story);
    }
  }
  CHECK(crashes > 120);
}

TEST_CASE("a node that crashes again and again gets there all the same", "[node][crash]") {
  Fleet fleet;
  for (int stride = 9; stride < 30; ++stride) {
    INFO("a crash every " << stride << " transitions");
    Story story(fleet);
    int crashes = 0;
    for (;; ++crashes) {
      REQUIRE(crashes < 200);
      story.boot();
      if (story.run_story(story.transitions + stride)) break;
      story.crash();
    }
    check_end(story);
  }
}

TEST_CASE("recovery gives back the state that was written, after each transition", "[node][crash]") {
  Fleet fleet;
  Story story(fleet);
  story.boot();
  std::set<std::string> seen;  // Else there would be nothing to compare.
  for (bool done = false; !done;) {
    done = story.run_story(story.transitions + 1);
    std::vector<Put> records;
    for (const auto& [key, value] : story.durable) records.push_back({key.first, key.second, value});
    CAPTURE(story.transitions);
    check_recovered(recover(story.config, 1, records).value(), story.state, seen);
  }
  CHECK(seen == std::set<std::string>{"accepted", "active", "candidate", "ended", "outbox", "outcome",
                                      "pending", "present", "previous", "report", "task"});
}

TEST_CASE("a damaged record is named, never taken", "[node][crash]") {
  Fleet fleet;
  Story story(fleet);
  story.boot();
  REQUIRE(story.run_story(no_limit));
  std::vector<Put> records;
  for (const auto& [key, value] : story.durable) records.push_back({key.first, key.second, value});
  REQUIRE(records.size() > 5);
  for (std::size_t i = 0; i < records.size(); ++i) {
    std::vector<Put> damaged = records;
    damaged[i].value.resize(damaged[i].value.size() / 2);
    const auto recovered = recover(story.config, 1, damaged);
    REQUIRE_FALSE(recovered);
    CHECK(recovered.error().code == Errc::corrupt);
    CHECK(recovered.error().detail.find(damaged[i].family) != std::string::npos);
  }
}
