//! The list, the packages made from it, and the units.

use std::process::Command;

use super::*;
use crate::package::{Job, archive, deb, output, rpm};

/// All tests of this module read `packaging/` from there.
fn at_root() {
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap();
}

fn lacks(tool: &str) -> bool {
    let lacks = Command::new(tool).arg("--version").output().is_err();
    if lacks {
        println!("SKIPPED: needs {tool}");
    }
    lacks
}

#[test]
fn the_package_in_the_originals_place_has_its_paths() {
    at_root();
    let entries = of(Product::Outrunner, Path::new("b"), Path::new("m")).unwrap();
    let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
    for wanted in [
        "/usr/bin/outrunner",
        "/lib/systemd/system/outrunner.service",
        "/etc/outrunner",
        "/etc/outrunner/config.yml",
    ] {
        assert!(paths.contains(&wanted), "{wanted} of {paths:?}");
    }
    let directory = entries.iter().find(|entry| entry.path == "/etc/outrunner").unwrap();
    assert_eq!((directory.mode, directory.owner), (0o750, "outrunner"));
    assert!(entries.iter().all(|entry| {
        entry.source.as_ref().is_none_or(|source| source == Path::new("b") || source.exists())
    }));
    for script in ["preinst", "postinst", "prerm", "postrm"] {
        let text = Product::Outrunner.script(script).unwrap();
        assert!(!text.contains("@NAME@"));
        for tool in ["curl", "wget", "http", "apt"] {
            assert!(!text.contains(tool), "{script} has {tool}");
        }
    }
}

/// Checklist 72 and 73: what is in them, by the tools that install them.
#[test]
fn packages_hold_what_is_listed_and_nothing_else() {
    if ["tar", "ar", "dpkg-deb", "rpmbuild", "rpm"].into_iter().any(lacks) {
        return;
    }
    at_root();
    let out = std::env::temp_dir().join(format!("fleetfoot-packages-{}", std::process::id()));
    let manual = out.join("manual");
    for (directory, file) in [("man", "fleetfoot.1"), ("completions", "_fleetfoot")] {
        fs::create_dir_all(manual.join(directory)).unwrap();
        fs::write(manual.join(directory).join(file), "text").unwrap();
    }
    let binary = out.join("binary");
    fs::write(&binary, "#!/bin/sh\n").unwrap();
    let job = Job { version: "1.2.3".to_owned(), out: out.clone(), manual: manual.clone() };
    let mut made = Vec::new();
    for product in Product::ALL {
        for arch in Arch::ALL {
            let entries = of(product, &binary, &manual).unwrap();
            let root = out.join("stage");
            stage(&entries, &root).unwrap();
            let deb = deb::make(&job, product, arch, &entries, &root).unwrap();
            deb::check(&deb, &entries).unwrap();
            let rpm = rpm::make(&job, product, arch, &entries, &root).unwrap();
            rpm::check(&rpm, &entries).unwrap();
            // A list that is another one is noticed.
            let mut other = entries.clone();
            other[0].mode = 0o700;
            assert!(deb::check(&deb, &other).is_err() && rpm::check(&rpm, &other).is_err());
            let (_, fewer) = entries.split_last().unwrap();
            assert!(deb::check(&deb, fewer).is_err() && rpm::check(&rpm, fewer).is_err());
            let configs = output(Command::new("dpkg-deb").args(["-I"]).arg(&deb).arg("conffiles"));
            assert_eq!(configs.unwrap().trim(), product.config());
            made.extend([deb, rpm]);
        }
    }
    made.push(archive::make(&job, Arch::Amd64, &binary).unwrap());
    archive::checksums(&job, &made).unwrap();
    archive::formula(&job).unwrap();
    let formula = fs::read_to_string(out.join("fleetfoot.rb")).unwrap();
    assert!(!formula.contains("@VERSION@") && !formula.contains("@SHA256_AMD64@"));
    fs::remove_dir_all(out).unwrap();
}

/// Checklist 74, as far as it goes without systemd as the first process.
#[test]
fn units_pass_systemd_analyze_and_keep_running_jobs() {
    if lacks("systemd-analyze") {
        return;
    }
    at_root();
    for product in Product::ALL {
        let name = product.name();
        let unit = fs::read_to_string(format!("packaging/systemd/{name}.service")).unwrap();
        for line in [
            "Type=notify",
            "KillMode=process",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "ProtectHome=yes",
            "PrivateTmp=no",
            &format!("EnvironmentFile=-/etc/{name}/env"),
            &format!("#LoadCredentialEncrypted=github-token:/etc/{name}/github-token.cred"),
        ] {
            assert!(unit.lines().any(|found| found == line), "{name} lacks {line}");
        }
        // The program is not installed here.
        let path = std::env::temp_dir().join(format!("{name}-{}.service", std::process::id()));
        fs::write(&path, unit.replace(&format!("/usr/bin/{name}"), "/bin/true")).unwrap();
        let said = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
        fs::remove_file(&path).unwrap();
        // It exits with 0 and a warning for keys that it does not know.
        assert_eq!(String::from_utf8_lossy(&said.stderr), "");
        assert!(said.status.success());
    }
}
