#include "models/runtime/torchscript/values.h"

#include <malloc.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <optional>
#include <set>
#include <string>

#include "models/runtime/model_impl.h"
#include "models/runtime/torchscript/archive.h"
#include "models/runtime/torchscript/operators.h"

namespace rivulet::torchscript {
namespace {

using c10::IValue;
using c10::TypeKind;
using torch::jit::Block;
using torch::jit::Function;

constexpr int depth_max = 64;

/// How many bytes of its storage a tensor may touch; nothing where no memory is that large.
std::optional<std::uint64_t> reach_of(const at::Tensor& tensor) {
  std::int64_t count = 1;
  std::int64_t last = tensor.storage_offset();
  bool possible = last >= 0;
  bool empty = false;
  for (std::int64_t i = 0; i < tensor.dim() && possible; ++i) {
    const std::int64_t size = tensor.sizes()[i];
    const std::int64_t stride = tensor.strides()[i];
    std::int64_t step = 0;
    possible = size >= 0 && stride >= 0 &&
               !__builtin_mul_overflow(std::max<std::int64_t>(size, 1), count, &count) &&
               !__builtin_mul_overflow(std::max<std::int64_t>(size - 1, 0), stride, &step) &&
               !__builtin_add_overflow(last, step, &last);
    empty = empty || size == 0;
  }
  const auto width = static_cast<std::int64_t>(tensor.element_size());
  std::int64_t bytes = 0;
  possible = possible && count <= static_cast<std::int64_t>(file_bytes_max) / width &&
             !__builtin_add_overflow(last, 1, &last) && !__builtin_mul_overflow(last, width, &bytes);
  if (!possible) return std::nullopt;
  return empty ? 0 : static_cast<std::uint64_t>(bytes);
}

/// What its allocator gave it: the storage believes the file, and the file's part may have less.
std::uint64_t allocated(const at::Storage& storage) {
  const at::DataPtr& data = storage.data_ptr();
  return data.get() != nullptr && data.get() == data.get_context() ? ::malloc_usable_size(data.get()) : 0;
}

Status check_tensor(const at::Tensor& tensor, const std::string& name) {
  if (!tensor.defined()) return {};
  if (tensor.layout() != at::kStrided || tensor.is_quantized() || !tensor.device().is_cpu() ||
      !tensor.has_storage()) {
    return fail(Errc::invalid,
                fmt::format("its {} is sparse, quantized or not on the CPU", to_printable(name)));
  }
  const auto reach = reach_of(tensor);
  if (!reach) {
    return fail(Errc::too_large, fmt::format("its {} is larger than {} MiB, or of no possible size",
                                             to_printable(name), file_bytes_max >> 20));
  }
  if (*reach > tensor.storage().nbytes() || *reach > allocated(tensor.storage())) {
    return fail(Errc::corrupt,
                fmt::format("its {} is larger than the part of the file that it lies in: the file is "
                            "damaged, or was made by hand",
                            to_printable(name)));
  }
  return {};
}

std::unexpected<Error> other_type(const std::string& name, const c10::Type& type) {
  return fail(Errc::corrupt, fmt::format("its {} is not of the type that its code declares, {}: the file is "
                                         "damaged, or was made by hand",
                                         to_printable(name), to_printable(type.str())));
}

std::unexpected<Error> holds_object(const std::string& name, const c10::Type& type) {
  return fail(Errc::refused,
              fmt::format("its {} can hold an object (it is declared as {}): it must be a tensor, number or "
                          "text, or a list, tuple or dictionary of such",
                          to_printable(name), to_printable(type.str())));
}

bool is_plain(const IValue& value, TypeKind kind) {
  switch (kind) {
    case TypeKind::IntType: return value.isInt();
    case TypeKind::FloatType: return value.isDouble();
    case TypeKind::BoolType: return value.isBool();
    case TypeKind::ComplexType: return value.isComplexDouble();
    case TypeKind::StringType: return value.isString();
    case TypeKind::NoneType: return value.isNone();
    case TypeKind::DeviceObjType: return value.isDevice();
    default: return false;
  }
}

class Inspection {
 public:
  /// @param name in words, such as "attribute conv.weight".
  Status visit(const IValue& value, const c10::Type& type, const std::string& name, int depth = 0) {
    if (depth > depth_max) return fail(Errc::invalid, "its modules nest too deeply");
    if (can_hold_objects(type)) return holds_object(name, type);  // Even if there is none now.
    switch (type.kind()) {
      case TypeKind::TensorType:
        return value.isTensor() ? check_tensor(value.toTensor(), name) : other_type(name, type);
      case TypeKind::OptionalType:
        if (value.isNone()) return {};
        return visit(value, *type.expectRef<c10::OptionalType>().getElementType(), name, depth + 1);
      case TypeKind::ListType: return visit_list(value, type.expectRef<c10::ListType>(), name, depth);
      case TypeKind::DictType: return visit_dictionary(value, type.expectRef<c10::DictType>(), name, depth);
      case TypeKind::TupleType: return visit_tuple(value, type.expectRef<c10::TupleType>(), name, depth);
      case TypeKind::ClassType: return visit_module(value, type.expectRef<c10::ClassType>(), name, depth);
      case TypeKind::IntType:
      case TypeKind::FloatType:
      case TypeKind::BoolType:
      case TypeKind::ComplexType:
      case TypeKind::StringType:
      case TypeKind::NoneType:
      case TypeKind::DeviceObjType: return is_plain(value, type.kind()) ? Status{} : other_type(name, type);
      default: return holds_object(name, type);
    }
  }

