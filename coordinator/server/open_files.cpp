#include "coordinator/server/open_files.h"

#include <sys/resource.h>

#include <algorithm>

#include "coordinator/server/bounded_server.h"
#include "storage/file_blob_store.h"
#include "storage/rocksdb_store.h"

namespace rivulet::coordinator {
namespace {

/// Standard streams, listeners, epoll, locks, the files of a release's samples, blobs that are being written.
constexpr std::uint64_t few_more = 24;

}  // namespace

std::uint64_t raise_open_files() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);  // If the system says no, it stays as it was.
  }
  return open_files();
}

std::uint64_t open_files() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 1024;
}

std::uint64_t files_kept_back(std::size_t admin_threads) {
  const FileBlobOptions blobs;
  return store_files_open_max + blobs.open_parts_max + blobs.open_blobs_max + admin_threads +
         BoundedServer::Limits().waiting_max + few_more;
}

std::size_t connections_allowed(std::uint64_t open_files, std::size_t admin_threads) {
  const std::uint64_t kept_back = files_kept_back(admin_threads);
  return open_files > 2 * kept_back ? open_files - kept_back : std::max<std::uint64_t>(open_files / 2, 1);
}

}  // namespace rivulet::coordinator
