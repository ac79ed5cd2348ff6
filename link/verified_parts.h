#pragma once

#include <cstdint>
#include <list>
#include <unordered_map>

#include "protocol/ids.h"

namespace rivulet {

/// How much of each part of a blob store this process has verified, so that its bytes are hashed once and
/// not each time the content is fetched again. Shared by all sessions of a process; forgets those used
/// least recently, and all with the process. What a disk does to a part in the meantime is for whoever uses
/// the finished blob to find. Not thread-safe.
class VerifiedParts {
 public:
  /// @param parts_max at least 1.
  explicit VerifiedParts(std::size_t parts_max = 4096) : parts_max_(parts_max) {}

  /// The length of the prefix that is verified: whole chunks; 0 if nothing is known.
  [[nodiscard]] std::uint64_t find(const ContentId& content);
  /// The part's chunks that end within its first `bytes` are verified, and nothing behind them.
  void set(const ContentId& content, std::uint64_t bytes);

 private:
  struct Entry {
    ContentId content;
    std::uint64_t bytes = 0;
  };

  std::size_t parts_max_;
  std::list<Entry> entries_;  // The one used last at the front.
  std::unordered_map<ContentId, std::list<Entry>::iterator> by_content_;
};

}  // namespace rivulet
