#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "protocol/result.h"

namespace rivulet {

/// A float32 array to be written, row-major.
struct NpyArray {
  std::string name;                 ///< The key under which numpy.load gives it.
  std::vector<std::int64_t> shape;  ///< Empty for a scalar.
  std::span<const float> values;    ///< [product of shape]; outlives the call.
};

/// A list of texts to be written, as an array of NumPy's type `<U`.
struct NpyTexts {
  std::string name;
  std::vector<std::string> values;  ///< UTF-8; what is none becomes U+FFFD.
};

/// Writes what numpy.load reads: a ZIP archive (stored, APPNOTE.TXT 6.3.10) of one .npy member of
/// format 1.0 for each array and list (numpy.lib.format), lists last. The same arrays give the same bytes. An
/// existing file is replaced only by a complete one.
/// @return invalid for an empty or repeated name or a shape that doesn't fit; too_large from 4 GiB on;
/// storage.
Status write_npz(const std::filesystem::path& file, const std::vector<NpyArray>& arrays,
                 const std::vector<NpyTexts>& texts = {});

}  // namespace rivulet
