#pragma once

// Includes torch: only for the .cpp files of models/runtime.
#include <torch/script.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "models/package/architecture.h"
#include "models/package/layout.h"
#include "protocol/bytes.h"
#include "protocol/result.h"

namespace rivulet::torchscript {

/// Where a module keeps a value.
struct Slot {
  c10::intrusive_ptr<c10::ivalue::Object> owner;
  std::size_t index = 0;
  std::optional<std::size_t> entry =
      std::nullopt;  ///< Of the list in that place, as recurrent layers have one.

  void set(const at::Tensor& tensor) const;
};

/// A parameter or buffer that training changes and the fleet shares.
struct SharedTensor {
  TensorSpec spec;
  at::Tensor value;         ///< As the file has it; undefined once bound elsewhere.
  bool trains = false;      ///< A parameter whose requires_grad is on.
  std::vector<Slot> slots;  ///< More than one where modules or lists share it; the first is a module's.
};

/// A tensor that stays as the file has it, such as a counter of batches: no part of the layout.
struct LocalTensor {
  Slot slot;
  at::Tensor value;
};

/// A user's network, checked and loaded. Its parameters are kind `parameter`; its floating buffers (batch
/// norm's running statistics) are kind `statistic`; all else is local.
struct UserNetwork {
  torch::jit::Module module;
  std::vector<SharedTensor> shared;  ///< In the order of the layout.
  std::vector<LocalTensor> local;

  [[nodiscard]] ParameterLayout layout() const;
  /// Puts tensors in place of the module's own. @param tensors one for each of `shared`, of its shape.
  void bind(const std::vector<at::Tensor>& tensors) const;
  /// Sets what is local to what the file has, so that training begins from weights and nothing else.
  void reset_local() const;
};

/// Checks the archive, loads it, and checks its values and operators; nothing of its code is run.
/// @param file untrusted. @return the errors of check_archive, check_values and check_operators; unsupported
/// for an operator that this LibTorch lacks; invalid for tensors that cannot train.
Result<UserNetwork> open_network(ByteSpan file);

/// The same network with tensors of its own.
UserNetwork duplicate(const UserNetwork& network);

/// The user's module with the form that the runtime's own networks have: from [n, input_size] to [n,
/// outputs].
torch::jit::Module wrap(const torch::jit::Module& user, const Architecture& architecture);

/// A TorchScript file of the network without the values of its shared tensors, which travel apart: what a
/// release signs. LibTorch writes it anew, so that nothing of the user's file is in it that was not read.
/// @param network is changed by it.
Bytes write_without_weights(UserNetwork& network);

}  // namespace rivulet::torchscript
