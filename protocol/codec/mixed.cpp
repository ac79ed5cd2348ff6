#include "protocol/codec/mixed.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>

#include "protocol/assert.h"

namespace rivulet {
namespace {

std::size_t count_of(std::span<const CoordinateRange> ranges) {
  std::size_t count = 0;
  for (const auto [begin, end] : ranges) count += end - begin;
  return count;
}

class MixedSource final : public SegmentSource {
 public:
  MixedSource(std::unique_ptr<SegmentSource> coded, std::vector<CoordinateRange> exact,
              std::vector<float> values)
      : coded_(std::move(coded)), exact_(std::move(exact)), values_(std::move(values)) {
    std::size_t first = 0;
    for (const auto [begin, end] : exact_) {
      first_.push_back(first);
      first += end - begin;
    }
  }

  [[nodiscard]] std::size_t entries() const override { return coded_->entries(); }

  Status read(std::size_t index, std::span<float> out, Bytes& scratch) const override {
    if (Status status = coded_->read(index, out, scratch); !status) return status;
    const std::size_t base = index * segment_entries;
    auto range = std::ranges::upper_bound(exact_, base, {}, &CoordinateRange::end);
    for (; range != exact_.end() && range->begin < base + out.size(); ++range) {
      const std::size_t begin = std::max(range->begin, base);
      const std::size_t end = std::min(range->end, base + out.size());
      const std::size_t from =
          first_[static_cast<std::size_t>(range - exact_.begin())] + begin - range->begin;
      std::copy_n(values_.begin() + static_cast<std::ptrdiff_t>(from), end - begin,
                  out.begin() + static_cast<std::ptrdiff_t>(begin - base));
    }
    return {};
  }

 private:
  std::unique_ptr<SegmentSource> coded_;
  std::vector<CoordinateRange> exact_;
  std::vector<float> values_;       // Of all ranges, one after the other,
  std::vector<std::size_t> first_;  // beginning here for each.
};

}  // namespace

Result<Bytes> encode_mixed(Codec codec, std::span<const float> delta, std::span<const CoordinateRange> exact,
                           Rng& rng) {
  RIVULET_ASSERT(are_ordered(exact, delta.size()));
  if (exact.empty()) return encode(codec, delta, rng);
  std::vector<float> rest(delta.begin(), delta.end());
  Bytes tail;
  for (const auto [begin, end] : exact) {
    for (std::size_t i = begin; i < end; ++i) {
      if (!std::isfinite(delta[i]))
        return fail(Errc::invalid, fmt::format("entry {} of the delta is not finite", i), Reason::not_finite);
      append_le(tail, delta[i]);
      rest[i] = 0.0F;
    }
  }
  auto wire = encode(codec, rest, rng);
  if (wire) wire->insert(wire->end(), tail.begin(), tail.end());
  return wire;
}

std::uint64_t mixed_bytes(Codec codec, std::size_t entries, std::span<const CoordinateRange> exact) {
  return encoded_bytes(codec, entries) + sizeof(float) * std::uint64_t{count_of(exact)};
}

Result<std::unique_ptr<SegmentSource>> open_mixed(Codec codec, ReadBytes read_bytes, std::uint64_t wire_bytes,
                                                  std::size_t entries, std::vector<CoordinateRange> exact) {
  RIVULET_ASSERT(are_ordered(exact, entries));
  const std::uint64_t tail_bytes = sizeof(float) * std::uint64_t{count_of(exact)};
  if (wire_bytes < tail_bytes) {
    return fail(Errc::corrupt,
                fmt::format("the delta has {} bytes; its float32 part alone has {}", wire_bytes, tail_bytes),
                Reason::wrong_layout);
  }
  const std::uint64_t coded_bytes = wire_bytes - tail_bytes;
  auto coded = open_segments(codec, read_bytes, coded_bytes, entries);
  if (!coded || exact.empty()) return coded;
  Bytes tail(static_cast<std::size_t>(tail_bytes));
  if (Status status = read_bytes(coded_bytes, tail); !status) return std::unexpected(status.error());
  std::vector<float> values;
  for (std::size_t at = 0; at < tail.size(); at += sizeof(float)) {
    values.push_back(load_le<float>(ByteSpan(tail).subspan(at)));
    if (!std::isfinite(values.back())) {
      return fail(Errc::corrupt,
                  fmt::format("entry {} of the delta's float32 part is not finite", values.size() - 1),
                  Reason::not_finite);
    }
  }
  return std::make_unique<MixedSource>(std::move(*coded), std::move(exact), std::move(values));
}

}  // namespace rivulet
