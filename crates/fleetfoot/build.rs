//! How the release is linked (decision 0006): relocations packed, identical functions folded, and what a
//! daemon runs laid together, all of which spares a daemon resident memory. Only where the linker and the
//! C library are known to take part; elsewhere the program is the same, somewhat larger.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// The first C library that reads packed relocations.
const PACKED_SINCE: (u32, u32) = (2, 36);
/// The functions that a daemon runs, made by `cargo xtask order`.
const ORDER: &str = "order.txt";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={ORDER}");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let (target, host) = (variable("TARGET"), variable("HOST"));
    if variable("PROFILE") != "release" {
        return;
    }
    // The one target on which rustc links with its own lld.
    if target == "x86_64-unknown-linux-gnu" && target == host {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        // Cold functions apart from the others, as GNU ld has them by itself.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,keep-text-section-prefix");
        if libc_version().is_some_and(|version| version >= PACKED_SINCE) {
            println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
        order(&variable("OUT_DIR"));
    }
    // The C library that Rust brings for it reads them; a linker that does not know them makes none.
    if target == "x86_64-unknown-linux-musl" {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        order(&variable("OUT_DIR"));
    }
}

/// Tells the linker to lay the functions of the list before all others. Names that are gone are nothing.
fn order(out: &str) {
    let Ok(list) = std::fs::read_to_string(ORDER) else { return };
    let mut script = "SECTIONS\n{\n  .text.ordered :\n  {\n".to_owned();
    for name in list.lines().filter(|line| !line.starts_with('#')) {
        let _ = writeln!(script, "    *(.text.{name})");
    }
    script.push_str("  }\n}\nINSERT BEFORE .text;\n");
    let path = Path::new(out).join("order.ld");
    // Without it the program is the same.
    if std::fs::write(&path, script).is_ok() {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", path.display());
    }
}

/// This machine's C library: the program is linked against it.
fn libc_version() -> Option<(u32, u32)> {
    #[expect(clippy::disallowed_methods, reason = "only the C library itself knows its version")]
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
