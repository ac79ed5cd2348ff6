#include <cmath>
#include <set>

#include "coordinator/core/coordinator.h"
#include "link/system_clock.h"
#include "models/package/version.h"
#include "sim/world/toy_model.h"
#include "storage/file_blob_store.h"
#include "storage/rocksdb_store.h"
#include "tests/hostile/world.h"

using namespace rivulet;
using coordinator::ValidationMode;
using nlohmann::json;

namespace {

constexpr std::size_t inputs = 6;
constexpr std::size_t classes = 3;
constexpr std::size_t samples = 200;
constexpr double norm_bound = 20;

sim::ToyData clean(std::uint64_t seed) { return sim::toy_data(seed, samples, inputs, classes); }

sim::ToyData flipped(std::uint64_t seed) {
  sim::ToyData data = clean(seed);
  for (std::int64_t& label : data.labels) label = (label + 1) % static_cast<std::int64_t>(classes);
  return data;
}

double accuracy(const node::HoldoutScore& score) {
  return static_cast<double>(std::count(score.right.begin(), score.right.end(), 1)) /
         static_cast<double>(score.right.size());
}

/// A model that has been trained well, with a holdout for the coordinator if wanted.
struct GoodModel {
  Release release;
  std::vector<float> weights;
  json body;

  GoodModel(const HostileWorld& world, bool with_holdout) {
    const SecretKey key = world.fleet.key("offline/release.key");
    release.fleet = world.id;
    release.name = "good";
    release.architecture = {"mlp", {}, {inputs}, classes};
    release.layout = sim::toy_layout(inputs, classes);
    release.classes = {"a", "b", "c"};
    release.snapshot = SnapshotForm::fp32;
    release.recipes = {"fp32", "int8"};
    release.known_inputs = std::vector<float>(inputs, 0.5F);
    release.limits.max_distance = 1000;
    release.created = system_now().utc;
    release.limits.expires = release.created + std::chrono::days(30);
    weights.resize(release.layout.size());
    message::TrainingPlan plan;
    plan.epochs = 100;
    plan.learning_rate = 2;
    const auto trained = sim::ToyEngine(clean(1), {}).train(release, weights, plan, false);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = trained->delta[i];
    release.initial_weights = content_id_of(std::as_bytes(std::span(weights)));
    release.initial_weights_hash = weights_hash_of(weights);
    body = {{"release", to_base64url(encode(seal(key, Context::release, encode(release))))},
            {"weights", to_base64url(std::as_bytes(std::span(weights)))}};
    if (!with_holdout) return;
    const sim::ToyData data = clean(2);
    body["holdout"] = {{"inputs", to_base64url(std::as_bytes(std::span(data.samples)))},
                       {"labels", data.labels}};
  }
};

/// Trainers that train on `data`, and evaluators that judge by clean samples, all by the book.
struct Fleet {
  HostileWorld& world;
  const Release& release;
  std::vector<std::unique_ptr<Peer>> trainers;
  std::vector<std::unique_ptr<Peer>> evaluators;
  std::set<TaskId> done;
  double largest_norm = 0;

  void train(Peer& peer, const message::Task& task, const sim::ToyData& data) {
    const auto base = decode_version(task.base.payload).value();
    const std::vector<float> weights = world.weights(base.version);
    const auto trained = sim::ToyEngine(data, {}).train(release, weights, task.training, false);
    REQUIRE(trained.has_value());
    double square = 0;
    for (const float x : trained->delta) square += static_cast<double>(x) * x;
    largest_norm = std::max(largest_norm, std::sqrt(square));
    peer.offer(task, trained->delta, trained->samples);
    CHECK(peer.await<message::Receipt>().outcome == message::ReceiptOutcome::accepted);
  }

  node::HoldoutScore score(Peer& peer, sim::ToyEngine& engine, const ContentId& snapshot,
                           std::uint64_t bytes) {
    const Bytes content = peer.fetch(snapshot, bytes);
    REQUIRE(content_id_of(content) == snapshot);
    return engine.score(release, decode_snapshot(release.snapshot, release.layout, content).value()).value();
  }

