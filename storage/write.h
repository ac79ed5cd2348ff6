#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/bytes.h"

namespace rivulet {

// What decisions want to be written, as values: cores emit batches and never see a store.

/// Sets a key of a family; an older value is replaced.
struct Put {
  std::string family;
  Bytes key;
  Bytes value;

  bool operator==(const Put&) const = default;
};

/// Removes a key of a family; removing an absent key changes nothing.
struct Erase {
  std::string family;
  Bytes key;

  bool operator==(const Erase&) const = default;
};

using Write = std::variant<Put, Erase>;

/// Takes effect in order, and whole or not at all.
using WriteBatch = std::vector<Write>;

/// Appends `number` big-endian, so that keys sort as their numbers do.
inline void append_number(Bytes& key, std::uint64_t number) {
  for (int shift = 56; shift >= 0; shift -= 8) key.push_back(static_cast<std::byte>(number >> shift));
}

inline Bytes number_key(std::uint64_t number) {
  Bytes key;
  key.reserve(sizeof number);
  append_number(key, number);
  return key;
}

/// Reads what append_number wrote at `offset`. @return nothing if `key` is too short for it.
inline std::optional<std::uint64_t> number_of_key(ByteSpan key, std::size_t offset = 0) {
  if (key.size() < offset || key.size() - offset < sizeof(std::uint64_t)) return std::nullopt;
  std::uint64_t number = 0;
  for (const std::byte byte : key.subspan(offset, sizeof number)) {
    number = (number << 8) | std::to_integer<std::uint64_t>(byte);
  }
  return number;
}

}  // namespace rivulet
