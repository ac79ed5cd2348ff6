#include "coordinator/work/served_content.h"

#include <algorithm>

namespace rivulet::coordinator {

bool may_serve(const State& state, const ContentId& content) {
  for (const auto& [id, release] : state.registry.releases) {
    if (release.content == content || release.release.initial_weights == content) return true;
  }
  for (const auto& [number, version] : state.registry.versions) {
    const auto& variants = version.manifest.variants;
    const auto is_it = [&](const VariantInfo& variant) { return variant.content == content; };
    if (version.manifest.snapshot == content || std::any_of(variants.begin(), variants.end(), is_it))
      return true;
  }
  const auto* gating = std::get_if<Gating>(&state.round.phase);
  return gating != nullptr && gating->candidate.snapshot == content;
}

}  // namespace rivulet::coordinator