  EvaluationReport evaluate(Peer& peer, const message::Task& task, std::uint64_t seed) {
    const auto parent = decode_version(task.base.payload).value();
    const auto candidate = decode_candidate(task.candidate.payload).value();
    sim::ToyEngine engine({}, clean(seed));
    const auto before = score(peer, engine, parent.snapshot, parent.snapshot_bytes);
    const auto after = score(peer, engine, candidate.snapshot, candidate.snapshot_bytes);
    EvaluationReport report{.fleet = world.id,
                            .task = task.id,
                            .node = peer.key.public_key(),
                            .parent_hash = parent.weights_hash,
                            .candidate_hash = candidate.weights_hash,
                            .parent_loss_sum = before.loss_sum,
                            .candidate_loss_sum = after.loss_sum,
                            .time = system_now().utc};
    for (std::size_t i = 0; i < before.right.size(); ++i) {
      ++(before.right[i] != 0 ? (after.right[i] != 0 ? report.both_right : report.parent_only)
                              : (after.right[i] != 0 ? report.candidate_only : report.both_wrong));
    }
    return report;
  }

  /// Runs rounds until they are over. @return the body of the reply.
  json rounds(int count, sim::ToyData (*data)(std::uint64_t seed)) {
    auto over = std::async(std::launch::async, [&] {
      return world.server->post_json("/v1/rounds", {{"count", count}, {"wait", true}});
    });
    run_until(world.io, [&] {
      for (std::size_t i = 0; i < trainers.size(); ++i) {
        if (const auto task = next(*trainers[i])) train(*trainers[i], *task, data(10 + i));
      }
      for (std::size_t i = 0; i < evaluators.size(); ++i) {
        const auto task = next(*evaluators[i]);
        if (!task) continue;
        const EvaluationReport report = evaluate(*evaluators[i], *task, 20 + i);
        evaluators[i]->send(
            message::Evaluation{seal(evaluators[i]->key, Context::evaluation, encode(report))});
      }
      return over.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
    });
    return over.get();
  }

  std::optional<message::Task> next(Peer& peer) {
    const auto* task = peer.last<message::Task>();
    if (task == nullptr || !done.insert(task->id).second) return std::nullopt;
    return *task;
  }
};

HostileWorld::Change judged_by(ValidationMode mode) {
  return [mode](coordinator::ConfigFile& config) {
    config.core.round.cohort = 3;
    config.core.round.cohort_min = 3;
    config.core.round.updates_min = 3;
    config.core.delta = {Codec::fp32, norm_bound};
    config.core.training.epochs = 30;
    config.core.training.learning_rate = 2;
    config.core.validation.mode = mode;
    config.core.validation.evaluators = 2;
    config.core.validation.tolerance = 0.02;
  };
}

/// What of the model is durable: versions, and the bytes of the master of the only one.
struct Durable {
  std::size_t versions = 0;
  VersionNumber head = 0;
  VersionNumber assigned = 0;
  ContentId master;
  ContentId optimizer_state;
  std::set<ContentId> blobs;
};

Durable read_folder(const HostileWorld& world) {
  auto store = open_rocksdb_store(world.fleet.folder / "store", coordinator::families);
  REQUIRE(store.has_value());
  const auto state = coordinator::recover(world.config.core, **store, system_now());
  REQUIRE(state.has_value());
  Durable durable{
      state->registry.versions.size(), state->registry.head, state->registry.assigned, {}, {}, {}};
  durable.master = state->registry.find(1)->master;
  durable.optimizer_state = state->registry.find(1)->optimizer_state;
  const auto blobs = open_file_blob_store(world.fleet.folder / "blobs", {});
  REQUIRE(blobs.has_value());
  for (const BlobInfo& blob : (*blobs)->list()) durable.blobs.insert(blob.id);
  return durable;
}

}  // namespace

