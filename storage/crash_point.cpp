#include "storage/crash_point.h"

#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>

#ifdef RIVULET_CRASH_POINTS
#include "storage/fault_disk.h"
#endif

namespace rivulet {

#ifdef RIVULET_CRASH_POINTS

namespace {

struct Target {
  std::size_t index = crash_point_names.size();  // None.
  std::uint64_t visit = 1;
};

Result<Target> parse(std::string_view text) {
  Target target;
  const std::string_view point = text.substr(0, text.find(':'));
  if (point.size() < text.size()) {
    const std::string_view digits = text.substr(point.size() + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), target.visit);
    if (error != std::errc{} || end != digits.data() + digits.size() || target.visit == 0) {
      return fail(Errc::invalid,
                  fmt::format("RIVULET_CRASH_AT={}: behind the colon stands a number from 1", text));
    }
  }
  const auto found = std::ranges::find(crash_point_names, point);
  if (found == crash_point_names.end()) {
    return fail(Errc::invalid, fmt::format("RIVULET_CRASH_AT={}: there is no such crash point; there are {}",
                                           text, fmt::join(crash_point_names, ", ")));
  }
  target.index = static_cast<std::size_t>(found - crash_point_names.begin());
  return target;
}

const Result<Target>& target_from_env() {
  static const Result<Target> target = [] {
    const char* text = std::getenv("RIVULET_CRASH_AT");
    return text != nullptr && *text != '\0' ? parse(text) : Result<Target>(Target{});
  }();
  return target;
}

std::atomic<std::uint64_t> visits = 0;
std::atomic<void (*)()> crash_hook = nullptr;

}  // namespace

void crash_point(CrashPoint point) {
  const auto& target = target_from_env();
  if (!target || target->index != point.index || ++visits != target->visit) return;
  if (auto* hook = crash_hook.load(); hook != nullptr) hook();
  ::kill(::getpid(), SIGKILL);
  for (;;) ::pause();  // The signal may reach another thread first; this one must go no further.
}

void set_crash_hook(void (*hook)()) { crash_hook = hook; }

Status check_crash_point_env() {
  if (const auto& target = target_from_env(); !target) return std::unexpected(target.error());
  return FaultDisk::check_env();
}

#else

Status check_crash_point_env() {
  for (const char* name : {"RIVULET_CRASH_AT", "RIVULET_FAULT_FS"}) {
    if (const char* text = std::getenv(name); text != nullptr && *text != '\0') {
      return fail(Errc::invalid, fmt::format("{} is set, but this build has no crash points: build with "
                                             "-DRIVULET_TESTS=ON, or unset it",
                                             name));
    }
  }
  return {};
}

#endif

}  // namespace rivulet
