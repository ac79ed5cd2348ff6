#pragma once

#include "cli/distillation.h"
#include "cli/prepare.h"

namespace rivulet::cli {

/// A version that others learn from.
struct TeacherModel {
  Teacher link;
  Release release;
  std::vector<float> weights;  ///< w_t
};

struct Student {
  PreparedModel model;  ///< prepare_model's, with the trained weights as w_0 and linked to the teacher.
  DistillationReport report;
};

/// Trains the network of a specification on what the teacher answers to the samples of a file (see
/// SoftTargets) and, where there are labels, on these. Optimizer: Adam. The same arguments and file give the
/// same student.
/// @return invalid where specification and teacher do not fit, by name; refused if the training diverges;
/// what prepare_model and load_dataset return.
Result<Student> make_student(const ModelSpec& spec, const PrepareOptions& prepare,
                             const TeacherModel& teacher, const DistillOptions& options);

}  // namespace rivulet::cli
