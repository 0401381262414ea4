//! A clone gets random numbers, a clock, an address and a name of its own before anything else runs in it.
//!
//! Clones of one memory give the same "random" bytes until the kernel reseeds itself: writing to `/dev/urandom` is
//! not enough, it takes an ioctl, and a shell cannot make one. So a program of 243 bytes goes in with 64 random
//! bytes of the host. It says by its exit status that the kernel took them; without that no job comes here.

use uuid::Uuid;

/// Reads 64 bytes, writes them to `/dev/urandom`, then asks for a reseed (`ioctl(fd, RNDRESEEDCRNG)`, 0x5207).
/// An ELF file for x86-64 Linux without anything else: two headers, then
///
/// ```text
/// read(0, sp, 64) == 64 && (fd = open("/dev/urandom", 1)) >= 0 && write(fd, sp, 64) == 64 && ioctl(fd, 0x5207) == 0
/// ```
#[rustfmt::skip]
const RESEED: [u8; 243] = [
    0x7f, 0x45, 0x4c, 0x46, 0x02, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x02, 0x00, 0x3e, 0x00, 0x01, 0x00, 0x00, 0x00, 0x78, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x38, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x01, 0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xf3, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf3, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x48, 0x83, 0xec, 0x40, 0x31, 0xc0, 0x31, 0xff,
    0x48, 0x89, 0xe6, 0xba, 0x40, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x83, 0xf8, 0x40, 0x75, 0x4b, 0xb8,
    0x02, 0x00, 0x00, 0x00, 0x48, 0x8d, 0x3d, 0x4b, 0x00, 0x00, 0x00, 0xbe, 0x01, 0x00, 0x00, 0x00,
    0x31, 0xd2, 0x0f, 0x05, 0x85, 0xc0, 0x78, 0x32, 0x41, 0x89, 0xc4, 0x89, 0xc7, 0xb8, 0x01, 0x00,
    0x00, 0x00, 0x48, 0x89, 0xe6, 0xba, 0x40, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x83, 0xf8, 0x40, 0x75,
    0x19, 0xb8, 0x10, 0x00, 0x00, 0x00, 0x44, 0x89, 0xe7, 0xbe, 0x07, 0x52, 0x00, 0x00, 0x31, 0xd2,
    0x0f, 0x05, 0x85, 0xc0, 0x75, 0x04, 0x31, 0xff, 0xeb, 0x05, 0xbf, 0x01, 0x00, 0x00, 0x00, 0xb8,
    0x3c, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x2f, 0x64, 0x65, 0x76, 0x2f, 0x75, 0x72, 0x61, 0x6e, 0x64,
    0x6f, 0x6d, 0x00,
];

/// Random bytes of the host for each clone.
const ENTROPY_LEN: usize = 64;

/// What the script prints when everything was done.
pub(crate) const DONE: &str = "fleetfoot: this machine is its own";

/// Quiet before it is saved: what has an address gives it up, and what can be thrown away is not saved.
pub(crate) const PREPARE: &str = "\
if command -v systemctl >/dev/null 2>&1; then timeout 20 systemctl is-system-running --wait >/dev/null 2>&1; fi; \
for p in udhcpc dhclient dhcpcd; do killall $p 2>/dev/null || pkill -x $p 2>/dev/null; done; \
for n in /sys/class/net/*; do i=${n##*/}; [ $i = lo ] || ip addr flush dev $i 2>/dev/null; done; \
rm -f /etc/ssh/ssh_host_*_key*; sync; echo 3 > /proc/sys/vm/drop_caches; exit 0";

/// What a clone is told of itself.
#[derive(Debug)]
pub(crate) struct Own<'a> {
    /// The address that it woke up with, and its own; none without an interface.
    pub(crate) mac: Option<(&'a str, &'a str)>,
    pub(crate) machine_id: Uuid,
}

