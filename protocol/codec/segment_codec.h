#pragma once

#include <span>

#include "protocol/codec/codec.h"

/// One segment's bytes, without the head. For codec.cpp alone.
namespace rivulet::segment_codec {

/// Appends the segment. @param entries finite.
void encode_fp32(std::span<const float> entries, Bytes& wire);
void encode_int8(std::span<const float> entries, Rng& rng, Bytes& wire);

/// @param wire untrusted, of exactly segment_bytes(codec, out.size()) bytes. @return corrupt.
Status decode_fp32(ByteSpan wire, std::span<float> out);
Status decode_int8(ByteSpan wire, std::span<float> out);

}  // namespace rivulet::segment_codec
