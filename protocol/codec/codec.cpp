#include "protocol/codec/codec.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>

#include "protocol/assert.h"
#include "protocol/codec/segment_codec.h"

namespace rivulet {
namespace {

Status decode_bytes(Codec codec, std::size_t index, ByteSpan wire, std::span<float> out) {
  Status decoded =
      codec == Codec::fp32 ? segment_codec::decode_fp32(wire, out) : segment_codec::decode_int8(wire, out);
  if (!decoded) return fail_at(fmt::format("{} delta, segment {}", name(codec), index), decoded.error());
  return {};
}

class SegmentReader final : public SegmentSource {
 public:
  SegmentReader(SegmentTable table, ReadBytes read_bytes)
      : table_(std::move(table)), read_bytes_(std::move(read_bytes)) {}

  [[nodiscard]] std::size_t entries() const override { return table_.entries(); }

  Status read(std::size_t index, std::span<float> out, Bytes& scratch) const override {
    RIVULET_ASSERT(index < table_.segments() && out.size() == entries_in_segment(entries(), index));
    const std::size_t bytes = table_.bytes(index);
    if (scratch.size() < bytes) scratch.resize(bytes);
    const std::span<std::byte> wire = std::span(scratch).first(bytes);
    Status got = read_bytes_(table_.offset(index), wire);
    if (!got) return got;
    return decode_bytes(table_.codec(), index, wire, out);
  }

