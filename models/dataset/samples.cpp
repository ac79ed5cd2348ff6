#include "models/dataset/samples.h"

#include <spdlog/fmt/fmt.h>

#include "models/dataset/byte_source.h"
#include "models/dataset/csv.h"
#include "models/dataset/idx.h"

namespace rivulet {

std::string RefusedSample::describe() const {
  if (column == 0) return fmt::format("line {}: {}", position, reason);
  return fmt::format("line {}, column {}: {}", position, column, reason);
}

Result<SampleFormat> format_of(const std::filesystem::path& file) {
  std::string name = file.filename().string();
  if (name.ends_with(".gz")) name.resize(name.size() - 3);
  if (name.ends_with(".csv") || name.ends_with(".CSV")) return SampleFormat::csv;
  for (auto at = name.find("idx"); at != std::string::npos; at = name.find("idx", at + 1)) {
    if (at + 3 == name.size() || (name[at + 3] >= '0' && name[at + 3] <= '9')) return SampleFormat::idx;
  }
  return fail(Errc::invalid,
              fmt::format("{}: its name does not tell its format: say csv or idx", file.string()));
}

Result<SampleFormat> parse_format(std::string_view name) {
  if (name == "csv") return SampleFormat::csv;
  if (name == "idx") return SampleFormat::idx;
  return fail(Errc::invalid, fmt::format("'{}' is not a format that can be read: csv or idx", name));
}

Result<std::unique_ptr<SampleReader>> open_samples(const std::filesystem::path& file, SampleFormat format,
                                                   const SampleOptions& options) {
  auto source = open_byte_source(file);
  if (!source) return std::unexpected(source.error());
  if (format == SampleFormat::csv) return make_csv_reader(std::move(*source), file.string(), options);
  std::unique_ptr<ByteSource> labels;
  std::filesystem::path labels_file = options.label;
  if (labels_file.empty()) labels_file = idx_labels_beside(file).value_or("");
  if (!labels_file.empty()) {
    auto opened = open_byte_source(labels_file);
    if (!opened) return std::unexpected(opened.error());
    labels = std::move(*opened);
  }
  return make_idx_reader(std::move(*source), file.string(), std::move(labels), labels_file.string(), options);
}

}  // namespace rivulet
