//! The list, the packages made from it, and the units.

use std::process::Command;

use super::*;
use crate::package::{Job, archive, deb, output, rpm};

/// All tests of this module read `packaging/` from there.
pub(in crate::package) fn at_root() {
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap();
}

pub(in crate::package) fn lacks(tool: &str) -> bool {
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

/// This run has the component, so that nothing may be left out for want of it.
fn required(word: &str) -> bool {
    let required = std::env::var("FLEETFOOT_TEST_REQUIRE").unwrap_or_default();
    required.split(',').any(|one| one == word)
}

/// rpm and rpmbuild are not here, and nothing says that they have to be.
pub(in crate::package) fn lacks_rpm() -> bool {
    let lacking = ["rpmbuild", "rpm"].into_iter().any(lacks);
    assert!(!lacking || !required("rpm"), "rpm is not there");
    lacking
}

/// A directory to make packages in, with a program and manual that are none.
pub(in crate::package) fn to_pack(what: &str, version: &str) -> (Job, PathBuf) {
    let out = tempfile_directory(what);
    let manual = out.join("manual");
    for (directory, file) in [("man", "fleetfoot.1"), ("completions", "_fleetfoot")] {
        fs::create_dir_all(manual.join(directory)).unwrap();
        fs::write(manual.join(directory).join(file), "text").unwrap();
    }
    let binary = out.join("binary");
    fs::write(&binary, "#!/bin/sh\n").unwrap();
    (Job { version: version.to_owned(), out, manual }, binary)
}

/// Checklist 72: what is in them, by the tools that install them.
#[test]
fn packages_hold_what_is_listed_and_nothing_else() {
    if ["tar", "ar", "dpkg-deb"].into_iter().any(lacks) {
        return;
    }
    at_root();
    let (job, binary) = to_pack("packages", "1.2.3");
    let out = &job.out;
    let mut made = Vec::new();
    for product in Product::ALL {
        for arch in Arch::ALL {
            let entries = of(product, &binary, &job.manual).unwrap();
            let root = out.join("stage");
            stage(&entries, &root).unwrap();
            let deb = deb::make(&job, product, arch, &entries, &root).unwrap();
            noticed(|entries| deb::check(&deb, entries), &entries);
            let configs = output(Command::new("dpkg-deb").args(["-I"]).arg(&deb).arg("conffiles"));
            assert_eq!(configs.unwrap().trim(), product.config());
            let field = output(Command::new("dpkg-deb").arg("-f").arg(&deb).arg("Recommends"));
            assert_eq!(field.unwrap().trim(), recommended(product));
            made.push(deb);
        }
    }
    made.push(archive::make(&job, Arch::Amd64, &binary).unwrap());
    made.push(archive::of_a_mac(&job, &binary).unwrap());
    archive::checksums(&job, &made).unwrap();
    archive::formula(&job).unwrap();
    let formula = fs::read_to_string(out.join("fleetfoot.rb")).unwrap();
    for place in ["@VERSION@", "@SHA256_AMD64@", "@SHA256_DARWIN@"] {
        assert!(!formula.contains(place), "{place}");
    }
    fs::remove_dir_all(out).unwrap();
}

/// The list is what is in the package, and a list that is another one is noticed.
fn noticed(check: impl Fn(&[Entry]) -> anyhow::Result<()>, entries: &[Entry]) {
    check(entries).unwrap();
    let mut other = entries.to_vec();
    other[0].mode = 0o700;
    assert!(check(&other).is_err());
    let (_, fewer) = entries.split_last().unwrap();
    assert!(check(fewer).is_err());
}

/// The original's command alone answers no question.
fn recommended(product: Product) -> &'static str {
    match product {
        Product::Fleetfoot => "",
        Product::Outrunner => "fleetfoot",
    }
}

/// Checklist 73: the same of the rpm.
#[test]
fn rpms_hold_what_is_listed_and_nothing_else() {
    if lacks_rpm() {
        return;
    }
    at_root();
    let (job, binary) = to_pack("rpms", "1.2.3");
    for product in Product::ALL {
        for arch in Arch::ALL {
            let entries = of(product, &binary, &job.manual).unwrap();
            let root = job.out.join("stage");
            stage(&entries, &root).unwrap();
            let rpm = rpm::make(&job, product, arch, &entries, &root).unwrap();
            noticed(|entries| rpm::check(&rpm, entries), &entries);
            let asked = output(Command::new("rpm").args(["-qp", "--recommends"]).arg(&rpm));
            assert_eq!(asked.unwrap().trim(), recommended(product));
            if arch == Arch::Amd64 {
                install(&rpm, &entries, &job.out.join("root"));
            }
        }
    }
    fs::remove_dir_all(&job.out).unwrap();
}

