#pragma once

#include <string>

#include "node/core/state.h"
#include "protocol/envelope.h"
#include "protocol/result.h"

/// What a node believes of releases and manifests. Each refusal says in words what was wrong.
namespace rivulet::node {

/// A manifest of this fleet, signed by its coordinator as one of a version. @return refused, corrupt.
Result<VersionManifest> open_version(const State& state, const Envelope& envelope);
/// Not to be confused with a version: nothing that takes one of the two takes the other.
Result<CandidateManifest> open_candidate(const State& state, const Envelope& envelope);

/// What can be said of a manifest before its release is known: epoch and size.
Status check_manifest(const State& state, const VersionManifest& manifest);
/// The candidate is this round's, of the parent's release, and of a size that is fetched.
Status check_candidate(const State& state, const CandidateManifest& candidate, const VersionManifest& parent,
                       RoundNumber round);

/// A signed release as it came.
/// @return refused unless it is the one that is `expected`, by one of the fleet's release keys.
Result<KnownRelease> open_release(const State& state, const ReleaseId& expected, const ContentId& content,
                                  ByteSpan bytes);

/// The release that a manifest names, if it was verified in the very bytes that the manifest names.
const KnownRelease* known_release(const State& state, const ReleaseId& release, const ContentId& content);

/// Whether `release` allows this manifest: signer still trusted, not expired, epoch, exact sizes.
Status check_allowed(const State& state, const KnownRelease& release, const VersionManifest& manifest,
                     UtcTime utc);
Status check_size(const State& state, const KnownRelease& release, SnapshotForm form, std::uint64_t bytes);

/// The variant that this node serves: the best that fits it (see best_variant), or the configured one if it
/// is offered, else "fp32".
/// @return refused if there is none, or if it is not what the release allows; too_large if none fits.
Result<std::string> choose_variant(const State& state, const KnownRelease& release,
                                   const VersionManifest& manifest);

}  // namespace rivulet::node
