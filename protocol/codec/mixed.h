#pragma once

#include "protocol/codec/codec.h"

namespace rivulet {

/// A delta of which some coordinates travel as float32 whatever the codec is: batch norm's running
/// statistics, which the coordinator averages as they are. Without such coordinates it is the codec's own
/// wire form.
///   wire := delta of the codec, with 0 at the exact coordinates; value: float32[exact]    finite, rising
/// @param delta [entries] @param exact ordered. @return what encode() returns.
Result<Bytes> encode_mixed(Codec codec, std::span<const float> delta, std::span<const CoordinateRange> exact,
                           Rng& rng);

/// The bytes of that wire form.
std::uint64_t mixed_bytes(Codec codec, std::size_t entries, std::span<const CoordinateRange> exact);

/// As open_segments(); what the codec's part says at the exact coordinates counts for nothing.
/// @param exact ordered, within `entries`. @return corrupt; else what `read_bytes` failed with.
Result<std::unique_ptr<SegmentSource>> open_mixed(Codec codec, ReadBytes read_bytes, std::uint64_t wire_bytes,
                                                  std::size_t entries, std::vector<CoordinateRange> exact);

}  // namespace rivulet
