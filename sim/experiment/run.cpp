#include "sim/experiment/run.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "sim/experiment/outputs.h"
#include "sim/experiment/virtual_fleet.h"

namespace rivulet::sim {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr auto settling_max = 6h;  // virtual time in which the last version must reach all nodes

/// Follows the rounds of a fleet and writes a line when one has ended. The newest line is held back
/// until the next one, since what the last version's roll-out costs belongs to the last round.
class Recorder {
 public:
  Recorder(VirtualFleet& fleet, std::ofstream& file, const RunOptions& options)
      : fleet_(fleet), file_(file), options_(options), begin_(fleet.now()) {}

  /// Takes up the rounds that have ended since.
  void look() {
    const auto& rounds = fleet_.state().rounds;
    if (rounds.empty() || rounds.back().round <= last_round_) return;
    for (const coordinator::RoundSummary& summary : rounds) {
      if (summary.round > last_round_) add(summary);
    }
    last_round_ = rounds.back().round;
  }

  void finish() {
    if (!held_) return;
    held_->upload_bytes += take(fleet_.coordinator().received_bytes(), uploaded_);
    held_->download_bytes += take(fleet_.coordinator().sent_bytes(), downloaded_);
    write();
  }

  [[nodiscard]] const RunSummary& summary() const { return summary_; }

 private:
  static std::uint64_t take(std::uint64_t total, std::uint64_t& before) {
    return total - std::exchange(before, total);
  }

  void add(const coordinator::RoundSummary& summary) {
    write();
    RoundLine line;
    line.round = summary.round;
    line.state = summary.state;
    line.version = fleet_.state().registry.assigned;
    line.invited = summary.invited;
    line.participants = summary.accepted;
    line.upload_bytes = take(fleet_.coordinator().received_bytes(), uploaded_);
    line.download_bytes = take(fleet_.coordinator().sent_bytes(), downloaded_);
    line.virtual_seconds = std::chrono::duration<double>(fleet_.now() - begin_).count();
    const coordinator::Registry& registry = fleet_.state().registry;
    if (const auto* version = registry.find(line.version)) {
      const PruningPlan& pruning = registry.releases.at(version->manifest.release).release.pruning;
      line.prunes = pruning.sparsity > 0;
      line.sparsity = sparsity_at(pruning, version->steps);
      line.snapshot_bytes = version->manifest.snapshot_bytes;
      if (version->metrics) {
        accuracy_ = version->metrics->accuracy;
        loss_ = version->metrics->loss;
      }
    }
    line.accuracy = accuracy_;
    line.loss = loss_;
    summary_.updates += summary.accepted;
    held_ = line;
    if (options_.on_round) options_.on_round(line);
  }

  void write() {
    if (!held_) return;
    file_ << to_json(*held_) << '\n' << std::flush;
    ++summary_.rounds;
    summary_.final_accuracy = held_->accuracy;
    summary_.final_loss = held_->loss;
    summary_.best_accuracy = std::max(summary_.best_accuracy, held_->accuracy);
    summary_.upload_bytes += held_->upload_bytes;
    summary_.download_bytes += held_->download_bytes;
    summary_.virtual_seconds = held_->virtual_seconds;
    summary_.snapshot_bytes = held_->snapshot_bytes;
    held_.reset();
  }

  VirtualFleet& fleet_;
  std::ofstream& file_;
  const RunOptions& options_;
  const MonotonicTime begin_;
  RunSummary summary_;
  std::optional<RoundLine> held_;
  RoundNumber last_round_ = 0;
  std::uint64_t uploaded_ = 0;
  std::uint64_t downloaded_ = 0;
  double accuracy_ = 0;
  double loss_ = 0;
};

bool rounds_are_over(const coordinator::State& state) {
  const bool none_runs = std::holds_alternative<coordinator::Idle>(state.round.phase) ||
                         std::holds_alternative<coordinator::Failed>(state.round.phase);
  return none_runs && state.schedule.last_started >= state.schedule.until;
}

Status stands_still() {
  return fail(Errc::internal, "the virtual world stands still: nothing will happen any more");
}

}  // namespace

Result<RunSummary> run_experiment(const Experiment& experiment, const FleetData& data,
                                  const RunOptions& options) {
  if (const auto status = prepare_folder(options.folder, experiment, options.replace); !status)
    return std::unexpected(status.error());
  std::ofstream file(options.folder / "rounds.jsonl", std::ios::binary);
  VirtualFleet fleet(experiment, data, options.threads);
  if (const auto status = fleet.found(); !status) return std::unexpected(status.error());

  Recorder recorder(fleet, file, options);
  fleet.coordinator().command(coordinator::event::StartRounds{3, experiment.rounds, false});
  while (!rounds_are_over(fleet.state())) {
    if (!fleet.go_on()) return std::unexpected(stands_still().error());
    recorder.look();
  }
  recorder.look();
  const MonotonicTime end = fleet.now() + settling_max;
  while (!fleet.settled() && fleet.now() < end) {
    if (!fleet.go_on()) return std::unexpected(stands_still().error());
  }
  recorder.finish();

  RunSummary summary = recorder.summary();
  summary.stopped = fleet.state().schedule.stopped;
  if (!file)
    return fail(Errc::storage,
                (options.folder / "rounds.jsonl").string() + " could not be written: make room");
  if (const auto status = write_model(options.folder / "model.npz", fleet, data.preprocessing); !status) {
    return std::unexpected(status.error());
  }
  if (data.test_was_drawn) {
    if (const auto status = write_test(options.folder / "test.csv", data); !status)
      return std::unexpected(status.error());
  }
  summary.wall_seconds = seconds_since_process_start();
  if (const auto status = write_summary(options.folder / "summary.json", experiment, data, fleet, summary);
      !status) {
    return std::unexpected(status.error());
  }
  return summary;
}

}  // namespace rivulet::sim
