#!/bin/sh
# Installs the rpm in place of the original's, upgrades and removes it, on an overlay of this machine's own root, which it does
# not change. No network, no systemd: a stand-in for systemctl keeps what is enabled and what runs. Debian with rpm, root.
#   packaging/try-rpm.sh RPM NEWER_RPM
set -eu
skip() { echo "SKIPPED: needs $*"; exit 0; }
fail() { echo "FAILED: $*" >&2; exit 1; }

if [ "${3:-}" != inside ]; then
    [ "$(id -u)" = 0 ] || skip root
    command -v rpmbuild >/dev/null || skip rpm
    unshare --mount --net true 2>/dev/null || skip namespaces
    grep -q overlay /proc/filesystems || skip overlay file systems
    rpm=$(realpath "$1") newer=$(realpath "$2")
    here=$(realpath "$0")
    dir=$(mktemp -d /tmp/fleetfoot-rpm.XXXX)
    trap 'rmdir "$dir"' EXIT
    # The shell of the mount namespace unmounts all of it by ending.
    unshare --mount --net sh -euc '
        mount -t tmpfs tmpfs "$1"
        mkdir "$1/upper" "$1/work" "$1/root"
        mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
        for at in tmp run; do mount -t tmpfs tmpfs "$1/root/$at"; done
        for at in dev proc; do mount --bind "/$at" "$1/root/$at"; done
        cp "$2" "$1/root/tmp/try.sh"
        cp "$3" "$1/root/tmp/old.rpm"
        cp "$4" "$1/root/tmp/new.rpm"
        chroot "$1/root" /bin/sh /tmp/try.sh /tmp/old.rpm /tmp/new.rpm inside' - "$dir" "$here" "$rpm" "$newer"
    exit
fi

old=$1 newer=$2 state=/run/stand-in
export HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /run/systemd/system "$state"
cat >/usr/bin/systemctl <<'S'
#!/bin/sh
# What a unit is, in two files.
echo "$*" >>/run/stand-in/calls
verb= now=
for word in "$@"; do
    case "$word" in
    --now) now=1 ;;
    -* | *.service | outrunner) ;;
    *) verb=$word ;;
    esac
done
case "$verb" in
is-enabled) [ -e /run/stand-in/enabled ] ;;
is-active) [ -e /run/stand-in/active ] ;;
enable) touch /run/stand-in/enabled ;;
start) touch /run/stand-in/active ;;
stop) rm -f /run/stand-in/active ;;
disable)
    rm -f /run/stand-in/enabled
    [ -z "$now" ] || rm -f /run/stand-in/active
    ;;
esac
S
chmod 755 /usr/bin/systemctl
is() { [ -e "$state/enabled" ] && [ -e "$state/active" ]; }

# The original, as its package lays it out: its removal script stops and disables the service, also when it is upgraded.
mkdir -p /tmp/build /tmp/original/usr/bin /tmp/original/usr/lib/systemd/system /tmp/original/etc/outrunner
echo old >/tmp/original/usr/bin/outrunner
echo old >/tmp/original/usr/lib/systemd/system/outrunner.service
echo 'url: old' >/tmp/original/etc/outrunner/config.yml
cat >/tmp/original.spec <<'S'
%global debug_package %{nil}
%global __os_install_post %{nil}
%global _build_id_links none
Name: outrunner
Version: 1.1.2
Release: 1
Summary: the original
License: MIT
AutoReqProv: no
%description
The original.
%install
cp -a /tmp/original/. %{buildroot}/
%preun
systemctl stop outrunner || true
systemctl disable outrunner || true
%files
/usr/bin/outrunner
/usr/lib/systemd/system/outrunner.service
%config(noreplace) /etc/outrunner/config.yml
S
rpmbuild -bb --quiet --define '_topdir /tmp/build' /tmp/original.spec >/tmp/build.log 2>&1 || fail "$(cat /tmp/build.log)"
install() { rpm --nodeps "$@" || fail "rpm $*"; }

for before in both none; do
    install -i /tmp/build/RPMS/*/outrunner-1.1.2-1.*.rpm
    echo '# changed by hand' >>/etc/outrunner/config.yml
    echo secret >/etc/outrunner/token
    rm -f "$state/"*
    [ $before = none ] || touch "$state/enabled" "$state/active"
    install -U "$old"
    grep -q 'stop outrunner' "$state/calls" || fail "the original's script did not run: $(cat "$state/calls")"
    if [ $before = both ]; then
        is || fail "the service was stopped or disabled: $(cat "$state/calls")"
    else
        ! [ -e "$state/enabled" ] && ! [ -e "$state/active" ] || fail "the service was started or enabled"
    fi
    ! rpm -q outrunner >/dev/null || fail "the original is still there"
    [ "$(cat /usr/bin/outrunner)" != old ] || fail "the program is the original's"
    grep -q 'changed by hand' /etc/outrunner/config.yml || fail "the configuration was overwritten"
    [ -f /etc/outrunner/token ] || fail "the token is gone"
    [ "$(stat -c '%a %U:%G' /etc/outrunner)" = '750 outrunner:outrunner' ] || fail "/etc/outrunner: $(stat -c '%a %U:%G' /etc/outrunner)"
    [ ! -e /run/outrunner.before ] || fail "a note is left"

    : >"$state/calls"
    install -U "$newer"
    grep -q 'try-restart outrunner.service' "$state/calls" || fail "not restarted: $(cat "$state/calls")"
    ! grep -Eq '(^| )(stop|disable|enable|start) ' "$state/calls" || fail "the upgrade changed the service: $(cat "$state/calls")"
    grep -q 'changed by hand' /etc/outrunner/config.yml || fail "the upgrade overwrote the configuration"

    rpm -e fleetfoot-outrunner || fail "rpm -e"
    grep -q 'disable --now outrunner.service' "$state/calls" || fail "not stopped: $(cat "$state/calls")"
    [ ! -e /usr/bin/outrunner ] || fail "the program is still there"
    rm -rf /etc/outrunner
done
echo "fleetfoot-outrunner: took the original's place, upgraded, removed"
