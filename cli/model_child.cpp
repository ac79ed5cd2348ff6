#include "cli/model_child.h"

#include "cli/files.h"
#include "cli/prepared_model.h"
#include "storage/file.h"

namespace rivulet::cli {

Result<Bytes> run_on_version(PublishedModel version, std::vector<std::string> arguments,
                             const std::string& result, const ProcessLimits& limits) {
  const auto program = sibling_program("rivulet-model");
  if (!program) return std::unexpected(program.error());
  const auto folder = ScratchFolder::make();
  if (!folder) return std::unexpected(folder.error());
  const PreparedModel model{.release = std::move(version.envelope.payload),
                            .weights = std::move(version.weights),
                            .holdout = {},
                            .test = {},
                            .notes = {}};
  arguments.emplace_back("--");
  arguments.push_back(folder->path().string());
  Status status = write_prepared(folder->path(), model);
  if (status) status = run_limited(*program, arguments, limits);
  if (!status) return std::unexpected(status.error());
  return read_file(folder->path() / result, prepared_bytes_max);
}

}  // namespace rivulet::cli
