//! The stand-in runner as a program of its own; the tests start it as `run.sh` is started.

fn main() -> std::process::ExitCode {
    fleetfoot_sim::runner::main(std::env::args_os().skip(1))
}
