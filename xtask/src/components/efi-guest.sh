#!/bin/sh
# efi-guest.sh GUEST.qcow2 OUT.qcow2 DEBS: the same guest, to be booted by UEFI with Secure Boot from a SCSI disk, as the images
# of distributions are: Debian's signed loaders start its signed kernel. DEBS keeps the packages of the loaders.
set -eu
guest=$1 out=$2 debs=$3
work=$(mktemp -d "${TMPDIR:-/tmp}/efi-guest.XXXXXX"); trap 'rm -rf "$work"' EXIT
mkdir -p "$debs"
for package in shim-signed grub-efi-amd64-signed; do
    ls "$debs/${package}_"*.deb >/dev/null 2>&1 ||
        (cd "$debs" && apt-get -q download -o APT::Sandbox::User=root "$package" >&2)
    dpkg-deb -x "$(ls "$debs/${package}_"*.deb | tail -1)" "$work/debs"
done
qemu-img convert -q -O raw "$guest" "$work/guest.raw"
size=$(stat -c %s "$work/guest.raw")
# The file system begins at 1 MiB of the guest's disk; here the loader's is before it.
truncate -s $((size + 40 * 1048576)) "$work/disk.raw"
printf 'label: gpt\nstart=2048, size=65536, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\nstart=67584, size=%s, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n' $(((size - 1048576) / 512)) |
    sfdisk --quiet "$work/disk.raw"
dd if="$work/guest.raw" of="$work/disk.raw" bs=1M skip=1 seek=33 conv=notrunc,sparse status=none
# What finds a SCSI disk, beside what the first file system has.
mkdir -p "$work/more/m" "$work/modules"
for module in scsi_common scsi_mod virtio_scsi crc-t10dif crc64 crc64-rocksoft t10-pi sd_mod; do
    debugfs -R "dump /lib/modules/$module.ko $work/modules/$module.ko" "$work/guest.raw?offset=1048576" >/dev/null 2>&1 || true
    [ -s "$work/modules/$module.ko" ] || rm -f "$work/modules/$module.ko"
done
debugfs -R 'cat /lib/modules/load' "$work/guest.raw?offset=1048576" 2>/dev/null >"$work/load"
n=50
while read -r name; do
    [ -f "$work/modules/$name" ] || continue
    cp "$work/modules/$name" "$work/more/m/$n-$name"
    n=$((n + 1))
done <"$work/load"
(cd "$work/more" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -1n >"$work/more.img"
cat "${guest%.qcow2}.initrd" "$work/more.img" >"$work/initrd"
cat >"$work/grub.cfg" <<'G'
search --file --set=root /vmlinuz
linux /vmlinuz quiet loglevel=3 console=ttyS0 random.trust_cpu=on mitigations=off tsc=reliable no_timer_check rcupdate.rcu_expedited=1
initrd /initrd
boot
G
truncate -s 32M "$work/esp"
mkfs.fat -F 16 -n ESP "$work/esp" >/dev/null
export MTOOLS_SKIP_CHECK=1
mmd -i "$work/esp" ::/EFI ::/EFI/BOOT ::/EFI/debian
mcopy -i "$work/esp" "$work/debs/usr/lib/shim/shimx64.efi.signed" ::EFI/BOOT/BOOTX64.EFI
mcopy -i "$work/esp" "$work/debs/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::EFI/BOOT/grubx64.efi
mcopy -i "$work/esp" "$work/grub.cfg" ::EFI/debian/grub.cfg
mcopy -i "$work/esp" "${guest%.qcow2}.vmlinuz" ::vmlinuz
mcopy -i "$work/esp" "$work/initrd" ::initrd
dd if="$work/esp" of="$work/disk.raw" bs=1M seek=1 conv=notrunc status=none
qemu-img convert -q -f raw -O qcow2 "$work/disk.raw" "$out.new"
mv "$out.new" "$out"
