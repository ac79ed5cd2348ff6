#include "cli/distillation.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "storage/file.h"

namespace rivulet::cli {
namespace {

using nlohmann::json;

constexpr const char* report_file = "distillation.json";
constexpr std::uint64_t report_bytes_max = 64 << 10;

}  // namespace

Status check(const DistillOptions& options) {
  const auto wrong = [](const char* option, double value, const char* range) {
    return fail(Errc::invalid, fmt::format("{} is {}; it must be {}", option, value, range));
  };
  if (!std::isfinite(options.temperature) || options.temperature <= 0)
    return wrong("--temperature", options.temperature, "above 0");
  if (!(options.soft_weight >= 0 && options.soft_weight <= 1))
    return wrong("--soft-weight", options.soft_weight, "in 0 to 1");
  if (options.epochs == 0) return wrong("--epochs", 0, "at least 1");
  if (options.batch_size == 0) return wrong("--batch-size", 0, "at least 1");
  if (!std::isfinite(options.learning_rate) || options.learning_rate <= 0)
    return wrong("--learning-rate", options.learning_rate, "above 0");
  return {};
}

std::optional<double> DistillationReport::ratio() const {
  if (teacher > 0) return student / teacher;
  return std::nullopt;
}

json to_json(const DistillationReport& report) {
  return {{"measure", report.measure},
          {"teacher", report.teacher},
          {"student", report.student},
          {"ratio", report.ratio() ? json(*report.ratio()) : json(nullptr)},
          {"samples", report.samples},
          {"held_out", report.held_out},
          {"teacher_parameters", report.teacher_parameters},
          {"student_parameters", report.student_parameters}};
}

Status write_report(const std::filesystem::path& folder, const DistillationReport& report) {
  return write_file_durably(folder / report_file, bytes_of(to_json(report).dump()));
}

Result<DistillationReport> read_report(const std::filesystem::path& folder) {
  const auto bytes = read_file(folder / report_file, report_bytes_max);
  if (!bytes) return std::unexpected(bytes.error());
  const json in = json::parse(text_of(*bytes), nullptr, false);
  try {
    return DistillationReport{.measure = in.at("measure").get<std::string>(),
                              .teacher = in.at("teacher").get<double>(),
                              .student = in.at("student").get<double>(),
                              .samples = in.at("samples").get<std::size_t>(),
                              .held_out = in.at("held_out").get<std::size_t>(),
                              .teacher_parameters = in.at("teacher_parameters").get<std::size_t>(),
                              .student_parameters = in.at("student_parameters").get<std::size_t>()};
  } catch (const json::exception& error) {
    return fail(Errc::corrupt, fmt::format("the report of the distillation is not understood: {}: is "
                                           "rivulet-model of the same build as rivulet?",
                                           error.what()));
  }
}

}  // namespace rivulet::cli
