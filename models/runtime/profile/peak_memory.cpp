#include "models/runtime/profile/peak_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>

namespace rivulet {
namespace {

/// A value in kB of /proc/self/status, in bytes; 0 if it is not there.
std::uint64_t status_bytes(std::string_view key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return std::stoull(line.substr(key.size())) * 1024;
  }
  return 0;
}

}  // namespace

PeakMemory::PeakMemory() : file_(::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC)) {}

PeakMemory::~PeakMemory() {
  if (file_ >= 0) ::close(file_);
}

std::optional<std::uint64_t> PeakMemory::reset() const {
  const std::uint64_t now = status_bytes("VmRSS:");
  if (now == 0 || file_ < 0 || ::pwrite(file_, "5", 1, 0) != 1) return std::nullopt;
  return now;
}

std::uint64_t PeakMemory::bytes() { return std::max(status_bytes("VmHWM:"), status_bytes("VmRSS:")); }

}  // namespace rivulet
