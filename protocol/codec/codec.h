#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "protocol/bytes.h"
#include "protocol/codec/norm.h"
#include "protocol/result.h"
#include "protocol/rng.h"

namespace rivulet {

/// How the float32 entries of a delta lie on the wire and in blobs. All integers and floats are
/// little-endian; every segment holds 65,536 entries (the last one the rest) and can be decoded alone.
///
///   wire    := entries: u64, length: u32[segments], segment[segments]
///                                    segments = ceil(entries / 65536), length = bytes of the segment
///   fp32    : segment := entry: float32*       finite
///   int8    : segment := block*                a block has 256 entries (the last one the rest)
///             block   := scale: float32, entry: int8[1..256]
///                                    decoded = entry * scale as float32, entry in [-127, 127]
///                                    scale is +0 with all entries 0, or a normal positive number,
///                                    at most the largest for which 127 * scale is finite
///
/// The encoder of int8 takes as scale the smallest float32 not below max|x| / 127 (nor below the
/// smallest normal one) and rounds stochastically: E[decoded] = x, |decoded - x| < scale.
enum class Codec : std::uint8_t { fp32 = 0, int8 = 1 };

constexpr std::string_view name(Codec codec) { return codec == Codec::fp32 ? "fp32" : "int8"; }
/// From its name in configurations. @return invalid.
Result<Codec> parse_codec(std::string_view text);
/// From its number in messages. @return unsupported.
Result<Codec> codec_from_number(std::uint16_t number);

inline constexpr std::size_t segment_entries = 65'536;
inline constexpr std::size_t int8_block_entries = 256;

constexpr std::size_t segment_count(std::size_t entries) {
  return entries / segment_entries + (entries % segment_entries != 0 ? 1 : 0);
}
/// The number of entries in segment `index` of a delta of `entries`.
constexpr std::size_t entries_in_segment(std::size_t entries, std::size_t index) {
  return std::min(segment_entries, entries - index * segment_entries);
}
/// The bytes before the first segment.
constexpr std::uint64_t head_bytes(std::size_t entries) {
  return sizeof(std::uint64_t) + sizeof(std::uint32_t) * std::uint64_t{segment_count(entries)};
}
/// The bytes of one segment with `entries` entries.
constexpr std::uint64_t segment_bytes(Codec codec, std::size_t entries) {
  if (codec == Codec::fp32) return sizeof(float) * std::uint64_t{entries};
  const std::uint64_t blocks = (std::uint64_t{entries} + int8_block_entries - 1) / int8_block_entries;
  return sizeof(float) * blocks + entries;
}
/// The most bytes that a delta of `entries` takes on the wire; with these codecs also the least.
constexpr std::uint64_t encoded_bytes(Codec codec, std::size_t entries) {
  return head_bytes(entries) + entries / segment_entries * segment_bytes(codec, segment_entries) +
         segment_bytes(codec, entries % segment_entries);
}
static_assert(encoded_bytes(Codec::int8, 257) == 8 + 4 + 2 * 4 + 257);
static_assert(encoded_bytes(Codec::fp32, segment_entries + 1) == 8 + 2 * 4 + 4 * (segment_entries + 1));

/// @param delta [entries] finite. @param rng decides the rounding of int8; fp32 draws nothing.
/// @return invalid if an entry is not finite.
Result<Bytes> encode(Codec codec, std::span<const float> delta, Rng& rng);

/// Where the segments of one delta lie in its wire form, checked against what is expected.
class SegmentTable {
 public:
  /// @param head        untrusted; the first head_bytes(expected_entries) bytes or more.
  /// @param wire_bytes  the length of the whole wire form.
  /// @return corrupt unless every count and length is exactly right. Allocates nothing before that.
  static Result<SegmentTable> parse(Codec codec, ByteSpan head, std::uint64_t wire_bytes,
                                    std::size_t expected_entries);

  [[nodiscard]] Codec codec() const { return codec_; }
  [[nodiscard]] std::size_t entries() const { return entries_; }
  [[nodiscard]] std::size_t segments() const { return offsets_.size() - 1; }
  /// The first byte of segment `index` in the wire form; for index == segments() the end.
  [[nodiscard]] std::uint64_t offset(std::size_t index) const { return offsets_[index]; }
  [[nodiscard]] std::size_t bytes(std::size_t index) const {
    return static_cast<std::size_t>(offsets_[index + 1] - offsets_[index]);
  }

 private:
  SegmentTable() = default;

  Codec codec_ = Codec::fp32;
  std::size_t entries_ = 0;
  std::vector<std::uint64_t> offsets_;
};

/// A delta that is decoded segment by segment, wherever its bytes are. Thread-safe.
class SegmentSource {
 public:
  virtual ~SegmentSource() = default;
  [[nodiscard]] virtual std::size_t entries() const = 0;
  /// Decodes segment `index`.
  /// @param out      [entries_in_segment(entries(), index)] float32, all finite on success and
  ///                 unspecified on error.
  /// @param scratch  working space of the calling thread; keep it from call to call.
  /// @return corrupt for bytes that no encoder writes; else what reading them failed with.
  virtual Status read(std::size_t index, std::span<float> out, Bytes& scratch) const = 0;
};

/// A validated view of a delta whose bytes are in memory; they are not copied and outlive the view.
class EncodedDelta final : public SegmentSource {
 public:
  /// @param wire untrusted. @return corrupt unless all lengths are exactly right.
  static Result<EncodedDelta> parse(Codec codec, ByteSpan wire, std::size_t expected_entries);

  [[nodiscard]] Codec codec() const { return table_.codec(); }
  [[nodiscard]] std::size_t segments() const { return table_.segments(); }
  [[nodiscard]] std::size_t entries() const override { return table_.entries(); }
  /// As read(), without scratch: the bytes are decoded in place.
  Status decode_segment(std::size_t index, std::span<float> out) const;
  /// The whole delta. @return corrupt.
  [[nodiscard]] Result<std::vector<float>> decode() const;
  Status read(std::size_t index, std::span<float> out, Bytes& scratch) const override;

 private:
  EncodedDelta(SegmentTable table, ByteSpan wire) : table_(std::move(table)), wire_(wire) {}

  SegmentTable table_;
  ByteSpan wire_;
};

/// Fills `out` with the wire form's bytes from `offset`, or says why it can't. Called from several
/// threads at once (pread, not seek and read).
using ReadBytes = std::function<Status(std::uint64_t offset, std::span<std::byte> out)>;

/// A delta whose bytes are read when they are needed, one segment at a time, e.g. from a blob file.
/// Reads the head now. @return corrupt; else what `read_bytes` failed with.
Result<std::unique_ptr<SegmentSource>> open_segments(Codec codec, ReadBytes read_bytes,
                                                     std::uint64_t wire_bytes, std::size_t expected_entries);

/// What the coordinator learns of a delta before it takes it.
struct DeltaStatistics {
  double norm = 0;  ///< L2, over the ranges asked for.
};

/// Decodes every segment once, which checks all entries, with one segment of memory.
/// @param norm_ranges ordered; the parameters, without batch norm's statistics.
/// @return corrupt, or what reading failed with.
Result<DeltaStatistics> inspect(const SegmentSource& delta, std::span<const CoordinateRange> norm_ranges);

}  // namespace rivulet