  Status visit_code(Function& function) {
    if (!seen_.insert(&function).second || !function.isGraphFunction()) return {};
    for (const c10::Argument& argument : function.getSchema().arguments()) {
      if (!argument.default_value()) continue;
      const std::string name = "default of " + argument.name();
      if (Status status = visit(*argument.default_value(), *argument.type(), name); !status) return status;
    }
    function.ensure_defined();
    return visit_constants(*torch::jit::toGraphFunction(function).graph()->block());
  }

 private:
  Status visit_list(const IValue& value, const c10::ListType& type, const std::string& name, int depth) {
    const c10::Type& declared = *type.getElementType();
    if (!value.isList() || *value.toList().elementType() != declared) return other_type(name, type);
    for (const IValue& entry : value.toListRef()) {
      if (Status status = visit(entry, declared, name, depth + 1); !status) return status;
    }
    return {};
  }

  Status visit_dictionary(const IValue& value, const c10::DictType& type, const std::string& name,
                          int depth) {
    if (!value.isGenericDict()) return other_type(name, type);
    const auto dictionary = value.toGenericDict();
    if (*dictionary.keyType() != *type.getKeyType() || *dictionary.valueType() != *type.getValueType())
      return other_type(name, type);
    for (const auto& entry : dictionary) {
      if (Status status = visit(entry.key(), *type.getKeyType(), name, depth + 1); !status) return status;
      if (Status status = visit(entry.value(), *type.getValueType(), name, depth + 1); !status) return status;
    }
    return {};
  }

  Status visit_tuple(const IValue& value, const c10::TupleType& type, const std::string& name, int depth) {
    if (!value.isTuple() || value.toTupleRef().elements().size() != type.elements().size())
      return other_type(name, type);
    const auto& elements = value.toTupleRef().elements();
    for (std::size_t i = 0; i < elements.size(); ++i) {
      if (Status status = visit(elements[i], *type.elements()[i], name, depth + 1); !status) return status;
    }
    return {};
  }

  /// @param type the very class, and no other of the same names: places are those of the class.
  Status visit_module(const IValue& value, const c10::ClassType& type, const std::string& name, int depth) {
    if (!value.isObject() || value.toObjectRef().type().get() != &type) return other_type(name, type);
    const c10::ivalue::Object& object = value.toObjectRef();
    if (!seen_.insert(&object).second) return {};
    if (object.slots().size() != type.numAttributes()) return other_type(name, type);
    const std::string prefix = name.empty() ? "" : name.substr(name.find(' ') + 1) + ".";
    for (std::size_t i = 0; i < type.numAttributes(); ++i) {
      const std::string inner = "attribute " + prefix + type.getAttributeName(i);
      if (Status status = visit(object.slots()[i], *type.getAttribute(i), inner, depth + 1); !status)
        return status;
    }
    for (std::size_t i = 0; i < type.numConstants(); ++i) {
      const IValue constant = type.getConstant(i);
      const std::string inner = "constant " + prefix + type.getConstantName(i);
      if (Status status = visit(constant, *constant.type(), inner, depth + 1); !status) return status;
    }
    for (Function* method : type.methods()) {
      if (Status status = visit_code(*method); !status) return status;
    }
    return {};
  }

  Status visit_constant(const torch::jit::Node& node) {
    if (node.kind() != c10::prim::Constant || node.output()->type()->kind() == TypeKind::FunctionType)
      return {};
    const auto value = torch::jit::toIValue(node.output());
    return value ? visit(*value, *node.output()->type(), "constant") : Status{};
  }

  Status visit_constants(const Block& block) {
    for (const torch::jit::Node* node : block.nodes()) {
      if (Status status = visit_constant(*node); !status) return status;
      for (const Block* inner : node->blocks()) {
        if (Status status = visit_constants(*inner); !status) return status;
      }
    }
    return {};
  }

  std::set<const void*> seen_;
};

}  // namespace

Status check_values(const torch::jit::Module& module) {
  return catch_torch("reading the values", [&]() -> Status {
    Inspection inspection;
    if (Status status = inspection.visit(module._ivalue(), *module.type(), ""); !status) return status;
    for (Function* function : module._ivalue()->compilation_unit()->get_functions()) {
      if (function == nullptr) continue;
      if (Status status = inspection.visit_code(*function); !status) return status;
    }
    return {};
  });
}

}  // namespace rivulet::torchscript
