#include "models/package/release.h"

#include <capnp/message.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "models/package/wire.h"
#include "protocol/sha256.h"

namespace rivulet {
namespace {

constexpr std::size_t layers_max = 64;
constexpr std::int64_t width_max = 1 << 20;
constexpr std::chrono::seconds interval_max =
    std::chrono::days{36500};  // Keeps sums of times from overflowing.

Status check(const Architecture& architecture) {
  if (architecture.kind.empty()) return fail(Errc::invalid, "the architecture has no kind");
  for (const auto* sizes : {&architecture.hidden, &architecture.channels}) {
    if (sizes->size() > layers_max) {
      return fail(Errc::invalid, fmt::format("the architecture has {} layers of a kind; {} are allowed",
                                             sizes->size(), layers_max));
    }
    for (const std::int64_t size : *sizes) {
      if (size < 1 || size > width_max) {
        return fail(Errc::invalid, fmt::format("a layer of the architecture has a width of {}", size));
      }
    }
  }
  for (const std::int64_t size :
       {architecture.kernel, architecture.pool, architecture.groups, architecture.resolution}) {
    if (size < 0 || size > width_max)
      return fail(Errc::invalid,
                  fmt::format("the architecture has a kernel, pool, groups or resolution of {}", size));
  }
  if (!std::isfinite(architecture.width) || architecture.width < 0.0) {
    return fail(Errc::invalid, fmt::format("the architecture has a width of {}", architecture.width));
  }
  if (architecture.outputs < 1 || architecture.outputs > width_max) {
    return fail(Errc::invalid, fmt::format("the architecture has {} outputs", architecture.outputs));
  }
  if (architecture.input_shape.empty()) return fail(Errc::invalid, "the input shape has no dimension");
  // A layout has the same bounds, and its check knows how not to overflow.
  ParameterLayout input;
  input.tensors.push_back({"input", architecture.input_shape, TensorKind::parameter});
  return check(input);
}

Status check_classes(const Release& release) {
  if (release.task != TaskKind::classification) {
    if (release.classes.empty()) return {};
    return fail(Errc::invalid, "only a classification has classes");
  }
  const auto outputs = static_cast<std::size_t>(release.architecture.outputs);
  if (release.classes.size() != outputs || outputs < 2) {
    return fail(Errc::invalid,
                fmt::format("a classification with {} outputs names {} classes; both must be the same "
                            "and at least 2",
                            outputs, release.classes.size()));
  }
  std::set<std::string_view> seen;
  for (const std::string& name : release.classes) {
    if (name.empty() || !seen.insert(name).second) {
      return fail(Errc::invalid, fmt::format("the class '{}' is named twice, or left empty", name));
    }
  }
  return {};
}

Status check_recipes(const std::vector<std::string>& recipes) {
  std::set<std::string_view> seen;
  for (const std::string& recipe : recipes) {
    if (std::find(known_recipes.begin(), known_recipes.end(), recipe) == known_recipes.end()) {
      return fail(Errc::unsupported, fmt::format("'{}' is no variant that this build can derive", recipe));
    }
    if (!seen.insert(recipe).second)
      return fail(Errc::invalid, fmt::format("the variant '{}' is named twice", recipe));
  }
  if (recipes.empty()) return fail(Errc::invalid, "a release allows no variant, so nothing could be served");
  return {};
}

Status check_known_inputs(const Release& release) {
  const std::size_t size = release.architecture.input_size();
  if (release.known_inputs.empty() || release.known_inputs.size() % size != 0) {
    return fail(Errc::invalid, fmt::format("{} known inputs are not one or more samples of {} numbers",
                                           release.known_inputs.size(), size));
  }
  for (const float value : release.known_inputs) {
    if (!std::isfinite(value)) return fail(Errc::invalid, "a known input is not finite");
  }
  return {};
}

Status check_graph(const Release& release) {
  const bool wanted = release.architecture.kind == user_architecture;
  if (wanted == release.graph.empty()) {
    return fail(Errc::invalid, fmt::format("an architecture {} {} a TorchScript file",
                                           release.architecture.kind, wanted ? "needs" : "has no"));
  }
  if (release.graph.size() > graph_bytes_max) {
    return fail(
        Errc::invalid,
        fmt::format("the network has {} KiB without its weights; {} are allowed: keep large tables as "
                    "float32 buffers or parameters, not as constants",
                    release.graph.size() >> 10, graph_bytes_max >> 10));
  }
  return {};
}

Status check_pruning(const Release& release) {
  if (const Status status = check(release.pruning); !status) return status;
  if (release.pruning.sparsity == 0.0 || prunable_entries(release.layout) > 0) return {};
  return fail(Errc::invalid, "nothing can be pruned: the network has no parameter of two dimensions or more");
}

Status check_limits(const Release& release) {
  const ReleaseLimits& limits = release.limits;
  if (!std::isfinite(limits.max_distance) || limits.max_distance <= 0.0) {
    return fail(Errc::invalid,
                fmt::format("the limit max_distance is {}; it must be positive", limits.max_distance));
  }
  if (limits.min_interval.count() < 0 || limits.min_interval > interval_max) {
    return fail(Errc::invalid, fmt::format("the limit min_interval is {} s", limits.min_interval.count()));
  }
  if (!wire_form::is_plausible(release.created) || !wire_form::is_plausible(limits.expires)) {
    return fail(Errc::invalid, "a time is not between the years 1970 and 9999");
  }
  if (limits.expires <= release.created) return fail(Errc::invalid, "the release expires before it was made");
  return {};
}

Result<Release> read_release(schema::Release::Reader reader) {
  using namespace wire_form;
  Release release;
  const auto architecture = reader.getArchitecture();
  Reads reads;
  reads.id(reader.getFleet(), release.fleet, "fleet")
      .text(reader.getName(), release.name, "name")
      .text(architecture.getKind(), release.architecture.kind, "the architecture's kind")
      .texts(reader.getClasses(), release.classes, "a class")
      .texts(reader.getRecipes(), release.recipes, "a recipe")
      .id(reader.getInitialWeights(), release.initial_weights, "initialWeights")
      .id(reader.getInitialWeightsHash(), release.initial_weights_hash, "initialWeightsHash")
      .keep(read_enum(reader.getTask(), TaskKind::anomaly, release.task, "task"))
      .keep(read_enum(reader.getSnapshot(), snapshot_form_last, release.snapshot, "snapshot"))
      .keep(read_enum(reader.getBatchNorm(), BatchNorm::local, release.batch_norm, "batchNorm"))
      .keep(read_enum(reader.getRegressionLoss(), RegressionLoss::absolute, release.loss, "regressionLoss"));
  release.architecture.hidden = read_list<std::int64_t>(architecture.getHidden());
  release.architecture.input_shape = read_list<std::int64_t>(architecture.getInputShape());
  release.architecture.outputs = architecture.getOutputs();
  release.architecture.channels = read_list<std::int64_t>(architecture.getChannels());
  release.architecture.kernel = architecture.getKernel();
  release.architecture.pool = architecture.getPool();
  release.architecture.width = architecture.getWidth();
  release.architecture.groups = architecture.getGroups();
  release.architecture.resolution = architecture.getResolution();
  if (reader.getLayout().size() > tensors_max) return fail(Errc::corrupt, "the layout has too many tensors");
  for (const auto tensor : reader.getLayout()) {
    TensorSpec& spec = release.layout.tensors.emplace_back();
    reads.text(tensor.getName(), spec.name, "a tensor's name")
        .keep(read_enum(tensor.getKind(), TensorKind::statistic, spec.kind, "a tensor's kind"));
    spec.shape = read_list<std::int64_t>(tensor.getShape());
  }
  release.preprocessing.mean = read_list<float>(reader.getMean());
  release.preprocessing.scale = read_list<float>(reader.getScale());
  release.known_inputs = read_list<float>(reader.getKnownInputs());
  release.limits.max_distance = reader.getMaxDistance();
  release.limits.min_interval = std::chrono::seconds(reader.getMinIntervalSeconds());
  release.limits.expires = utc(reader.getExpires());
  release.created = utc(reader.getCreated());
  release.epoch = reader.getEpoch();
  release.graph = copy_of(payload::span(reader.getGraph()));
  release.pruning = {reader.getSparsity(), reader.getPruningBegin(), reader.getPruningRounds()};
  if (reader.getTeacherRelease().size() > 0) {
    Teacher& teacher = release.teacher.emplace();
    reads.id(reader.getTeacherRelease(), teacher.release, "teacherRelease");
    teacher.version = reader.getTeacherVersion();
  }
  if (!reads.status()) return std::unexpected(reads.status().error());
  if (const Status sound = as_corrupt(check(release)); !sound) return std::unexpected(sound.error());
  return release;
}

}  // namespace

Status check_name(const std::string& name, const char* what) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  bool good = !name.empty() && name.size() <= 64 && is_plain(name.front());
  for (const char c : name) good = good && (is_plain(c) || c == '.' || c == '_' || c == '-');
  if (good) return {};
  return fail(Errc::invalid,
              fmt::format("{} '{}' must be 1 to 64 letters, digits, '.', '_' or '-', and begin with a "
                          "letter or digit",
                          what, name));
}

