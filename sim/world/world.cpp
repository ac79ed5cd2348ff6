#include "sim/world/world.h"

#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "models/package/snapshot.h"
#include "protocol/documents.h"
#include "sim/world/checker.h"
#include "sim/world/founding.h"
#include "sim/world/toy_model.h"
#include "sim/world/virtual_node.h"

namespace rivulet::sim {
namespace {

using namespace std::chrono_literals;
namespace event = coordinator::event;

constexpr std::size_t toy_inputs = 6, toy_outputs = 3;
constexpr auto storm = 15min;  // virtual time in which faults strike
constexpr auto patience = 6h;  // virtual time in which the healed world must come to rest
constexpr std::uint64_t actions_max = 3'000'000;

coordinator::Config world_config() {
  coordinator::Config config;
  config.round.cohort = 4;
  config.round.over_selection = 1.5;
  config.round.deadline = 180s;
  config.round.selection_deadline = 120s;
  config.training.epochs = 2;
  config.training.learning_rate = 0.5;
  config.validation.mode = coordinator::ValidationMode::federated;
  config.validation.evaluators = 4;
  config.validation.holdout_min = 20;
  config.validation.tolerance = 0.2;
  config.validation.deadline = 120s;
  return config;
}

/// Small frames, so that faults strike in the middle of transfers; short heartbeats.
Limits world_limits() {
  Limits limits;
  limits.chunk_data_bytes_max = 32;
  limits.transfer_window = 96;
  limits.heartbeat_interval = 10s;
  return limits;
}

/// Computes at the end of a task's time, which is drawn.
class ToyDevice final : public Device {
 public:
  ToyDevice(Faults& faults, ToyEngine engine) : faults_(faults), engine_(std::move(engine)) {}

  MonotonicTime training_time(const node::effect::Train&) override { return 1s + faults_.delay(30s); }
  MonotonicTime evaluation_time(const node::effect::Evaluate&) override { return 1s + faults_.delay(5s); }
  MonotonicTime activation_time(const node::effect::Activate&) override { return faults_.delay(1s); }
  std::function<void()> begin(std::function<void()> computation) override { return computation; }
  [[nodiscard]] bool answers_late() const override { return true; }
  node::Engine& engine() override { return engine_; }

 private:
  Faults& faults_;
  ToyEngine engine_;
};

class World {
 public:
  explicit World(const WorldOptions& options);
  WorldReport run();

 private:
  void found();
  void import_release(std::uint64_t which);
  void add_nodes();
  void spread_crashes();
  /// @return false if `until` passed before `done` said so.
  template <typename Done>
  bool run_until(MonotonicTime until, Done done);
  [[nodiscard]] bool at_rest() const;
  void keep_asking_for_rounds(std::uint32_t count);

