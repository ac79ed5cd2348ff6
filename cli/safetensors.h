#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "models/package/npz.h"
#include "protocol/result.h"

namespace rivulet::cli {

/// Writes float32 tensors in the format of safetensors, which PyTorch and others load without running
/// anything:
///   header_bytes: u64 LE, header: JSON padded with spaces to a multiple of 8, data: float32 LE, tensor by
///   tensor
/// Source: https://huggingface.co/docs/safetensors (format 0.4).
/// @param metadata texts by name. @return invalid for a name that is repeated or "__metadata__"; storage.
Status write_safetensors(const std::filesystem::path& file, const std::vector<NpyArray>& tensors,
                         const std::map<std::string, std::string>& metadata);

}  // namespace rivulet::cli
