#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "coordinator/aggregation/aggregation_rule.h"
#include "protocol/assert.h"

namespace rivulet {
namespace {

Status check(std::span<const SealedUpdate> updates, std::size_t entries) {
  for (const SealedUpdate& update : updates) {
    RIVULET_ASSERT(update.delta != nullptr);
    const auto refuse = [&](Errc code, const std::string& why) {
      return fail(code, fmt::format("update {}: {}", update.id.hex(), why));
    };
    const auto weight = static_cast<float>(update.weight);
    if (!(weight > 0.0F && std::isfinite(weight))) {
      return refuse(Errc::invalid, fmt::format("its weight {} is not a positive float32", update.weight));
    }
    if (!(update.scale >= 0.0 && update.scale <= 1.0)) {
      return refuse(Errc::invalid, fmt::format("its scale {} is not in [0, 1]", update.scale));
    }
    if (update.delta->entries() != entries) {
      return refuse(Errc::invalid,
                    fmt::format("it has {} entries, the model {}", update.delta->entries(), entries));
    }
    if (&update != updates.data() && (&update)[-1].id == update.id) {
      return refuse(Errc::conflict, "it is in the sealed set twice");
    }
  }
  return {};
}

}  // namespace

Result<std::vector<float>> aggregate_in_parallel(const AggregationRule& rule,
                                                 std::vector<SealedUpdate> updates, std::size_t entries,
                                                 std::size_t threads) {
  RIVULET_ASSERT(threads > 0);
  std::ranges::sort(updates, {}, &SealedUpdate::id);
  const Status sound = check(updates, entries);
  if (!sound) return std::unexpected(sound.error());
  if (updates.size() < rule.minimum_updates()) {
    return fail(Errc::refused,
                fmt::format("{} updates, but this rule needs {}", updates.size(), rule.minimum_updates()));
  }

  std::vector<float> out(entries);
  const std::size_t segments = segment_count(entries);
  const std::size_t parts = std::clamp<std::size_t>(segments, 1, threads);
  std::vector<Status> done(parts);
  const auto aggregate_part = [&](std::size_t part) {
    const CoordinateRange range{std::min(entries, segments * part / parts * segment_entries),
                                std::min(entries, segments * (part + 1) / parts * segment_entries)};
    done[part] = rule.aggregate(updates, range, std::span(out).subspan(range.begin, range.end - range.begin));
  };
  {
    std::vector<std::jthread> workers;
    for (std::size_t part = 1; part < parts; ++part) workers.emplace_back(aggregate_part, part);
    aggregate_part(0);
  }
  for (const Status& part : done) {
    if (!part) return std::unexpected(part.error());  // the lowest range's: no race decides which
  }
  return out;
}

}  // namespace rivulet
