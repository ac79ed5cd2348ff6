#include "models/package/known_inputs.h"

#include <algorithm>

namespace rivulet {
namespace {

/// For the rest of a manifest, most of which is a pair of numbers for each activation in int8.
constexpr std::size_t other_bytes = 8 * 1024;

}  // namespace

std::size_t known_inputs_max(const Release& release) {
  const auto lists = release.recipes.size() +
                     static_cast<std::size_t>(std::ranges::count(release.recipes, std::string("int8")));
  // An anomaly model answers how far it is off.
  const std::size_t values =
      release.task == TaskKind::anomaly ? 1 : static_cast<std::size_t>(release.architecture.outputs);
  return (manifest_bytes_max - other_bytes) /
         (sizeof(float) * std::max<std::size_t>(lists, 1) * std::max<std::size_t>(values, 1));
}

}  // namespace rivulet
