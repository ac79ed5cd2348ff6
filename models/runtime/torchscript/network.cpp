#include "models/runtime/torchscript/network.h"

#include <caffe2/serialize/in_memory_adapter.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <tuple>

#include "models/runtime/model_impl.h"
#include "models/runtime/runtime.h"
#include "models/runtime/torchscript/archive.h"
#include "models/runtime/torchscript/operators.h"
#include "models/runtime/torchscript/values.h"
#include "protocol/assert.h"
#include "protocol/text.h"

namespace rivulet::torchscript {
namespace {

using torch::jit::Module;

/// Two slots with the same of these hold one tensor.
using Identity = std::tuple<const void*, std::vector<std::int64_t>, std::vector<std::int64_t>>;

Identity identity_of(const at::Tensor& tensor) {
  return {tensor.data_ptr(), tensor.sizes().vec(), tensor.strides().vec()};
}

Status check_parameter(const at::Tensor& tensor, const std::string& name) {
  if (tensor.scalar_type() == at::kFloat) return {};
  const bool floating = at::isFloatingType(tensor.scalar_type());
  return fail(Errc::invalid,
              fmt::format("its parameter {} is of type {}, and only float32 can be trained: {}", name,
                          c10::toString(tensor.scalar_type()),
                          floating ? "call model.float() before saving" : "keep it as a buffer"));
}

class Collector {
 public:
  explicit Collector(UserNetwork& network) : network_(network) {}

  Status visit(const Module& module, const std::string& prefix) {
    const auto owner = module._ivalue();
    if (!seen_.insert(owner.get()).second) return {};
    const auto type = module.type();
    for (std::size_t i = 0; i < type->numAttributes(); ++i) {
      const std::string name = prefix + type->getAttributeName(i);
      const c10::IValue& value = owner->getSlot(i);
      Status status;
      if (value.isModule()) {
        status = visit(value.toModule(), name + ".");
      } else if (value.isTensor() && value.toTensor().defined()) {
        status = add(value.toTensor(), name, {owner, i}, type->is_parameter(i), type->is_buffer(i));
      }
      if (!status) return status;
    }
    return {};
  }

  /// Lists of tensors hold parameters a second time: recurrent layers compute with those.
  void visit_lists() {
    for (const Module& module : network_.module.modules()) {
      const auto owner = module._ivalue();
      for (std::size_t i = 0; i < module.type()->numAttributes(); ++i) {
        if (!owner->getSlot(i).isTensorList()) continue;
        const c10::List<at::Tensor> list = owner->getSlot(i).toTensorList();
        for (std::size_t entry = 0; entry < list.size(); ++entry) {
          const at::Tensor tensor = list.get(entry);
          const auto found = tensor.defined() ? places_.find(identity_of(tensor)) : places_.end();
          if (found != places_.end()) network_.shared[found->second].slots.push_back({owner, i, entry});
        }
      }
    }
  }

 private:
  Status add(const at::Tensor& tensor, const std::string& name, Slot slot, bool parameter, bool buffer) {
    if (!is_printable(name)) return fail(Errc::corrupt, "the name of one of its tensors is no text");
    if (parameter) {
      if (Status status = check_parameter(tensor, name); !status) return status;
    } else if (!buffer || !at::isFloatingType(tensor.scalar_type())) {
      network_.local.push_back({std::move(slot), tensor.detach().clone()});
      return {};
    } else if (tensor.scalar_type() != at::kFloat) {
      return fail(Errc::invalid, fmt::format("its buffer {} is of type {}: call model.float() before saving",
                                             name, c10::toString(tensor.scalar_type())));
    }
    if (tensor.numel() == 0) return fail(Errc::invalid, fmt::format("its tensor {} is empty", name));
    const auto [found, is_new] = places_.try_emplace(identity_of(tensor), network_.shared.size());
    if (!is_new) {
      network_.shared[found->second].slots.push_back(std::move(slot));
      return {};
    }
    SharedTensor shared{
        {name, tensor.sizes().vec(), parameter ? TensorKind::parameter : TensorKind::statistic},
        tensor.detach(),
        parameter && tensor.requires_grad(),
        {}};
    shared.slots.push_back(std::move(slot));
    network_.shared.push_back(std::move(shared));
    return {};
  }

