#pragma once

#include <span>
#include <vector>

#include "models/runtime/model.h"
#include "protocol/result.h"

namespace rivulet {

/// What a teacher answers to the samples that a student trains on. The student's loss is then
///   classification  weight * T^2 * KL(softmax(teacher / T) || softmax(student / T))
///                   + (1 - weight) * cross-entropy of the labels
///   otherwise       weight * squared error to the teacher's values + (1 - weight) * that to the targets
/// as means over the batch; without labels or targets the first term alone, unweighted.
/// Source: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2.
struct SoftTargets {
  std::span<const float> outputs;  ///< [n * outputs], finite: logits of a classification, else values.
  double temperature = 4;          ///< T, above 0; of a classification.
  double weight = 0.7;             ///< In [0, 1].
};

/// The teacher's answers to all samples, batch by batch: what SoftTargets::outputs wants.
/// @param inputs [n * input_size], preprocessed as the teacher's are.
/// @return [n * outputs]; invalid on a wrong length, corrupt when an answer is not finite.
Result<std::vector<float>> answers_of(Model& teacher, std::span<const float> inputs);

}  // namespace rivulet
