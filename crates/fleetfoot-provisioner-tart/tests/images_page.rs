//! The commands of docs/images.md for Tart, as they stand there, against the stand-in for `tart`; the image that they make
//! runs a job.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Bench, ended, jit, name, spec, state_of};

/// The page's lines for a shell that knows `tart`.
fn commands() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images.md");
    let page = fs::read_to_string(page).unwrap();
    let ours = |line: &&str| line.starts_with("tart ") || line.starts_with("until tart ");
    page.lines().filter(ours).map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn the_commands_of_the_page_make_an_image_that_runs_a_job() {
    let bench = Bench::new();
    // What the page takes from others: an image of a registry, and GitHub's archive with a runner in it.
    bench.image("registry-base", "darwin");
    fs::create_dir(bench.path("release")).unwrap();
    fs::copy(bench.runner(), bench.path("release/run.sh")).unwrap();
    let packed = Command::new("tar")
        .args(["-czf", "actions-runner-osx-arm64-2.336.0.tar.gz", "-C", "release", "."])
        .current_dir(bench.files.path())
        .status();
    assert!(packed.unwrap().success());
    // The stand-in's guests have this host's files.
    let home = bench.path("Users");
    let script = commands()
        .replace("ghcr.io/cirruslabs/macos-sequoia-base:latest", "registry-base")
        .replace("/Users/admin", &home.display().to_string());
    assert_eq!(script.lines().count(), 6, "{script}");
    let path = format!("{}:{}", bench.files.path().display(), std::env::var("PATH").unwrap());
    let ran = Command::new("sh")
        .args(["-euc", &script])
        .env("PATH", path)
        .current_dir(bench.files.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut pool = bench.pool();
    pool.image = "our-mac".to_owned();
    pool.runner_cmd = home.join("actions-runner/run.sh").display().to_string();
    let provisioner = bench.with(pool);
    let spec = spec("mac-0123abcd");
    let handle = provisioner.create(&spec, None).await.unwrap();
    provisioner.launch(&spec, &handle, &jit("exit 3")).await.unwrap();
    state_of(&*provisioner, &spec.name, ended).await;
    provisioner.delete(&name("mac-0123abcd")).await.unwrap();
}
