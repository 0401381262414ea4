//! The `fleetfoot` program.

/// One heap for all threads: the C library gives each thread one of its own, and a daemon with a hundred pools would
/// hold two megabytes more (decision 0006).
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    fleetfoot::entry::main()
}
