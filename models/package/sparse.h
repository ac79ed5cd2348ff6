#pragma once

#include <span>

#include "protocol/bytes.h"
#include "protocol/result.h"

namespace rivulet {

/// A row of entries of which many may be 0, in the shortest of three codings; of equally short ones it is the
/// first, so that the same entries always have the same bytes:
///   entries := dense | bitmap | gaps
///   dense   := 0: u8, entry[size]
///   bitmap  := 1: u8, bit[size], entry[nonzero]     bit i is bit i % 8 of byte i / 8; those behind are 0
///   gaps    := 2: u8, nonzero: u32, (gap: varint, entry)[nonzero]
///                                                   gap = how many zeros lie since the nonzero entry before
///   varint  := 7 bits a byte, the lowest first; bit 7 says that one more follows; as short as can be
/// Little-endian throughout. An entry is 0 if all its bits are: -0.0 is none.
/// Source of the choice: Han et al. 2016, arXiv:1510.00149 (gaps), and a bitmap where they would be longer.
///
/// For float and std::int8_t. @param entries no more than 2^32 - 1.
template <typename Entry>
void append_sparse(std::span<const Entry> entries, Bytes& out);

/// Takes one such row off the front of `source`.
/// @param source untrusted; what lies behind the row stays in it. @param out every entry is written.
/// @return corrupt if it is cut short, or not as append_sparse() would have written it; then `source` and
/// `out` are left in any state.
template <typename Entry>
Status take_sparse(ByteSpan& source, std::span<Entry> out);

}  // namespace rivulet
