#include "models/runtime/runtime.h"
#include "tests/catch.h"

using namespace rivulet;

TEST_CASE("the reference BLAS is told from others by the path it was loaded from", "[runtime][process]") {
  CHECK(judge_blas(
      "7f00-7f01 r-xp 0 08:01 1 /usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3\n"
      "7f02-7f03 r-xp 0 08:01 2 /usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblasp-r0.3.21.so\n"));
  CHECK(judge_blas("7f00-7f01 r-xp 0 08:01 1 /opt/libtorch/lib/libtorch_cpu.so\n"));
  // OpenBLAS is loaded here too, for LAPACK alone.
  const Status slow = judge_blas(
      "7f00-7f01 r-xp 0 08:01 1 /usr/lib/x86_64-linux-gnu/blas/libblas.so.3.11.0\n"
      "7f02-7f03 r-xp 0 08:01 2 /usr/lib/x86_64-linux-gnu/openblas-pthread/liblapack.so.3\n");
  REQUIRE_FALSE(slow);
  CHECK(slow.error().detail.find("libopenblas0-pthread") != std::string::npos);
}

TEST_CASE("the version of LibTorch is the one that is linked", "[runtime][process]") {
  CHECK(libtorch_version().find('.') != std::string::npos);
}
