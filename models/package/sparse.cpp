#include "models/package/sparse.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "protocol/assert.h"

namespace rivulet {
namespace {

enum class Coding : std::uint8_t { dense, bitmap, gaps };

constexpr std::size_t bitmap_bytes(std::size_t entries) { return (entries + 7) / 8; }

constexpr std::size_t varint_bytes(std::uint64_t value) {
  return value == 0 ? 1 : (static_cast<std::size_t>(std::bit_width(value)) + 6) / 7;
}

/// Of a gap between entries, of which there are less than 2^32.
constexpr int varint_bytes_max = 5;

template <typename Entry>
bool is_zero(Entry entry) {
  return std::bit_cast<std::array<std::byte, sizeof(Entry)>>(entry) == std::array<std::byte, sizeof(Entry)>{};
}

/// Calls `visit(gap, entry)` for each nonzero entry.
template <typename Entry, typename Visit>
void visit_nonzero(std::span<const Entry> entries, Visit visit) {
  std::size_t next = 0;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (is_zero(entries[i])) continue;
    visit(i - next, entries[i]);
    next = i + 1;
  }
}

template <typename Entry>
Coding shortest_coding(std::span<const Entry> entries) {
  std::size_t nonzero = 0;
  std::size_t gaps = sizeof(std::uint32_t);
  visit_nonzero(entries, [&](std::size_t gap, Entry) {
    ++nonzero;
    gaps += varint_bytes(gap);
  });
  const std::size_t values = nonzero * sizeof(Entry);
  const std::array<std::size_t, 3> lengths{entries.size_bytes(), bitmap_bytes(entries.size()) + values,
                                           gaps + values};
  return static_cast<Coding>(std::ranges::min_element(lengths) - lengths.begin());
}

void append_varint(Bytes& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<std::byte>((value & 0x7f) | 0x80));
  out.push_back(static_cast<std::byte>(value));
}

std::unexpected<Error> cut_short() { return fail(Errc::corrupt, "the entries are cut short"); }

template <typename T>
Status take(ByteSpan& source, T& value) {
  if (source.size() < sizeof(T)) return cut_short();
  value = load_le<T>(source);
  source = source.subspan(sizeof(T));
  return {};
}

Status take_varint(ByteSpan& source, std::uint64_t& value) {
  value = 0;
  for (int i = 0; i < varint_bytes_max; ++i) {
    std::uint8_t byte = 0;
    if (Status taken = take(source, byte); !taken) return taken;
    value |= std::uint64_t{byte & 0x7fU} << (7 * i);
    if (byte >= 0x80) continue;
    if (byte == 0 && i > 0) return fail(Errc::corrupt, "a gap is written longer than it needs to be");
    return {};
  }
  return fail(Errc::corrupt, "a gap has more bytes than any needs");
}

/// One that a coding lists because it is not 0.
template <typename Entry>
Status take_nonzero(ByteSpan& source, Entry& entry) {
  if (Status taken = take(source, entry); !taken) return taken;
  if (is_zero(entry)) return fail(Errc::corrupt, "an entry that is listed as nonzero is 0");
  return {};
}

template <typename Entry>
Status take_dense(ByteSpan& source, std::span<Entry> out) {
  if (source.size() < out.size_bytes()) return cut_short();
  if (!out.empty()) std::memcpy(out.data(), source.data(), out.size_bytes());
  source = source.subspan(out.size_bytes());
  return {};
}

template <typename Entry>
Status take_bitmap(ByteSpan& source, std::span<Entry> out) {
  const std::size_t length = bitmap_bytes(out.size());
  if (source.size() < length) return cut_short();
  const ByteSpan bits = source.first(length);
  source = source.subspan(length);
  for (std::size_t i = 0; i < 8 * length; ++i) {
    const bool listed = (bits[i / 8] >> (i % 8) & std::byte{1}) != std::byte{0};
    if (!listed) continue;
    if (i >= out.size()) return fail(Errc::corrupt, "the bitmap has bits behind the last entry");
    if (Status taken = take_nonzero(source, out[i]); !taken) return taken;
  }
  return {};
}

template <typename Entry>
Status take_gaps(ByteSpan& source, std::span<Entry> out) {
  std::uint32_t nonzero = 0;
  if (Status taken = take(source, nonzero); !taken) return taken;
  for (; nonzero > 0; --nonzero) {
    std::uint64_t gap = 0;
    if (Status taken = take_varint(source, gap); !taken) return taken;
    if (gap >= out.size()) return fail(Errc::corrupt, "a gap leads behind the last entry");
    out = out.subspan(static_cast<std::size_t>(gap));
    if (Status taken = take_nonzero(source, out.front()); !taken) return taken;
    out = out.subspan(1);
  }
  return {};
}

}  // namespace

template <typename Entry>
void append_sparse(std::span<const Entry> entries, Bytes& out) {
  RIVULET_ASSERT(entries.size() <= std::numeric_limits<std::uint32_t>::max());
  const Coding coding = shortest_coding(entries);
  out.push_back(static_cast<std::byte>(coding));
  if (coding == Coding::dense) {
    const ByteSpan bytes = std::as_bytes(entries);
    out.insert(out.end(), bytes.begin(), bytes.end());
  } else if (coding == Coding::bitmap) {
    std::size_t at = out.size();
    out.resize(at + bitmap_bytes(entries.size()));
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (!is_zero(entries[i])) out[at + i / 8] |= std::byte{1} << (i % 8);
    }
    visit_nonzero(entries, [&](std::size_t, Entry entry) { append_le(out, entry); });
  } else {
    const auto zeros = std::ranges::count_if(entries, is_zero<Entry>);
    append_le(out, static_cast<std::uint32_t>(entries.size() - static_cast<std::size_t>(zeros)));
    visit_nonzero(entries, [&](std::size_t gap, Entry entry) {
      append_varint(out, gap);
      append_le(out, entry);
    });
  }
}

template <typename Entry>
Status take_sparse(ByteSpan& source, std::span<Entry> out) {
  std::uint8_t tag = 0;
  if (Status taken = take(source, tag); !taken) return taken;
  if (tag > static_cast<std::uint8_t>(Coding::gaps)) {
    return fail(Errc::corrupt, fmt::format("the entries are in coding {}, which there is not", tag));
  }
  const auto coding = static_cast<Coding>(tag);
  std::ranges::fill(out, Entry{});
  const Status taken = coding == Coding::dense    ? take_dense(source, out)
                       : coding == Coding::bitmap ? take_bitmap(source, out)
                                                  : take_gaps(source, out);
  if (!taken) return taken;
  if (shortest_coding(std::span<const Entry>(out)) != coding) {
    return fail(Errc::corrupt, fmt::format("the entries are in coding {}, though another is shorter", tag));
  }
  return {};
}

template void append_sparse(std::span<const float>, Bytes&);
template void append_sparse(std::span<const std::int8_t>, Bytes&);
template Status take_sparse(ByteSpan&, std::span<float>);
template Status take_sparse(ByteSpan&, std::span<std::int8_t>);

}  // namespace rivulet
