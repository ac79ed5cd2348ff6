#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "protocol/assert.h"

namespace rivulet {

/// A new empty folder that goes with the object.
struct TemporaryFolder {
  std::filesystem::path path;

  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "rivulet-XXXXXX").string();
    RIVULET_ASSERT(::mkdtemp(pattern.data()) != nullptr);
    path = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;  // What is left in a temporary folder harms nobody.
    std::filesystem::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
};

}  // namespace rivulet