/// Checklist 73, D-12: rpm puts it in the original's place, upgrades and removes it for real, and runs the scripts of both.
#[test]
fn the_rpm_takes_the_originals_place_and_leaves_the_service_as_it_was() {
    if lacks_rpm() || lacks("unshare") {
        return;
    }
    at_root();
    let mut made = Vec::new();
    for version in ["1.2.3", "1.3.0"] {
        let (job, binary) = to_pack(&format!("rpm-{version}"), version);
        let entries = of(Product::Outrunner, &binary, &job.manual).unwrap();
        let root = job.out.join("stage");
        stage(&entries, &root).unwrap();
        let rpm = rpm::make(&job, Product::Outrunner, Arch::Amd64, &entries, &root).unwrap();
        made.push((job.out, rpm));
    }
    let rpms = made.iter().map(|(_, rpm)| rpm);
    let said = output(Command::new("packaging/try-rpm.sh").args(rpms)).unwrap();
    print!("{said}");
    let whole = said.contains("took the original's place, upgraded, removed");
    assert!(whole || (said.contains("SKIPPED") && !required("rpm")), "{said}");
    for (out, _) in made {
        fs::remove_dir_all(out).unwrap();
    }
}

/// rpm unpacks it into an empty root, every file where the list has it, and removes it again. Scripts are left out: the root
/// has no shell.
fn install(package: &Path, entries: &[Entry], root: &Path) {
    if !is_root() {
        println!("SKIPPED: needs root");
        return;
    }
    fs::create_dir_all(root).unwrap();
    let name = package.file_name().unwrap().to_string_lossy().split('_').next().unwrap().to_owned();
    let call = |words: &[&str]| {
        let root = root.display().to_string();
        output(Command::new("rpm").args(["--root", &root]).args(words)).unwrap()
    };
    call(&["--noscripts", "--nodeps", "--ignorearch", "-i", &package.display().to_string()]);
    for entry in entries {
        let path = root.join(rpm::place(&entry.path).trim_start_matches('/'));
        let meta = fs::symlink_metadata(&path).unwrap_or_else(|_| panic!("{}", path.display()));
        assert_eq!(meta.permissions().mode() & 0o7777, entry.mode, "{}", path.display());
    }
    assert!(call(&["-qa"]).contains(&name));
    call(&["--noscripts", "-e", &name]);
    let program = root.join(
        entries.iter().find(|one| one.path.contains("/bin/")).unwrap().path.trim_start_matches('/'),
    );
    assert!(!program.exists(), "{}", program.display());
    fs::remove_dir_all(root).unwrap();
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
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
        // docs/packages.md: 3.8 by systemd 252, which is "OK"; in tenths.
        let exposed = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--threshold=40"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(exposed.status.success(), "{}", String::from_utf8_lossy(&exposed.stdout));
        fs::remove_file(&path).unwrap();
        // It exits with 0 and a warning for keys that it does not know.
        assert_eq!(String::from_utf8_lossy(&said.stderr), "");
        assert!(said.status.success());
    }
}

/// D-30: with a file that can never work, systemd stops trying: so many starts, as far apart as the unit has it, fit into the
/// interval of the limit.
#[test]
fn units_give_up_after_some_failed_starts() {
    at_root();
    for product in Product::ALL {
        let name = product.name();
        let unit = fs::read_to_string(format!("packaging/systemd/{name}.service")).unwrap();
        let value = |key: &str| {
            let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
            let line = line.unwrap_or_else(|| panic!("{name} lacks {key}"));
            let (number, unit) = line.split_at(line.trim_end_matches(char::is_alphabetic).len());
            let scale = match unit {
                "" | "s" => 1,
                "min" => 60,
                other => panic!("{key}: {other}"),
            };
            number.parse::<u64>().unwrap() * scale
        };
        let (burst, apart) = (value("StartLimitBurst"), value("RestartSec"));
        assert!(burst * apart * 2 < value("StartLimitIntervalSec"), "{name}: {burst} x {apart} s");
        assert!(burst >= 5, "{name} gives up too early for an engine that starts slowly");
    }
}

/// D-12: an upgrade restarts a service that runs and neither stops nor disables it; a removal does. The scripts are run as
/// dpkg and rpm run them, with a stand-in for systemctl.
#[test]
fn an_upgrade_neither_stops_nor_disables_the_service() {
    at_root();
    let deb_upgrade = [
        ("prerm", "upgrade 2.0"),
        ("preinst", "upgrade 1.0"),
        ("postrm", "upgrade 2.0"),
        ("postinst", "configure 1.0"),
    ];
    let rpm_upgrade = [("preinst", "2"), ("postinst", "2"), ("prerm", "1"), ("postrm", "1")];
    for product in Product::ALL {
        let unit = format!("{}.service", product.name());
        for steps in [&deb_upgrade, &rpm_upgrade] {
            let calls = played(product, steps);
            assert!(calls.contains(&format!("try-restart {unit}")), "{calls:?}");
            for word in ["stop", "disable", "enable", "mask", "kill"] {
                let told = calls.iter().any(|call| call.split(' ').any(|one| one == word));
                assert!(!told, "{steps:?}: {calls:?}");
            }
        }
        for steps in
            [[("prerm", "remove"), ("postrm", "remove")], [("prerm", "0"), ("postrm", "0")]]
        {
            let calls = played(product, &steps);
            let wanted = format!("--no-reload disable --now {unit}");
            assert!(calls.contains(&wanted), "{steps:?}: {calls:?}");
        }
    }
}

