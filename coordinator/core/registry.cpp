#include "coordinator/core/registry.h"

#include "protocol/assert.h"

namespace rivulet::coordinator {

const VersionRecord* Registry::find(VersionNumber version) const {
  const auto at = versions.find(version);
  return at == versions.end() ? nullptr : &at->second;
}

const ReleaseRecord* Registry::active_release() const {
  if (!active) return nullptr;
  const auto at = releases.find(*active);
  return at == releases.end() ? nullptr : &at->second;
}

VersionNumber assignment(const Registry& registry, const PublicKey&) { return registry.assigned; }

std::uint64_t steps_after(const Registry& registry, VersionNumber parent) {
  if (parent == 0) return 0;
  const VersionRecord* version = registry.find(parent);
  RIVULET_ASSERT(version != nullptr);
  return version->steps + 1;
}

VersionManifest next_manifest(const Registry& registry, const ReleaseRecord& release,
                              const ManifestParts& parts, const Digest& audit_head, UtcTime utc) {
  VersionManifest manifest;
  manifest.fleet = release.release.fleet;
  manifest.manifest_version = registry.manifest_version + 1;
  manifest.version = registry.versions.empty() ? 1 : registry.versions.rbegin()->first + 1;
  manifest.release = release.id;
  manifest.release_content = release.content;
  manifest.parent = parts.parent;
  manifest.round = parts.round;
  manifest.created = utc;
  manifest.form = release.release.snapshot;
  manifest.snapshot = parts.snapshot;
  manifest.snapshot_bytes = parts.snapshot_bytes;
  manifest.weights_hash = parts.weights_hash;
  if (parts.parent != 0) {
    const VersionRecord* parent = registry.find(parts.parent);
    RIVULET_ASSERT(parent != nullptr);
    manifest.fallback = VersionManifest::Fallback{parts.parent, parent->manifest.weights_hash};
  }
  manifest.epoch = release.release.epoch;
  manifest.audit_head = audit_head;
  return manifest;
}

std::vector<ContentId> drop_old_versions(Registry& registry, std::uint32_t kept) {
  const VersionRecord* assigned = registry.find(registry.assigned);
  const VersionNumber fallback =
      assigned != nullptr && assigned->manifest.fallback ? assigned->manifest.fallback->version : 0;
  std::vector<ContentId> dropped;
  std::size_t left = registry.versions.size();
  for (auto& [number, version] : registry.versions) {
    if (left-- <= kept) break;
    const bool needed = version.manifest.parent == 0 || number == fallback || number == registry.head ||
                        number == registry.assigned;
    if (needed || !version.blobs_kept) continue;
    for (const ContentId& content : contents_of(version)) dropped.push_back(content);
    version.blobs_kept = false;
    version.envelope = {};
    for (VariantInfo& variant : version.manifest.variants) variant.known_outputs = {};
  }
  return dropped;
}

std::vector<ContentId> contents_of(const VersionRecord& version) {
  std::vector<ContentId> contents{version.manifest.snapshot, version.master, version.optimizer_state};
  for (const VariantInfo& variant : version.manifest.variants) contents.push_back(variant.content);
  return contents;
}

void visit_contents(const Registry& registry, const std::function<void(const ContentId&)>& visit) {
  for (const auto& [id, release] : registry.releases) {
    visit(release.content);
    visit(release.release.initial_weights);
  }
  for (const auto& [number, version] : registry.versions) {
    if (!version.blobs_kept) continue;
    for (const ContentId& content : contents_of(version)) visit(content);
  }
  if (registry.pending) {
    const PendingImport& pending = *registry.pending;
    for (const ContentId& content : {pending.release.content, pending.release.release.initial_weights,
                                     pending.manifest.snapshot, pending.master, pending.optimizer_state}) {
      visit(content);
    }
  }
}

}  // namespace rivulet::coordinator
