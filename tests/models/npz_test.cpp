#include <sys/stat.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "models/package/npz.h"
#include "tests/catch.h"
#include "tests/temporary_folder.h"

using namespace rivulet;

namespace {

bool has_numpy() { return std::system("/usr/bin/python3 -c 'import numpy' 2>/dev/null") == 0; }

std::string contents(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

TEST_CASE("NumPy loads what write_npz wrote", "[models][npz]") {
  if (!has_numpy()) {
    WARN("skipped: /usr/bin/python3 has no numpy (install python3-numpy)");
    return;
  }
  TemporaryFolder folder;
  std::vector<float> matrix(6);
  for (std::size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<float>(i) - 2.5F;
  const std::vector<float> vector = {0.1F, -1e-38F, 3e38F};
  const std::vector<float> scalar = {7.0F};
  const std::vector<float> many(100000, 0.25F);
  const auto file = folder.path / "model.npz";
  REQUIRE(write_npz(
      file,
      {{"fc1.weight", {2, 3}, matrix},
       {"fc1.bias", {3}, vector},
       {"preprocessing.scale", {}, scalar},
       {"empty", {0, 4}, {}},
       {"many", {10, 100, 100}, many}},
      {{"classes", {"a", "zwölf", "日本", "", "\xf0\x9f\x90\x88 cat", "bad \xff\xc3"}}, {"none", {}}}));
  const auto script = folder.path / "check.py";
  std::ofstream(script) << R"(
import sys, zipfile, numpy as np
assert zipfile.ZipFile(sys.argv[1]).testzip() is None          # every CRC
z = np.load(sys.argv[1], allow_pickle=False)
assert z.files == ['fc1.weight', 'fc1.bias', 'preprocessing.scale', 'empty', 'many', 'classes', 'none'], z.files
assert z['classes'].tolist() == ['a', 'zwölf', '日本', '', '\U0001f408 cat', 'bad \ufffd\ufffd'], z['classes']
assert z['none'].shape == (0,)
assert all(z[n].dtype == np.float32 and z[n].flags.c_contiguous for n in z.files[:5])
assert np.array_equal(z['fc1.weight'], np.arange(6, dtype=np.float32).reshape(2, 3) - np.float32(2.5))
assert np.array_equal(z['fc1.bias'], np.array([0.1, -1e-38, 3e38], np.float32)), z['fc1.bias']
assert z['preprocessing.scale'].shape == () and z['preprocessing.scale'] == 7
assert z['empty'].shape == (0, 4)
assert z['many'].shape == (10, 100, 100) and z['many'].sum() == 25000
)";
  CHECK(std::system(("/usr/bin/python3 " + script.string() + " " + file.string()).c_str()) == 0);
}

TEST_CASE("the same arrays give the same bytes, and leave nothing else behind", "[models][npz]") {
  TemporaryFolder folder;
  const std::vector<float> values = {1, 2, 3};
  REQUIRE(write_npz(folder.path / "a.npz", {{"x", {3}, values}}));
  REQUIRE(write_npz(folder.path / "b.npz", {{"x", {3}, values}}));
  CHECK(contents(folder.path / "a.npz") == contents(folder.path / "b.npz"));
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path), {}) == 2);
}

TEST_CASE("arrays that make no archive are refused, and an old file stays", "[models][npz]") {
  TemporaryFolder folder;
  const std::vector<float> values = {1, 2, 3};
  const auto file = folder.path / "a.npz";
  REQUIRE(write_npz(file, {{"x", {3}, values}}));
  const std::string before = contents(file);
  CHECK(write_npz(file, {{"x", {2}, values}}).error().code == Errc::invalid);
  CHECK(write_npz(file, {{"", {3}, values}}).error().code == Errc::invalid);
  CHECK(write_npz(file, {{"x", {3}, values}, {"x", {3}, values}}).error().code == Errc::invalid);
  CHECK(contents(file) == before);
  CHECK(write_npz(folder.path / "none" / "a.npz", {{"x", {3}, values}}).error().code == Errc::storage);
  CHECK(write_npz("/dev/full/a.npz", {{"x", {3}, values}}).error().code == Errc::storage);
  // A device would be replaced, and whoever runs as root may do that.
  REQUIRE(::mkfifo((folder.path / "pipe").c_str(), 0600) == 0);
  CHECK(write_npz(folder.path / "pipe", {{"x", {3}, values}}).error().code == Errc::invalid);
  CHECK(std::filesystem::is_fifo(folder.path / "pipe"));
}