  WorldOptions options_;
  EventLoop loop_;
  Faults faults_;
  Limits limits_ = world_limits();
  Founding founding_;
  Checker checker_;
  ToyRunner runner_;
  VirtualCoordinator coordinator_;
  std::vector<std::unique_ptr<VirtualNode>> nodes_;
  RoundNumber rounds_wanted_ = 0;
  VersionNumber version_wanted_ = 0;
};

World::World(const WorldOptions& options)
    : options_(options),
      faults_(derive_seed(options.seed, 1)),
      founding_(options.seed, "world", std::chrono::days(365)),
      coordinator_(loop_, faults_, limits_, world_config(), founding_.coordinator, {.runner = runner_},
                   options.bug, {.on_commit = [this](const Store& store, const WriteBatch& batch) {
                     checker_.on_commit(store, *coordinator_.blobs(), batch);
                   }}) {}

void World::found() {
  RIVULET_ASSERT(coordinator_.found(sign_trust(founding_.trust, founding_.root), options_.seed));
  coordinator_.boot();
  import_release(1);
  coordinator_.command(
      event::CreateToken{1, sha256(founding_.token.secret.span()), founding_.token.expires, 1000});
  const auto imported = [&] {
    const auto record = coordinator_.store()->get("assignment", bytes_of("all"));
    return record && record->has_value();
  };
  RIVULET_ASSERT(run_until(1min, imported));
}

void World::import_release(std::uint64_t which) {
  Release release;
  release.name = "toy";
  release.architecture = {
      "mlp", {}, {static_cast<std::int64_t>(toy_inputs)}, static_cast<std::int64_t>(toy_outputs)};
  release.layout = toy_layout(toy_inputs, toy_outputs);
  release.classes = {"a", "b", "c"};
  // Some releases of each world prune, and begin with it anew.
  const bool prunes = (options_.seed + which) % 2 == 0;
  release.snapshot = prunes ? SnapshotForm::sparse_int8 : SnapshotForm::int8;
  if (prunes) release.pruning = {.sparsity = 0.25, .begin = 0, .rounds = 3};
  release.recipes = {"fp32", "int8"};
  release.known_inputs = toy_data(1, 2, toy_inputs, toy_outputs).samples;
  release.limits.max_distance = 1000;
  release.limits.expires = world_epoch + std::chrono::days(300);
  release.created = world_epoch + std::chrono::seconds(which);
  Rng rng(derive_seed(options_.seed, 50 + which));
  std::vector<float> initial(release.layout.size());
  for (float& x : initial) x = static_cast<float>(uniform_unit(rng) - 0.5);
  auto import = make_import(std::move(release), initial, founding_, *coordinator_.blobs());
  if (!import) return;
  import->request = 2;
  coordinator_.command(std::move(*import));
}

void World::add_nodes() {
  for (std::size_t i = 0; i < options_.nodes; ++i) {
    const std::uint64_t seed = derive_seed(options_.seed, 100 + i);
    const std::size_t samples = 20 + 15 * i + (i == 3 ? 2000 : 0);  // One has far more than the others.
    auto device =
        std::make_unique<ToyDevice>(faults_, ToyEngine(toy_data(seed, samples, toy_inputs, toy_outputs),
                                                       toy_data(seed + 1, 20, toy_inputs, toy_outputs)));
    nodes_.push_back(std::make_unique<VirtualNode>(
        loop_, faults_, limits_, seed, founding_.token, std::move(device),
        node::event::SampleCounts{samples, 20},
        [this](VirtualNode& node) {
          const LinkSpeed speed{5ms + faults_.delay(100ms), 2e4 + 1e6 * uniform_unit(faults_.rng())};
          return coordinator_.accept(node.key(), speed);
        },
        NodeWitness{
            .on_trained = [this](const ContentId& content, Codec codec, ByteSpan wire,
                                 std::uint64_t count) { checker_.on_trained(content, codec, wire, count); },
            .on_accepted_receipt = [this](const TaskId& task) { checker_.on_accepted_receipt(task); }}));
    nodes_.back()->coordinator_key = founding_.coordinator.public_key();
    loop_.after(faults_.delay(1min), [node = nodes_.back().get()] { node->boot(); });
  }
}

/// Crashes at any moment, not only at durable steps, and clocks that jump.
void World::spread_crashes() {
  const auto times = [&](double per_hour) {
    const double expected = per_hour * std::chrono::duration<double, std::ratio<3600>>(storm).count();
    const auto whole = static_cast<std::uint64_t>(expected);
    return whole + (uniform_unit(faults_.rng()) < expected - static_cast<double>(whole) ? 1 : 0);
  };
  for (auto& node : nodes_) {
    for (std::uint64_t n = times(faults_.rates().node_crashes_per_hour); n > 0; --n) {
      loop_.after(faults_.delay(storm), [this, node = node.get()] {
        if (node->up()) ++faults_.fired["node crash"];
        node->crash(1s + faults_.delay(2min));
      });
    }
    for (std::uint64_t n = times(faults_.rates().clock_jumps_per_hour); n > 0; --n) {
      loop_.after(faults_.delay(storm), [this, node = node.get()] {
        ++faults_.fired["clock jump"];
        const bool to_1970 = uniform_below(faults_.rng(), 2) == 0;
        const auto days = std::chrono::days(static_cast<int>(uniform_below(faults_.rng(), 4000)) - 2000);
        node->set_clock_error(to_1970 ? -std::chrono::milliseconds(world_epoch.time_since_epoch())
                                      : std::chrono::milliseconds(days));
      });
    }
  }
  // The operator imports again while all this goes on.
  for (const std::uint64_t which : {2, 3}) {
    loop_.after(faults_.delay(storm), [this, which] {
      if (coordinator_.state() != nullptr) import_release(which);
    });
  }
  for (std::uint64_t n = times(faults_.rates().coordinator_crashes_per_hour); n > 0; --n) {
    loop_.after(faults_.delay(storm), [this] {
      if (coordinator_.up()) ++faults_.fired["coordinator crash"];
      coordinator_.crash(1s + faults_.delay(1min));
    });
  }
}

template <typename Done>
bool World::run_until(MonotonicTime until, Done done) {
  while (loop_.now() < until && loop_.actions() < actions_max) {
    if (done()) return true;
    if (!loop_.run_one()) return done();
  }
  return done();
}

void World::keep_asking_for_rounds(std::uint32_t count) {
  const auto* state = coordinator_.state();
  if (state != nullptr && state->schedule.until < rounds_wanted_) {
    coordinator_.command(event::StartRounds{3, count, false});
  }
  loop_.after(30s, [this, count] { keep_asking_for_rounds(count); });
}

bool World::at_rest() const {
  const auto* state = coordinator_.state();
  if (state == nullptr || state->registry.assigned < version_wanted_) return false;
  if (!std::holds_alternative<coordinator::Idle>(state->round.phase)) return false;
  for (const auto& node : nodes_) {
    if (node->state() == nullptr || node->serves() != state->registry.assigned) return false;
    for (const auto& [task, entry] : node->state()->outbox) {
      if (entry.kind == node::OutboxEntry::Kind::update) return false;
    }
  }
  return true;
}

WorldReport World::run() {
  found();
  add_nodes();
  Rng swarm(derive_seed(options_.seed, 6));
  faults_.set_rates(FaultRates::draw(swarm));
  spread_crashes();
  rounds_wanted_ = 4;
  keep_asking_for_rounds(4);
  run_until(loop_.now() + storm, [&] { return false; });

  faults_.set_rates(FaultRates::none());
  for (auto& node : nodes_) node->set_clock_error({});
  const auto* state = coordinator_.state();
  if (state == nullptr) run_until(loop_.now() + 10min, [&] { return coordinator_.state() != nullptr; });
  state = coordinator_.state();
  RIVULET_ASSERT(state != nullptr);
  version_wanted_ = state->registry.assigned + 1;
  rounds_wanted_ = state->schedule.until + 2;
  const MonotonicTime end = loop_.now() + patience;
  MonotonicTime next_look{};
  const bool rested = run_until(end, [&] {
    if (loop_.now() < next_look) return false;
    next_look = loop_.now() + 1s;
    const auto* now = coordinator_.state();
    // A round may fail for lack of nodes that are still waiting to reconnect: then another one follows.
    if (now != nullptr && std::holds_alternative<coordinator::Idle>(now->round.phase) &&
        now->registry.assigned < version_wanted_) {
      rounds_wanted_ = std::max(rounds_wanted_, now->schedule.until + 1);
    }
    return at_rest();
  });

  WorldReport report;
  if (coordinator_.store() != nullptr) checker_.at_the_end(*coordinator_.store());
  report.violations = checker_.violations();
  if (coordinator_.notices.contains("too_many_messages overloaded"))
    report.violations.emplace_back("a node that keeps to the protocol was sent away for its many messages");
  if (!rested) {
    const auto* last = coordinator_.state();
    std::string why = fmt::format("the healed world did not come to rest: assigned {}, wanted {}",
                                  last == nullptr ? 0 : last->registry.assigned, version_wanted_);
    if (last != nullptr)
      why += ", round " + last->round.summary.state + " " + last->round.summary.reason + " " +
             last->schedule.stopped;
    for (const auto& node : nodes_) {
      if (node->state() == nullptr)
        why += node->up() ? "; a node has not joined" : "; a node is down";
      else if (last != nullptr &&
               (node->serves() != last->registry.assigned || !node->state()->outbox.empty())) {
        why += "; a node serves " + std::to_string(node->serves()) + ": " +
               node::status(*node->state(), node->now()).dump().substr(0, 600);
      }
    }
    report.violations.push_back(why);
  }
  report.fired = faults_.fired;
  report.crashed = faults_.crashed;
  report.versions = checker_.versions();
  report.updates = checker_.accepted();
  report.actions = loop_.actions();
  report.digest =
      derive_seed(loop_.actions(), static_cast<std::uint64_t>(loop_.now().count())) ^
      (coordinator_.state() == nullptr ? 0 : load_le<std::uint64_t>(coordinator_.state()->audit.hash.span()));
  return report;
}

}  // namespace

WorldReport run_world(const WorldOptions& options) { return World(options).run(); }

}  // namespace rivulet::sim
