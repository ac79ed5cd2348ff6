#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/prepared_model.h"
#include "cli/safetensors.h"
#include "storage/file.h"
#include "tests/catch.h"
#include "tests/cli/programs.h"
#include "tests/temporary_folder.h"

using namespace rivulet;
using namespace rivulet::cli;
using namespace rivulet::tests;

namespace {

/// The network of digits_spec from its flat weights, in NumPy, against the exported file.
constexpr const char* compare = R"(
import json, sys, numpy as np, torch
w = np.fromfile(sys.argv[1] + '/weights.f32', '<f4')
w1, b1, w2, b2 = np.split(w, np.cumsum([64 * 32, 32, 32 * 10]))
x = np.random.default_rng(1).normal(size=(20, 64)).astype(np.float32)
y = np.maximum(x @ w1.reshape(32, 64).T + b1, 0) @ w2.reshape(10, 32).T + b2
notes = {'rivulet.json': ''}
m = torch.jit.load(sys.argv[1] + '/model.pt', _extra_files=notes)
notes = json.loads(notes['rivulet.json'])
assert notes == {'name': 'digits', 'task': 'classification', 'classes': [str(i) for i in range(10)],
                 'preprocessing': notes['preprocessing']}, notes
assert set(notes['preprocessing']) == {'mean', 'scale'}, notes
assert np.abs(m(torch.from_numpy(x)).detach().numpy() - y).max() <= 1e-5
assert [tuple(p.shape) for p in m.parameters()] == [(32, 64), (32,), (10, 32), (10,)]
)";

}  // namespace

TEST_CASE("PyTorch loads an exported built-in network, which answers as NumPy computes", "[cli][export]") {
  if (run("/usr/bin/python3", {"-c", "import torch, numpy"}).status != 0) {
    WARN("skipped: /usr/bin/python3 has no torch (install python3-torch)");
    return;
  }
  const TemporaryFolder folder;
  const std::string path = folder.path.string();
  tests::write(folder.path / "spec.toml", digits_spec(""));
  const Outcome prepared = run(program("rivulet-model"), {"prepare", path + "/spec.toml", "--out", path,
                                                          "--fleet", std::string(32, '0')});
  INFO(prepared.err);
  REQUIRE(prepared.status == 0);
  const Outcome exported = run(program("rivulet-model"), {"export", path});
  INFO(exported.err);
  REQUIRE(exported.status == 0);
  tests::write(folder.path / "compare.py", compare);
  const Outcome compared = run("/usr/bin/python3", {path + "/compare.py", path});
  INFO(compared.err);
  CHECK(compared.status == 0);
}

TEST_CASE("safetensors have a header of JSON, and the numbers behind it in its order", "[cli][export]") {
  const TemporaryFolder folder;
  const std::vector<float> weight{1, 2, 3, 4, 5, 6}, scalar{-0.5F};
  const auto file = folder.path / "m.safetensors";
  REQUIRE(write_safetensors(file, {{"fc.weight", {2, 3}, weight}, {"t", {}, scalar}}, {{"name", "a \"b\""}}));
  const Bytes bytes = read_file(file, 1 << 20).value();
  const auto length = static_cast<std::size_t>(load_le<std::uint64_t>(bytes));
  REQUIRE(bytes.size() == 8 + length + 7 * sizeof(float));
  CHECK(length % 8 == 0);
  const auto header = nlohmann::json::parse(text_of(ByteSpan(bytes).subspan(8, length)));
  CHECK(header == nlohmann::json::parse(R"({
      "__metadata__": {"name": "a \"b\""},
      "fc.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
      "t": {"dtype": "F32", "shape": [], "data_offsets": [24, 28]}})"));
  CHECK(load_le<float>(ByteSpan(bytes).subspan(8 + length + 20)) == 6.0F);
  CHECK(load_le<float>(ByteSpan(bytes).subspan(8 + length + 24)) == -0.5F);
  CHECK_FALSE(write_safetensors(file, {{"t", {}, scalar}, {"t", {}, scalar}}, {}));
}
