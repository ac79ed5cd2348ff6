#include "node/daemon/profile.h"

#include <algorithm>

#include "models/runtime/profile/measure.h"
#include "models/runtime/runtime.h"
#include "node/daemon/api_client.h"
#include "node/daemon/folder.h"
#include "node/work/tasks.h"

namespace rivulet::node {

Result<ProfileReport> profile_folder(const std::filesystem::path& path) {
  const auto daemon = ApiClient::find(path);
  if (!daemon) return std::unexpected(daemon.error());
  if (*daemon) {
    return fail(Errc::busy, path.string() + ": its daemon runs, and would be measured too: stop it first");
  }
  const auto folder = open_node_folder(path, OnFullDisk::use_ballast);
  if (!folder) return std::unexpected(folder.error());
  const auto state = recover_agent(**folder);
  if (!state) return std::unexpected(state.error());
  const auto& active = state->serving.active;
  if (!active) return fail(Errc::busy, path.string() + " has no model yet: run the daemon until it has one");
  const VersionManifest& manifest = active->manifest;
  const auto release = load_release(*(*folder)->blobs, manifest.release_content);
  if (!release) return std::unexpected(release.error());
  const auto weights =
      load_weights(*(*folder)->blobs, *release, manifest.form, manifest.snapshot, manifest.weights_hash);
  if (!weights) return std::unexpected(weights.error());
  std::vector<OfferedVariant> offered;
  for (const VariantInfo& variant : manifest.variants) {
    offered.push_back({variant.name, variant.int8_kernels || variant.own_ranges, {}});
    if (variant.int8_kernels) offered.back().ranges = variant.int8_kernels->ranges;
  }
  use_one_thread();
  auto engines = profile_engines(*release, *weights, offered, {}, steady_stopwatch());
  if (!engines) return std::unexpected(engines.error());
  return ProfileReport{release->name, manifest.version, processor_name(), std::move(*engines)};
}

}  // namespace rivulet::node
