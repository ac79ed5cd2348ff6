#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests; status 0 only if all of them pass.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage="usage: ./test.sh [--asan|--tsan|--long]"
preset=dev target=all only=()
if [ $# -gt 1 ]; then
  echo "test.sh: one flag at most; $usage" >&2
  exit 2
fi
case "${1-}" in
  "") ;;
  --asan|--tsan)  # the tests labelled sanitize, and what they need, under the sanitizer
    preset=${1#--} target=sanitize_tests only=(-L '^sanitize$') ;;
  --long) export RIVULET_TEST_LONG=1 ;;  # tests read it, and try more seeds
  -h|--help) echo "$usage"; exit 0 ;;
  *) echo "test.sh: unknown flag $1; $usage" >&2; exit 2 ;;
esac

# Tests on whole data sets run where these lie beside the checkout, or where RIVULET_DATA says.
if [ -z "${RIVULET_DATA-}" ] && [ -d ../shared/data ]; then
  RIVULET_DATA=$(cd ../shared/data && pwd)
  export RIVULET_DATA
fi
jobs=$(nproc)  # It would say 1 once OMP_NUM_THREADS is set.
# More threads in a matrix product only slow down products of the size that tests have.
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=second_deadlock_stack=1

scripts/setup.sh --tests
cmake --preset "$preset" --log-level=WARNING
cmake --build --preset "$preset" --target "$target" --parallel "$jobs"
ctest --test-dir "build/$preset" "${only[@]}" --no-tests=error --output-on-failure -j "$jobs"
