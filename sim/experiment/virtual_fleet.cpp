#include "sim/experiment/virtual_fleet.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "coordinator/server/torch_runner.h"
#include "models/runtime/architectures.h"
#include "protocol/codec/norm.h"
#include "protocol/documents.h"

namespace rivulet::sim {
namespace {

using namespace std::chrono_literals;
namespace event = coordinator::event;

/// What the experiment's seed is split for.
enum Label : std::uint64_t {
  fleet_label = 211,
  faults_label = 212,
  weights_label = 213,
  devices_label = 214,
  nodes_label = 1000
};

constexpr auto lifetime = std::chrono::days(3650);
constexpr auto joining_max = 24h;           // virtual time that all nodes together may take to join
constexpr std::size_t known_samples = 2;    // whose answers each version's manifest carries
constexpr std::size_t versions_shared = 6;  // that are kept ready
constexpr double scoring_factor = 3;  // Scoring is a forward pass; training one forward and one backward.

MonotonicTime seconds_of(double seconds) {
  return std::chrono::duration_cast<MonotonicTime>(std::chrono::duration<double>(seconds));
}

/// A device that really computes, ahead of virtual time, and takes as long as its profile says.
class TorchDevice final : public Device {
 public:
  TorchDevice(const NodeSamples& samples, double samples_per_second, ModelShelf& shelf,
              SharedActivations& activations, JobPool& jobs)
      : samples_(samples),
        samples_per_second_(samples_per_second),
        engine_(shelf, samples),
        activations_(activations),
        jobs_(jobs) {}

  MonotonicTime training_time(const node::effect::Train& task) override {
    return seconds_of(static_cast<double>(samples_.labels.size()) * task.plan.epochs / samples_per_second_);
  }
  MonotonicTime evaluation_time(const node::effect::Evaluate&) override { return comparison_time(); }
  MonotonicTime activation_time(const node::effect::Activate&) override { return 10ms + comparison_time(); }
  std::function<void()> begin(std::function<void()> computation) override {
    return jobs_.begin(std::move(computation));
  }
  [[nodiscard]] bool answers_late() const override { return false; }
  node::Engine& engine() override { return engine_; }

  Result<std::shared_ptr<const node::Activation>> prepare(const node::effect::Activate& task,
                                                          const node::Activation* active,
                                                          const BlobStore& blobs) override {
    const auto own = [&] { return Device::prepare(task, active, blobs); };
    // Without samples of its own a node comes to the same answer as every other.
    if (samples_.holdout_labels.empty()) return activations_.once(task, own);
    auto ready = own();
    if (!ready) return ready;
    return activations_.share(task, std::move(*ready));
  }

 private:
  [[nodiscard]] MonotonicTime comparison_time() const {
    return seconds_of(2 * static_cast<double>(samples_.holdout_labels.size()) /
                      (scoring_factor * samples_per_second_));
  }

