#include "models/runtime/distillation.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

#include "models/runtime/soft_loss.h"

namespace rivulet {
namespace {

constexpr std::size_t batch_samples = 256;

}  // namespace

at::Tensor soft_loss(const at::Tensor& outputs, const at::Tensor& teacher, TaskKind task,
                     double temperature) {
  if (task != TaskKind::classification) return at::mse_loss(outputs, teacher);
  const at::Tensor student_log = at::log_softmax(outputs / temperature, 1);
  const at::Tensor teacher_log = at::log_softmax(teacher / temperature, 1);
  const at::Tensor divergence = (teacher_log.exp() * (teacher_log - student_log)).sum();
  return divergence * (temperature * temperature / static_cast<double>(outputs.size(0)));
}

Result<std::vector<float>> answers_of(Model& teacher, std::span<const float> inputs) {
  const std::size_t size = teacher.architecture().input_size();
  if (inputs.size() % size != 0)
    return fail(Errc::invalid,
                fmt::format("{} input numbers are no whole number of samples of {}", inputs.size(), size));
  const std::size_t samples = inputs.size() / size;
  std::vector<float> answers;
  answers.reserve(samples * static_cast<std::size_t>(teacher.architecture().outputs));
  for (std::size_t begin = 0; begin < samples; begin += batch_samples) {
    const std::size_t batch = std::min(batch_samples, samples - begin);
    const auto some = teacher.forward(inputs.subspan(begin * size, batch * size), batch);
    if (!some) return std::unexpected(some.error());
    answers.insert(answers.end(), some->begin(), some->end());
  }
  if (!std::ranges::all_of(answers, [](float value) { return std::isfinite(value); }))
    return fail(Errc::corrupt, "the teacher answers a number that is not finite");
  return answers;
}

}  // namespace rivulet
