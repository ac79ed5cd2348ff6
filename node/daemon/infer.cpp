#include "node/daemon/infer.h"

#include <nlohmann/json.hpp>

#include "models/runtime/runtime.h"
#include "node/daemon/answer_json.h"
#include "node/daemon/api_client.h"
#include "node/daemon/folder.h"
#include "node/daemon/inference.h"
#include "node/daemon/torch_engine.h"
#include "node/work/tasks.h"

namespace rivulet::node {
namespace {

constexpr std::size_t batch_samples_max = 64;
/// Of about 20 bytes each as JSON: far less than a daemon takes by default (api.payload_bytes_max).
constexpr std::size_t batch_numbers_max = 64 << 10;

/// Lines for some samples, numbered from `first`.
using Answerer = std::function<Result<std::vector<std::string>>(std::span<const std::vector<float>> samples,
                                                                std::uint64_t first)>;

/// The model that a folder serves, without a daemon.
struct LocalModel {
  std::unique_ptr<NodeFolder> folder;
  Metrics metrics;
  Inference inference{metrics};

  Status load(const std::filesystem::path& path) {
    use_one_thread();
    auto opened = open_node_folder(path, OnFullDisk::use_ballast);
    if (!opened) return std::unexpected(opened.error());
    folder = std::move(*opened);
    const auto state = recover_agent(*folder);
    if (!state) return std::unexpected(state.error());
    const auto& active = state->serving.active;
    if (!active)
      return fail(Errc::busy, path.string() + " has no model yet: run the daemon until it has one");
    TorchEngine engine(*folder->samples, metrics);
    const effect::Activate restoration{effect::Activate::Kind::restoration, active->manifest,
                                       active->variant};
    const auto ready = prepare_activation(restoration, nullptr, {}, *folder->blobs, engine);
    if (!ready) return std::unexpected(ready.error());
    auto model = load_served_model(ready->release, ready->weights, active->manifest, active->variant);
    if (!model) return std::unexpected(model.error());
    inference.swap(std::move(*model));
    return {};
  }

  Result<std::vector<std::string>> answer(std::span<const std::vector<float>> samples, std::uint64_t first) {
    const auto answers = inference.answer(samples);
    if (!answers) return std::unexpected(answers.error());
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < samples.size(); ++i)
      lines.push_back(one_line(answer_json(*answers, i, first + i)));
    return lines;
  }
};

/// Gives lines out in the order of the file, though samples are answered many at once.
class LineWriter {
 public:
  LineWriter(const Answerer& answerer, const LineSink& sink) : answerer_(answerer), sink_(sink) {}

  Status take(SampleEntry entry) {
    if (const auto* refused = std::get_if<RefusedSample>(&entry)) {
      if (const auto status = flush(); !status) return status;
      sink_(one_line(error_json(next_++, refused->describe())));
      ++report_.wrong;
      return {};
    }
    samples_.push_back(std::move(std::get<RawSample>(entry).inputs));
    numbers_ += samples_.back().size();
    return samples_.size() < batch_samples_max && numbers_ < batch_numbers_max ? Status() : flush();
  }

  Status flush() {
    if (samples_.empty()) return {};
    const auto lines = answerer_(samples_, next_);
    if (!lines) return std::unexpected(lines.error());
    for (const std::string& line : *lines) {
      sink_(line);
      // Quotes in values are escaped, so this is a key.
      ++(line.find("\"error\":") == std::string::npos ? report_.answered : report_.wrong);
    }
    next_ += samples_.size();
    samples_.clear();
    numbers_ = 0;
    return {};
  }

  [[nodiscard]] const InferReport& report() const { return report_; }

 private:
  const Answerer& answerer_;
  const LineSink& sink_;
  InferReport report_;
  std::vector<std::vector<float>> samples_;
  std::size_t numbers_ = 0;
  std::uint64_t next_ = 0;
};

}  // namespace

Result<InferReport> infer_file(const std::filesystem::path& folder, const std::filesystem::path& file,
                               const IngestOptions& options, const LineSink& sink) {
  if (const auto there = check_input(file); !there) return std::unexpected(there.error());
  const auto format = options.format ? Result<SampleFormat>(*options.format) : format_of(file);
  if (!format) return std::unexpected(format.error());
  const auto reader = open_samples(file, *format, {.label = options.label, .group = {}, .ignore = {}});
  if (!reader) return std::unexpected(reader.error());
  auto client = ApiClient::find(folder);
  if (!client) return std::unexpected(client.error());
  LocalModel local;
  if (!*client) {
    if (const auto status = local.load(folder); !status) return std::unexpected(status.error());
  }
  const Answerer answerer = [&](std::span<const std::vector<float>> samples, std::uint64_t first) {
    return *client ? (*client)->infer(samples, first) : local.answer(samples, first);
  };
  LineWriter writer(answerer, sink);
  while (true) {
    auto entry = (*reader)->next();
    if (!entry) {
      // What came before the damage is whole.
      if (const auto status = writer.flush(); !status) return std::unexpected(status.error());
      return std::unexpected(entry.error());
    }
    const auto status = *entry ? writer.take(std::move(**entry)) : writer.flush();
    if (!status) return std::unexpected(status.error());
    if (!*entry) return writer.report();
  }
}

}  // namespace rivulet::node
