#include "cli/prepared_model.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>
#include <string>

#include "models/package/snapshot.h"
#include "protocol/content.h"
#include "storage/file.h"

namespace rivulet::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t notes_bytes_max = 1 << 20;

template <typename T>
ByteSpan bytes_in(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

template <typename T>
Result<std::vector<T>> read_numbers(const fs::path& file) {
  const auto bytes = read_file(file, prepared_bytes_max);
  if (!bytes) return std::unexpected(bytes.error());
  if (bytes->size() % sizeof(T) != 0) {
    return fail(Errc::corrupt, fmt::format("{} does not have {} bytes a number", file.string(), sizeof(T)));
  }
  std::vector<T> numbers(bytes->size() / sizeof(T));
  if (!bytes->empty()) std::memcpy(numbers.data(), bytes->data(), bytes->size());
  return numbers;
}

Status write_samples(const fs::path& folder, const char* name,
                     const std::optional<LabelledSamples>& samples) {
  if (!samples) return {};
  Status status = write_file_durably(folder / fmt::format("{}.inputs.f32", name), bytes_in(samples->inputs));
  if (!status) return status;
  if (!samples->targets.empty())
    return write_file_durably(folder / fmt::format("{}.targets.f32", name), bytes_in(samples->targets));
  return write_file_durably(folder / fmt::format("{}.labels.i64", name), bytes_in(samples->labels));
}

Status read_samples(const fs::path& folder, const char* name, std::optional<LabelledSamples>& out) {
  auto inputs = read_numbers<float>(folder / fmt::format("{}.inputs.f32", name));
  if (!inputs && inputs.error().code == Errc::not_found) return {};
  if (!inputs) return std::unexpected(inputs.error());
  auto targets = read_numbers<float>(folder / fmt::format("{}.targets.f32", name));
  if (targets) {
    std::vector<std::int64_t> none(targets->size());
    out = LabelledSamples{std::move(*inputs), std::move(none), std::move(*targets)};
    return {};
  }
  if (targets.error().code != Errc::not_found) return std::unexpected(targets.error());
  auto labels = read_numbers<std::int64_t>(folder / fmt::format("{}.labels.i64", name));
  if (!labels) return std::unexpected(labels.error());
  out = LabelledSamples{std::move(*inputs), std::move(*labels)};
  return {};
}

Status check_samples(const std::optional<LabelledSamples>& samples, bool wanted, const Release& release,
                     const char* name) {
  if (samples.has_value() != wanted) {
    return fail(Errc::corrupt, fmt::format("the prepared model {} a {}", wanted ? "lacks" : "has", name));
  }
  if (!wanted) return {};
  const std::size_t size = release.architecture.input_size();
  if (samples->labels.empty() || samples->inputs.size() != samples->labels.size() * size) {
    return fail(Errc::corrupt, fmt::format("the prepared {} has {} labels for {} inputs of {} a sample", name,
                                           samples->labels.size(), samples->inputs.size(), size));
  }
  if (samples->targets.size() != (release.task == TaskKind::regression ? samples->labels.size() : 0)) {
    return fail(Errc::corrupt, fmt::format("the prepared {} has {} targets for {} samples", name,
                                           samples->targets.size(), samples->labels.size()));
  }
  return {};
}

bool says_the_same(const Release& release, const ModelSpec& spec) {
  const ReleaseLimits& limits = release.limits;
  return release.name == spec.name && release.architecture == spec.architecture &&
         release.task == spec.task && release.loss == spec.loss && release.classes == spec.classes &&
         release.preprocessing == spec.preprocessing && release.snapshot == spec.snapshot &&
         release.pruning == spec.pruning && release.recipes == spec.recipes &&
         release.batch_norm == spec.batch_norm && limits.min_interval == spec.limits.min_interval &&
         limits.expires == release.created + spec.limits.expires;
}

double norm_of(const ParameterLayout& layout, std::span<const float> weights) {
  double squares = 0.0;
  std::size_t at = 0;
  for (const TensorSpec& tensor : layout.tensors) {
    const std::size_t end = at + tensor.size();
    for (; at < end; ++at) {
      if (tensor.kind == TensorKind::parameter) squares += static_cast<double>(weights[at]) * weights[at];
    }
  }
  return std::sqrt(squares);
}

}  // namespace

