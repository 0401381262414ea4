//! The template, copied to where no workspace is, built there and called.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

// The bench of our host's own tests, over another plugin.
#[allow(dead_code)]
#[path = "../../fleetfoot-provisioner-shoes/tests/common/mod.rs"]
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Bench, END, jit, provisioner, script, spec};
use fleetfoot_provisioner::{Deletion, ErrorKind, Provisioner};
use fleetfoot_provisioner_shoes::Machine;
use tempfile::TempDir;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// Builds it as somebody does who copied it: all it knows of this repository is where its one crate is, which is not
/// published yet.
fn built(copy: &Path) -> PathBuf {
    let here = Path::new(HERE);
    fs::create_dir(copy.join("src")).unwrap();
    for file in ["Cargo.toml", "src/main.rs"] {
        fs::copy(here.join("template").join(file), copy.join(file)).unwrap();
    }
    // The versions that this run has anyway: nothing is downloaded.
    let root = here.join("../..");
    fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock")).unwrap();
    let target = root.join("target/template");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let patch = format!("patch.crates-io.fleetfoot-shoes-plugin.path=\"{HERE}\"");
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--offline", "--config", &patch])
        .args(["--config", "profile.dev.debug=false"])
        .current_dir(copy)
        .env("CARGO_TARGET_DIR", &target)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("debug/shoes-mine")
}

fn program(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\nset -e\n{text}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn the_template_builds_where_it_is_copied_to_and_keeps_its_word() {
    let copy = TempDir::new().unwrap();
    let plugin = built(copy.path());
    let rooms = TempDir::new().unwrap();
    let place = rooms.path().display().to_string();
    let create = program(
        copy.path(),
        "create",
        &format!(
            "[ \"$SIZE\" != micro ] && {{ echo \"no $SIZE here\" >&2; exit 3; }}\n\
             cat > \"{place}/$NAME\"\necho \"id-of-$NAME\"\n"
        ),
    );
    let delete = program(copy.path(), "delete", &format!("rm -f \"{place}/${{ID#id-of-}}\"\n"));
    let bench =
        Bench::new(plugin.clone(), "").with("CLOUD_CREATE", &create).with("CLOUD_DELETE", &delete);
    let host = bench.host();
    let provisioner = provisioner(host.clone(), script(".".as_ref()));
    let (spec, jit) = (spec(1), jit());
    let handle = provisioner.create(&spec, Some(&jit)).await.unwrap();
    let machine = Machine::of(&handle).unwrap();
    assert_eq!(machine.cloud_id, format!("id-of-{}", spec.name));
    assert_eq!((machine.shoes_type.as_str(), machine.resource_type.as_str()), ("mine", "micro"));
    let given = fs::read_to_string(rooms.path().join(spec.name.as_str())).unwrap();
    assert!(given.starts_with("#!/bin/bash\n"), "{given}");
    for _ in 0..2 {
        let deleted = provisioner.delete_by_handle(&spec.name, &handle).await.unwrap();
        assert_eq!(deleted, Deletion::Removed);
    }
    assert!(!rooms.path().join(spec.name.as_str()).exists());
    // What a program says when it fails is told.
    let broken = Bench::new(plugin.clone(), "")
        .with("CLOUD_CREATE", &program(copy.path(), "broken", "echo quota exceeded >&2\nexit 3\n"))
        .with("CLOUD_DELETE", &delete);
    let second = broken.host();
    let refused = common::provisioner(second.clone(), script(".".as_ref()));
    let refused = refused.create(&spec, Some(&jit)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Backend);
    assert!(refused.to_string().contains("quota exceeded"), "{refused}");
    host.end(END).await;
    second.end(END).await;
    // Nor does it begin without knowing what to call.
    let output = Command::new(&plugin).env_remove("CLOUD_CREATE").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), said.as_str()),
        (Some(1), "error: CLOUD_CREATE must be set\n")
    );
}
