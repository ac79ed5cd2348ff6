#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace rivulet {

/// Texts on the wire are short, valid UTF-8 (RFC 3629) without control characters, as they end in logs.
inline constexpr std::size_t wire_text_bytes_max = 1024;

/// Whether `text` is such UTF-8, of whatever length.
bool is_printable(std::string_view text);

/// What others said (an exception, a file's name), made fit for a peer: each byte that is not printable
/// becomes a space, and what is longer is cut between two characters. Printable text stays as it is.
std::string to_printable(std::string_view text, std::size_t bytes_max = wire_text_bytes_max);

}  // namespace rivulet
