//! Who may know whom, read from `cargo metadata` and held against one table.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process::run_quiet;

/// A row of the table: a room, and the rooms of ours that its code may name.
/// ARCHITECTURE.md says the same in words. A room without a row is a finding.
const ROOMS: &[(&str, &[&str])] = &[
    ("fleetfoot-faults", &[]),
    ("fleetfoot-ordered", &[]),
    ("fleetfoot-core", &["faults"]),
    ("fleetfoot-github", &["faults"]),
    ("fleetfoot-myshoes", &["core"]),
    ("fleetfoot-api", &[]),
    ("fleetfoot-store", &["core", "ordered", "faults"]),
    ("fleetfoot-provisioner", &["core", "ordered"]),
    ("fleetfoot-provisioner-docker", &["core", "provisioner", "faults"]),
    ("fleetfoot-provisioner-libvirt", &["core", "provisioner", "faults"]),
    ("fleetfoot-provisioner-process", &["core", "provisioner", "faults"]),
    ("fleetfoot-provisioner-shoes", &["core", "provisioner"]),
    ("fleetfoot-provisioner-tart", &["core", "provisioner", "faults"]),
    // The other end of the wire: only its tests know the host.
    ("fleetfoot-shoes-plugin", &["core", "provisioner-shoes"]),
    ("fleetfoot-controller", &["core", "github", "store", "provisioner", "ordered", "faults"]),
    ("fleetfoot-releases", &["core", "github", "ordered"]),
    // Bodies and refusals of myshoes are pure rules; the server serves them.
    ("fleetfoot-server", &["api", "core", "store", "myshoes", "faults"]),
    ("fleetfoot-sim", &["core", "ordered"]),
    ("fleetfoot-world", &["core", "github", "store", "provisioner", "controller", "sim", "faults"]),
    (
        "fleetfoot",
        &[
            "core",
            "github",
            "api",
            "store",
            "provisioner",
            "provisioner-docker",
            "provisioner-libvirt",
            "provisioner-process",
            "provisioner-shoes",
            "provisioner-tart",
            "shoes-plugin",
            "myshoes",
            "releases",
            "controller",
            "server",
            "sim",
            "world",
            "faults",
        ],
    ),
    ("xtask", &["core"]),
];

/// What tests of any room may name besides: the box that stands in for GitHub, and the contract
/// with its simulated backend. The box's own tests may not name the room that it checks.
const IN_TESTS: &[&str] = &["sim", "provisioner"];

/// Foreign crates that only these rooms may name.
const FOREIGN: &[(&str, &[&str])] = &[
    ("rusqlite", &["fleetfoot-store", "fleetfoot"]),
    ("sqlx", &["fleetfoot-store"]),
    ("bollard", &["fleetfoot-provisioner-docker", "fleetfoot"]),
    ("scaleset", &["fleetfoot-github"]),
    ("clap", &["fleetfoot", "xtask"]),
    ("anyhow", &["fleetfoot", "xtask"]),
    ("axum", &["fleetfoot-server", "fleetfoot-sim"]),
];

/// All that the core may name outside of the standard library.
const CORE_FOREIGN: &[&str] = &["thiserror"];

#[derive(Deserialize)]
pub(super) struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    license: Option<String>,
    description: Option<String>,
    repository: Option<String>,
    readme: Option<String>,
    keywords: Vec<String>,
    categories: Vec<String>,
    /// An empty list: nowhere.
    publish: Option<Vec<String>>,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

impl Package {
    /// What a registry shows of it, and is not there.
    fn unsaid(&self) -> Vec<&'static str> {
        if self.publish.as_ref().is_some_and(Vec::is_empty) {
            return Vec::new();
        }
        let said = [
            ("description", self.description.is_some()),
            ("repository", self.repository.is_some()),
            ("readme", self.readme.is_some()),
            ("keywords", !self.keywords.is_empty()),
            ("categories", !self.categories.is_empty()),
        ];
        said.into_iter().filter(|(_, is_said)| !is_said).map(|(what, _)| what).collect()
    }
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