 private:
  SegmentTable table_;
  ReadBytes read_bytes_;
};

}  // namespace

Result<Codec> parse_codec(std::string_view text) {
  for (const Codec codec : {Codec::fp32, Codec::int8}) {
    if (text == name(codec)) return codec;
  }
  return fail(Errc::invalid, fmt::format("unknown codec '{}'; use fp32 or int8", text));
}

Result<Codec> codec_from_number(std::uint16_t number) {
  for (const Codec codec : {Codec::fp32, Codec::int8}) {
    if (number == static_cast<std::uint16_t>(codec)) return codec;
  }
  return fail(Errc::unsupported, fmt::format("unknown codec number {}", number));
}

Result<Bytes> encode(Codec codec, std::span<const float> delta, Rng& rng) {
  const auto bad = std::ranges::find_if_not(delta, [](float x) { return std::isfinite(x); });
  if (bad != delta.end()) {
    return fail(Errc::invalid, fmt::format("entry {} of the delta is not finite", bad - delta.begin()));
  }
  Bytes wire;
  wire.reserve(static_cast<std::size_t>(encoded_bytes(codec, delta.size())));
  append_le(wire, std::uint64_t{delta.size()});
  const std::size_t segments = segment_count(delta.size());
  for (std::size_t i = 0; i < segments; ++i) {
    append_le(wire, static_cast<std::uint32_t>(segment_bytes(codec, entries_in_segment(delta.size(), i))));
  }
  for (std::size_t i = 0; i < segments; ++i) {
    const auto segment = delta.subspan(i * segment_entries, entries_in_segment(delta.size(), i));
    if (codec == Codec::fp32) {
      segment_codec::encode_fp32(segment, wire);
    } else {
      segment_codec::encode_int8(segment, rng, wire);
    }
  }
  return wire;
}

Result<SegmentTable> SegmentTable::parse(Codec codec, ByteSpan head, std::uint64_t wire_bytes,
                                         std::size_t expected_entries) {
  const std::uint64_t head_size = head_bytes(expected_entries);
  if (wire_bytes < head_size || head.size() < head_size) {
    return fail(Errc::corrupt, fmt::format("a delta of {} bytes is too short to hold {} entries", wire_bytes,
                                           expected_entries));
  }
  const auto entries = load_le<std::uint64_t>(head);
  if (entries != expected_entries) {
    return fail(Errc::corrupt,
                fmt::format("the delta has {} entries, the model {}", entries, expected_entries),
                Reason::wrong_layout);
  }
  std::uint64_t end = head_size;
  const std::size_t segments = segment_count(expected_entries);
  for (std::size_t i = 0; i < segments; ++i) {
    const auto length = load_le<std::uint32_t>(head, sizeof entries + i * sizeof(std::uint32_t));
    const std::uint64_t right = segment_bytes(codec, entries_in_segment(expected_entries, i));
    if (length != right) {
      return fail(Errc::corrupt,
                  fmt::format("segment {} has {} bytes where {} takes {}", i, length, name(codec), right));
    }
    end += length;
  }
  if (end != wire_bytes) {
    return fail(Errc::corrupt,
                fmt::format("a delta of {} bytes where its segments end at {}", wire_bytes, end));
  }
  SegmentTable table;
  table.codec_ = codec;
  table.entries_ = expected_entries;
  table.offsets_.reserve(segments + 1);
  table.offsets_.push_back(head_size);
  for (std::size_t i = 0; i < segments; ++i) {
    table.offsets_.push_back(table.offsets_.back() +
                             segment_bytes(codec, entries_in_segment(expected_entries, i)));
  }
  return table;
}

Result<EncodedDelta> EncodedDelta::parse(Codec codec, ByteSpan wire, std::size_t expected_entries) {
  auto table = SegmentTable::parse(codec, wire, wire.size(), expected_entries);
  if (!table) return std::unexpected(table.error());
  return EncodedDelta(*std::move(table), wire);
}

Status EncodedDelta::decode_segment(std::size_t index, std::span<float> out) const {
  RIVULET_ASSERT(index < segments() && out.size() == entries_in_segment(entries(), index));
  const auto offset = static_cast<std::size_t>(table_.offset(index));
  return decode_bytes(codec(), index, wire_.subspan(offset, table_.bytes(index)), out);
}

Result<std::vector<float>> EncodedDelta::decode() const {
  std::vector<float> out(entries());
  for (std::size_t i = 0; i < segments(); ++i) {
    const Status decoded =
        decode_segment(i, std::span(out).subspan(i * segment_entries, entries_in_segment(entries(), i)));
    if (!decoded) return std::unexpected(decoded.error());
  }
  return out;
}

Status EncodedDelta::read(std::size_t index, std::span<float> out, Bytes& /*scratch*/) const {
  return decode_segment(index, out);
}

Result<std::unique_ptr<SegmentSource>> open_segments(Codec codec, ReadBytes read_bytes,
                                                     std::uint64_t wire_bytes, std::size_t expected_entries) {
  Bytes head(static_cast<std::size_t>(std::min(wire_bytes, head_bytes(expected_entries))));
  const Status got = read_bytes(0, head);
  if (!got) return std::unexpected(got.error());
  auto table = SegmentTable::parse(codec, head, wire_bytes, expected_entries);
  if (!table) return std::unexpected(table.error());
  return std::make_unique<SegmentReader>(*std::move(table), std::move(read_bytes));
}

Result<DeltaStatistics> inspect(const SegmentSource& delta, std::span<const CoordinateRange> norm_ranges) {
  RIVULET_ASSERT(are_ordered(norm_ranges, delta.entries()));
  std::vector<float> decoded(std::min(delta.entries(), segment_entries));
  Bytes scratch;
  SumOfSquares sum;
  for (std::size_t i = 0; i < segment_count(delta.entries()); ++i) {
    const std::size_t begin = i * segment_entries;
    const auto out = std::span(decoded).first(entries_in_segment(delta.entries(), i));
    const Status got = delta.read(i, out, scratch);
    if (!got) return std::unexpected(got.error());
    for_each_overlap(norm_ranges, {begin, begin + out.size()}, [&](CoordinateRange part) {
      sum.add(part.begin, out.subspan(part.begin - begin, part.end - part.begin));
    });
  }
  return DeltaStatistics{.norm = std::sqrt(sum.total())};
}

}  // namespace rivulet
