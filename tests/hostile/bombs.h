#pragma once

#include <cstdint>
#include <vector>

#include "protocol/bytes.h"

/// Cap'n Proto messages that no encoder makes, word by word: https://capnproto.org/encoding.html
namespace rivulet {
namespace bomb {

constexpr std::uint64_t ready = 8;  ///< The number of `ready` in schema.capnp's union.
constexpr std::uint64_t struct_pointer(std::int64_t offset, std::uint64_t data, std::uint64_t pointers) {
  return (static_cast<std::uint64_t>(offset) << 2 & 0xfffffffcU) | data << 32 | pointers << 48;
}
constexpr std::uint64_t list_pointer(std::int64_t offset, std::uint64_t element, std::uint64_t count) {
  return 1 | (static_cast<std::uint64_t>(offset) << 2 & 0xfffffffcU) | element << 32 | count << 35;
}
constexpr std::uint64_t of_bytes = 2;
constexpr std::uint64_t of_pointers = 6;
constexpr std::uint64_t of_nothing = 0;

/// A message of one segment: root, `ready` with four numbers, its two lists, and what follows.
inline Bytes ready_message(std::uint64_t open_tasks, std::uint64_t awaiting,
                           const std::vector<std::uint64_t>& rest) {
  std::vector<std::uint64_t> words{
      struct_pointer(0, 1, 1), ready, struct_pointer(0, 4, 2), 0, 0, 0, 0, open_tasks, awaiting};
  words.insert(words.end(), rest.begin(), rest.end());
  Bytes bytes;
  append_le(bytes, std::uint32_t{0});
  append_le(bytes, static_cast<std::uint32_t>(words.size()));
  for (const std::uint64_t word : words) append_le(bytes, word);
  return bytes;
}

}  // namespace bomb

/// A list of lists whose only entry is the list itself, without end.
inline Bytes nesting_bomb() {
  using namespace bomb;
  return ready_message(list_pointer(0, of_pointers, 1), list_pointer(-1, of_pointers, 1), {});
}

/// 2^29 - 1 entries in no bytes.
inline Bytes zero_size_bomb() {
  using namespace bomb;
  return ready_message(list_pointer(0, of_nothing, (1U << 29) - 1), 0, {});
}

/// `count` task ids that are all the same 16 bytes: more to read than there is.
inline Bytes amplification_bomb(std::size_t count) {
  using namespace bomb;
  std::vector<std::uint64_t> rest;
  const auto entries = static_cast<std::int64_t>(count);
  // Each entry points behind the last one, to as many bytes as all entries have.
  for (std::int64_t i = 0; i < entries; ++i)
    rest.push_back(list_pointer(entries - 1 - i, of_bytes, count * 8));
  rest.insert(rest.end(), count, 0);
  return ready_message(list_pointer(1, of_pointers, count), 0, rest);
}

/// A segment table that claims 2^32 segments.
inline Bytes segment_bomb() {
  Bytes bytes(64);
  for (std::size_t i = 0; i < 4; ++i) bytes[i] = std::byte{0xff};
  return bytes;
}

}  // namespace rivulet
