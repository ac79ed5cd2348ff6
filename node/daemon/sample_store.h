#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "node/daemon/sample_fit.h"
#include "node/daemon/sample_record.h"
#include "protocol/ids.h"
#include "protocol/now.h"
#include "protocol/result.h"
#include "storage/store.h"

namespace rivulet::node {

/// The families that the node's store must have for samples.
inline constexpr std::array<std::string_view, 2> sample_families = {"samples", "sample_ids"};

inline constexpr std::size_t sample_numbers_max = 1 << 22;  ///< Of one sample.
inline constexpr std::size_t label_bytes_max = 256;
inline constexpr std::size_t id_bytes_max = 256;

/// What became of some samples that were given to the store.
struct AddOutcome {
  struct Refused {
    std::size_t index = 0;  ///< Among those given.
    std::string reason;
  };
  std::uint64_t stored = 0;
  std::uint64_t duplicate = 0;
  std::uint64_t dropped = 0;  ///< Older ones that made room.
  std::vector<Refused> refused;
};

struct SampleCounts {
  std::uint64_t training = 0;  ///< Labelled, to train on.
  std::uint64_t holdout = 0;   ///< Labelled, to judge by.
  std::uint64_t unlabelled = 0;
  std::uint64_t bytes = 0;
  std::uint64_t used_training =
      0;  ///< What a task would use: of those that fit the release, once it is known.
  std::uint64_t used_holdout = 0;

  bool operator==(const SampleCounts&) const = default;
  [[nodiscard]] std::uint64_t total() const { return training + holdout + unlabelled; }
};

struct SampleLimits {
  std::uint64_t bytes_max = 128 << 20;
  std::chrono::seconds age_max{0};  ///< 0: no limit.
  double holdout_fraction = 0.2;
};

/// Which samples a visit sees. Inputs are in training or holdout by a hash of them, for ever.
enum class Split : std::uint8_t { training, holdout };

/// A bounded buffer of samples: when it is full, or they grow too old, the oldest are dropped. The same
/// sample twice is stored once; a label that comes later replaces the sample without one, or the label that
/// the same inputs had. What add() stored survives a crash after the next sync(). Thread-safe.
class SampleStore {
 public:
  /// @param store outlives the object, and takes commits from any thread. Samples of an older format are
  /// rewritten.
  /// @return corrupt, storage.
  static Result<std::unique_ptr<SampleStore>> open(Store& store, const SampleLimits& limits);

  /// From now on samples that do not fit this release are refused, and those that are there are not counted
  /// as used. Reads all of them when the release is another. @return corrupt, storage: then nothing changes.
  Status set_fit(const SampleFit& fit);

  /// @return storage, storage_full: then some of the samples may be stored, and giving all of them again
  /// does no harm.
  Result<AddOutcome> add(std::span<const NewSample> samples, UtcTime now);
  /// Makes durable what was added. @return storage.
  Status sync();
  /// Drops what is too old. @return how many.
  Result<std::uint64_t> expire(UtcTime now);

  /// Never waits for the disk.
  [[nodiscard]] SampleCounts counts() const;
  /// Visits labelled samples in their order of arrival, until `visit` returns false.
  /// @param unlabelled see those without a label too.
  Status visit(Split split, const std::function<bool(const SampleView&)>& visit,
               bool unlabelled = false) const;

 private:
  struct Batch;
  SampleStore(Store& store, const SampleLimits& limits) : store_(store), limits_(limits) {}
  Status load();
  Status rewrite_first_format();
  std::optional<std::uint64_t> find_number(const Digest& id,
                                           const std::map<Digest, std::uint64_t>& seen) const;
  Batch begin_batch() const;
  Status add_one(const NewSample& sample, const Digest& id, std::size_t index, UtcTime now, Batch& batch,
                 AddOutcome& outcome);
  Result<bool> give_way(ByteSpan known, const Digest& id, const NewSample& sample, Batch& batch) const;
  Status commit(Batch& batch, AddOutcome& outcome);
  Status drop_oldest(Batch& batch, const std::function<bool(std::uint64_t freed, UtcTime time)>& wanted);
  void set_counts(const SampleCounts& counts);
  void count(SampleCounts& counts, const SampleIndex& index, bool used, int sign) const;
  void count(SampleCounts& counts, const SampleView& view, std::uint64_t bytes, int sign) const;

  Store& store_;
  const SampleLimits limits_;
  std::mutex sync_mutex_;     // of sync(): who comes second waits for the first one's end
  mutable std::mutex mutex_;  // of what follows
  std::optional<SampleFit> fit_;
  std::uint64_t next_ = 0;    // the number of the next sample
  std::uint64_t oldest_ = 0;  // no sample has a lower number
  bool unsynced_ = false;
  // Of what follows, beside mutex_ where it changes; held for a moment only.
  mutable std::mutex counts_mutex_;
  SampleCounts counts_;
};

}  // namespace rivulet::node
