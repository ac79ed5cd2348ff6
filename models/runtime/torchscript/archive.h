#pragma once

#include <cstdint>

#include "protocol/bytes.h"
#include "protocol/result.h"

namespace rivulet::torchscript {

/// No file that is imported is larger, packed or unpacked.
inline constexpr std::uint64_t file_bytes_max = std::uint64_t{512} << 20;

/// What can be known of a TorchScript file before any of it is parsed as code or objects: that it is an
/// archive that LibTorch reads, in a format that it knows, of a module, with no part but those that
/// torch.jit.save() writes, and that nothing in it runs by itself while it is loaded (TorchScript calls
/// `__setstate__` then). Nothing is unpacked before its size is known.
/// @param file untrusted. @return too_large; corrupt for a damaged archive; unsupported for a format newer
/// than this LibTorch reads, with both; invalid for another kind of file; refused for code that runs at
/// loading and for other parts.
Status check_archive(ByteSpan file);

}  // namespace rivulet::torchscript
