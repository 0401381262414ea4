//! The packaged unit under a real systemd, where this machine can run one in namespaces of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "this test runs the real program under a real systemd"
)]
fn a_real_systemd_starts_restarts_and_reloads_the_packaged_unit() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/try-systemd.sh");
    if !script.is_file() {
        eprintln!("SKIPPED: needs the repository around this crate");
        return;
    }
    let out = Command::new(script).arg(env!("CARGO_BIN_EXE_fleetfoot")).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    if let Some(why) = said.lines().find(|line| line.starts_with("SKIPPED")) {
        let required = std::env::var("FLEETFOOT_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|one| one == "systemd"), "{why}");
        eprintln!("{why}");
        return;
    }
    assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    for part in [
        "LoadCredential=",
        "restart and reload with two running jobs",
        "token_file",
        "EnvironmentFile=",
        "outrunner.service",
        "without runners",
    ] {
        assert!(said.contains(&format!("ok: {part}")), "no `{part}`: {said}");
    }
}
