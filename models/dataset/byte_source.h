#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "protocol/bytes.h"
#include "protocol/result.h"

namespace rivulet {

/// Bytes that are read once, from begin to end. Not thread-safe.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Fills `out` from the front; fewer bytes only at the end. @return how many, 0 at the end; storage;
  /// corrupt for damaged gzip data.
  virtual Result<std::size_t> read(std::span<std::byte> out) = 0;
};

/// Opens a file, or standard input for "-". Content that begins like gzip (RFC 1952) is unpacked, in
/// bounded memory, whatever the file's name; several gzip members in a row are one content.
/// @return not_found, storage.
Result<std::unique_ptr<ByteSource>> open_byte_source(const std::filesystem::path& file);

/// The same over bytes that outlive the source. @param name stands in errors.
std::unique_ptr<ByteSource> make_memory_source(ByteSpan bytes, std::string name = "memory");

}  // namespace rivulet
