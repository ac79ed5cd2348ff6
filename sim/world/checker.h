#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "coordinator/core/coordinator.h"
#include "protocol/codec/codec.h"
#include "storage/blob_store.h"
#include "storage/store.h"

namespace rivulet::sim {

/// Watches a virtual fleet from outside, with knowledge of its own, and says where a promise is broken:
/// - an update whose receipt said "accepted" has exactly one durable verdict, which never changes;
/// - a version's record lists exactly the updates in it, each durably accepted before, of another node, and
///   in no other version, and its master is the parent's plus their mean, weighted by the samples they were
///   trained on (computed anew here in double, from what the nodes made);
/// - a version's weights are what its snapshot decodes to: the master, pruned as its release says for the
///   number of its ancestors, and coded;
/// - manifest versions only rise; the audit log is one unbroken chain.
class Checker {
 public:
  void on_trained(const ContentId& content, Codec codec, ByteSpan wire, std::uint64_t samples);
  void on_accepted_receipt(const TaskId& task) { accepted_.insert(task); }
  /// @param store before `batch`.
  void on_commit(const Store& store, const BlobStore& blobs, const WriteBatch& batch);
  /// When the world has healed and come to rest.
  void at_the_end(const Store& store);

  [[nodiscard]] const std::vector<std::string>& violations() const { return violations_; }
  [[nodiscard]] std::size_t versions() const { return checked_versions_.size(); }
  [[nodiscard]] std::size_t accepted() const { return accepted_.size(); }

 private:
  struct Trained {
    std::vector<float> delta;
    std::uint64_t samples = 0;
  };

  void violate(std::string what) { violations_.push_back(std::move(what)); }
  void check_version(const Store& store, const BlobStore& blobs, ByteSpan value);
  void check_master(const coordinator::VersionRecord& version, const std::vector<float>& parent,
                    const std::vector<float>& master);
  void check_weights(const Store& store, const BlobStore& blobs, const coordinator::VersionRecord& version,
                     std::vector<float> master);
  std::map<TaskId, std::string> verdicts(const Store& store) const;

  std::map<ContentId, Trained> trained_;
  std::set<TaskId> accepted_;
  std::map<TaskId, VersionNumber> used_;
  std::map<VersionNumber, ContentId> checked_versions_;
  std::vector<std::string> violations_;
};

}  // namespace rivulet::sim
