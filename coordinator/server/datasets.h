#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "coordinator/work/model_runner.h"
#include "protocol/ids.h"
#include "protocol/result.h"

namespace rivulet::coordinator {

enum class Split : std::uint8_t {
  holdout,  ///< Gates.
  test,     ///< Is reported, and never gates.
};

/// The samples that releases came with: D/datasets/RELEASE.holdout and .test, each
///   magic "RIVULET.DATA.1\n\0" (16), samples u64, inputs of a sample u64 (LE),
///   input: float32 LE[samples * inputs], label: i64 LE[samples], SHA-256 of all before it
/// and of a regression with "RIVULET.DATA.2\n\0" and target: float32 LE[samples] in place of the labels.
/// Thread-safe for different releases; one thread at a time reads.
class Datasets {
 public:
  explicit Datasets(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// The SHA-256 at the end of the file that store() writes. @param data as there.
  static Digest hash_of(const ScoringData& data);
  /// Durable when it returns, in the place of what was there: for a release that is not registered yet.
  /// @param data inputs [n * input_size], labels [n], n at least 1, targets [n] or none.
  Status store(const ReleaseId& release, Split split, const ScoringData& data);
  /// A split as it lies on the disk; nothing if there is none. @return corrupt, storage.
  [[nodiscard]] Result<std::optional<ScoringData>> read(const ReleaseId& release, Split split) const;
  /// Kept in memory from the first call on. @return null if there is none; corrupt, storage.
  Result<const ScoringData*> find(const ReleaseId& release, Split split);
  /// Removes the files of a release whose import failed. Best effort, as sweep().
  void erase(const ReleaseId& release);
  /// Removes the files of releases that are not among these: what an import left that failed.
  void sweep(const std::set<ReleaseId>& releases) const;

 private:
  [[nodiscard]] std::filesystem::path file_of(const ReleaseId& release, Split split) const;

  std::filesystem::path folder_;
  std::map<std::pair<ReleaseId, Split>, ScoringData> loaded_;
};

}  // namespace rivulet::coordinator
