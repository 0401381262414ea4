//! The shim by itself, so that this crate's tests need no other binary: takes `__shim …` as `fleetfoot` does.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleetfoot_provisioner_process::shim::main(std::env::args_os().skip(2))
}
