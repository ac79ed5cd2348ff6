#include "node/core/judging.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "models/package/release.h"
#include "protocol/assert.h"

namespace rivulet::node {
namespace {

Status check_fetchable(const State& state, std::uint64_t bytes, std::string_view what) {
  if (bytes <= state.config.model_bytes_max) return {};
  return fail(Errc::too_large,
              fmt::format("{} has {} bytes, more than model.weights_bytes_max = {} in node.toml allows", what,
                          bytes, state.config.model_bytes_max));
}

const VariantInfo* find_variant(const VersionManifest& manifest, std::string_view name) {
  for (const VariantInfo& variant : manifest.variants) {
    if (variant.name == name) return &variant;
  }
  return nullptr;
}

template <typename Manifest, typename Decode>
Result<Manifest> open_manifest(const State& state, Context context, const Envelope& envelope, Decode decode) {
  if (!state.trust.document) return fail(Errc::refused, "no trust document names a coordinator yet");
  if (auto status = verify_envelope(state.trust.document->coordinator, context, envelope); !status) {
    return std::unexpected(status.error());
  }
  Result<Manifest> manifest = decode(envelope.payload);
  if (manifest && manifest->fleet != state.trust.document->fleet) {
    return fail(Errc::refused, "the manifest is of another fleet");
  }
  return manifest;
}

}  // namespace

Result<VersionManifest> open_version(const State& state, const Envelope& envelope) {
  return open_manifest<VersionManifest>(state, Context::version, envelope, decode_version);
}

Result<CandidateManifest> open_candidate(const State& state, const Envelope& envelope) {
  return open_manifest<CandidateManifest>(state, Context::candidate, envelope, decode_candidate);
}

Status check_manifest(const State& state, const VersionManifest& manifest) {
  if (manifest.epoch < state.serving.epoch_floor) {
    return fail(Errc::refused, fmt::format("the manifest is of epoch {}; releases demand {} at least",
                                           manifest.epoch, state.serving.epoch_floor));
  }
  return check_fetchable(state, manifest.snapshot_bytes, "the snapshot");
}

Status check_candidate(const State& state, const CandidateManifest& candidate, const VersionManifest& parent,
                       RoundNumber round) {
  if (candidate.round != round) {
    return fail(Errc::refused,
                fmt::format("the candidate is of round {}, the task of round {}", candidate.round, round));
  }
  if (candidate.parent != parent.version || candidate.parent_weights_hash != parent.weights_hash) {
    return fail(Errc::refused,
                fmt::format("the candidate's parent is not version {} as given", parent.version));
  }
  if (candidate.release != parent.release || candidate.release_content != parent.release_content) {
    return fail(Errc::refused, "the candidate is of another release than its parent");
  }
  return check_fetchable(state, candidate.snapshot_bytes, "the candidate's snapshot");
}

Result<KnownRelease> open_release(const State& state, const ReleaseId& expected, const ContentId& content,
                                  ByteSpan bytes) {
  const auto envelope = decode_envelope(bytes);
  if (!envelope) return std::unexpected(envelope.error());
  if (release_id(envelope->payload) != expected) {
    return fail(Errc::refused, "the release's content is not the release that the manifest names");
  }
  if (!state.trust.document) return fail(Errc::refused, "no trust document names release keys yet");
  const auto& keys = state.trust.document->release_keys;
  const auto signer = std::find_if(keys.begin(), keys.end(), [&](const PublicKey& key) {
    return verify_envelope(key, Context::release, *envelope).has_value();
  });
  if (signer == keys.end()) {
    return fail(Errc::refused, fmt::format("release {} is signed by none of the fleet's release keys",
                                           expected.hex().substr(0, 12)));
  }
  const auto release = decode_release(envelope->payload);
  if (!release) return std::unexpected(release.error());
  if (release->fleet != state.trust.document->fleet)
    return fail(Errc::refused, "the release is of another fleet");
  const auto size_of = [&](SnapshotForm form) -> std::uint64_t {
    return snapshot_size(form, release->layout);
  };
  return KnownRelease{.content = content,
                      .signer = *signer,
                      .expires = release->limits.expires,
                      .epoch = release->epoch,
                      .recipes = release->recipes,
                      .initial_weights = release->initial_weights,
                      .fp32_bytes = size_of(SnapshotForm::fp32),
                      .int8_bytes = size_of(SnapshotForm::int8),
                      .sparse_extra_bytes = size_of(SnapshotForm::sparse_fp32) - size_of(SnapshotForm::fp32)};
}

const KnownRelease* known_release(const State& state, const ReleaseId& release, const ContentId& content) {
  const auto found = state.releases.find(release);
  return found == state.releases.end() || found->second.content != content ? nullptr : &found->second;
}

Status check_size(const State& state, const KnownRelease& release, SnapshotForm form, std::uint64_t bytes) {
  const bool fp32 = dense_form(form) == SnapshotForm::fp32;
  const std::uint64_t most =
      (fp32 ? release.fp32_bytes : release.int8_bytes) + (is_sparse(form) ? release.sparse_extra_bytes : 0);
  if (is_sparse(form) ? bytes > most : bytes != most) {
    return fail(Errc::refused,
                fmt::format("a snapshot in form {} has {} bytes by its manifest and {}{} by its release",
                            name(form), bytes, is_sparse(form) ? "at most " : "", most));
  }
  return check_fetchable(state, release.fp32_bytes, "the release's w_0");
}

Status check_allowed(const State& state, const KnownRelease& release, const VersionManifest& manifest,
                     UtcTime utc) {
  const auto& keys = state.trust.document->release_keys;
  if (std::find(keys.begin(), keys.end(), release.signer) == keys.end()) {
    return fail(Errc::refused, "the key that signed the release is no release key of the fleet any more");
  }
  if (release.expires <= utc) {
    return fail(Errc::refused, fmt::format("the release expired at {}: import the model again",
                                           to_rfc3339(release.expires)));
  }
  if (manifest.epoch < release.epoch) {
    return fail(Errc::refused,
                fmt::format("the manifest is of epoch {}, its release of {}", manifest.epoch, release.epoch));
  }
  if (auto status = check_manifest(state, manifest); !status) return status;
  return check_size(state, release, manifest.form, manifest.snapshot_bytes);
}

Result<std::string> choose_variant(const State& state, const KnownRelease& release,
                                   const VersionManifest& manifest) {
  for (const VariantInfo& variant : manifest.variants) {
    if (std::find(release.recipes.begin(), release.recipes.end(), variant.name) == release.recipes.end()) {
      return fail(Errc::refused, fmt::format("the release allows no variant '{}'", variant.name));
    }
    // A manifest that is wrong about one variant is believed about none.
    const SnapshotForm form = variant_form(variant.name, manifest.form);
    if (auto status = check_size(state, release, form, variant.bytes); !status)
      return std::unexpected(status.error());
  }
  const VariantInfo* chosen = nullptr;
  const DeviceLimits& device = state.config.device;
  const WeightBytes weights{release.fp32_bytes, release.int8_bytes};
  const auto none_fits = [&] {
    return fail(Errc::too_large,
                fmt::format("no variant of version {} that may be served fits into model.memory_max = {} of "
                            "node.toml",
                            manifest.version, device.memory_max));
  };
  if (state.config.variant == "auto" && !manifest.variants.empty()) {
    const auto best = best_variant(manifest.variants, weights, device);
    if (!best) return none_fits();
    chosen = &manifest.variants[*best];
  }
  if (chosen == nullptr) chosen = find_variant(manifest, state.config.variant);
  if (chosen == nullptr) chosen = find_variant(manifest, "fp32");
  if (chosen == nullptr) {
    return fail(Errc::refused, fmt::format("version {} offers neither variant '{}' nor 'fp32'",
                                           manifest.version, state.config.variant));
  }
  if (device.memory_max > 0 && memory_of(*chosen, weights, device.has_int8) > device.memory_max)
    return none_fits();
  return chosen->name;
}

}  // namespace rivulet::node
