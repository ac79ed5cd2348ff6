#include "sim/experiment/outputs.h"

#include <spdlog/fmt/fmt.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/package/npz.h"

namespace rivulet::sim {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

Status not_written(const fs::path& file) {
  return fail(Errc::storage,
              file.string() + " could not be written: is there room, and may this user write there?");
}

/// Whether the results of a run that came to its end are there, and of another experiment.
bool holds_another(const fs::path& summary, const Experiment& experiment) {
  std::error_code ignored;  // What cannot be looked at will not be replaced either.
  if (!fs::exists(summary, ignored)) return false;
  std::ifstream file(summary, std::ios::binary);
  const auto json = nlohmann::json::parse(file, nullptr, false);
  return !json.is_object() || json.value("experiment", nlohmann::json()) != experiment.id.hex();
}

}  // namespace

Status prepare_folder(const fs::path& folder, const Experiment& experiment, bool replace) {
  if (!replace && holds_another(folder / "summary.json", experiment)) {
    return fail(Errc::invalid,
                folder.string() +
                    " holds the results of another experiment: name another folder with --out, or "
                    "--force to replace them");
  }
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    return fail(Errc::storage, fmt::format("{} could not be made: {}", folder.string(), error.message()));
  for (const char* name : {"summary.json", "model.npz", "test.csv"}) fs::remove(folder / name, error);
  if (!std::ofstream(folder / "rounds.jsonl", std::ios::binary)) return not_written(folder / "rounds.jsonl");
  return {};
}

std::string to_json(const RoundLine& line) {
  ordered_json json{{"round", line.round},
                    {"state", line.state},
                    {"accuracy", line.accuracy},
                    {"loss", line.loss},
                    {"version", line.version},
                    {"invited", line.invited},
                    {"participants", line.participants},
                    {"upload_bytes", line.upload_bytes},
                    {"download_bytes", line.download_bytes},
                    {"virtual_seconds", line.virtual_seconds}};
  if (line.prunes) {
    json["sparsity"] = line.sparsity;
    json["snapshot_bytes"] = line.snapshot_bytes;
  }
  return json.dump();
}

Status write_model(const fs::path& file, VirtualFleet& fleet, const Preprocessing& preprocessing) {
  const auto& registry = fleet.state().registry;
  const auto* version = registry.find(registry.assigned);
  RIVULET_ASSERT(version != nullptr);
  const auto snapshot = fleet.coordinator().blobs()->read_all(version->manifest.snapshot);
  if (!snapshot) return std::unexpected(snapshot.error());
  const auto weights = decode_snapshot(version->manifest.form, fleet.layout(), *snapshot);
  if (!weights) return std::unexpected(weights.error());
  std::vector<NpyArray> arrays;
  std::size_t at = 0;
  for (const TensorSpec& tensor : fleet.layout().tensors) {
    arrays.push_back({tensor.name, tensor.shape, std::span(*weights).subspan(at, tensor.size())});
    at += tensor.size();
  }
  const auto add = [&](const char* name, const std::vector<float>& values) {
    arrays.push_back({name, {static_cast<std::int64_t>(values.size())}, values});
  };
  add("preprocessing.mean", preprocessing.mean);
  add("preprocessing.scale", preprocessing.scale);
  return write_npz(file, arrays);
}

Status write_test(const fs::path& file, const FleetData& data) {
  std::ofstream out(file, std::ios::binary);
  for (std::size_t i = 0; i < data.sample_size; ++i) out << 'x' << i << ',';
  out << "label\n";
  for (std::size_t k = 0; k < data.test.labels.size(); ++k) {
    for (std::size_t i = 0; i < data.sample_size; ++i)
      out << fmt::format("{},", data.test.inputs[k * data.sample_size + i]);
    out << data.classes[static_cast<std::size_t>(data.test.labels[k])] << '\n';
  }
  out.flush();
  return out ? Status{} : not_written(file);
}

Status write_summary(const fs::path& file, const Experiment& experiment, const FleetData& data,
                     const VirtualFleet& fleet, const RunSummary& summary) {
  std::size_t samples = 0;
  for (const NodeSamples& node : data.nodes) samples += node.labels.size();
  ordered_json json{{"experiment", experiment.id.hex()},
                    {"seed", experiment.seed},
                    {"rounds", summary.rounds},
                    {"nodes", data.nodes.size()},
                    {"training_samples", samples},
                    {"test_samples", data.test.labels.size()},
                    {"parameters", fleet.layout().size()},
                    {"final_accuracy", summary.final_accuracy},
                    {"final_loss", summary.final_loss},
                    {"best_accuracy", summary.best_accuracy},
                    {"updates", summary.updates},
                    {"upload_bytes", summary.upload_bytes},
                    {"download_bytes", summary.download_bytes},
                    {"virtual_seconds", summary.virtual_seconds},
                    {"snapshot_bytes", summary.snapshot_bytes}};
  if (!summary.stopped.empty()) json["stopped"] = summary.stopped;
  json["wall_seconds"] = summary.wall_seconds;
  json["client_rounds_per_second"] = static_cast<double>(summary.updates) / summary.wall_seconds;
  json["peak_memory_bytes"] = peak_memory_bytes();
  std::ofstream out(file, std::ios::binary);
  out << json.dump(2) << '\n' << std::flush;
  return out ? Status{} : not_written(file);
}

double seconds_since_process_start() {
  // Field 22 of /proc/self/stat, counted behind the command's name, which may hold blanks: ticks from boot.
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 2)));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  const double begin = std::strtod(field.c_str(), nullptr) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  return std::max(0.01, static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9 - begin);
}

std::uint64_t peak_memory_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace rivulet::sim
