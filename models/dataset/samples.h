#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "protocol/result.h"

namespace rivulet {

/// A sample as it stands in a file, before any preprocessing.
struct RawSample {
  std::uint64_t position = 0;        ///< CSV: the line, from 1. IDX: the sample, from 0.
  std::vector<float> inputs;         ///< [product of SampleReader::shape()], finite.
  std::optional<std::string> label;  ///< As written; nothing if there is none or the cell is empty.
  std::optional<std::string> group;  ///< Of the column that tells natural clients apart.

  bool operator==(const RawSample&) const = default;
};

/// A part of a file that is no sample; what follows it can still be read.
struct RefusedSample {
  std::uint64_t position = 0;
  std::uint64_t column = 0;  ///< From 1; 0 if it is not a matter of one column.
  std::string reason;

  bool operator==(const RefusedSample&) const = default;
  /// "line 3, column 2: 'x' is not a number".
  [[nodiscard]] std::string describe() const;
};

using SampleEntry = std::variant<RawSample, RefusedSample>;

/// Reads a file's samples one after the other, in memory bounded by one sample. Not thread-safe.
class SampleReader {
 public:
  virtual ~SampleReader() = default;
  /// Nothing at the end. @return corrupt, storage: the file can't be read any further.
  virtual Result<std::optional<SampleEntry>> next() = 0;
  /// Of one sample.
  [[nodiscard]] virtual const std::vector<std::int64_t>& shape() const = 0;
  /// For error messages.
  [[nodiscard]] virtual const std::string& source() const = 0;
};

enum class SampleFormat { csv, idx };

struct SampleOptions {
  /// CSV: a column, by name or 1-based index; empty: samples have no labels. IDX: the file of labels;
  /// empty: the one beside the images by its usual name, if there is one.
  std::string label;
  std::string group;                ///< CSV: a column that is no input; empty: none.
  std::vector<std::string> ignore;  ///< CSV: more columns that are no inputs.
  bool scale_bytes = false;         ///< IDX: unsigned bytes become fractions of 255.
};

/// By the name: an extension csv, or "idx" and a digit anywhere, with or without ".gz" behind.
/// @return invalid: it says to name the format.
Result<SampleFormat> format_of(const std::filesystem::path& file);
/// "csv" or "idx". @return invalid.
Result<SampleFormat> parse_format(std::string_view name);

/// Opens a file, "-" for standard input; gzip is unpacked by content.
Result<std::unique_ptr<SampleReader>> open_samples(const std::filesystem::path& file, SampleFormat format,
                                                   const SampleOptions& options);

}  // namespace rivulet
