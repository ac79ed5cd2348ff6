#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/bytes.h"
#include "protocol/result.h"

namespace rivulet::torchscript {

/// A file within an archive.
struct ZipEntry {
  std::string name;         ///< Whole, as it is written: no library has cut it or changed its case.
  std::uint64_t bytes = 0;  ///< Once unpacked.
};

/// What a ZIP archive (APPNOTE.TXT 6.3.10) says that it holds, in its order, before anything is unpacked.
/// Only archives that every reader sees alike are taken: the directory's end at the file's end, in its plain
/// and its 64-bit form the same; one disk; no encryption; local headers with the names of the directory.
/// @param file untrusted. @return corrupt.
Result<std::vector<ZipEntry>> read_zip_directory(ByteSpan file);

}  // namespace rivulet::torchscript