Status check(const Preprocessing& preprocessing, std::span<const std::int64_t> shape) {
  std::size_t features = 1;
  for (const std::int64_t dimension : shape) features *= static_cast<std::size_t>(dimension);
  const std::size_t channels = shape.size() > 1 ? static_cast<std::size_t>(shape.front()) : 1;
  const auto check_values = [&](const std::vector<float>& values, const char* what) -> Status {
    if (values.size() != 1 && values.size() != features && values.size() != channels) {
      const std::string per_channel = channels > 1 ? fmt::format(", {} (one a channel)", channels) : "";
      return fail(Errc::invalid, fmt::format("{} has {} values; it must have 1{} or {} (one a feature)", what,
                                             values.size(), per_channel, features));
    }
    for (const float value : values) {
      if (!std::isfinite(value))
        return fail(Errc::invalid, fmt::format("{} has a value that is not finite", what));
    }
    return {};
  };
  if (const Status mean = check_values(preprocessing.mean, "mean"); !mean) return mean;
  if (const Status scale = check_values(preprocessing.scale, "scale"); !scale) return scale;
  if (std::ranges::count(preprocessing.scale, 0.0F) > 0) {
    return fail(Errc::invalid, "scale has a value of 0, by which nothing can be divided");
  }
  return {};
}

