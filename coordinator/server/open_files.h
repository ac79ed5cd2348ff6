#pragma once

#include <cstddef>
#include <cstdint>

namespace rivulet::coordinator {

/// Raises this process's limit on open files as far as it may. @return the limit in force.
std::uint64_t raise_open_files();
/// The limit in force.
std::uint64_t open_files();
/// What the store, the blobs and an admin API of so many threads may hold open at once, and a few more.
std::uint64_t files_kept_back(std::size_t admin_threads);
/// How many connections of nodes leave enough for these; half the limit where it is too low for that.
/// @param open_files the limit.
std::size_t connections_allowed(std::uint64_t open_files, std::size_t admin_threads);

}  // namespace rivulet::coordinator