TEST_CASE("deltas trained on flipped labels are refused by either gate alone, and change nothing",
          "[hostile]") {
  const ValidationMode mode = GENERATE(ValidationMode::federated, ValidationMode::central);
  CAPTURE(coordinator::name(mode));
  const bool federated = mode == ValidationMode::federated;
  HostileWorld world(judged_by(mode));
  const GoodModel model(world, !federated);
  REQUIRE(accuracy(sim::ToyEngine({}, clean(3)).score(model.release, model.weights).value()) > 0.9);
  world.import(model.body);
  Fleet fleet{world, model.release, {}, {}, {}};
  const auto gather = [&] {
    fleet.trainers.clear();
    fleet.evaluators.clear();
    run_until(world.io, [&] { return world.metric("rivulet_sessions") == 0; });
    for (int i = 0; i < 3; ++i) fleet.trainers.push_back(world.member(samples, 0));
    for (int i = 0; i < 2 && federated; ++i) fleet.evaluators.push_back(world.member(0, samples));
  };
  gather();
  const std::size_t mark = LogLines::mark();
  const json reply = fleet.rounds(5, flipped);

  // Each delta kept to the bound, so that nothing but its effect speaks against it.
  CHECK(fleet.largest_norm > 0);
  CHECK(fleet.largest_norm <= norm_bound * (1 + 1e-6));
  int refused = 0;
  for (const json& round : reply.at("rounds")) {
    CHECK(round.at("state") == "refused");
    CHECK_THAT(round.at("reason").get<std::string>(),
               contains(federated ? "on the holdouts of 2 nodes falls" : "on the central holdout falls"));
    ++refused;
  }
  CHECK(refused == 3);
  CHECK_THAT(reply.at("stopped").get<std::string>(), contains("3 candidates in a row were refused"));
  const json schedule = world.server->get_json("/v1/status").at("schedule");
  CHECK_THAT(schedule.at("stopped").get<std::string>(), contains("3 candidates in a row were refused"));
  CHECK(schedule.at("refusals") == 3);
  CHECK(LogLines::since(mark, {"candidate_refused "}).size() == 3);
  CHECK(LogLines::since(mark, {"schedule_stopped "}).size() == 1);
  world.await_metric("rivulet_rounds_total", {"result=\"refused\""}, 3);
  CHECK(world.weights(1) == model.weights);
  CHECK(world.metric("rivulet_version") == 1);
  for (const auto& trainer : fleet.trainers) {
    const auto verdicts = trainer->await<message::Verdicts>();
    CHECK(verdicts.entries.at(0).outcome == message::VerdictOutcome::discarded);
    CHECK(verdicts.entries.at(0).reason == Reason::candidate_refused);
  }

  fleet.trainers.clear();
  fleet.evaluators.clear();
  REQUIRE(world.stop().has_value());
  const Durable durable = read_folder(world);
  CHECK(durable.versions == 1);
  CHECK(durable.head == 1);
  CHECK(durable.assigned == 1);
  CHECK(durable.master == model.release.initial_weights);  // m_1 is w_0 itself.
  CHECK(durable.optimizer_state.is_zero());
  CHECK(durable.blobs.contains(durable.master));

  // The same gate lets honest work pass, and it builds on what was there.
  world.start();
  gather();
  const json honest = fleet.rounds(1, clean);
  INFO(honest.dump());
  CHECK(honest.at("rounds").at(0).at("state") == "published");
  CHECK(world.head() == 2);
  CHECK(accuracy(sim::ToyEngine({}, clean(3)).score(model.release, world.weights(2)).value()) > 0.9);
}

