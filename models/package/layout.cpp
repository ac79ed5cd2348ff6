#include "models/package/layout.h"

#include <spdlog/fmt/fmt.h>

#include <set>
#include <string_view>

namespace rivulet {

std::size_t TensorSpec::size() const {
  std::size_t entries = 1;
  for (const std::int64_t dimension : shape) entries *= static_cast<std::size_t>(dimension);
  return entries;
}

std::size_t ParameterLayout::size() const {
  std::size_t entries = 0;
  for (const TensorSpec& tensor : tensors) entries += tensor.size();
  return entries;
}

std::vector<CoordinateRange> ranges_of(const ParameterLayout& layout, TensorKind kind) {
  std::vector<CoordinateRange> ranges;
  std::size_t at = 0;
  for (const TensorSpec& tensor : layout.tensors) {
    const std::size_t end = at + tensor.size();
    if (tensor.kind == kind && end > at) {
      if (!ranges.empty() && ranges.back().end == at) {
        ranges.back().end = end;
      } else {
        ranges.push_back({at, end});
      }
    }
    at = end;
  }
  return ranges;
}

std::vector<CoordinateRange> variance_ranges(const ParameterLayout& layout) {
  std::vector<CoordinateRange> ranges;
  std::size_t at = 0;
  for (const TensorSpec& tensor : layout.tensors) {
    const std::size_t end = at + tensor.size();
    if (tensor.kind == TensorKind::statistic && tensor.name.ends_with("running_var") && end > at)
      ranges.push_back({at, end});
    at = end;
  }
  return ranges;
}

Status check(const ParameterLayout& layout) {
  if (layout.tensors.empty()) return fail(Errc::invalid, "the layout has no tensor");
  if (layout.tensors.size() > tensors_max) {
    return fail(Errc::invalid,
                fmt::format("the layout has {} tensors; {} are allowed", layout.tensors.size(), tensors_max));
  }
  std::set<std::string_view> names;
  std::uint64_t total = 0;
  for (const TensorSpec& tensor : layout.tensors) {
    if (tensor.name.empty() || !names.insert(tensor.name).second) {
      return fail(Errc::invalid,
                  fmt::format("the layout names the tensor '{}' twice, or leaves it empty", tensor.name));
    }
    if (tensor.shape.size() > dimensions_max) {
      return fail(Errc::invalid, fmt::format("tensor '{}' has {} dimensions; {} are allowed", tensor.name,
                                             tensor.shape.size(), dimensions_max));
    }
    std::uint64_t entries = 1;
    for (const std::int64_t dimension : tensor.shape) {
      if (dimension < 1) {
        return fail(Errc::invalid, fmt::format("tensor '{}' has a dimension of {}", tensor.name, dimension));
      }
      if (static_cast<std::uint64_t>(dimension) > layout_entries_max / entries) {
        return fail(Errc::invalid,
                    fmt::format("tensor '{}' has more than {} entries", tensor.name, layout_entries_max));
      }
      entries *= static_cast<std::uint64_t>(dimension);
    }
    total += entries;
    if (total > layout_entries_max) {
      return fail(Errc::invalid, fmt::format("the layout has more than {} entries", layout_entries_max));
    }
  }
  return {};
}

}  // namespace rivulet
