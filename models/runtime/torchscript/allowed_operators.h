#pragma once

#include <string_view>

namespace rivulet::torchscript {

/// Whether a network may use the operator of that name, e.g. "aten::conv2d" or "prim::If". The list is
/// closed: what reads or writes files (aten::save, aten::from_file), starts tasks, prints, shows memory that
/// nobody wrote (aten::empty, aten::resize_), or sets global state is not on it. The form in place of an
/// operator (with a "_" behind its name) may be used as the other.
bool is_allowed_operator(std::string_view name);

}  // namespace rivulet::torchscript
