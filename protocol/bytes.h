#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rivulet {

using Bytes = std::vector<std::byte>;
using ByteSpan = std::span<const std::byte>;

static_assert(std::endian::native == std::endian::little,
              "wire and disk forms are little-endian and are read in place");

inline ByteSpan bytes_of(std::string_view text) { return std::as_bytes(std::span(text.data(), text.size())); }

inline std::string_view text_of(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

inline Bytes copy_of(ByteSpan bytes) { return Bytes(bytes.begin(), bytes.end()); }

/// Lower-case hexadecimal digits, two a byte.
std::string to_hex(ByteSpan bytes);
/// @return nothing unless `text` is an even number of hexadecimal digits of either case.
std::optional<Bytes> from_hex(std::string_view text);

/// URL-safe Base64 without padding (RFC 4648 section 5).
std::string to_base64url(ByteSpan bytes);
std::optional<Bytes> from_base64url(std::string_view text);

/// Reads a little-endian value; `bytes` holds at least sizeof(T) from `offset`.
template <typename T>
T load_le(ByteSpan bytes, std::size_t offset = 0) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <typename T>
void append_le(Bytes& out, T value) {
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), begin, begin + sizeof value);
}

}  // namespace rivulet
