#pragma once

#include <cstddef>
#include <cstdint>

namespace rivulet::coordinator {

/// Raises this process's limit on open files as far as it may. @return the limit in force.
std::uint64_t raise_open_files();
/// The limit in force.
std::uint64_t open_files();
/// How many connections of nodes leave enough for the store, the blobs and the admin API. @param open_files
/// the limit.
std::size_t connections_allowed(std::uint64_t open_files);

}  // namespace rivulet::coordinator
