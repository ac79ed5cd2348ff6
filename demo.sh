#!/usr/bin/env bash
# Installs what is missing, builds, and runs a small federation on this machine: a coordinator and five
# nodes as separate processes learn handwritten digits from data that never leaves its node.
#   ./demo.sh [--keep]    --keep leaves everything running and says how to stop it
set -euo pipefail
cd "$(dirname "$0")"

for argument in "$@"; do
  if [ "$argument" != --keep ]; then
    echo "demo.sh: unknown option '$argument'; it takes --keep" >&2
    exit 2
  fi
done

scripts/setup.sh
[ -f build/release/build.ninja ] || cmake --preset release > build-configure.log 2>&1 || {
  cat build-configure.log >&2
  exit 1
}
rm -f build-configure.log
cmake --build --preset release
exec /usr/bin/python3 scripts/demo.py --programs build/release/bin "$@"
