// What an import takes, and what it refuses with which reason.
#include <spdlog/fmt/fmt.h>

#include "models/runtime/torchscript/archive.h"
#include "tests/models_runtime/user_import.h"

using namespace rivulet;
using namespace rivulet::tests;

namespace fs = std::filesystem;

TEST_CASE("a traced network is taken with a note on what it does not do", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  Model model = Model::build(image_architecture, read_all(files / "traced.pt")).value();
  const auto notes =
      torchscript::try_network(model, TaskKind::classification, reference::uniform(4 * 144, 0, 1, 3)).value();
  REQUIRE(!notes.empty());
  CHECK(notes.front().find("traced after eval()") != std::string::npos);
  const auto scripted = Model::build(image_architecture, read_all(files / "calm.pt")).value().weights();
  CHECK(model.weights() == scripted);
}

TEST_CASE("what cannot take part is refused with the reason, and nothing of it runs", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  struct Case {
    const char* file;
    const char* said;
  };
  for (const auto& [file, said] : std::vector<Case>{
           {"Weightless", "it has no parameters"},
           {"frozen", "it has no parameters"},
           {"untrained", "none of its parameters has requires_grad"},
           {"Integers", "its parameter counts is of type Long, and only float32 can be trained"},
           {"half", "is of type Half, and only float32 can be trained: call model.float()"},
           {"double", "is of type Double, and only float32 can be trained: call model.float()"},
           {"Pair", "its forward returns (Tensor, Tensor)"},
           {"TwoInputs", "its forward must take one tensor"},
           {"Flat", "it answers 4 samples with shape [4], which the loss cannot take: it must be [4, 5]"},
           {"Classes", "its answers are of type Long, which the loss cannot take"},
           {"Probabilities", "return the logits, before softmax"},
           {"ProbabilitiesServed", "return the logits, before softmax"},
           {"ProbabilitiesTrained", "return the logits, before softmax"},
           {"FixedBatch", "it cannot take inputs of shape [1, 1, 12, 12]"},
           {"Detached", "its answers do not depend on its parameters"},
           {"Infinite", "one of its weights is not finite"},
           {"Random", "its answer to a sample differs from one time to the next"},
           {"Counting", "it changes its own tensors while it answers"},
           {"traced", "always works as in training"},
           {"Endless", "it uses prim::Loop"},
           {"Long", "it uses prim::Loop"},
           // Each would turn far more often than 2^24 times, in a branch that the trial never takes.
           {"Remainder", "it uses prim::Loop"},
           {"Fraction", "it uses prim::Loop"},
           {"SetEntry", "lists that the code changes"},
           {"SetSize", "lists that the code changes"},
           {"SetAttribute", "it uses aten::append (endless_networks.py:"},
           {"Nested", "it uses aten::_set_item"},
           {"Doubling", "it uses prim::Loop"},
           {"Extending", "lists that the code changes"},
           {"Growing", "it uses prim::Loop"},
           {"Chasing", "it uses prim::Loop"},
           {"Text", "it uses prim::Loop"},
           // Sizes that no memory stands behind.
           {"MadeUp", "it uses prim::Loop"},
           {"MadeUpEmpty", "it uses prim::Loop"},
           {"MadeUpView", "it uses prim::Loop"},
           {"MadeUpFlat", "it uses prim::Loop"},
           {"MadeUpLength", "it uses prim::Loop"},
           {"MadeUpRepeat", "it uses prim::Loop"},
           {"MadeUpInPlace", "it uses prim::Loop"},
           {"MadeUpOut", "it uses prim::Loop"},
           {"MadeUpInTurns", "it uses prim::Loop"},
           {"MadeUpSpectrum", "it uses prim::Loop"},
           {"MadeUpSpectra", "it uses prim::Loop"},
           {"DoubledSpectrum", "it uses prim::Loop"},
           {"MadeUpState", "it uses prim::SetAttr"},
           {"Writes", "it uses aten::save (refused_networks.py:"},
           {"WritesUnreached", "it uses aten::save"},
           {"Reads", "it uses aten::from_file"},
           {"Prints", "it uses prim::Print"},
           {"Memory", "it uses aten::empty"},
           {"Forks", "it uses prim::fork"},
           {"NoGrad", "as 'with torch.no_grad()' does: leave it out, and call detach()"},
           {"Autocast", "an object of the class torch.amp.autocast_mode.autocast"},
           {"NormedTooFew", "it uses aten::_weight_norm (refused_networks.py:"},
           {"NormedLast", "it uses aten::_weight_norm"},
           {"NormedPart", "it uses aten::_weight_norm"},
           {"NormedInPlace", "it uses aten::_weight_norm"},
           {"NormedSet", "it uses aten::_weight_norm"},
           {"NormedSomewhere", "it uses aten::_weight_norm"},
           {"AtLoad", "which runs while the file is loaded"},
           {"overwriting", "which runs while the file is loaded"},
           {"long_name", "500 are allowed"},
           {"other_case", ".PY' is none that torch.jit.save() writes"},
           {"legacy", "'model.json' is none that torch.jit.save() writes"},
           {"twice", "'DATA.pkl' is none that torch.jit.save() writes"},
           {"bomb", "MiB once unpacked"},
           {"code", "MiB of code"},
           {"InList", "its attribute things can hold an object"},
           {"InTuple", "its attribute things can hold an object"},
           {"KeepsInList", "it uses aten::_set_item (refused_networks.py:"},
           {"GrowsList", "it uses aten::append"},
           {"KeepsInDictionary", "it uses aten::_set_item"},
           {"SetsAtTimes", "it uses prim::SetAttr"},
           {"beyond", "its attribute table is larger than the part of the file that it lies in"},
           {"short_part", "its attribute table is larger than the part of the file that it lies in"},
           {"number", "its attribute thin.other is not of the type that its code declares, int"},
           {"class", "its attribute thin is not of the type that its code declares, __torch__."},
           {"Unreached", "it uses aten::from_file"},
           {"Local", "an object of a class"},
           {"operator", "it uses the operator aten::max_pool_of_2031, which LibTorch 1."},
           {"new", "it has file format 99, but LibTorch 1."},
           {"pickle", "as torch.save() leaves it"},
           {"part", "it lacks its part 'data.pkl'"},
           {"empty", "it is empty"},
           {"short", "it is no TorchScript file, or a damaged one"},
           {"text", "it is no TorchScript file, or a damaged one"},
       }) {
    CAPTURE(file);
    const Status status = import_file(read_all(files / fmt::format("bad_{}.pt", file)));
    REQUIRE(!status);
    CAPTURE(status.error().detail);
    CHECK(status.error().detail.find(said) != std::string::npos);
    CHECK(status.error().detail.find('\n') == std::string::npos);
    CHECK(!fs::exists("WRITTEN"));
    CHECK(victim_is_whole());
  }
}