/// The script, and what it reads on standard input. In this order: nothing runs before the reseed.
pub(crate) fn fix_up(own: &Own<'_>, entropy: &[u8; ENTROPY_LEN]) -> (String, Vec<u8>) {
    let length = RESEED.len();
    let id = own.machine_id.simple();
    let mut script = format!(
        "umask 077; ok=; for d in /run /tmp /dev/shm /var/tmp /root; do w=$d/fleetfoot-own; \
         if [ -z \"$s\" ]; then dd bs=1 count={length} of=$w 2>/dev/null && dd bs=1 count={ENTROPY_LEN} of=$w.in 2>/dev/null || continue; s=$w; \
         else cp $s $w && cp $s.in $w.in || continue; fi; \
         chmod 700 $w; $w <$w.in && ok=1 && break; done; \
         rm -f /run/fleetfoot-own* /tmp/fleetfoot-own* /dev/shm/fleetfoot-own* /var/tmp/fleetfoot-own* /root/fleetfoot-own*; \
         [ -n \"$ok\" ] || {{ echo 'the kernel took no random numbers'; exit 3; }}; \
         umask 022; [ ! -e /etc/machine-id ] || echo {id} > /etc/machine-id || exit 4; \
         [ -L /var/lib/dbus/machine-id ] || [ ! -e /var/lib/dbus/machine-id ] || echo {id} > /var/lib/dbus/machine-id; "
    );
    if let Some((woke_with, mac)) = own.mac {
        script.push_str(&format!(
            "for n in /sys/class/net/*; do [ \"$(cat $n/address 2>/dev/null)\" = {woke_with} ] || continue; i=${{n##*/}}; \
             ip link set $i down && ip link set $i address {mac} && ip link set $i up || exit 5; \
             if command -v systemctl >/dev/null 2>&1 && systemctl -q is-active systemd-networkd; then systemctl restart systemd-networkd; \
             elif command -v nmcli >/dev/null 2>&1; then nmcli device reapply $i || nmcli device connect $i; \
             elif command -v dhclient >/dev/null 2>&1; then dhclient $i; \
             elif command -v udhcpc >/dev/null 2>&1; then s=; [ ! -e /etc/udhcpc.sh ] || s='-s /etc/udhcpc.sh'; udhcpc -b -S -T 1 -i $i $s; \
             fi >/dev/null 2>&1 </dev/null; done; "
        ));
    }
    script.push_str(&format!(
        "if command -v ssh-keygen >/dev/null 2>&1 && [ -d /etc/ssh ]; then ssh-keygen -A >/dev/null 2>&1; systemctl -q try-restart ssh sshd 2>/dev/null; fi; \
         echo '{DONE}'"
    ));
    (script, [RESEED.as_slice(), entropy].concat())
}

/// 64 random bytes of the host.
pub(crate) fn entropy() -> [u8; ENTROPY_LEN] {
    let mut bytes = [0; ENTROPY_LEN];
    for part in bytes.chunks_exact_mut(16) {
        // Each is made of the operating system's random numbers, but for six bits.
        part.copy_from_slice(Uuid::new_v4().as_bytes());
    }
    bytes
}

/// An address of QEMU's own range.
pub(crate) fn random_mac() -> String {
    let [a, b, c, ..] = *Uuid::new_v4().as_bytes();
    format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "a test")]

    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// The program runs on this host's kernel too, which is none the worse for it.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    #[test]
    fn the_kernel_takes_random_numbers_from_the_program() {
        let file = tempfile::Builder::new().prefix("reseed").tempfile().unwrap().into_temp_path();
        std::fs::write(&file, RESEED).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
        let run = |bytes: &[u8]| {
            let mut child = Command::new(&file).stdin(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(bytes).unwrap();
            child.wait().unwrap().code()
        };
        let is_root = rustix::process::geteuid().is_root();
        assert_eq!(run(&entropy()), Some(i32::from(!is_root)), "only root may ask for a reseed");
        assert_eq!(run(&entropy()[..63]), Some(1));
    }

    #[test]
    fn the_script_is_a_shells_and_has_what_it_is_for() {
        let own =
            Own { mac: Some(("52:54:00:00:00:01", "52:54:00:00:00:02")), machine_id: Uuid::nil() };
        let (script, input) = fix_up(&own, &entropy());
        let checked = Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
        assert!(checked.success());
        assert!(Command::new("sh").args(["-n", "-c", PREPARE]).status().unwrap().success());
        assert!(script.contains("52:54:00:00:00:02") && script.contains(&"0".repeat(32)));
        assert_eq!(input.len(), RESEED.len() + ENTROPY_LEN);
        let reseed = script.find("no random numbers").unwrap();
        for later in ["machine-id", "ip link", DONE] {
            assert!(script.find(later).unwrap() > reseed, "{later}");
        }
        assert_ne!(entropy(), entropy());
        assert_ne!(random_mac(), random_mac());
    }
}