/// Runs maintainer scripts one after another; what they told systemctl.
fn played(product: Product, steps: &[(&str, &str)]) -> Vec<String> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("fleetfoot-scripts-{}-{number}", std::process::id());
    let root = std::env::temp_dir().join(name);
    for directory in ["bin", "run/systemd/system"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let calls = root.join("calls");
    fs::write(&calls, "").unwrap();
    for tool in ["systemctl", "chown", "chmod", "getent", "groupadd", "useradd", "rm", "rmdir"] {
        let path = root.join("bin").join(tool);
        let note = format!("echo \"$*\" >>{}", calls.display());
        let line = if tool == "systemctl" { note.as_str() } else { "exit 0" };
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    for (script, words) in steps {
        let text = product.script(script).unwrap();
        let text = text.replace("/run/systemd", &root.join("run/systemd").display().to_string());
        let done = Command::new("/bin/sh")
            .args(["-c", &text, script])
            .args(words.split(' '))
            .env_clear()
            .env("PATH", root.join("bin"))
            .output()
            .unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{script} {words}: {done:?}");
    }
    let said = fs::read_to_string(calls).unwrap().lines().map(str::to_owned).collect();
    fs::remove_dir_all(root).unwrap();
    said
}

/// The image needs nothing but the static binary: everything it copies lies in the archive, and nothing is fetched.
#[test]
fn the_dockerfile_needs_only_the_archive() {
    at_root();
    let text = fs::read_to_string("packaging/Dockerfile").unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines[0], "FROM scratch");
    let copies: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("COPY ")).collect();
    assert_eq!(copies, ["fleetfoot /usr/bin/fleetfoot"]);
    assert!(lines.iter().all(|line| !line.starts_with("RUN") && !line.starts_with("ADD")));
    let formula = fs::read_to_string("packaging/homebrew/fleetfoot.rb").unwrap();
    for part in
        ["bin.install \"fleetfoot\"", "on_macos", "on_intel", "on_arm", "service do", "test do"]
    {
        assert!(formula.contains(part), "the formula lacks {part}");
    }
    let count = |word: &str| formula.lines().filter(|line| line.trim_end().ends_with(word)).count();
    assert_eq!(count(" do") + 2, formula.lines().filter(|line| line.trim() == "end").count());
}

/// Checklist 72, D-12: dpkg installs, upgrades, removes and purges them for real, the original's package in their place before.
/// The root is an overlay of this machine's; `packaging/try-install.sh` runs the same in one made with debootstrap.
#[test]
fn the_release_build_is_installed_upgraded_removed_and_purged() {
    if ["dpkg-deb", "strip", "unshare"].into_iter().any(lacks) {
        return;
    }
    at_root();
    let Some(program) = std::env::var_os("FLEETFOOT_TEST_RELEASE").map(PathBuf::from) else {
        assert!(!required("release"), "the release is not there");
        println!("SKIPPED: needs release");
        return;
    };
    let out = tempfile_directory("install");
    let (manual, binary) = (out.join("manual"), out.join("binary"));
    for directory in ["man", "completions"] {
        fs::create_dir_all(manual.join(directory)).unwrap();
    }
    output(Command::new("strip").arg("-o").arg(&binary).arg(&program)).unwrap();
    let mut versions = Vec::new();
    for version in ["1.2.3", "1.3.0"] {
        let of_version = out.join(version);
        fs::create_dir(&of_version).unwrap();
        let manual = manual.clone();
        let job = Job { version: version.to_owned(), out: of_version.clone(), manual };
        for product in Product::ALL {
            let entries = of(product, &binary, &job.manual).unwrap();
            let root = out.join("stage");
            stage(&entries, &root).unwrap();
            deb::make(&job, product, Arch::Amd64, &entries, &root).unwrap();
            fs::remove_dir_all(root).unwrap();
        }
        versions.push(of_version);
    }
    let said = output(Command::new("packaging/try-install-here.sh").args(&versions)).unwrap();
    print!("{said}");
    let whole = |product: Product| {
        said.contains(&format!("{}: installed, upgraded, removed, purged", product.package()))
    };
    // Where a systemd can run, so can this, but on a machine of another kind.
    let left_out = said.contains("SKIPPED")
        && (!required("systemd") || said.contains("Debian") || said.contains("these packages"));
    assert!(left_out || Product::ALL.into_iter().all(whole), "{said}");
    fs::remove_dir_all(out).unwrap();
}

fn tempfile_directory(what: &str) -> PathBuf {
    let out = std::env::temp_dir().join(format!("fleetfoot-{what}-{}", std::process::id()));
    fs::create_dir_all(&out).unwrap();
    out
}
