#pragma once

// Includes torch: only for the .cpp files of this folder.
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <spdlog/fmt/fmt.h>
#include <torch/script.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/runtime/architectures/network.h"
#include "models/runtime/model.h"
#include "protocol/text.h"

namespace rivulet {

namespace torchscript {
struct UserNetwork;
}

struct Model::Impl {
  Architecture architecture;
  ParameterLayout layout;
  at::Tensor weights;   ///< [size]; the module's parameters lie in its memory.
  at::Tensor gradient;  ///< [size]; the parameters' .grad lie in its memory, which backward adds to.
  torch::jit::Module module;
  /// What `module` wraps, of a "torchscript" architecture; shared with nobody, but of a type that only
  /// models/runtime/torchscript knows.
  std::shared_ptr<const torchscript::UserNetwork> user = nullptr;
  /// Entries that no optimizer may touch: running statistics, and parameters that the user froze.
  std::vector<CoordinateRange> held = {};
  Digest graph_hash = {};

  [[nodiscard]] std::span<float> weights_span() {
    return {weights.data_ptr<float>(), static_cast<std::size_t>(weights.numel())};
  }
  [[nodiscard]] std::span<float> gradient_span() {
    return {gradient.data_ptr<float>(), static_cast<std::size_t>(gradient.numel())};
  }
};

/// Tensors of the layout's shapes whose memory is that of `flat`, which they keep alive.
std::vector<at::Tensor> tensors_within(const at::Tensor& flat, const ParameterLayout& layout);

/// The network as a TorchScript module.
/// @param tensors one for each of its layout, in its order; the module holds these very tensors.
torch::jit::Module make_script_module(const Network& network, const std::vector<at::Tensor>& tensors);

/// Drops warnings. LibTorch's own handler writes them to standard error, where a daemon's log is, and those
/// of a user's network as they are, line breaks and all.
class Silence final : public c10::WarningHandler {
 public:
  void process(const c10::SourceLocation&, const std::string&, bool) override {}

  /// It holds nothing, so one serves all threads.
  static Silence* instance() {
    static Silence silence;
    return &silence;
  }
};

/// While it lives, this thread runs TorchScript without the profiling executor: for training that
/// is faster (the first steps by far), and no call's latency depends on which one came first. What the
/// network warns of is dropped.
class PlainExecution {
 public:
  PlainExecution() : before_(torch::jit::getGraphExecutorOptimize()) {
    torch::jit::setGraphExecutorOptimize(false);
    // OpenMP's number of threads is each thread's own: what use_one_thread() set holds for this one too.
    [[maybe_unused]] static thread_local const bool governed = (at::init_num_threads(), true);
  }
  PlainExecution(const PlainExecution&) = delete;
  PlainExecution& operator=(const PlainExecution&) = delete;
  ~PlainExecution() { torch::jit::setGraphExecutorOptimize(before_); }

 private:
  bool before_;
  c10::Warning::WarningHandlerGuard silence_{Silence::instance()};  // Of this thread alone.
};

/// The messages of LibTorch go over many lines, and those about TorchScript begin with an empty one. They
/// quote what a file holds, whatever bytes that are.
inline std::string on_one_line(std::string_view text) {
  constexpr std::size_t length_max = 300;
  std::string line;
  for (const char c : text) {
    const bool blank = c == '\n' || c == ' ';
    if (!blank) line += c;
    if (blank && !line.empty() && line.back() != ' ') line += ' ';
  }
  return to_printable(line, length_max);
}

/// Runs `work` and turns what LibTorch throws into an Error of one line.
template <typename Work>
auto catch_torch(const char* what, Work&& work) -> decltype(work()) {
  try {
    return work();
  } catch (const c10::Error& error) {
    return fail(Errc::internal, fmt::format("{}: {}", what, on_one_line(error.what_without_backtrace())));
  } catch (const std::exception& error) {
    return fail(Errc::internal, fmt::format("{}: {}", what, on_one_line(error.what())));
  }
}

}  // namespace rivulet
