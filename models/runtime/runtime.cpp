#include "models/runtime/runtime.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <torch/version.h>

#include <fstream>
#include <sstream>

#include "models/runtime/model_impl.h"

namespace rivulet {

void use_one_thread() {
  at::set_num_threads(1);
  // OpenBLAS has threads of its own, which LibTorch leaves alone. It is looked up and not linked,
  // since another BLAS may stand in its place.
  using SetThreads = void (*)(int);
  if (auto* set_threads = reinterpret_cast<SetThreads>(::dlsym(RTLD_DEFAULT, "openblas_set_num_threads")))
    set_threads(1);
}

Status judge_blas(std::string_view maps) {
  // Debian keeps the reference implementation in …/blas/libblas.so.3, others in folders of their names.
  if (maps.find("/blas/libblas.so") == std::string_view::npos) return {};
  return fail(
      Errc::unsupported,
      "this process runs on the slow reference BLAS (/usr/lib/*/blas/libblas.so.3): training takes up to "
      "15 times as long; install libopenblas0-pthread and start again");
}

Status check_blas() {
  std::ifstream file("/proc/self/maps");
  std::ostringstream text;
  text << file.rdbuf();
  return judge_blas(text.str());
}

std::string libtorch_version() { return TORCH_VERSION; }

}  // namespace rivulet