  UserNetwork& network_;
  std::set<const void*> seen_;
  std::map<Identity, std::size_t> places_;
};

std::unexpected<Error> explain_loading(std::string_view text) {
  const std::string line = on_one_line(text);
  constexpr std::string_view unknown = "Unknown builtin op: ";
  if (const std::size_t at = line.find(unknown); at != std::string::npos) {
    const std::string rest = line.substr(at + unknown.size());
    return fail(
        Errc::unsupported,
        fmt::format("it uses the operator {}, which LibTorch {} lacks: a newer PyTorch may have written "
                    "it, or it belongs to a library of its own",
                    rest.substr(0, rest.find_first_of(". ")), libtorch_version()));
  }
  return fail(Errc::corrupt, fmt::format("LibTorch {} cannot load it: {}", libtorch_version(), line));
}

Result<Module> load(ByteSpan file) {
  try {
    return torch::jit::load(
        std::make_shared<caffe2::serialize::MemoryReadAdapter>(file.data(), static_cast<off_t>(file.size())),
        at::kCPU);
  } catch (const c10::Error& error) {
    return explain_loading(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return explain_loading(error.what());
  }
}

Status check_trainable(const UserNetwork& network) {
  const auto is_parameter = [](const SharedTensor& tensor) {
    return tensor.spec.kind == TensorKind::parameter;
  };
  if (std::ranges::none_of(network.shared, is_parameter)) {
    return fail(Errc::invalid,
                "it has no parameters, so there is nothing to train (a frozen module has them as constants)");
  }
  if (std::ranges::none_of(network.shared, &SharedTensor::trains))
    return fail(Errc::invalid, "none of its parameters has requires_grad, so there is nothing to train");
  return check(network.layout());
}

}  // namespace

void Slot::set(const at::Tensor& tensor) const {
  if (!entry) return owner->setSlot(index, tensor);
  c10::List<at::Tensor> list = owner->getSlot(index).toTensorList();
  list.set(*entry, tensor);
}

ParameterLayout UserNetwork::layout() const {
  ParameterLayout layout;
  for (const SharedTensor& tensor : shared) layout.tensors.push_back(tensor.spec);
  return layout;
}

void UserNetwork::bind(const std::vector<at::Tensor>& tensors) const {
  for (std::size_t i = 0; i < shared.size(); ++i) {
    for (const Slot& slot : shared[i].slots) slot.set(tensors.at(i));
  }
}

void UserNetwork::reset_local() const {
  for (const LocalTensor& tensor : local) tensor.slot.set(tensor.value.clone());
}

Result<UserNetwork> open_network(ByteSpan file) {
  if (Status status = check_archive(file); !status) return std::unexpected(status.error());
  auto module = load(file);
  if (!module) return std::unexpected(module.error());
  if (Status status = check_operators(*module); !status) return std::unexpected(status.error());
  if (Status status = check_values(*module); !status) return std::unexpected(status.error());
  return catch_torch("reading the tensors", [&]() -> Result<UserNetwork> {
    UserNetwork network{std::move(*module), {}, {}};
    Collector collector(network);
    if (Status status = collector.visit(network.module, ""); !status) return std::unexpected(status.error());
    collector.visit_lists();
    if (Status status = check_trainable(network); !status) return std::unexpected(status.error());
    network.module.eval();
    return network;
  });
}

UserNetwork duplicate(const UserNetwork& network) {
  const at::NoGradGuard no_grad;
  UserNetwork copy{network.module.deepcopy(), {}, {}};
  Collector collector(copy);
  const Status collected = collector.visit(copy.module, "");
  collector.visit_lists();
  RIVULET_ASSERT(collected && copy.shared.size() == network.shared.size());
  for (std::size_t i = 0; i < copy.shared.size(); ++i) copy.shared[i].trains = network.shared[i].trains;
  return copy;
}

torch::jit::Module wrap(const Module& user, const Architecture& architecture) {
  Module network(c10::QualifiedName("__torch__.rivulet.Wrapped"), user._ivalue()->compilation_unit(),
                 /*shouldMangle=*/true);
  network.register_module("user", user);
  network.define(
      fmt::format("def forward(self, x):\n"
                  "    y = self.user.forward(x.reshape([-1, {}]))\n"
                  "    return y.reshape([x.size(0), {}])\n",
                  fmt::join(architecture.input_shape, ", "), architecture.outputs));
  network.eval();
  return network;
}

Bytes write_without_weights(UserNetwork& network) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> blanks;
  for (const SharedTensor& tensor : network.shared) {
    // One zero, seen as a tensor of the right shape: the file has no more of it.
    blanks.push_back(at::zeros({}).expand(tensor.spec.shape).detach().set_requires_grad(tensor.trains));
  }
  network.bind(blanks);
  network.reset_local();
  network.module.eval();
  std::ostringstream out;
  network.module.save(out);
  return copy_of(bytes_of(out.str()));
}

}  // namespace rivulet::torchscript
