#include "node/daemon/ingest.h"

#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>

namespace rivulet::node {
namespace {

constexpr std::size_t batch_samples_max = 500;
constexpr std::size_t batch_numbers_max = 100'000;
constexpr std::size_t reasons_max = 10;

class Ingest {
 public:
  Ingest(const std::filesystem::path& file, const SampleSink& sink, IngestReport& report)
      : name_(file.string()), sink_(sink), report_(report) {}

  Status take(SampleEntry entry) {
    if (const auto* refused = std::get_if<RefusedSample>(&entry)) {
      refuse(*refused);
      return {};
    }
    auto& sample = std::get<RawSample>(entry);
    numbers_ += sample.inputs.size();
    positions_.push_back(sample.position);
    batch_.push_back({.id = {}, .inputs = std::move(sample.inputs), .label = std::move(sample.label)});
    return batch_.size() < batch_samples_max && numbers_ < batch_numbers_max ? Status() : flush();
  }

  Status flush() {
    if (batch_.empty()) return {};
    const auto outcome = sink_(batch_);
    if (!outcome) return fail_at(name_, outcome.error());
    report_.stored += outcome->stored;
    report_.duplicate += outcome->duplicate;
    report_.dropped += outcome->dropped;
    for (const auto& refused : outcome->refused) {
      refuse({.position = refused.index < positions_.size() ? positions_[refused.index] : 0,
              .column = 0,
              .reason = refused.reason});
    }
    batch_.clear();
    positions_.clear();
    numbers_ = 0;
    return {};
  }

 private:
  void refuse(const RefusedSample& refused) {
    ++report_.refused;
    if (report_.reasons.size() < reasons_max) report_.reasons.push_back(name_ + ": " + refused.describe());
  }

  const std::string name_;
  const SampleSink& sink_;
  IngestReport& report_;
  std::vector<NewSample> batch_;
  std::vector<std::uint64_t> positions_;
  std::size_t numbers_ = 0;
};

}  // namespace

Status check_input(const std::filesystem::path& file) {
  if (file == "-") return {};
  std::error_code error;
  const auto type = std::filesystem::status(file, error).type();
  if (type == std::filesystem::file_type::not_found)
    return fail(Errc::invalid, file.string() + ": there is no such file");
  if (type == std::filesystem::file_type::directory)
    return fail(Errc::invalid, file.string() + ": is a folder; name a file");
  return {};  // What else keeps it from being read, opening it tells.
}

Status ingest_file(const std::filesystem::path& file, const IngestOptions& options, const SampleSink& sink,
                   IngestReport& report) {
  if (const auto there = check_input(file); !there) return there;
  const auto format = options.format ? Result<SampleFormat>(*options.format) : format_of(file);
  if (!format) return std::unexpected(format.error());
  const auto reader = open_samples(file, *format, {.label = options.label, .group = {}, .ignore = {}});
  if (!reader) return std::unexpected(reader.error());
  Ingest ingest(file, sink, report);
  while (true) {
    auto entry = (*reader)->next();
    if (!entry) {
      // What came before the damage is whole.
      if (const auto status = ingest.flush(); !status) return status;
      return std::unexpected(entry.error());
    }
    if (!*entry) return ingest.flush();
    if (const auto status = ingest.take(std::move(**entry)); !status) return status;
  }
}

std::string to_text(const IngestReport& report) {
  std::string text =
      fmt::format("stored {}\nduplicate {}\nrefused {}\n", report.stored, report.duplicate, report.refused);
  for (const std::string& reason : report.reasons) text += fmt::format("  {}\n", reason);
  if (report.refused > report.reasons.size())
    text += fmt::format("  and {} more\n", report.refused - report.reasons.size());
  if (report.dropped > 0) text += fmt::format("dropped {} older samples to make room\n", report.dropped);
  return text;
}

std::string to_json(const IngestReport& report) {
  const nlohmann::json json = {{"stored", report.stored},
                               {"duplicate", report.duplicate},
                               {"refused", report.refused},
                               {"dropped", report.dropped},
                               {"reasons", report.reasons}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace rivulet::node
