#include "tests/coordinator_core/world.h"

#include <algorithm>
#include <stdexcept>

#include "protocol/assert.h"
#include "protocol/sha256.h"

namespace rivulet::coordinator::testing {
namespace {

template <typename Record>
Record must_parse(const Bytes& value) {
  auto record = parse_record<Record>(value);
  if (!record) throw std::runtime_error(record.error().detail);
  return *record;
}

const std::map<Bytes, Bytes>& family(const Records& records, const char* name) {
  static const std::map<Bytes, Bytes> empty;
  const auto at = records.find(name);
  return at == records.end() ? empty : at->second;
}

}  // namespace

World::World(WorldPlan plan) : plan_(std::move(plan)), rng_(plan_.seed), config_(test_config()) {
  config_.validation.evaluators = 3;
  config_.round.deadline = 60s;
  const auto founded = found_fleet(sign_trust(test_trust(), root_key()), plan_.seed, now_);
  RIVULET_ASSERT(founded.has_value());
  store_into(records_, *founded);
  auto state = recover(config_, RecordStore(records_), now_);
  RIVULET_ASSERT(state.has_value());
  state_ = std::move(*state);
  for (unsigned n = 1; n <= plan_.nodes; ++n) {
    nodes_.emplace_back();
    nodes_.back().n = n;
  }
}

void World::expect(bool holds, const std::string& what) const {
  if (!holds) throw std::runtime_error("after step " + std::to_string(steps_) + ": " + what);
}

bool World::stored(const char* name, const Bytes& key) const { return family(records_, name).contains(key); }

/// An accepted update is durable: it waits for its verdict, or has it.
bool World::is_promised(const TaskId& task) const {
  if (stored("updates", copy_of(task.span()))) return true;
  return std::ranges::any_of(family(records_, "verdicts"), [&](const auto& entry) {
    return std::ranges::equal(ByteSpan(entry.first).subspan(8), task.span());
  });
}

World::TestNode* World::of_session(SessionId session) {
  const auto at = std::ranges::find(nodes_, session, &TestNode::session);
  return session == 0 || at == nodes_.end() ? nullptr : &*at;
}

void World::connect(TestNode& node) {
  node.session = ++last_session_;
  const PublicKey key = node_id(node.n);
  if (state_.fleet.find(key) == nullptr) {
    events_.push_back(
        event::EnrolReceived{node.session, key, message::Enrol{1, 1, test_fleet(), "t", test_secret(0)}});
  }
  events_.push_back(event::HelloReceived{node.session, key, message::Hello{1, 1, test_fleet(), "t"}});
}

/// What the operator wants and does not see yet: commands that a crash lost are given again.
void World::operate() {
  const Digest token = sha256(test_secret(0).span());
  const Node* victim = state_.fleet.find(node_id(2));
  if (!state_.fleet.tokens.contains(token)) {
    events_.push_back(event::CreateToken{++last_request_, token, now_.utc + 24h, 1000});
  } else if (std::ranges::any_of(nodes_,
                                 [](const TestNode& node) { return node.session == 0 && !node.out; })) {
    for (TestNode& node : nodes_) {
      if (node.session == 0 && !node.out) connect(node);
    }
  } else if (!state_.registry.active) {
    const Release release = test_release();
    for (const char* text : {"release", "snapshot", "master", "w0"}) blobs_.insert(content(text));
    events_.push_back(event::ImportRelease{++last_request_,
                                           rivulet::seal(release_key(), Context::release, encode(release)),
                                           content("release"),
                                           content("snapshot"),
                                           24,
                                           release.initial_weights_hash,
                                           content("master"),
                                           {},
                                           false,
                                           false});
  } else if (state_.schedule.until < plan_.rounds) {
    const auto missing = static_cast<std::uint32_t>(plan_.rounds - state_.schedule.until);
    events_.push_back(event::StartRounds{++last_request_, missing, false});
  } else if (plan_.revoke_at != 0 && victim != nullptr && victim->record.state != NodeState::revoked) {
    events_.push_back(event::RevokeNode{++last_request_, node_id(2)});
  }
}

bool World::done() const {
  const bool idle =
      std::holds_alternative<Idle>(state_.round.phase) || std::holds_alternative<Failed>(state_.round.phase);
  return events_.empty() && pending_.empty() && idle && state_.registry.active.has_value() &&
         state_.schedule.last_started == plan_.rounds;
}

void World::step_one() {
  if (events_.empty()) commit(pending_.size(), true);
  if (events_.empty()) operate();
  if (events_.empty()) {
    if (done()) return;
    const auto deadline = next_deadline(state_);
    expect(deadline.has_value(), "nothing will ever happen again");
    const auto wait = std::max(std::chrono::milliseconds(1),
                               std::chrono::ceil<std::chrono::milliseconds>(*deadline - now_.monotonic));
    now_.monotonic += wait;
    now_.utc += wait;
    events_.push_back(event::Tick{});
  }
  if (plan_.shuffled) {
    std::swap(events_.front(), events_[uniform_below(rng_, std::min<std::size_t>(events_.size(), 4))]);
  }
  const Event event = std::move(events_.front());
  events_.pop_front();
  now_.monotonic += 1ms;
  now_.utc += 1ms;
  Transition transition = step(state_, event, now_);
  if (may_overtake(state_, transition)) {
    for (const Effect& effect : transition.effects) carry_out(effect);
  } else {
    pending_.push_back(std::move(transition));
  }
  ++steps_;
  expect(steps_ < 20'000, "it does not end");
  if (steps_ == plan_.revoke_at) events_.push_front(event::RevokeNode{++last_request_, node_id(2)});
  if (plan_.crashes.contains(steps_)) {
    crash();
  } else if (pending_.size() >= plan_.batch) {
    commit(pending_.size(), true);
  }
}

void World::commit(std::size_t count, bool release) {
  std::vector<Transition> committed(
      std::make_move_iterator(pending_.begin()),
      std::make_move_iterator(pending_.begin() + static_cast<std::ptrdiff_t>(count)));
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(count));
  for (const Transition& transition : committed) {
    store_into(records_, transition.writes);
    for (const Write& write : transition.writes) {
      if (const Put* put = std::get_if<Put>(&write); put != nullptr && put->family == "tasks")
        durable_tasks_.insert(put->key);
    }
  }
  if (!release) return;
  for (const Transition& transition : committed) {
    for (const Effect& effect : transition.effects) carry_out(effect);
  }
}

/// Some of what was pending had reached the disk, none of its effects the world; the rest is gone.
void World::crash() {
  const std::size_t kept = uniform_below(rng_, pending_.size() + 1);
  commit(kept, false);
  pending_.clear();
  events_.clear();
  if (plan_.fault == WorldPlan::Fault::forgets_update && !records_["updates"].empty()) {
    records_["updates"].erase(records_["updates"].begin());
  }
  for (TestNode& node : nodes_) node.session = 0;
  auto recovered = recover(config_, RecordStore(records_), now_);
  expect(recovered.has_value(), recovered ? "" : recovered.error().detail);
  state_ = std::move(*recovered);
  const auto referenced = referenced_content(state_);
  std::erase_if(
      blobs_, [&](const ContentId& blob) { return std::ranges::find(referenced, blob) == referenced.end(); });
  pending_.push_back(resume(state_, now_));
  commit(1, true);
}

void World::carry_out(const Effect& effect) {
  if (const auto* send = std::get_if<effect::Send>(&effect)) {
    if (TestNode* node = of_session(send->session)) hear(*node, send->message);
  } else if (const auto* welcome = std::get_if<effect::SendWelcome>(&effect)) {
    TestNode* node = of_session(welcome->session);
    if (node == nullptr) return;
    message::Ready ready{node->serves, node->manifest_version, 100, 50, {}, {}};
    ready.open_tasks.assign(node->open.begin(), node->open.end());
    ready.awaiting_verdict.assign(node->awaiting.begin(), node->awaiting.end());
    events_.push_back(event::ReadyReceived{node->session, ready});
  } else if (const auto* close = std::get_if<effect::Close>(&effect)) {
    if (TestNode* node = of_session(close->session)) {
      node->out = node->out || close->reason == Reason::revoked;
      node->session = 0;
    }
  } else if (const auto* fetch = std::get_if<effect::FetchUpdate>(&effect)) {
    blobs_.insert(fetch->content);
    events_.push_back(event::UpdateStored{fetch->task, fetch->content, {20.0, fetch->bytes}});
    if (plan_.fault == WorldPlan::Fault::counts_twice) {
      Transition& last = pending_.emplace_back();
      Bytes key = copy_of(fetch->task.span());
      key[0] ^= std::byte{0xff};
      UpdateRecord twin;
      twin.task = *TaskId::from_bytes(key);
      twin.round = state_.round.plan.round;
      twin.sample_count = 10;
      last.writes.push_back(Put{"updates", key, record_bytes(to_json(twin))});
    }
  } else if (const auto* aggregate = std::get_if<effect::Aggregate>(&effect)) {
    for (const SealedEntry& entry : aggregate->entries) {
      expect(blobs_.contains(entry.content), "an update's bytes are gone before they were aggregated");
      expect(entry.scale == 0.5, "norm 20 and bound 10 give the scale 1/2");
    }
    expect(blobs_.contains(aggregate->parent_master), "the master is gone");
    event::Aggregated answer{aggregate->round, aggregate->attempt, candidate_for(*aggregate)};
    blobs_.insert({answer.candidate.snapshot, answer.candidate.master});
    events_.push_back(std::move(answer));
  } else if (const auto* seal = std::get_if<effect::SealVersion>(&effect)) {
    expect(blobs_.contains(seal->manifest.snapshot), "a version's snapshot is gone before it was published");
    event::VersionSealed answer = seal_for(*seal);
    blobs_.insert(answer.manifest.variants[0].content);
    events_.push_back(std::move(answer));
  } else if (const auto* erase = std::get_if<effect::EraseContent>(&effect)) {
    blobs_.erase(erase->content);
  }
}

void World::hear(TestNode& node, const Message& message) {
  if (const auto* task = std::get_if<message::Task>(&message)) hear(node, *task);
  if (const auto* receipt = std::get_if<message::Receipt>(&message)) hear(node, *receipt);
  if (const auto* verdicts = std::get_if<message::Verdicts>(&message)) hear(node, *verdicts);
  if (const auto* assignment = std::get_if<message::Assignment>(&message)) hear(node, *assignment);
  if (const auto* cancelled = std::get_if<message::TaskCancelled>(&message)) node.open.erase(cancelled->id);
}

void World::hear(TestNode& node, const message::Task& task) {
  expect(durable_tasks_.contains(copy_of(task.id.span())), "a task was sent before it was durable");
  node.open.insert(task.id);
  if (task.type == message::TaskType::evaluate) {
    const std::uint64_t fall = task.round == plan_.refused_round ? 40 : 0;
    const auto manifest = decode_candidate(task.candidate.payload);
    EvaluationReport report = report_for(state_, node_id(node.n), task.id, fall, 0, 100);
    report.parent_hash = manifest->parent_weights_hash;
    report.candidate_hash = manifest->weights_hash;
    events_.push_back(event::EvaluationReceived{
        node.session, rivulet::seal(node_key(node.n), Context::evaluation, encode(report))});
    return;
  }
  const auto base = decode_version(task.base.payload);
  UpdateHeader header;
  header.fleet = test_fleet();
  header.task = task.id;
  header.node = node_id(node.n);
  header.base_version = base->version;
  header.base_hash = base->weights_hash;
  header.codec = task.training.codec;
  header.parameter_count = 6;
  header.sample_count = 10 * node.n;
  if (plan_.retrained || !node.offered.contains(task.id)) {
    node.offered[task.id] = content(task.id.hex() + std::to_string(plan_.retrained ? ++node.offers : 0));
  }
  header.content = node.offered[task.id];
  header.content_bytes = 30;
  events_.push_back(
      event::OfferReceived{node.session, rivulet::seal(node_key(node.n), Context::update, encode(header))});
}

void World::hear(TestNode& node, const message::Receipt& receipt) {
  if (!node.open.contains(receipt.task)) {
    // A repeated answer must not differ from the first.
    if (node.accepted.contains(receipt.task)) {
      expect(receipt.outcome != message::ReceiptOutcome::refused, "an accepted update was refused later");
    }
    return;
  }
  node.open.erase(receipt.task);
  const bool trained = node.offered.contains(receipt.task);
  if (!trained || receipt.outcome == message::ReceiptOutcome::refused) return;
  expect(is_promised(receipt.task), "a receipt was sent before its update was durable");
  node.accepted[receipt.task] = node.offered[receipt.task];
  if (!node.verdicts.contains(receipt.task)) node.awaiting.insert(receipt.task);
}

void World::hear(TestNode& node, const message::Verdicts& verdicts) {
  for (const message::Verdict& verdict : verdicts.entries) {
    expect(verdict.reason != Reason::unknown_task, "an accepted update was forgotten");
    const bool durable = std::ranges::any_of(family(records_, "verdicts"), [&](const auto& entry) {
      return must_parse<VerdictRecord>(entry.second).task == verdict.task;
    });
    expect(durable, "a verdict was told before it was durable");
    const auto [at, first] = node.verdicts.emplace(verdict.task, verdict);
    expect(first || at->second == verdict, "an update got two verdicts");
    node.awaiting.erase(verdict.task);
    node.open.erase(verdict.task);
  }
}

void World::hear(TestNode& node, const message::Assignment& assignment) {
  const auto manifest = decode_version(assignment.manifest.payload);
  expect(manifest.has_value(), "an assignment can't be read");
  expect(manifest->manifest_version >= node.manifest_version, "a manifest's version fell");
  const auto [at, first] = manifests_.emplace(manifest->manifest_version, manifest->version);
  expect(first || at->second == manifest->version, "one manifest version names two versions");
  expect(stored("versions", number_key(manifest->version)), "a version was assigned before it was durable");
  node.manifest_version = manifest->manifest_version;
  node.serves = manifest->version;
}

void World::run() {
  while (!done() ||
         (plan_.revoke_at != 0 && state_.fleet.find(node_id(2))->record.state != NodeState::revoked))
    step_one();
  // Everybody comes back once more, and hears what it missed.
  for (TestNode& node : nodes_) {
    if (!node.out) connect(node);
  }
  while (!events_.empty() || !pending_.empty()) step_one();
  check_end();
}

void World::check_end() const {
  expect(family(records_, "updates").empty(), "an accepted update has no verdict");
  expect(family(records_, "tasks").empty(), "a task outlived its round");
  std::map<TaskId, VerdictRecord> verdicts;
  for (const auto& [key, value] : family(records_, "verdicts")) {
    const auto verdict = must_parse<VerdictRecord>(value);
    expect(verdicts.emplace(verdict.task, verdict).second, "an update has two verdicts");
  }
  std::size_t heard = 0;
  for (const TestNode& node : nodes_) {
    expect(node.out || node.awaiting.empty(), "a node still waits for a verdict");
    for (const auto& [task, offered] : node.accepted) {
      expect(verdicts.contains(task), "an accepted update has no durable verdict");
      const VerdictRecord& verdict = verdicts.at(task);
      expect(plan_.retrained || verdict.content == offered,
             "another content was taken than the one accepted");
      if (!node.verdicts.contains(task)) continue;
      ++heard;
      expect(node.verdicts.at(task).outcome == verdict.outcome &&
                 node.verdicts.at(task).version == verdict.version,
             "a node heard another verdict than the stored one");
    }
  }
  expect(heard > 0, "nobody heard a verdict: this looked at nothing");
  const auto fault = verify_audit(audit_of(records_));
  expect(!fault,
         fault ? "the audit log is broken at " + std::to_string(fault->seq) + ": " + fault->what : "");
  check_versions();
}

void World::check_versions() const {
  std::map<TaskId, VersionNumber> counted;
  std::uint64_t manifest_version = 0;
  for (const auto& [key, value] : family(records_, "versions")) {
    const auto version = must_parse<VersionRecord>(value);
    expect(version.manifest.manifest_version > manifest_version, "the manifest version did not rise");
    manifest_version = version.manifest.manifest_version;
    expect(verify_envelope(coordinator_key().public_key(), Context::version, version.envelope).has_value(),
           "a version is not signed");
    for (const ContentId& blob : contents_of(version)) {
      expect(blob.is_zero() || blobs_.contains(blob), "a blob of a kept version is gone");
    }
    std::set<PublicKey> contributors;
    for (const Contribution& update : version.updates) {
      expect(counted.emplace(update.task, version.manifest.version).second, "an update was counted twice");
      expect(contributors.insert(update.node).second, "a node is twice in a version");
      expect(update.weight > 0 && update.scale == 0.5, "an update has a wrong weight");
    }
    expect(version.manifest.parent == 0 || version.updates.size() >= 2, "a version of too few updates");
  }
  expect(manifest_version > 0, "nothing was published");
  std::size_t aggregated = 0;
  for (const auto& [key, value] : family(records_, "verdicts")) {
    const auto verdict = must_parse<VerdictRecord>(value);
    if (verdict.outcome != message::VerdictOutcome::aggregated) continue;
    ++aggregated;
    expect(counted.contains(verdict.task) && counted.at(verdict.task) == verdict.version,
           "a verdict names a version that does not list the update");
  }
  expect(aggregated == counted.size(), "a version lists an update whose verdict says otherwise");
}

}  // namespace rivulet::coordinator::testing
