#!/bin/sh
# The same as try-install.sh, in seconds and without a network: its Debian root is an overlay of this machine's own, which it
# does not change. Debian, root.
#   packaging/try-install-here.sh DIRECTORY_WITH_DEBS NEWER_DIRECTORY_WITH_DEBS
set -eu
debs=$(realpath "$1") newer=$(realpath "$2")
here=$(dirname "$(realpath "$0")")
skip() { echo "SKIPPED: needs $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip root
grep -Eqs '^ID(_LIKE)?=.*debian' /etc/os-release || skip Debian
command -v dpkg >/dev/null || skip dpkg
unshare --mount --net true 2>/dev/null || skip namespaces
grep -q overlay /proc/filesystems || skip overlay file systems
! dpkg -s fleetfoot fleetfoot-outrunner outrunner >/dev/null 2>&1 || skip "a machine without these packages"
dir=$(mktemp -d /tmp/fleetfoot-install.XXXX)
trap 'rmdir "$dir"' EXIT
unshare --mount sh -euc '
    mount -t tmpfs tmpfs "$1"
    mkdir "$1/upper" "$1/work" "$1/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
    for at in tmp run; do mount -t tmpfs tmpfs "$1/root/$at"; done
    for at in dev proc; do mount --bind "/$at" "$1/root/$at"; done
    "$2/try-install.sh" "$1/root" "$3" "$4"' - "$dir" "$here" "$debs" "$newer"
