#pragma once

#include <spdlog/fmt/fmt.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "models/runtime/model.h"
#include "protocol/bytes.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

namespace rivulet::tests {

/// Of each of those networks.
inline const Architecture image_architecture{
    .kind = "torchscript", .hidden = {}, .input_shape = {1, 12, 12}, .outputs = 5};

/// The folder that tests/models_runtime/write_torchscript.py filled, once for a process; empty without
/// PyTorch for Python. With it, the script's failure is the test's.
inline const std::filesystem::path& python_networks() {
  static const TemporaryFolder folder;
  static const bool has_torch = std::system("/usr/bin/python3 -c 'import torch' 2>/dev/null") == 0;
  static const int status = has_torch
                                ? std::system(fmt::format("/usr/bin/python3 -W ignore {} {}",
                                                          RIVULET_WRITE_TORCHSCRIPT, folder.path.string())
                                                  .c_str())
                                : 0;
  static const std::filesystem::path none;
  if (!has_torch) WARN("skipped: /usr/bin/python3 has no torch (install python3-torch)");
  REQUIRE(status == 0);
  return has_torch ? folder.path : none;
}

inline Bytes read_all(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  REQUIRE(in.good());
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  return copy_of(bytes_of(text));
}

/// Whether the file that some of those networks overwrite while they are loaded is as it was.
inline bool victim_is_whole() {
  return read_all(python_networks() / "victim.bin") == copy_of(bytes_of(std::string(64, 'A')));
}

}  // namespace rivulet::tests
