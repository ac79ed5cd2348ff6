#pragma once

#include <array>

#include "protocol/bytes.h"
#include "protocol/content.h"
#include "protocol/result.h"

namespace rivulet::bench {

/// An int8 update that hundreds of nodes share but for a few bytes: one copy in memory, and yet every
/// node's content is another.
class SharedDelta {
 public:
  /// What makes one node's content its own.
  struct Mark {
    std::array<std::byte, 4> bytes{};
    ChunkList list;
  };

  /// @param entries at least 4. @param norm its L2 norm, nearly. @return invalid.
  static Result<SharedDelta> make(std::size_t entries, double norm);

  /// Hashes one chunk anew and takes all the others as they are.
  [[nodiscard]] Mark mark(std::uint32_t node) const;
  /// Bytes of the content that `mark` makes; fewer than `size` at the end.
  [[nodiscard]] Bytes read(const Mark& mark, std::uint64_t offset, std::size_t size) const;
  [[nodiscard]] std::uint64_t bytes() const { return wire_.size(); }

 private:
  SharedDelta(Bytes wire, std::size_t mark_offset)
      : wire_(std::move(wire)), mark_offset_(mark_offset), list_(chunk_list_of(wire_)) {}

  Bytes wire_;
  std::size_t mark_offset_;  // of int8 entries in the first chunk
  ChunkList list_;
};

}  // namespace rivulet::bench
