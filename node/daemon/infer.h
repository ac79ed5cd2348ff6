#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "node/daemon/ingest.h"
#include "protocol/result.h"

namespace rivulet::node {

/// Takes a line of JSON, without its end.
using LineSink = std::function<void(const std::string& line)>;

/// How many samples of a file were answered, and how many got an error in place of an answer.
struct InferReport {
  std::uint64_t answered = 0;
  std::uint64_t wrong = 0;
};

/// Answers each sample of a file, in order, by the daemon of the folder or, if none runs, by the model that
/// the folder serves. A sample that is not in order gets {"index","error"}.
/// @param options the label's column, if there is one, is no input.
/// @return busy if no model serves; what the reader, the folder or the daemon returns.
Result<InferReport> infer_file(const std::filesystem::path& folder, const std::filesystem::path& file,
                               const IngestOptions& options, const LineSink& sink);

}  // namespace rivulet::node