TEST_CASE("logits may sum to anything, and probabilities are answers of other tasks", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  const Status logarithms = import_file(read_all(files / "logarithms.pt"));
  INFO((logarithms ? std::string() : logarithms.error().detail));
  CHECK(logarithms.has_value());  // Its softmax is what it was taken of.
  const Bytes probabilities = read_all(files / "bad_Probabilities.pt");
  CHECK(import_file(probabilities, TaskKind::regression).has_value());
}

TEST_CASE("inputs and outputs are those of the specification", "[runtime][user]") {
  const fs::path& files = python_networks();
  if (files.empty()) return;
  const Bytes file = read_all(files / "residual.pt");
  Architecture other = image_architecture;
  other.input_shape = {1, 10, 10};
  Status status = import_file(file, TaskKind::classification, other);
  CHECK(status.error().detail.find("it cannot take inputs of shape [4, 1, 10, 10]") != std::string::npos);
  other = image_architecture;
  other.outputs = 7;
  status = import_file(file, TaskKind::classification, other);
  CHECK(status.error().detail.find("shape [4, 5]") != std::string::npos);
  other.outputs = 144;
  status = import_file(file, TaskKind::anomaly, other);
  CHECK(status.error().detail.find("it must be [4, 1, 12, 12] (the input rebuilt)") != std::string::npos);
  CHECK(import_file(file, TaskKind::regression).has_value());  // Five values a sample.
  other.outputs = 1;
  const Bytes flat = read_all(files / "bad_Flat.pt");
  CHECK(import_file(flat, TaskKind::regression, other).has_value());  // [n] is as good as [n, 1].
  CHECK(torchscript::check_archive(Bytes(torchscript::file_bytes_max + 1)).error().code == Errc::too_large);
}
