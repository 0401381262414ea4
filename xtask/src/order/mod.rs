//! `cargo xtask order`: which functions a daemon runs, for the linker to lay beside each other.
//!
//! ```text
//! release with symbols ──run under qemu-user, which notes every block it meets──▶ addresses
//! addresses + nm ──▶ names ──▶ crates/fleetfoot/order.txt ──build.rs──▶ a script for the linker
//! ```
//!
//! A kernel maps what lies around every page of a program that runs. A daemon runs a quarter of ours; laid
//! beside each other, that quarter is all that becomes resident (decision 0006). The list goes stale
//! slowly: a name that is gone costs nothing, a new function lies where it always did. `--check` says how
//! much of what was listed a release still has.

mod names;
mod trace;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::run_quiet;

const LIST: &str = "crates/fleetfoot/order.txt";
const SECTION: &str = ".text.ordered";
const BYTES: &str = "# bytes: ";
/// A release with less of what was listed than that wants a new list.
const PERCENT_MIN: u64 = 70;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A release with symbols, as `CARGO_PROFILE_RELEASE_STRIP=false cargo build --release` makes it
    #[arg(long, value_name = "FILE", default_value = "target/release/fleetfoot")]
    binary: PathBuf,
    /// Only say how much of the list that release has, and fail if it is too little
    #[arg(long)]
    check: bool,
}

impl Args {
    pub(crate) fn for_ci() -> Self {
        Self { binary: "target/release/fleetfoot".into(), check: true }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.check { check(&args.binary) } else { make(&args.binary) }
}

fn make(binary: &Path) -> Result<()> {
    let binary = binary.canonicalize().with_context(|| format!("no {}", binary.display()))?;
    let listed = run_quiet(Command::new("nm").args(["-S", "--defined-only"]).arg(&binary))?;
    let functions = names::functions(&listed);
    ensure!(
        functions.len() > 1000,
        "{} has no symbols: CARGO_PROFILE_RELEASE_STRIP=false cargo build --release",
        binary.display()
    );
    let met = trace::addresses(&binary)?;
    let order = names::order(&functions, &met);
    ensure!(order.lines.len() > 1000, "the daemon did not run: {} functions", order.lines.len());
    let mut text = format!(
        "# The functions that a daemon runs, in the order of their first run: made by `cargo xtask order`.\n{BYTES}{}\n",
        order.bytes
    );
    for line in &order.lines {
        text.push_str(line);
        text.push('\n');
    }
    std::fs::write(LIST, text).with_context(|| format!("cannot write {LIST}"))?;
    println!(
        "{LIST}: {} names for {} functions, {} KiB with what shares their names ({} KiB ran)",
        order.lines.len(),
        order.functions,
        order.bytes >> 10,
        order.ran >> 10
    );
    Ok(())
}

/// The bytes that the list stood for when it was made, beside those that this release has of it.
fn check(binary: &Path) -> Result<()> {
    let list = std::fs::read_to_string(LIST).with_context(|| format!("cannot read {LIST}"))?;
    let bytes = list.lines().find_map(|line| line.strip_prefix(BYTES)?.parse::<u64>().ok());
    let bytes = bytes.filter(|bytes| *bytes > 0).context("the list does not say its bytes")?;
    let sections = run_quiet(Command::new("readelf").arg("-SW").arg(binary))?;
    let Some(found) = ordered_bytes(&sections) else {
        bail!("{} was linked without the list", binary.display());
    };
    let percent = found * 100 / bytes;
    println!("{percent} % of the listed functions are in {}", binary.display());
    ensure!(
        percent >= PERCENT_MIN,
        "{percent} % of {LIST} are left (at least {PERCENT_MIN}): make it anew (CONTRIBUTING.md)"
    );
    Ok(())
}

/// The size of our section, as `readelf -SW` prints it.
fn ordered_bytes(sections: &str) -> Option<u64> {
    let line = sections.lines().find(|line| line.contains(SECTION))?;
    let mut fields = line.split_whitespace().skip_while(|field| *field != SECTION);
    // Name, type, address, offset, size.
    u64::from_str_radix(fields.nth(4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_the_section_is_read() {
        let text = "  [13] .rodata           PROGBITS        00000000000a2680 0a2680 190300 00 AMS  0   0 128\n  \
            [16] .text.ordered     PROGBITS        000000000040ac10 409c10 289568 00  AX  0   0 16\n";
        assert_eq!(ordered_bytes(text), Some(0x0028_9568));
        assert_eq!(ordered_bytes("  [16] .text  PROGBITS 40 40 28 00 AX 0 0 16"), None);
    }
}
