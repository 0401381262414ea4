//! The keeper alone, for this crate's own tests.

fn main() -> std::process::ExitCode {
    fleetfoot_provisioner_tart::keeper::main(std::env::args_os().skip(2))
}
