#pragma once

#include <array>
#include <string_view>

#include "protocol/result.h"

namespace rivulet {

/// Every place where a test can kill a program: the environment variable RIVULET_CRASH_AT holds a name, or
/// "name:N" for the N-th time that the program gets there. A test visits each of them.
inline constexpr std::array<std::string_view, 16> crash_point_names = {
    "store.before_commit",      ///< Before a batch reaches the write-ahead log.
    "store.after_commit",       ///< The batch is written, the caller does not know it yet.
    "blob.before_fdatasync",    ///< All bytes are written, none synced.
    "blob.before_rename",       ///< The bytes are synced under their temporary name.
    "blob.before_folder_sync",  ///< Renamed, but the folder is not synced.
    "blob.after_folder_sync",   ///< Durable, the caller does not know it yet.
    "blob.after_append",        ///< Bytes of a part are written, not synced.
    "file.before_rename",       ///< A settings, key, data or run file is synced under its temporary name.
    "file.before_folder_sync",  ///< It is renamed, but the folder is not synced.
    // What is durable here, the store does not know yet.
    "coordinator.release_stored",   ///< The contents and data of a release that is imported.
    "coordinator.update_stored",    ///< An update's content, which was inspected.
    "coordinator.candidate_built",  ///< The contents of a round's candidate.
    "coordinator.version_sealed",   ///< The variants of a version, which is signed.
    "node.update_trained",          ///< A delta that is not in the outbox.
    "node.candidate_judged",        ///< Nothing: an evaluation was done and is to be done again.
    "node.version_loaded",          ///< The contents of a version that serves already.
};

/// A name of the list above; others do not compile.
struct CrashPoint {
  std::size_t index = 0;

  consteval CrashPoint(const char* name) {
    while (crash_point_names.at(index) != name) ++index;
  }
};

#ifdef RIVULET_CRASH_POINTS

/// Kills the process with SIGKILL if RIVULET_CRASH_AT names this point. Thread-safe; in test builds only.
void crash_point(CrashPoint point);

/// What runs right before the kill, such as forgetting what was not synced. Set before threads start.
void set_crash_hook(void (*hook)());

#else

inline void crash_point(CrashPoint) {}

#endif

/// For the start of each program. @return invalid if RIVULET_CRASH_AT names no crash point or
/// RIVULET_FAULT_FS no fault (fault_disk.h), or if this build has neither.
Status check_crash_point_env();

}  // namespace rivulet
