//! The stand-in for the `tart` program.

fn main() -> std::process::ExitCode {
    fleetfoot_provisioner_tart::stand_in::main(std::env::args().skip(1).collect())
}
