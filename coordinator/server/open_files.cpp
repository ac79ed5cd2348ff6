#include "coordinator/server/open_files.h"

#include <sys/resource.h>

#include <algorithm>

namespace rivulet::coordinator {
namespace {

/// 72 for the admin API, the rest for the store's files and what is read or written at the moment.
constexpr std::uint64_t kept_back = 128;

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

std::size_t connections_allowed(std::uint64_t open_files) {
  return open_files > 2 * kept_back ? open_files - kept_back : std::max<std::uint64_t>(open_files / 2, 1);
}

}  // namespace rivulet::coordinator