impl Dependency {
    fn is_for_tests(&self) -> bool {
        self.kind.as_deref() == Some("dev")
    }
}

/// What cargo says about our packages.
pub(super) fn read(root: &Path) -> Result<Metadata> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
    serde_json::from_str(&run_quiet(&mut command)?).context("cargo metadata is not understood")
}

/// All findings.
pub(super) fn check(metadata: &Metadata) -> Vec<String> {
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == package.name) else {
            findings.push(format!("{}: not in the table of xtask/src/tidy/rooms.rs", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            findings.extend(check_dependency(&package.name, allowed, dependency));
        }
        if package.license.as_deref() != Some("Apache-2.0") {
            findings.push(format!("{}: the licence is not Apache-2.0", package.name));
        }
        for what in package.unsaid() {
            findings.push(format!("{}: has no {what}, and is to be published", package.name));
        }
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap_or_default();
        if !manifest.contains("[lints]\nworkspace = true") {
            findings.push(format!("{}: does not take the workspace's lints", package.name));
        }
    }
    findings
}

fn check_dependency(room: &str, allowed: &[&str], dependency: &Dependency) -> Option<String> {
    let name = dependency.name.as_str();
    if let Some(ours) = name.strip_prefix("fleetfoot-") {
        let in_tests = dependency.is_for_tests() && IN_TESTS.contains(&ours);
        let known = allowed.contains(&ours) || in_tests || room == name;
        return (!known).then(|| format!("{room}: must not know {name}"));
    }
    if dependency.is_for_tests() {
        return None;
    }
    if room == "fleetfoot-core" && !CORE_FOREIGN.contains(&name) {
        return Some(format!(
            "{room}: the core depends on nothing but {CORE_FOREIGN:?}, not on {name}"
        ));
    }
    let (_, rooms) = FOREIGN.iter().find(|(foreign, _)| *foreign == name)?;
    (!rooms.contains(&room)).then(|| format!("{room}: {name} belongs to {}", rooms.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dependency(name: &str, kind: Option<&str>) -> Dependency {
        Dependency { name: name.into(), kind: kind.map(Into::into) }
    }

    fn finding(room: &str, name: &str, kind: Option<&str>) -> Option<String> {
        let (_, allowed) = ROOMS.iter().find(|(known, _)| *known == room).unwrap();
        check_dependency(room, allowed, &dependency(name, kind))
    }

    #[test]
    fn arrows_point_one_way() {
        for (room, name) in [
            ("fleetfoot-core", "fleetfoot-store"),
            ("fleetfoot-sim", "fleetfoot-github"),
            ("fleetfoot-sim", "fleetfoot-controller"),
            ("fleetfoot-server", "fleetfoot-controller"),
            ("fleetfoot-server", "fleetfoot-provisioner"),
            ("fleetfoot-controller", "fleetfoot-provisioner-docker"),
            ("fleetfoot-api", "fleetfoot-core"),
            ("fleetfoot-core", "tokio"),
            ("fleetfoot-controller", "rusqlite"),
        ] {
            assert!(finding(room, name, None).is_some(), "{room} -> {name}");
        }
        for (room, name) in [
            ("fleetfoot-core", "thiserror"),
            ("fleetfoot-controller", "fleetfoot-store"),
            ("fleetfoot", "fleetfoot-provisioner-docker"),
            ("fleetfoot-store", "sqlx"),
        ] {
            assert_eq!(finding(room, name, None), None, "{room} -> {name}");
        }
    }

    #[test]
    fn tests_may_name_the_box_and_the_contract() {
        assert_eq!(finding("fleetfoot-github", "fleetfoot-sim", Some("dev")), None);
        assert_eq!(finding("fleetfoot-core", "proptest", Some("dev")), None);
        assert!(finding("fleetfoot-sim", "fleetfoot-github", Some("dev")).is_some());
        assert!(finding("fleetfoot-github", "fleetfoot-sim", None).is_some());
    }
}
