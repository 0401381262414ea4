//! The `fleetfoot` program.

fn main() -> std::process::ExitCode {
    fleetfoot::entry::main()
}