Status write_prepared(const fs::path& folder, const PreparedModel& model) {
  Status status = write_file_durably(folder / "release.payload", model.release);
  if (status) status = write_file_durably(folder / "weights.f32", bytes_in(model.weights));
  if (status) status = write_samples(folder, "holdout", model.holdout);
  if (status) status = write_samples(folder, "test", model.test);
  const std::string notes = fmt::format("{}", fmt::join(model.notes, "\n"));
  if (status) status = write_file_durably(folder / "notes.txt", bytes_of(notes));
  return status;
}

Result<PreparedModel> read_prepared(const fs::path& folder) {
  PreparedModel model;
  auto release = read_file(folder / "release.payload", document_bytes_max);
  if (!release) return std::unexpected(release.error());
  model.release = std::move(*release);
  auto weights = read_numbers<float>(folder / "weights.f32");
  if (!weights) return std::unexpected(weights.error());
  model.weights = std::move(*weights);
  Status status = read_samples(folder, "holdout", model.holdout);
  if (status) status = read_samples(folder, "test", model.test);
  if (!status) return std::unexpected(status.error());
  const auto notes = read_file(folder / "notes.txt", notes_bytes_max);
  if (!notes) return std::unexpected(notes.error());
  std::istringstream lines{std::string(text_of(*notes))};
  for (std::string line; std::getline(lines, line);) model.notes.push_back(line);
  return model;
}

Result<Release> check_prepared(const PreparedModel& model, const ModelSpec& spec, const FleetId& fleet,
                               std::uint64_t epoch, const std::optional<Teacher>& teacher) {
  auto release = decode_release(model.release);
  if (!release) return fail_at("the prepared release", release.error());
  if (!says_the_same(*release, spec) || release->fleet != fleet || release->epoch != epoch ||
      release->teacher != teacher) {
    return fail(Errc::corrupt,
                "the prepared release does not say what the specification says: is rivulet-model of the "
                "same build as rivulet?");
  }
  const bool finite = std::ranges::all_of(model.weights, [](float w) { return std::isfinite(w); });
  if (!finite || model.weights.size() != release->layout.size() ||
      weights_hash_of(model.weights) != release->initial_weights_hash ||
      content_id_of(bytes_in(model.weights)) != release->initial_weights) {
    return fail(Errc::corrupt, "the prepared weights are not those that the release names");
  }
  const double wanted = spec.limits.max_distance > 0.0 ? spec.limits.max_distance
                                                       : default_distance(release->layout, model.weights);
  if (release->limits.max_distance != wanted) {
    return fail(Errc::corrupt,
                fmt::format("the prepared release lets versions go {:.6g} from its weights, and not {:.6g}",
                            release->limits.max_distance, wanted));
  }
  Status status = check_samples(model.holdout, spec.holdout.has_value(), *release, "holdout");
  if (status) status = check_samples(model.test, spec.test.has_value(), *release, "test split");
  if (!status) return std::unexpected(status.error());
  return release;
}

double default_distance(const ParameterLayout& layout, std::span<const float> weights) {
  return 10.0 * (norm_of(layout, weights) + 1.0);
}

void begin_with(Release& release, std::span<const float> weights, double max_distance) {
  release.initial_weights = content_id_of(std::as_bytes(weights));
  release.initial_weights_hash = weights_hash_of(weights);
  release.limits.max_distance = max_distance > 0.0 ? max_distance : default_distance(release.layout, weights);
}

}  // namespace rivulet::cli
