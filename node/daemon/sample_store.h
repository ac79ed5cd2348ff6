#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/ids.h"
#include "protocol/now.h"
#include "protocol/result.h"
#include "storage/store.h"

/// The samples that a node holds, in the node's store:
///   samples     number (u64 BE)  -> format: u8 = 1, labelled: u8, time: i64 ms, id: byte[32],
///                                   label length: u16, label, count: u32, float32[count]; all LE
///   sample_ids  id: byte[32]     -> number: u64, bytes: u32, labelled: u8; LE
namespace rivulet::node {

/// The families that the node's store must have for samples.
inline constexpr std::array<std::string_view, 2> sample_families = {"samples", "sample_ids"};

inline constexpr std::size_t sample_numbers_max = 1 << 22;  ///< Of one sample.
inline constexpr std::size_t label_bytes_max = 256;
inline constexpr std::size_t id_bytes_max = 256;

struct NewSample {
  std::string id;                    ///< Empty: what it holds names it, so that equal samples are one.
  std::vector<float> inputs;         ///< As they were measured; the release's preprocessing comes later.
  std::optional<std::string> label;  ///< As written; nothing: stored, and not trained on.
};

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

  bool operator==(const SampleCounts&) const = default;
  [[nodiscard]] std::uint64_t total() const { return training + holdout + unlabelled; }
};

struct SampleLimits {
  std::uint64_t bytes_max = 128 << 20;
  std::chrono::seconds age_max{0};  ///< 0: no limit.
  double holdout_fraction = 0.2;
};

/// Which samples a visit sees. A sample is in training or holdout by a hash of its id, for ever.
enum class Split : std::uint8_t { training, holdout };

/// A sample during a visit.
struct SampleView {
  Digest id;
  std::span<const float> inputs;
  std::optional<std::string_view> label;
  UtcTime time{};
};

/// A bounded buffer of samples: when it is full, or they grow too old, the oldest are dropped. The same
/// id twice is stored once; a label that comes later replaces the sample without one. What add() stored
/// survives a crash after the next sync(). Thread-safe.
class SampleStore {
 public:
  /// @param store outlives the object, and takes commits from any thread.
  /// @return corrupt, storage.
  static Result<std::unique_ptr<SampleStore>> open(Store& store, const SampleLimits& limits);

  /// @return storage, storage_full: then some of the samples may be stored, and giving all of them again
  /// does no harm.
  Result<AddOutcome> add(std::span<const NewSample> samples, UtcTime now);
  /// Makes durable what was added. @return storage.
  Status sync();
  /// Drops what is too old. @return how many.
  Result<std::uint64_t> expire(UtcTime now);

  [[nodiscard]] SampleCounts counts() const;
  /// Visits labelled samples in their order of arrival, until `visit` returns false.
  /// @param unlabelled see those without a label too.
  Status visit(Split split, const std::function<bool(const SampleView&)>& visit,
               bool unlabelled = false) const;

 private:
  struct Batch;
  SampleStore(Store& store, const SampleLimits& limits) : store_(store), limits_(limits) {}
  Status load();
  Status add_one(const NewSample& sample, std::size_t index, UtcTime now, Batch& batch, AddOutcome& outcome);
  Status commit(Batch& batch, AddOutcome& outcome);
  Status drop_oldest(Batch& batch, const std::function<bool(std::uint64_t freed, UtcTime time)>& wanted);
  void count(SampleCounts& counts, const Digest& id, bool labelled, std::uint64_t bytes, int sign) const;

  Store& store_;
  const SampleLimits limits_;
  std::mutex sync_mutex_;     // of sync(): who comes second waits for the first one's end
  mutable std::mutex mutex_;  // of what follows
  SampleCounts counts_;
  std::uint64_t next_ = 0;    // the number of the next sample
  std::uint64_t oldest_ = 0;  // no sample has a lower number
  bool unsynced_ = false;
};

/// Whether the sample with this id belongs to the holdout: a SHA-256 of the id against the fraction.
bool in_holdout(const Digest& id, double fraction);

/// The id under which a sample is stored.
Digest sample_id(const NewSample& sample);

}  // namespace rivulet::node
