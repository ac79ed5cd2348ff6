#!/usr/bin/env bash
# Installs what building, testing and running Rivulet takes on Debian 12 and 13, whose names are the same.
# Asks nothing; does nothing, in a few hundredths of a second, when all is there.
#   scripts/setup.sh [--tests]    --tests also installs what only tests use; those say so and skip without it
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache mold pkg-config git ca-certificates
  libtorch-dev
  libopenblas0-pthread  # libtorch-dev alone brings the reference BLAS, which is 15 times slower
  librocksdb-dev libcapnp-dev capnproto libsodium-dev libssl-dev
  libasio-dev libboost-dev libcpp-httplib-dev libbrotli-dev zlib1g-dev libzstd-dev
  nlohmann-json3-dev libcli11-dev libtomlplusplus-dev libspdlog-dev prometheus-cpp-dev libhwy-dev
  catch2 python3 python3-numpy
)
case "${1-}" in
  "") ;;
  --tests) packages+=(python3-torch) ;;  # what users write models with, and read exports with
  *) echo "setup: unknown option '$1'; it takes --tests" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "setup: no apt on this system: install the counterparts of ${packages[*]}" >&2
  exit 1
fi

installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "${packages[@]}" 2>/dev/null || true)
missing=()
for package in "${packages[@]}"; do
  grep -qxF "ii $package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup: run as root, since there is no sudo: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
# sudo drops the environment, and with it the proxies that apt may need.
settings=(DEBIAN_FRONTEND=noninteractive)
for name in http_proxy https_proxy no_proxy; do
  [ -z "${!name-}" ] || settings+=("$name=${!name}")
done
apt() {
  "${as_root[@]}" env "${settings[@]}" apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

echo "setup: installing ${missing[*]}"
apt update || echo "setup: apt-get update failed; going on with the package lists that are there" >&2
if ! apt install --no-install-recommends "${missing[@]}"; then
  echo "setup: apt-get install failed (see above): it has to offer ${missing[*]}" >&2
  exit 1
fi
