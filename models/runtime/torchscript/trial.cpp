#include "models/runtime/torchscript/trial.h"

#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cmath>

#include "models/runtime/torchscript/operators.h"
#include "models/runtime/torchscript/user_model.h"
#include "protocol/assert.h"

namespace rivulet::torchscript {
namespace {

constexpr std::int64_t batch = 4;
/// So far from 0, 1 and their sum may probabilities be that floats hold.
constexpr double rounding = 1e-4;

std::string shape_text(at::IntArrayRef shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

at::Tensor samples_of(const Architecture& architecture, std::span<const float> inputs, std::int64_t count) {
  std::vector<std::int64_t> shape = architecture.input_shape;
  shape.insert(shape.begin(), count);
  return at::from_blob(const_cast<float*>(inputs.data()), shape, at::kFloat).clone();
}

/// The shapes that a loss takes, of which the first is the usual one.
std::vector<std::vector<std::int64_t>> good_shapes(const Architecture& architecture, TaskKind task,
                                                   std::int64_t count) {
  std::vector<std::vector<std::int64_t>> shapes;
  if (task == TaskKind::anomaly) {
    shapes.push_back(architecture.input_shape);
    shapes.back().insert(shapes.back().begin(), count);
  }
  shapes.push_back({count, architecture.outputs});
  if (task == TaskKind::regression && architecture.outputs == 1) shapes.push_back({count});
  return shapes;
}

/// The interpreter tells the whole way through the code, and the reason at the end.
std::string cause_of(std::string_view text) {
  constexpr std::string_view before = "RuntimeError: ";
  const std::size_t at = text.rfind(before);
  return on_one_line(at == std::string_view::npos ? text : text.substr(at + before.size()));
}

Result<at::Tensor> run(Model::Impl& model, const at::Tensor& inputs) {
  torch::jit::Module module = model.user->module;
  std::string cause;
  try {
    return module.forward({inputs}).toTensor().clone();
  } catch (const c10::Error& error) {
    cause = cause_of(error.what_without_backtrace());
  } catch (const std::exception& error) {
    cause = cause_of(error.what());
  }
  return fail(Errc::invalid,
              fmt::format("it cannot take inputs of shape {}: {}", shape_text(inputs.sizes()), cause));
}

/// Whether each row of several is a distribution, as softmax leaves it. Logits are that by chance in no row.
bool are_probabilities(const at::Tensor& output) {
  const at::Tensor within = output.ge(-rounding).logical_and(output.le(1 + rounding));
  return within.all().item<bool>() && output.sum(1).sub(1).abs().le(rounding).all().item<bool>();
}

Status check_output(const at::Tensor& output, const Architecture& architecture, TaskKind task,
                    std::int64_t count) {
  const auto shapes = good_shapes(architecture, task, count);
  if (output.scalar_type() != at::kFloat) {
    return fail(Errc::invalid,
                fmt::format("its answers are of type {}, which the loss cannot take; they must be "
                            "float32 (logits of a classification)",
                            c10::toString(output.scalar_type())));
  }
  if (std::ranges::none_of(shapes,
                           [&](const auto& shape) { return output.sizes() == at::IntArrayRef(shape); })) {
    return fail(
        Errc::invalid,
        fmt::format("it answers {} samples with shape {}, which the loss cannot take: it must be {} ({})",
                    count, shape_text(output.sizes()), shape_text(shapes.front()),
                    task == TaskKind::classification ? "a logit for each of [task] classes"
                    : task == TaskKind::anomaly      ? "the input rebuilt"
                                                     : "[task] outputs values a sample"));
  }
  if (!at::isfinite(output).all().item<bool>())
    return fail(Errc::invalid, "its answers are not finite: mend its weights, or [input] mean and scale");
  if (task == TaskKind::classification && architecture.outputs > 1 && count == batch &&
      are_probabilities(output)) {
    return fail(Errc::invalid,
                "it answers probabilities already (those of a sample sum to 1): return the logits, before "
                "softmax; training and serving apply softmax themselves");
  }
  return {};
}

std::vector<at::Tensor> state_of(const UserNetwork& network) {
  std::vector<at::Tensor> state;
  for (const SharedTensor& tensor : network.shared)
    state.push_back(tensor.slots.front().owner->getSlot(tensor.slots.front().index).toTensor().clone());
  for (const LocalTensor& tensor : network.local)
    state.push_back(tensor.slot.owner->getSlot(tensor.slot.index).toTensor().clone());
  return state;
}

/// Answers of several batch sizes, from the same state to the same state.
Status try_answers(Model::Impl& model, TaskKind task, std::span<const float> inputs) {
  const at::NoGradGuard no_grad;
  const PlainExecution plain;
  const auto before = state_of(*model.user);
  at::Tensor all;
  for (const std::int64_t count : {batch, std::int64_t{1}, std::int64_t{3}}) {
    const auto output = run(model, samples_of(model.architecture, inputs, count));
    if (!output) return std::unexpected(output.error());
    if (Status status = check_output(*output, model.architecture, task, count); !status) return status;
    if (!all.defined()) all = *output;
    if (!at::allclose(*output, all.narrow(0, 0, count), 1e-3, 1e-4)) {
      return fail(
          Errc::invalid,
          "its answer to a sample differs from one time to the next, or with the other samples of a batch, "
          "also after eval(): if it was traced, call model.eval() before tracing, or script it");
    }
  }
  const auto after = state_of(*model.user);
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (!before[i].equal(after[i]))
      return fail(Errc::invalid,
                  "it changes its own tensors while it answers, also after eval(): if it was traced, call "
                  "model.eval() before tracing, or script it");
  }
  return {};
}

/// One loss backwards. @return the notes on parameters that it does not reach.
Result<std::vector<std::string>> try_gradients(Model::Impl& model, TaskKind task,
                                               std::span<const float> inputs) {
  const at::AutoGradMode with_gradients(true);
  const PlainExecution plain;
  const TrainingMode training(model, 1);
  const auto output = run(model, samples_of(model.architecture, inputs, batch));
  if (!output) return std::unexpected(output.error());
  if (Status status = check_output(*output, model.architecture, task, batch); !status)
    return std::unexpected(status.error());
  if (!output->requires_grad())
    return fail(Errc::invalid, "its answers do not depend on its parameters by anything that can be derived");
  (*output * *output).sum().backward();
  std::vector<std::string> notes;
  std::size_t reached = 0;
  std::size_t at = 0;
  const std::span<const float> gradient = model.gradient_span();
  for (const SharedTensor& tensor : model.user->shared) {
    const auto entries = gradient.subspan(at, tensor.spec.size());
    at += tensor.spec.size();
    const bool any = std::ranges::any_of(entries, [](float entry) { return entry != 0.0F; });
    reached += any ? 1 : 0;
    if (tensor.spec.kind != TensorKind::parameter) continue;
    if (!tensor.trains) {
      notes.push_back(fmt::format("{} has requires_grad off and stays as it is", tensor.spec.name));
    } else if (!any) {
      notes.push_back(fmt::format("no gradient reached {} on the first samples", tensor.spec.name));
    }
  }
  std::ranges::fill(model.gradient_span(), 0.0F);
  if (reached == 0) return fail(Errc::invalid, "no gradient reaches any of its parameters");
  return notes;
}

using NamedModes = std::vector<std::pair<std::string, bool>>;

/// Layers whose mode is a constant, so that train() and eval() do not change it: tracing leaves such. Within
/// an `if` it says nothing: attention has dropout in a branch that eval() does not take.
void find_fixed_modes(const torch::jit::Block& block, NamedModes& found) {
  for (const torch::jit::Node* node : block.nodes()) {
    const std::string kind = node->kind().toQualString();
    const bool dropout = kind.find("dropout") != std::string::npos && node->inputs().size() >= 3;
    const bool norm = kind == "aten::batch_norm" && node->inputs().size() >= 6;
    if (!dropout && !norm) continue;
    const auto mode = torch::jit::toIValue(node->input(dropout ? 2 : 5));
    if (mode && mode->isBool()) found.emplace_back(kind, mode->toBool());
  }
}

Result<std::vector<std::string>> check_modes(const UserNetwork& network) {
  const auto graph = inlined_forward(network.module);
  NamedModes found;
  find_fixed_modes(*graph->block(), found);
  for (const auto& [kind, training] : found) {
    if (training)
      return fail(Errc::invalid,
                  fmt::format("its {} always works as in training, as a model has it that was "
                              "traced without eval(): script it, or call model.eval() before tracing",
                              kind));
  }
  std::vector<std::string> notes;
  if (!found.empty()) {
    notes.push_back(
        fmt::format("its {} never works as in training, as a model has it that was traced after eval(): "
                    "there is no dropout, and statistics stay as they are; script it to have both",
                    found.front().first));
  }
  return notes;
}

}  // namespace

Result<std::vector<std::string>> try_network(Model& model, TaskKind task, std::span<const float> inputs) {
  RIVULET_ASSERT(model.impl().user && inputs.size() >= batch * model.architecture().input_size());
  Model::Impl& impl = model.impl();
  return catch_torch("trying the network", [&]() -> Result<std::vector<std::string>> {
    const std::vector<float> weights = model.weights();
    if (!std::ranges::all_of(weights, [](float w) { return std::isfinite(w); }))
      return fail(Errc::invalid, "one of its weights is not finite");
    auto notes = check_modes(*impl.user);
    if (!notes) return notes;
    if (Status status = try_answers(impl, task, inputs); !status) return std::unexpected(status.error());
    const auto more = try_gradients(impl, task, inputs);
    if (!more) return more;
    notes->insert(notes->end(), more->begin(), more->end());
    if (Status status = model.set_weights(weights); !status) return std::unexpected(status.error());
    return notes;
  });
}

Result<Bytes> graph_of(ByteSpan file) {
  auto network = open_network(file);
  if (!network) return std::unexpected(network.error());
  const ParameterLayout layout = network->layout();
  auto graph =
      catch_torch("writing TorchScript", [&]() -> Result<Bytes> { return write_without_weights(*network); });
  if (!graph) return graph;
  // As nodes and coordinator read it: it is these bytes that will be signed, and not those just looked at.
  const auto again = open_network(*graph);
  if (!again) return fail_at("written anew", again.error());
  if (again->layout() != layout)
    return fail(Errc::refused,
                "written anew, it has other tensors: leave out of it what changes while it is saved");
  return graph;
}

}  // namespace rivulet::torchscript
