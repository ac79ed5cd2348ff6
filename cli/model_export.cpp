#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/model_child.h"
#include "cli/safetensors.h"
#include "cli/text.h"
#include "models/package/npz.h"
#include "storage/file.h"

namespace rivulet::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// A shape under which NumPy applies the values to samples of the input's shape.
std::vector<std::int64_t> spread_shape(const std::vector<float>& values, const Architecture& architecture) {
  const auto& shape = architecture.input_shape;
  if (values.size() > 1 && values.size() == architecture.input_size()) return shape;
  std::vector<std::int64_t> channels(values.size() > 1 ? shape.size() : 1, 1);
  channels.front() = static_cast<std::int64_t>(values.size());
  return channels;
}

/// The tensors of the layout, with their part of the weights.
std::vector<NpyArray> tensors_of(const Release& release, std::span<const float> weights) {
  std::vector<NpyArray> arrays;
  std::size_t at = 0;
  for (const TensorSpec& tensor : release.layout.tensors) {
    arrays.push_back({tensor.name, tensor.shape, weights.subspan(at, tensor.size())});
    at += tensor.size();
  }
  return arrays;
}

Status export_npz(const fs::path& out, const Release& release, std::span<const float> weights) {
  std::vector<NpyArray> arrays = tensors_of(release, weights);
  const Preprocessing& preprocessing = release.preprocessing;
  arrays.push_back(
      {"preprocessing.mean", spread_shape(preprocessing.mean, release.architecture), preprocessing.mean});
  arrays.push_back(
      {"preprocessing.scale", spread_shape(preprocessing.scale, release.architecture), preprocessing.scale});
  std::vector<NpyTexts> texts;
  if (!release.classes.empty()) texts.push_back({"classes", release.classes});
  return write_npz(out, arrays, texts);
}

Status export_safetensors(const fs::path& out, const Release& release, std::span<const float> weights) {
  const Preprocessing& preprocessing = release.preprocessing;
  return write_safetensors(out, tensors_of(release, weights),
                           {{"name", release.name},
                            {"classes", json(release.classes).dump()},
                            {"preprocessing.mean", json(preprocessing.mean).dump()},
                            {"preprocessing.scale", json(preprocessing.scale).dump()}});
}

/// LibTorch writes it, in the process that has it.
Status export_torchscript(const fs::path& out, PublishedModel published) {
  const auto file = run_on_version(std::move(published), {"export"}, "model.pt");
  return file ? write_file_durably(out, *file) : std::unexpected(file.error());
}

}  // namespace

Status export_model(const ConnectionOptions& connection, VersionNumber number, const std::string& format,
                    const fs::path& out) {
  if (format != "npz" && format != "safetensors" && format != "torchscript") {
    return fail(Errc::invalid,
                fmt::format("--format {} is not known: npz, safetensors and torchscript are", format));
  }
  std::error_code unknown;  // What cannot be looked at cannot be written either, which tells why.
  if (fs::is_other(out, unknown)) {
    return fail(Errc::invalid,
                fmt::format("--out {} is a device or a pipe, which the export would replace: name a file",
                            out.string()));
  }
  auto client = AdminClient::open(connection);
  if (!client) return std::unexpected(client.error());
  auto model = get_model(*client, number);
  if (!model) return std::unexpected(model.error());
  if (model->release.batch_norm == BatchNorm::local)
    fmt::print(
        stderr,
        "rivulet: note: version {} has batch_norm = \"local\": each node measures statistics of its own, "
        "and the file has those of the import\n",
        model->version);
  if (format == "npz") return export_npz(out, model->release, model->weights);
  if (format == "safetensors") return export_safetensors(out, model->release, model->weights);
  return export_torchscript(out, std::move(*model));
}

}  // namespace rivulet::cli
