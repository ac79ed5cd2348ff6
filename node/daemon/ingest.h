#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/dataset/samples.h"
#include "node/daemon/sample_store.h"
#include "protocol/result.h"

namespace rivulet::node {

struct IngestOptions {
  std::optional<SampleFormat> format;  ///< Nothing: by the file's name.
  std::string label;                   ///< See SampleOptions::label.
};

struct IngestReport {
  std::uint64_t stored = 0;
  std::uint64_t duplicate = 0;
  std::uint64_t refused = 0;
  std::uint64_t dropped = 0;  ///< Older samples that made room.
  std::vector<std::string>
      reasons;  ///< The first few refusals: "FILE: line 3, column 2: 'x' is not a number".

  /// All samples that were read.
  [[nodiscard]] std::uint64_t read() const { return stored + duplicate + refused; }
};

/// Where samples go: into the store, or to the daemon that holds it.
using SampleSink = std::function<Result<AddOutcome>(std::span<const NewSample>)>;

/// Whether there is a file of this name, - being standard input. @return invalid, since the command is wrong.
Status check_input(const std::filesystem::path& file);

/// Reads a file to its end, in bounded memory. What it holds of good samples is stored, whatever stands
/// between them. @return what the reader or the sink returns; `report` then counts what was done so far.
Status ingest_file(const std::filesystem::path& file, const IngestOptions& options, const SampleSink& sink,
                   IngestReport& report);

/// Four lines or more for people, and one JSON document.
std::string to_text(const IngestReport& report);
std::string to_json(const IngestReport& report);

}  // namespace rivulet::node