TEST_CASE("reports that are not what they claim to be are refused, and do not count", "[hostile]") {
  HostileWorld world(judged_by(ValidationMode::federated));
  const GoodModel model(world, false);
  world.import(model.body);
  Fleet fleet{world, model.release, {}, {}, {}};
  for (int i = 0; i < 3; ++i) fleet.trainers.push_back(world.member(samples, 0));
  for (int i = 0; i < 2; ++i) fleet.evaluators.push_back(world.member(0, samples));
  Peer& liar = *fleet.evaluators[0];
  Peer& honest = *fleet.evaluators[1];
  std::vector<Peer*> trainers;
  for (const auto& trainer : fleet.trainers) trainers.push_back(trainer.get());
  const auto tasks = world.round(trainers);
  for (std::size_t i = 0; i < trainers.size(); ++i) fleet.train(*trainers[i], tasks[i], clean(10 + i));
  const auto task = liar.await<message::Task>();
  const auto other_task = honest.await<message::Task>();
  const EvaluationReport good = fleet.evaluate(liar, task, 20);

  using Change = std::function<void(EvaluationReport & report)>;
  struct Case {
    const char* what;
    Reason reason;
    Change change;
    const SecretKey* key = nullptr;
    Context context = Context::evaluation;
  };
  const Change nothing = [](EvaluationReport&) {};
  const std::vector<Case> cases{
      {"another's signature", Reason::bad_signature, nothing, &honest.key},
      {"signed as an update", Reason::bad_signature, nothing, nullptr, Context::update},
      {"another's name", Reason::bad_signature, [&](auto& report) { report.node = honest.key.public_key(); }},
      {"another fleet", Reason::wrong_fleet, [](auto& report) { report.fleet = {}; }},
      {"a task that nobody gave", Reason::unknown_task,
       [](auto& report) { report.task.bytes[0] ^= std::byte{1}; }},
      {"another's task", Reason::not_your_task, [&](auto& report) { report.task = other_task.id; }},
      {"another parent", Reason::stale_base,
       [](auto& report) { report.parent_hash.bytes[0] ^= std::byte{1}; }},
      {"another candidate", Reason::stale_base,
       [](auto& report) { report.candidate_hash.bytes[0] ^= std::byte{1}; }},
      {"no samples", Reason::bad_report,
       [](auto& report) {
         report.both_right = report.parent_only = report.candidate_only = report.both_wrong = 0;
       }},
      {"more samples than there are", Reason::bad_report,
       [](auto& report) { report.candidate_only = std::uint64_t{1} << 63; }},
      {"a loss that is no number", Reason::bad_report,
       [](auto& report) { report.parent_loss_sum = std::nan(""); }},
  };
  const auto sealed = [&](const EvaluationReport& report, const SecretKey& key, Context context) {
    return message::Evaluation{seal(key, context, encode(report))};
  };
  for (const Case& one : cases) {
    CAPTURE(one.what);
    Expected expected = expect_receipt(world, "refused", one.reason, "rivulet_reports_total");
    EvaluationReport report = good;
    one.change(report);
    const auto receipt =
        liar.ask<message::Receipt>(sealed(report, one.key == nullptr ? liar.key : *one.key, one.context));
    CHECK(receipt.outcome == message::ReceiptOutcome::refused);
    CHECK(name(receipt.reason) == name(one.reason));
    CHECK_FALSE(receipt.detail.empty());
    expected.check();
  }
  CHECK(world.server->get_json("/v1/rounds").back().at("state") == "gating");
  CHECK(liar.ask<message::Receipt>(sealed(good, liar.key, Context::evaluation)).outcome ==
        message::ReceiptOutcome::accepted);
  {
    Expected expected =
        expect_receipt(world, "duplicate", Reason::duplicate_content, "rivulet_reports_total");
    EvaluationReport second = good;
    second.both_right += 1;
    const auto receipt = liar.ask<message::Receipt>(sealed(second, liar.key, Context::evaluation));
    CHECK(receipt.outcome == message::ReceiptOutcome::duplicate);
    expected.check();
  }
  const EvaluationReport theirs = fleet.evaluate(honest, other_task, 21);
  honest.send(sealed(theirs, honest.key, Context::evaluation));
  CHECK(world.ended_round().at("state") == "published");
}
