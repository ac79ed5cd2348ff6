#pragma once

#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

#include "protocol/result.h"

namespace rivulet::cli {

/// Runs `work` to its end on a thread of its own which can change no file, nor can threads that it starts:
/// the kernel answers EPERM to opening one for writing, to making, renaming, removing or changing one, and to
/// starting a program or a connection. Under it a user's network is read, tried and trained. What is open
/// already, standard error say, can be written to; until the end no file of this process grows.
/// @return unsupported where the kernel has no seccomp filters, and `work` was not run; what it throws is
/// thrown.
Status run_without_writing(const std::function<void()>& work);

/// The same for work with a Result or Status, which is returned.
template <typename Work>
auto without_writing(Work&& work) -> std::invoke_result_t<Work> {
  std::optional<std::invoke_result_t<Work>> outcome;
  const Status ran = run_without_writing([&] { outcome.emplace(work()); });
  if (!ran) return std::unexpected(ran.error());
  return std::move(*outcome);
}

}  // namespace rivulet::cli
