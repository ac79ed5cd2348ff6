#pragma once

#include <string>
#include <string_view>

#include "protocol/result.h"

namespace rivulet {

/// Each operation of LibTorch and OpenBLAS runs on the thread that calls it: for on-device networks two
/// threads cost more than they bring, and one is what makes training repeat bit for bit. Call it in
/// main(), before any other thread runs a model.
void use_one_thread();

/// Whether matrix products run at their proper speed.
/// @return unsupported when this process has loaded the reference BLAS, with what to install.
Status check_blas();
/// The decision of check_blas. @param maps the text of /proc/self/maps.
Status judge_blas(std::string_view maps);

/// E.g. "1.13.1".
std::string libtorch_version();

}  // namespace rivulet
