#include "tests/node_core/rig.h"

#include <algorithm>

#include "tests/catch.h"

namespace rivulet::node::testing {

Rig::Rig(Fleet& the_fleet) : fleet(the_fleet), trust(the_fleet.chain()) {
  config.node = fleet.node.public_key();
  config.root = fleet.root.public_key();
  config.software = "test 1";
}

void Rig::boot() {
  std::vector<Put> records;
  for (const auto& [key, value] : durable) records.push_back({key.first, key.second, value});
  auto recovered = recover(config, 42, records);
  if (!recovered) FAIL(recovered.error().detail);
  state = std::move(*recovered);
  const std::set<ContentId> referenced = referenced_contents(state);
  std::erase_if(blobs, [&](const ContentId& content) { return !referenced.contains(content); });
  for (const ContentId& content : state.transfers.present) REQUIRE(blobs.contains(content));
  for (const auto& [id, entry] : state.outbox)
    REQUIRE((entry.accepted || entry.kind == OutboxEntry::Kind::report || blobs.contains(entry.content)));
  apply(start(state, now));
}

void Rig::step(const Event& event) {
  if (const auto* failed = std::get_if<event::TaskFailed>(&event)) running_.erase(failed->task);
  if (const auto* finished = std::get_if<event::TrainingDone>(&event)) running_.erase(finished->task);
  events.push_back(event);
  run();
}

void Rig::run() {
  while (step_once()) {
  }
}

bool Rig::step_once() {
  if (!effects_.empty()) {
    const Effect effect = std::move(effects_.front());
    effects_.pop_front();
    done.push_back(effect);
    carry_out(effect);
    return true;
  }
  if (events.empty()) return false;
  const Event event = std::move(events.front());
  events.pop_front();
  apply(node::step(state, event, now));
  return true;
}

void Rig::apply(Transition transition) {
  ++transitions;
  if (commits_left == 0) return;  // A crash will lose it.
  if (commits_left > 0) --commits_left;
  commit(transition);
  effects_.insert(effects_.end(), transition.effects.begin(), transition.effects.end());
}

void Rig::commit(const Transition& transition) {
  for (const Write& write : transition.writes) {
    if (const auto* put = std::get_if<Put>(&write)) {
      REQUIRE(std::find(families.begin(), families.end(), put->family) != families.end());
      durable[{put->family, put->key}] = put->value;
    } else {
      const auto& erase = std::get<Erase>(write);
      durable.erase({erase.family, erase.key});
    }
  }
}

void Rig::advance(std::chrono::nanoseconds by) {
  const Now end{now.monotonic + by, now.utc + std::chrono::duration_cast<std::chrono::milliseconds>(by)};
  run();
  for (;;) {
    const auto next = next_deadline(state);
    if (!next || *next > end.monotonic) break;
    const auto passed = std::max(std::chrono::nanoseconds(0), *next - now.monotonic);
    now.monotonic += passed;
    now.utc += std::chrono::duration_cast<std::chrono::milliseconds>(passed);
    const auto before = next_deadline(state);
    step(event::Tick{});
    // A tick at its time moves the deadline on: else a driver would spin.
    REQUIRE(next_deadline(state) != before);
  }
  now = end;
}

void Rig::lose_connection() {
  const std::uint64_t connection = std::exchange(open_, 0);
  step(event::Disconnected{connection, {Errc::disconnected, "the cable was pulled"}});
}

void Rig::crash() {
  events.clear();
  effects_.clear();
  running_.clear();
  open_ = 0;
  in_service = 0;
  commits_left = -1;
}

void Rig::clear() {
  sent.clear();
  done.clear();
}

bool Rig::noticed(const std::string& event, const std::string& detail) const {
  for (const auto& notice : done_of<effect::Notice>()) {
    if (notice.event != event) continue;
    if (detail.empty()) return true;
    for (const auto& [key, value] : notice.fields) {
      if (value.find(detail) != std::string::npos) return true;
    }
  }
  return false;
}

std::string Rig::outcome_of(const TaskId& task) const {
  for (const auto& [sequence, ended] : state.ended) {
    if (ended.task == task) return ended.outcome;
  }
  return "";
}

void Rig::serve(const Model& model, const VersionManifest& manifest) {
  library[model.content] = model.bytes;
  library[model.release.initial_weights] = {};
  library[manifest.snapshot] = {};
  for (const VariantInfo& variant : manifest.variants) library[variant.content] = {};
}

void Rig::reply(Message message) { events.push_back(event::MessageReceived{open_, std::move(message)}); }

void Rig::carry_out(const Effect& effect) {
  std::visit([this](const auto& one) { carry_out_on(one); }, effect);
}

void Rig::carry_out_on(const effect::Connect& connect) {
  open_ = connect.connection;
  if (!answers_connect) return;
  events.push_back(event::Connected{open_, fleet.coordinator.public_key()});
  reply(trust);
}

void Rig::carry_out_on(const effect::Disconnect& disconnect) {
  if (open_ != disconnect.connection) return;
  open_ = 0;
}

void Rig::carry_out_on(const effect::Send& send) {
  if (send.connection != open_) return;
  sent.push_back(send.message);
  if (std::holds_alternative<message::Hello>(send.message) && answers_connect)
    reply(fleet.welcome(coordinator_utc));
  if (const auto* offer = std::get_if<message::Offer>(&send.message)) {
    // Whatever is offered would be offered again after a crash, with the same content.
    REQUIRE(verify_envelope(fleet.node.public_key(), Context::update, offer->header));
    const UpdateHeader header = decode_update_header(offer->header.payload).value();
    REQUIRE(durable.contains({"outbox", copy_of(header.task.span())}));
    REQUIRE(blobs.contains(header.content));
  }
  on_sent(send.message);
}

void Rig::carry_out_on(const effect::Fetch& fetch) {
  if (!answers_fetch) return;
  if (!blobs.contains(fetch.content) && open_ == 0) {
    events.push_back(event::ContentFailed{fetch.content, {Errc::disconnected, "no connection"}});
    return;
  }
  const auto found = library.find(fetch.content);
  if (found == library.end()) {
    events.push_back(
        event::ContentFailed{fetch.content, {Errc::not_found, "the coordinator does not have it"}});
    return;
  }
  blobs.insert(fetch.content);
  events.push_back(event::ContentReceived{fetch.content, fetch.want_bytes ? found->second : Bytes{}});
}

void Rig::carry_out_on(const effect::DropContent& drop) {
  blobs.erase(drop.content);
  if (drop.damaged) return;
  if (state.serving.active) {
    const auto release = state.releases.find(state.serving.active->manifest.release);
    REQUIRE(drop.content != state.serving.active->manifest.snapshot);
    REQUIRE(drop.content != state.serving.active->manifest.release_content);
    REQUIRE((release == state.releases.end() || drop.content != release->second.initial_weights));
  }
}

void Rig::require_whole(const VersionManifest& manifest) const {
  REQUIRE(blobs.contains(manifest.release_content));
  REQUIRE(blobs.contains(content_of(1)));  // w_0
  REQUIRE(blobs.contains(manifest.snapshot));
}

void Rig::carry_out_on(const effect::Train& train) {
  require_whole(train.base);
  REQUIRE(running_.empty());
  running_.insert(train.task);
  if (!trains) return;
  // Training twice gives two different deltas, since samples have come in between.
  const ContentId delta = content_of(10'000 + ++deltas_);
  blobs.insert(delta);
  running_.erase(train.task);
  events.push_back(event::TrainingDone{.task = train.task,
                                       .content = delta,
                                       .content_bytes = 99,
                                       .parameter_count = 15,
                                       .sample_count = 50,
                                       .loss_first = 2,
                                       .loss_last = 1});
}

void Rig::carry_out_on(const effect::Evaluate& evaluate) {
  require_whole(evaluate.parent);
  REQUIRE(blobs.contains(evaluate.candidate.snapshot));
  REQUIRE(state.serving.service != Service::loading);  // Inference waits for no evaluation.
  if (!evaluates) return;
  events.push_back(event::EvaluationDone{.task = evaluate.task,
                                         .both_right = 40,
                                         .parent_only = 3,
                                         .candidate_only = 5,
                                         .both_wrong = 2,
                                         .parent_loss_sum = 30,
                                         .candidate_loss_sum = 28});
}

void Rig::carry_out_on(const effect::StopTask& stop) { running_.erase(stop.task); }

void Rig::carry_out_on(const effect::SealUpdate& update) {
  if (!seals) return;
  events.push_back(
      event::UpdateSealed{update.header.task, seal(fleet.node, Context::update, encode(update.header))});
}

void Rig::carry_out_on(const effect::SealReport& report) {
  if (!seals) return;
  events.push_back(
      event::ReportSealed{report.report.task, seal(fleet.node, Context::evaluation, encode(report.report))});
}

void Rig::carry_out_on(const effect::Activate& activate) {
  require_whole(activate.manifest);
  const auto& variants = activate.manifest.variants;
  const auto variant = std::find_if(variants.begin(), variants.end(),
                                    [&](const VariantInfo& one) { return one.name == activate.variant; });
  REQUIRE(variant != variants.end());
  REQUIRE(blobs.contains(activate.manifest.snapshot));
  if (!activates) return;
  in_service = activate.manifest.version;
  events.push_back(event::ActivationDone{activate.manifest.manifest_version});
}

}  // namespace rivulet::node::testing
