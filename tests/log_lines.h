#pragma once

#include <string>
#include <vector>

namespace rivulet {

/// The log of this process at its default level, kept in memory from the first call on.
class LogLines {
 public:
  /// Where the log stands now.
  static std::size_t mark();
  /// The lines since `mark` that hold all of these texts.
  static std::vector<std::string> since(std::size_t mark, const std::vector<std::string>& parts);
};

}  // namespace rivulet
