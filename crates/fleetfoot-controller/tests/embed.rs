//! The example that embeds the controller does what it says.

#[path = "../examples/embed.rs"]
mod embed;

#[test]
fn ten_jobs_run_in_a_backend_of_its_own() {
    embed::main().unwrap();
}