  const NodeSamples& samples_;
  const double samples_per_second_;
  SharedEngine engine_;
  SharedActivations& activations_;
  JobPool& jobs_;
};

Architecture architecture_of(const Experiment& experiment, const FleetData& data) {
  Architecture architecture = experiment.architecture;
  architecture.input_shape = data.shape;
  architecture.outputs = static_cast<std::int64_t>(data.classes.size());
  return architecture;
}

}  // namespace

// ---- Versions that are ready -----------------------------------------------------------------------

std::shared_ptr<SharedActivations::Entry> SharedActivations::entry_of(const node::effect::Activate& task) {
  const std::lock_guard lock(mutex_);
  auto& entry = entries_[{task.manifest.manifest_version, task.variant}];
  if (!entry) entry = std::make_shared<Entry>();
  const auto found = entry;
  while (entries_.size() > versions_shared) entries_.erase(entries_.begin());
  return found;
}

SharedActivations::Ready SharedActivations::once(const node::effect::Activate& task,
                                                 const std::function<Ready()>& prepare) {
  const auto entry = entry_of(task);
  const std::lock_guard lock(entry->mutex);
  if (entry->ready) return entry->ready;
  auto ready = prepare();
  if (ready) entry->ready = *ready;
  return ready;
}

std::shared_ptr<const node::Activation> SharedActivations::share(
    const node::effect::Activate& task, std::shared_ptr<const node::Activation> ready) {
  const auto entry = entry_of(task);
  const std::lock_guard lock(entry->mutex);
  if (!entry->ready) entry->ready = ready;
  return entry->ready->weights == ready->weights ? entry->ready : ready;
}

// ---- The fleet -------------------------------------------------------------------------------------

VirtualFleet::VirtualFleet(const Experiment& experiment, const FleetData& data, std::size_t threads)
    : experiment_(experiment),
      data_(data),
      faults_(derive_seed(experiment.seed, faults_label)),
      founding_(derive_seed(experiment.seed, fleet_label), "simulation", lifetime),
      pool_(std::make_shared<ContentPool>()),
      runner_(coordinator::make_torch_runner()),
      coordinator_(loop_, faults_, limits_, experiment.coordinator, founding_.coordinator,
                   {.runner = runner_,
                    .holdout = data.holdout.labels.empty() ? nullptr : &data.holdout,
                    .test = &data.test,
                    .threads = threads,
                    .pool = pool_},
                   SeededBug::none, {}),
      jobs_(threads) {
  limits_.heartbeat_interval = experiment.coordinator.limits.heartbeat;
}

template <typename Done>
Status VirtualFleet::run_until(MonotonicTime until, Done done, const char* what) {
  while (!done()) {
    if (loop_.now() > until || !loop_.run_one()) {
      return fail(Errc::timeout,
                  fmt::format("{} within {} s of virtual time", what,
                              std::chrono::duration_cast<std::chrono::seconds>(until).count()));
    }
  }
  return {};
}

Status VirtualFleet::found() {
  auto status = coordinator_.found(sign_trust(founding_.trust, founding_.root), experiment_.seed);
  if (!status) return status;
  coordinator_.boot();
  status = import_release();
  if (!status) return status;
  const auto uses = static_cast<std::uint32_t>(data_.nodes.size());
  coordinator_.command(
      event::CreateToken{1, sha256(founding_.token.secret.span()), founding_.token.expires, uses});
  status = run_until(1h, [&] { return state().registry.assigned != 0; }, "the release was not imported");
  if (!status) return status;
  add_nodes();
  return run_until(
      joining_max, [&] { return state().fleet.active_ready == data_.nodes.size() && settled(); },
      "not all nodes joined");
}

Status VirtualFleet::import_release() {
  Release release;
  release.name = "experiment";
  release.architecture = architecture_of(experiment_, data_);
  auto layout = layout_of(release.architecture);
  if (!layout) return fail_at("[model]", layout.error());
  layout_ = *layout;
  release.layout = std::move(*layout);
  release.classes = data_.classes;
  release.preprocessing = data_.preprocessing;
  release.snapshot = experiment_.snapshot;
  release.pruning = experiment_.pruning;
  release.recipes = experiment_.variants;
  const std::size_t known = std::min(known_samples, data_.test.labels.size()) * data_.sample_size;
  release.known_inputs.assign(data_.test.inputs.begin(),
                              data_.test.inputs.begin() + static_cast<std::ptrdiff_t>(known));
  const std::vector<float> initial = initial_weights(layout_, derive_seed(experiment_.seed, weights_label));
  double norm = 0;
  for (const float x : initial) norm += static_cast<double>(x) * x;
  release.limits.max_distance = 10 * (std::sqrt(norm) + 1);  // As a model specification has it by default.
  release.limits.expires = world_epoch + lifetime;
  release.created = world_epoch;
  auto import = make_import(std::move(release), initial, founding_, *coordinator_.blobs());
  if (!import) return fail_at("the release", import.error());
  import->request = 2;
  import->has_holdout = !data_.holdout.labels.empty();
  import->has_test = true;
  coordinator_.command(std::move(*import));
  return {};
}

void VirtualFleet::add_nodes() {
  const FleetConfig& config = experiment_.fleet;
  Rng rng(derive_seed(experiment_.seed, devices_label));
  const auto drawn = [&](double middle) {
    return middle * std::pow(config.spread, 2 * uniform_unit(rng) - 1);
  };
  for (std::size_t i = 0; i < data_.nodes.size(); ++i) {
    const NodeSamples& samples = data_.nodes[i];
    auto device =
        std::make_unique<TorchDevice>(samples, drawn(config.samples_per_second), shelf_, activations_, jobs_);
    const LinkSpeed link{config.latency, drawn(config.bytes_per_second)};
    nodes_.push_back(std::make_unique<VirtualNode>(
        loop_, faults_, limits_, derive_seed(experiment_.seed, nodes_label + i), founding_.token,
        std::move(device), node::event::SampleCounts{samples.labels.size(), samples.holdout_labels.size()},
        [this, link](VirtualNode& node) { return coordinator_.accept(node.key(), link); }, NodeWitness{},
        pool_));
    nodes_.back()->coordinator_key = founding_.coordinator.public_key();
    loop_.after(faults_.delay(1s), [node = nodes_.back().get()] { node->boot(); });
  }
}

bool VirtualFleet::settled() const {
  const VersionNumber assigned = coordinator_.state()->registry.assigned;
  return std::ranges::all_of(nodes_, [&](const auto& node) { return node->serves() == assigned; });
}

}  // namespace rivulet::sim
