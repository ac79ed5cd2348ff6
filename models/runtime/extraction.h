#pragma once

// Includes torch: only for the .cpp files of this folder.
#include <torch/script.h>

#include <functional>
#include <optional>

namespace rivulet {

/// What becomes of an attribute that a module's graph reads.
using AttributeCopy = std::function<c10::IValue(const c10::IValue&)>;

/// The forward graph of a frozen module and the attributes that it reads, in a compilation unit of their own:
/// without all that the passes left behind that made it, which can be many times its weights. Tensors are
/// shared. @param copy by default the attribute itself.
/// @return nothing if the graph calls or makes other things of its unit, or writes attributes. May throw.
std::optional<torch::jit::Module> extract(const torch::jit::Module& module, const AttributeCopy& copy = {});

}  // namespace rivulet
