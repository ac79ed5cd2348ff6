#!/usr/bin/env bash
# Runs a command on a copy of this checkout in a bare Debian, made for it and removed afterwards: shows what a new
# machine would show. Needs root and debootstrap; the mirror is that of this machine's apt.
#
#   scripts/try-fresh.sh [--suite NAME] [--keep] COMMAND [ARGUMENT…]      for example: scripts/try-fresh.sh ./test.sh
set -euo pipefail

usage="usage: scripts/try-fresh.sh [--suite NAME] [--keep] COMMAND [ARGUMENT...]"
suite=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
keep=
while [ $# -gt 0 ]; do
  case "$1" in
    --suite) suite=${2?$usage}; shift 2 ;;
    --keep) keep=yes; shift ;;
    -*) echo "try-fresh: unknown flag $1; $usage" >&2; exit 2 ;;
    *) break ;;
  esac
done
if [ $# -eq 0 ]; then echo "try-fresh: no command; $usage" >&2; exit 2; fi
if [ "$(id -u)" -ne 0 ]; then echo "try-fresh: needs root, to make a chroot" >&2; exit 2; fi
if ! command -v debootstrap >/dev/null; then echo "try-fresh: install debootstrap first" >&2; exit 2; fi

# The addresses from which this machine gets Debian itself, as "codename address".
sources=$(apt-get indextargets --format '$(ORIGIN)|$(CODENAME)|$(REPO_URI)' 'Created-By: Packages' |
  awk -F'|' '$1 == "Debian" { print $2, $3 }' | sort -u)
host=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
mirror=$(awk -v suite="$host" '$1 == suite { print $2; exit }' <<<"$sources")
if [ -z "$mirror" ]; then
  echo "try-fresh: apt knows no Debian mirror of this machine's $host: run apt-get update" >&2
  exit 1
fi

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
root=$(mktemp -d "${TMPDIR:-/var/tmp}/rivulet-fresh.XXXXXX")
chmod 755 "$root"  # apt fetches as a user of its own.
clean_up() {
  mountpoint -q "$root/sys" && umount "$root/sys"
  mountpoint -q "$root/proc" && umount "$root/proc"
  if [ -n "$keep" ]; then
    echo "try-fresh: kept in $root"
  else
    rm -rf --one-file-system "$root"
  fi
}
trap clean_up EXIT

debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$root.log" 2>&1 ||
  { tail -n 5 "$root.log" >&2; echo "try-fresh: debootstrap failed, see $root.log" >&2; exit 1; }
rm -f "$root.log"

# Security fixes too, as on a real machine: packages of the release alone may not fit those that it holds back.
echo "deb $mirror $suite main" >"$root/etc/apt/sources.list"
security=$(awk -v suite="$host-security" '$1 == suite { print $2; exit }' <<<"$sources")
[ -z "$security" ] || echo "deb $security $suite-security main" >>"$root/etc/apt/sources.list"
apt-config dump | grep -i '^Acquire::https\?::.*proxy' >"$root/etc/apt/apt.conf.d/90proxy" || true
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"

mount -t proc proc "$root/proc"
mount --bind -o ro /sys "$root/sys"  # how many cores there are, for example

mkdir "$root/root/rivulet"
(cd "$checkout" && git ls-files -z --cached --others --exclude-standard |
  tar --null --files-from=- --ignore-failed-read -cf - 2>/dev/null) | tar -xf - -C "$root/root/rivulet"

proxies=()
for name in http_proxy https_proxy no_proxy; do
  [ -z "${!name-}" ] || proxies+=("$name=${!name}")
done
status=0
env -i "${proxies[@]}" HOME=/root LANG=C.UTF-8 TERM="${TERM-dumb}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  chroot "$root" /bin/sh -c 'cd /root/rivulet && exec "$@"' sh "$@" || status=$?
exit "$status"