Status check(const Release& release) {
  if (const Status status = check_name(release.name, "the model's name"); !status) return status;
  if (const Status status = check(release.architecture); !status) return status;
  if (const Status status = check(release.layout); !status) return status;
  if (const Status status = check_classes(release); !status) return status;
  if (const Status status = check(release.preprocessing, release.architecture.input_shape); !status)
    return status;
  if (const Status status = check_recipes(release.recipes); !status) return status;
  if (const Status status = check_known_inputs(release); !status) return status;
  if (const Status status = check_graph(release); !status) return status;
  if (const Status status = check_pruning(release); !status) return status;
  if (release.task != TaskKind::regression && release.loss != RegressionLoss::squared)
    return fail(Errc::invalid, "only a regression has a choice of losses");
  if (release.teacher && release.teacher->version == 0)
    return fail(Errc::invalid, "the release names a teacher without its version");
  return check_limits(release);
}

Bytes encode(const Release& release) {
  using namespace wire_form;
  capnp::MallocMessageBuilder message;
  auto out = message.initRoot<schema::Release>();
  const auto count = [](const auto& list) { return static_cast<unsigned>(list.size()); };
  out.setFleet(payload::data(release.fleet));
  out.setName(release.name.c_str());
  auto architecture = out.initArchitecture();
  architecture.setKind(release.architecture.kind.c_str());
  write_list(release.architecture.hidden, architecture.initHidden(count(release.architecture.hidden)));
  write_list(release.architecture.input_shape,
             architecture.initInputShape(count(release.architecture.input_shape)));
  architecture.setOutputs(release.architecture.outputs);
  write_list(release.architecture.channels, architecture.initChannels(count(release.architecture.channels)));
  architecture.setKernel(release.architecture.kernel);
  architecture.setPool(release.architecture.pool);
  architecture.setWidth(release.architecture.width);
  architecture.setGroups(release.architecture.groups);
  architecture.setResolution(release.architecture.resolution);
  auto layout = out.initLayout(count(release.layout.tensors));
  for (unsigned i = 0; i < layout.size(); ++i) {
    const TensorSpec& tensor = release.layout.tensors[i];
    layout[i].setName(tensor.name.c_str());
    write_list(tensor.shape, layout[i].initShape(count(tensor.shape)));
    layout[i].setKind(static_cast<schema::TensorKind>(tensor.kind));
  }
  out.setTask(static_cast<schema::TaskKind>(release.task));
  write_texts(release.classes, out.initClasses(count(release.classes)));
  write_list(release.preprocessing.mean, out.initMean(count(release.preprocessing.mean)));
  write_list(release.preprocessing.scale, out.initScale(count(release.preprocessing.scale)));
  out.setSnapshot(static_cast<schema::SnapshotForm>(release.snapshot));
  out.setInitialWeights(payload::data(release.initial_weights));
  out.setInitialWeightsHash(payload::data(release.initial_weights_hash));
  write_texts(release.recipes, out.initRecipes(count(release.recipes)));
  write_list(release.known_inputs, out.initKnownInputs(count(release.known_inputs)));
  out.setMaxDistance(release.limits.max_distance);
  out.setMinIntervalSeconds(release.limits.min_interval.count());
  out.setExpires(milliseconds(release.limits.expires));
  out.setCreated(milliseconds(release.created));
  out.setEpoch(release.epoch);
  out.setBatchNorm(static_cast<schema::BatchNorm>(release.batch_norm));
  if (!release.graph.empty()) out.setGraph(payload::data(release.graph));
  out.setSparsity(release.pruning.sparsity);
  out.setPruningBegin(release.pruning.begin);
  out.setPruningRounds(release.pruning.rounds);
  out.setRegressionLoss(static_cast<schema::RegressionLoss>(release.loss));
  if (release.teacher) {
    out.setTeacherRelease(payload::data(release.teacher->release));
    out.setTeacherVersion(release.teacher->version);
  }
  return payload::to_bytes(message);
}

Result<Release> decode_release(ByteSpan payload) {
  if (const Status size = wire_form::check_size(payload); !size) return fail_at("release", size.error());
  auto release = payload::read<schema::Release>(payload, read_release);
  if (!release) return fail_at("release", release.error());
  return release;
}

ReleaseId release_id(ByteSpan payload) { return {sha256(payload).bytes}; }

}  // namespace rivulet
