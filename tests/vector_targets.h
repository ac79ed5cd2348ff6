#pragma once

#include <hwy/targets.h>

#include <string>
#include <vector>

namespace rivulet {

/// Runs `check(name)` once for each instruction set that was compiled in and that this machine has,
/// with the library's dynamic dispatch held to it.
template <typename Check>
void for_each_instruction_set(Check check) {
  const std::vector<std::int64_t> targets = hwy::SupportedAndGeneratedTargets();
  for (const std::int64_t target : targets) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().DeInit();
    check(std::string(hwy::TargetName(target)));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().DeInit();
}

}  // namespace rivulet
