#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <spdlog/fmt/fmt.h>
#include <torch/csrc/jit/ir/ir.h>

#include <string>
#include <string_view>
#include <tuple>

#include "protocol/result.h"
#include "protocol/text.h"

namespace rivulet::torchscript {

/// " (FILE:LINE)", where the user wrote it, if the file says so.
inline std::string place_of(const torch::jit::Node& node) {
  const auto written = node.sourceRange().findSourceRangeThatGenerated();
  const auto place = written ? written->file_line_col() : node.sourceRange().file_line_col();
  if (!place) return "";
  const std::string& path = std::get<0>(*place);
  return fmt::format(" ({}:{})", to_printable(path.substr(path.rfind('/') + 1)), std::get<1>(*place));
}

inline std::unexpected<Error> refuse(const torch::jit::Node& node, std::string_view why) {
  return fail(Errc::refused,
              fmt::format("it uses {}{}, {}", node.kind().toQualString(), place_of(node), why));
}

}  // namespace rivulet::torchscript
