#include "bench/fleet/shared_delta.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "protocol/assert.h"
#include "protocol/codec/codec.h"

namespace rivulet::bench {

Result<SharedDelta> SharedDelta::make(std::size_t entries, double norm) {
  if (entries < 4) return fail(Errc::invalid, "a delta needs at least 4 entries to be marked");
  // Uniform in [-a, a] has the variance a * a / 3.
  const double largest = norm * std::sqrt(3.0 / static_cast<double>(entries));
  Rng rng(1);
  std::vector<float> delta(entries);
  for (float& x : delta) x = static_cast<float>(largest * (2 * uniform_unit(rng) - 1));
  auto wire = encode(Codec::int8, delta, rng);
  if (!wire) return std::unexpected(wire.error());
  // The first entries of the first block, behind its scale.
  const std::size_t mark_offset = static_cast<std::size_t>(head_bytes(entries)) + sizeof(float);
  RIVULET_ASSERT(mark_offset + sizeof(Mark::bytes) <= std::min<std::uint64_t>(chunk_bytes, wire->size()));
  return SharedDelta(std::move(*wire), mark_offset);
}

SharedDelta::Mark SharedDelta::mark(std::uint32_t node) const {
  Mark mark;
  // Seven bits an entry, around 0: the codec knows no -128.
  for (std::size_t i = 0; i < mark.bytes.size(); ++i) {
    const auto digit = static_cast<std::int8_t>(static_cast<int>((node >> (7 * i)) & 0x7F) - 63);
    mark.bytes[i] = static_cast<std::byte>(digit);
  }
  mark.list = list_;
  const auto first = static_cast<std::size_t>(std::min<std::uint64_t>(chunk_bytes, wire_.size()));
  mark.list.chunks[0] = sha256(read(mark, 0, first));
  return mark;
}

Bytes SharedDelta::read(const Mark& mark, std::uint64_t offset, std::size_t size) const {
  const auto begin = static_cast<std::size_t>(std::min<std::uint64_t>(offset, wire_.size()));
  const std::size_t end = begin + std::min(size, wire_.size() - begin);
  Bytes bytes(wire_.begin() + static_cast<std::ptrdiff_t>(begin),
              wire_.begin() + static_cast<std::ptrdiff_t>(end));
  for (std::size_t i = 0; i < mark.bytes.size(); ++i) {
    const std::size_t at = mark_offset_ + i;
    if (at >= begin && at < end) bytes[at - begin] = mark.bytes[i];
  }
  return bytes;
}

}  // namespace rivulet::bench
