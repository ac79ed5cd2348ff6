#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/core/effects.h"
#include "coordinator/core/events.h"
#include "models/package/release.h"
#include "models/package/version.h"

namespace rivulet::coordinator {

/// A signed release, as imported.
struct ReleaseRecord {
  ReleaseId id;
  Envelope envelope;
  ContentId content;  ///< The envelope as a blob.
  UtcTime imported;
  bool has_holdout = false;
  bool has_test = false;
  Digest holdout_hash{};  ///< Of the samples; zero if there are none.
  Digest test_hash{};
  Release release;  ///< Decoded from the envelope.
};

/// One update in a version, and what it weighed.
struct Contribution {
  TaskId task;
  PublicKey node;
  ContentId content;
  std::uint64_t sample_count = 0;
  double weight = 0;
  double scale = 1;

  bool operator==(const Contribution&) const = default;
};

/// A published version with its lineage.
struct VersionRecord {
  VersionManifest manifest;  ///< Decoded from the envelope.
  Envelope envelope;
  ContentId master;
  ContentId optimizer_state;  ///< Zero if there is none.
  std::optional<Metrics> metrics;
  std::vector<Contribution> updates;  ///< Only in the store; not kept in memory.
  bool blobs_kept = true;             ///< Not stored: it follows from how many newer versions there are.
  std::uint64_t steps =
      0;  ///< From its release's w_0, a published round each. Not stored: the parents say it.
};

/// A first version that waits for its signature.
struct PendingImport {
  RequestId request = 0;
  ReleaseRecord release;
  VersionManifest manifest;
  ContentId master;
  ContentId optimizer_state;
};

/// Every release and version, and what nodes are to serve.
struct Registry {
  std::map<ReleaseId, ReleaseRecord> releases;
  std::map<VersionNumber, VersionRecord> versions;
  std::optional<ReleaseId> active;     ///< Imported last: rounds train it.
  VersionNumber head = 0;              ///< The version that rounds train from; 0: none.
  VersionNumber assigned = 0;          ///< The policy "all": every node serves it; 0: none.
  std::uint64_t manifest_version = 0;  ///< Of the newest published manifest.
  std::optional<PendingImport> pending;

  [[nodiscard]] const VersionRecord* find(VersionNumber version) const;
  [[nodiscard]] const ReleaseRecord* active_release() const;
};

/// What this node should serve; 0 is none. The one thing nodes obey.
VersionNumber assignment(const Registry& registry, const PublicKey& node);

/// How many published rounds a version with this parent is away from its release's w_0. @param parent there,
/// or 0: it is w_0.
std::uint64_t steps_after(const Registry& registry, VersionNumber parent);

/// The manifest to sign next, without variants. @param parent 0 for a release's first version.
struct ManifestParts {
  RoundNumber round = 0;
  VersionNumber parent = 0;
  ContentId snapshot;
  std::uint64_t snapshot_bytes = 0;
  Digest weights_hash;
};
VersionManifest next_manifest(const Registry& registry, const ReleaseRecord& release,
                              const ManifestParts& parts, const Digest& audit_head, UtcTime utc);

/// Forgets the blobs of versions with `kept` newer ones, except of the head, the assigned one, its
/// fallback and every release's first. @return the contents that were named by those forgotten now.
std::vector<ContentId> drop_old_versions(Registry& registry, std::uint32_t kept);

/// The contents that a version names; zero where it has none.
std::vector<ContentId> contents_of(const VersionRecord& version);
/// Visits all contents that releases, kept versions and a pending import name; some twice.
void visit_contents(const Registry& registry, const std::function<void(const ContentId&)>& visit);

}  // namespace rivulet::coordinator
