#!/bin/sh
# Installs, upgrades, removes and purges the deb packages in a Debian root made with debootstrap, and holds what is there against
# what should be. No network, no systemd: a stand-in for systemctl writes down how it is called.
#   packaging/try-install.sh ROOT DIRECTORY_WITH_DEBS NEWER_DIRECTORY_WITH_DEBS
set -eu
root=$1 debs=$2 newer=$3
in_root() { chroot "$root" /usr/bin/env DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin unshare -n "$@"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
calls() { cat "$root/tmp/systemctl.calls" 2>/dev/null || true; }
owner() { in_root stat -c '%a %U:%G' "$1"; }

mkdir -p "$root/packages" "$root/run/systemd/system"
rm -f "$root/tmp/systemctl.calls" "$root/packages/"*
cat >"$root/usr/local/bin/systemctl" <<'S'
#!/bin/sh
echo "$*" >>/tmp/systemctl.calls
S
cp "$root/usr/local/bin/systemctl" "$root/usr/bin/systemctl"
chmod 755 "$root/usr/bin/systemctl" "$root/usr/local/bin/systemctl"

for name in fleetfoot outrunner; do
    case $name in
    fleetfoot) package=fleetfoot config=/etc/fleetfoot/fleetfoot.yml ;;
    outrunner) package=fleetfoot-outrunner config=/etc/outrunner/config.yml ;;
    esac
    cp "$debs/${package}_"*amd64.deb "$root/packages/old.deb"
    cp "$newer/${package}_"*amd64.deb "$root/packages/new.deb"

    if [ $name = outrunner ]; then
        # The original, as its package lays it out, with a script that stops the service on every removal.
        original=$root/tmp/original
        rm -rf "$original"
        mkdir -p "$original/DEBIAN" "$original/usr/bin" "$original/lib/systemd/system" "$original/etc/outrunner"
        printf 'Package: outrunner\nVersion: 1.1.2\nArchitecture: amd64\nMaintainer: x\nDescription: the original\n' >"$original/DEBIAN/control"
        echo /etc/outrunner/config.yml >"$original/DEBIAN/conffiles"
        printf '#!/bin/sh\necho original prerm "$*" >>/tmp/systemctl.calls\n' >"$original/DEBIAN/prerm"
        chmod 755 "$original/DEBIAN/prerm"
        echo old >"$original/usr/bin/outrunner"
        echo old >"$original/lib/systemd/system/outrunner.service"
        echo 'url: old' >"$original/etc/outrunner/config.yml"
        dpkg-deb --root-owner-group --build "$original" "$root/packages/original.deb" >/dev/null
        in_root dpkg -i /packages/original.deb >/dev/null
        echo '# changed by hand' >>"$root/etc/outrunner/config.yml"
        echo secret >"$root/etc/outrunner/token"
    fi

    in_root dpkg --force-confold -i /packages/old.deb >/dev/null
    [ "$(owner /usr/bin/$name)" = "755 root:root" ] || fail "$(owner /usr/bin/$name)"
    [ "$(owner /etc/$name)" = "750 $name:$name" ] || fail "/etc/$name: $(owner /etc/$name)"
    in_root getent passwd $name | grep -q ':/bin/false$' || fail "no user $name"
    in_root /usr/bin/$name --version | grep -q "$name" || fail "it does not say its version"
    if [ $name = outrunner ]; then
        grep -q 'changed by hand' "$root$config" || fail "the configuration was overwritten"
        [ -f "$root/etc/outrunner/token" ] || fail "the token is gone"
        ! calls | grep -q 'original prerm' || fail "the original's script ran: $(calls)"
        ! in_root dpkg -s outrunner 2>/dev/null | grep -q '^Status: install ok installed' || fail "the original is still there"
    else
        # A fresh install says what to do.
        said=$(in_root /usr/bin/$name check --offline --config $config 2>&1) && fail "the default file loads: $said"
        echo "$said" | grep -qi 'runners' || fail "$said"
        echo '# changed by hand' >>"$root$config"
    fi

    rm -f "$root/tmp/systemctl.calls"
    in_root dpkg --force-confold -i /packages/new.deb >/dev/null
    grep -q 'changed by hand' "$root$config" || fail "the upgrade overwrote the configuration"
    calls | grep -q "try-restart $name.service" || fail "not restarted: $(calls)"
    ! calls | grep -Eq 'disable|stop|enable' || fail "the upgrade changed the state of the service: $(calls)"

    rm -f "$root/tmp/systemctl.calls"
    in_root dpkg -r $package >/dev/null
    calls | grep -q -- "disable --now $name.service" || fail "not stopped: $(calls)"
    [ ! -e "$root/usr/bin/$name" ] || fail "the program is still there"
    [ -f "$root$config" ] || fail "removal took the configuration"
    in_root dpkg -P $package >/dev/null
    [ ! -f "$root$config" ] || fail "purge left the configuration"
    [ ! -d "$root/var/lib/$name" ] || fail "purge left the state"
    echo "$package: installed, upgraded, removed, purged"
done
