//! Limits, users, archives, and what `check` says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{
    Bench, ended, in_path, installation, is_root, lacks, lives, pid_in, shim, spec, start,
};
use fleetfoot_provisioner::{ErrorKind, Provisioner, Severity};
use fleetfoot_provisioner_process::{
    BubblewrapSettings, ProcessHost, ProcessPool, ProcessProvisioner, RunnerSource, Sandbox,
};

/// Skips where no cgroup enforces the limit: `check` says so itself.
async fn unlimited(provisioner: &ProcessProvisioner) -> bool {
    let findings = provisioner.check().await;
    lacks(
        "writable cgroups",
        !findings.iter().any(|finding| finding.message.contains("not enforced")),
    )
}

#[tokio::test]
async fn memory_beyond_the_limit_ends_the_process_and_is_reported() {
    let bench = Bench::new();
    let mut pool = bench.pool();
    pool.memory = Some(48 << 20);
    let provisioner = bench.with(pool);
    if unlimited(&provisioner).await {
        return;
    }
    let greedy =
        start(&provisioner, 1, "dd if=/dev/zero of=/dev/null bs=200M count=1; exit $?").await;
    let exit = ended(&provisioner, &greedy.name).await;
    assert!(exit.out_of_memory && exit.code == Some(137), "{exit:?}");
    let modest = start(&provisioner, 2, "exit 0").await;
    assert!(!ended(&provisioner, &modest.name).await.out_of_memory);
    for spec in [&greedy, &modest] {
        provisioner.delete(&spec.name).await.unwrap();
    }
    bench.clean(&[&greedy.name, &modest.name]).await;
}

#[tokio::test]
async fn processes_beyond_the_limit_cannot_be_made() {
    let bench = Bench::new();
    let mut pool = bench.pool();
    (pool.pids, pool.cpus) = (Some(8), Some(0.5));
    let provisioner = bench.with(pool);
    if unlimited(&provisioner).await {
        return;
    }
    let script = "i=0; while test $i -lt 50; do i=$((i+1)); sleep 1000 & done; echo all";
    let spec = start(&provisioner, 1, script).await;
    assert_ne!(ended(&provisioner, &spec.name).await.code, Some(0));
    assert!(!provisioner.logs(&spec.name, 9).await.unwrap().contains("all\n"));
    provisioner.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn each_instance_has_a_user_of_its_own() {
    if lacks("root", is_root()) {
        return;
    }
    let bench = Bench::new();
    let mut pool = bench.pool();
    pool.uid_range = Some((231_000, 231_001));
    pool.stop_grace = Duration::from_millis(300);
    let provisioner = bench.with(pool);
    let source = bench.files.path().join("source/run.sh");
    let before = fs::metadata(&source).unwrap();
    let script = "id -u; id -G; cat ../meta.json; echo x >> run.sh; ls ../..; \
                  mkdir -p shut/in && touch shut/in/file && chmod 0 shut/in shut; echo $$ > up; \
                  trap '' TERM; setsid env -i sleep 1000 & sleep 1000";
    let one = start(&provisioner, 1, script).await;
    let two = start(&provisioner, 2, script).await;
    let full = provisioner.create(&spec(3), None).await.unwrap_err();
    assert_eq!(full.kind, ErrorKind::NoRoom);
    for (spec, uid) in [(&one, "231000"), (&two, "231001")] {
        pid_in(&bench.directory(&spec.name).join("runner/up")).await;
        let output = provisioner.logs(&spec.name, 99).await.unwrap();
        assert!(output.starts_with(&format!("{uid}\n{uid}\n")), "{output}");
        assert!(
            !output.contains("installation") && !output.contains(two.name.as_str()),
            "{output}"
        );
    }
    // The runner's file was linked, not copied, and could not be written through the link.
    let after = fs::metadata(&source).unwrap();
    assert_eq!(
        (after.uid(), after.len(), after.mode()),
        (before.uid(), before.len(), before.mode())
    );
    for spec in [&one, &two] {
        provisioner.delete(&spec.name).await.unwrap();
    }
    assert!(source.exists());
    let users = |uid: u32| {
        let owned = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.uid() == uid);
        fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let pid = entry.file_name().to_str().and_then(|pid| pid.parse().ok());
            owned(&entry.path()) && pid.is_some_and(lives)
        })
    };
    assert!(!users(231_000) && !users(231_001));
    bench.clean(&[&one.name, &two.name]).await;
}

#[tokio::test]
async fn the_sandbox_hides_the_host_and_stops_politely() {
    if lacks("bwrap", in_path("bwrap")) {
        return;
    }
    let bench = Bench::new();
    let (shared, secret) = (bench.files.path().join("shared"), bench.files.path().join("secret"));
    fs::create_dir(&shared).unwrap();
    fs::write(&secret, "state").unwrap();
    for uid_range in [None, is_root().then_some((232_000, 232_000))] {
        let mut pool = bench.pool();
        (pool.uid_range, pool.stop_grace) = (uid_range, Duration::from_secs(20));
        pool.sandbox = Sandbox::Bubblewrap(BubblewrapSettings {
            read_only: vec![shared.clone()],
            ..BubblewrapSettings::default()
        });
        let provisioner = bench.with(pool);
        let script = format!(
            "cat {} && exit 50; test -d {} || exit 51; touch /usr/x {}/x && exit 52; \
             test $(ls /proc | grep -c '^[0-9]') -lt 10 || exit 53; touch /tmp/a $HOME/b c || exit 54; \
             test -e /etc/shadow && exit 55; trap 'echo polite; exit 9' TERM; \
             ls ../.. | grep -c . > up; while :; do sleep 0.05; done",
            secret.display(),
            shared.display(),
            shared.display(),
        );
        let spec = start(&provisioner, 1, &script).await;
        let seen = common::file(&bench.directory(&spec.name).join("runner/up")).await;
        assert_eq!(seen, "1", "other instances are visible");
        let shim = common::shim_pid(&bench.directory(&spec.name));
        common::kill(shim, rustix::process::Signal::TERM);
        let exit = ended(&provisioner, &spec.name).await;
        let output = provisioner.logs(&spec.name, 99).await.unwrap();
        assert_eq!(exit.code, Some(9), "{output}");
        assert!(output.contains("polite"));
        provisioner.delete(&spec.name).await.unwrap();
    }
    bench.clean(&[&spec(1).name]).await;
}

const UNPRIVILEGED: &str = "FLEETFOOT_TEST_UNPRIVILEGED";

/// Not a test by itself: what the next test does as nobody.
#[tokio::test]
async fn role_of_an_unprivileged_daemon() {
    let Some(files) = std::env::var_os(UNPRIVILEGED).map(std::path::PathBuf::from) else { return };
    let host = ProcessHost::open(&files.join("own/processes"), installation()).unwrap();
    let mut pool = ProcessPool::new(RunnerSource::RunnerDirectory(files.join("source")));
    pool.memory = Some(1 << 30);
    let plain = ProcessProvisioner::new(std::sync::Arc::clone(&host), pool.clone(), shim());
    let warned = plain.check().await;
    assert!(warned.iter().all(|finding| finding.severity == Severity::Warning), "{warned:?}");
    assert!(
        warned.iter().any(|finding| finding.message.contains("daemon's own user")),
        "{warned:?}"
    );
    let script = "mkdir -p shut/in; touch shut/in/file; chmod 0 shut/in shut; \
                  setsid env -i setsid sleep 1000 & echo $! > child; sleep 0.2; exit 3";
    let spec = start(&plain, 1, script).await;
    let directory = files.join("own/processes").join(spec.name.as_str());
    let child = pid_in(&directory.join("runner/child")).await;
    assert_eq!(ended(&plain, &spec.name).await.code, Some(3));
    assert!(!lives(child));
    plain.delete(&spec.name).await.unwrap();
    assert!(!directory.exists());
    if !lacks("bwrap", in_path("bwrap")) {
        pool.sandbox = Sandbox::Bubblewrap(BubblewrapSettings::default());
        let boxed = ProcessProvisioner::new(host, pool, shim());
        let spec = start(&boxed, 2, "touch a /tmp/b && exit 4").await;
        assert_eq!(
            ended(&boxed, &spec.name).await.code,
            Some(4),
            "{:?}",
            boxed.logs(&spec.name, 9).await
        );
        boxed.delete(&spec.name).await.unwrap();
    }
    println!("all is well");
}

#[tokio::test]
async fn works_without_root() {
    if lacks("root", is_root()) {
        return;
    }
    let bench = Bench::new();
    let own = bench.files.path().join("own");
    fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(65534), Some(65534)).unwrap();
    // Built as root, perhaps where nobody may look.
    let program = bench.files.path().join("test");
    let reachable =
        Command::new("test").arg("-x").arg(shim()).uid(65534).status().unwrap().success();
    if lacks("a build directory that nobody may read", reachable) {
        return;
    }
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new(&program)
        .args(["--exact", "role_of_an_unprivileged_daemon", "--nocapture"])
        .env(UNPRIVILEGED, bench.files.path())
        .env("TMPDIR", &own)
        .current_dir(&own)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("all is well"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    bench.clean(&[]).await;
}

#[tokio::test]
async fn an_archive_is_unpacked_once_and_cloned() {
    let bench = Bench::new();
    let archive = bench.files.path().join("runner.tar.gz");
    let packed = Command::new("tar")
        .arg("-czf")
        .arg(&archive)
        .arg("-C")
        .arg(bench.files.path().join("source"))
        .arg(".")
        .status();
    assert!(packed.unwrap().success());
    let mut pool = bench.pool();
    pool.source = RunnerSource::RunnerArchive(archive.clone());
    let provisioner = bench.with(pool);
    provisioner.prepare().await.unwrap();
    for number in [1, 2] {
        let spec = start(&provisioner, number, "rm run.sh; exit 6").await;
        assert_eq!(ended(&provisioner, &spec.name).await.code, Some(6));
        provisioner.delete(&spec.name).await.unwrap();
    }
    assert_eq!(fs::read_dir(bench.root().join(".cache")).unwrap().count(), 1);
    fs::write(&archive, "no archive").unwrap();
    assert!(provisioner.prepare().await.is_err());
    assert_eq!(provisioner.create(&spec(3), None).await.unwrap_err().kind, ErrorKind::Instance);
    provisioner.delete(&spec(3).name).await.unwrap();
    bench.clean(&[&spec(1).name, &spec(2).name]).await;
}

#[tokio::test]
async fn check_names_what_is_missing() {
    let bench = Bench::new();
    let errors = |findings: Vec<fleetfoot_provisioner::Finding>| {
        let errors = findings.into_iter().filter(|finding| finding.severity == Severity::Error);
        errors.map(|finding| format!("{} | {}", finding.message, finding.hint)).collect::<Vec<_>>()
    };
    assert_eq!(errors(bench.provisioner().check().await), Vec::<String>::new());
    let mut pool = bench.pool();
    pool.source = RunnerSource::RunnerDirectory("/nonexistent".into());
    pool.uid_range = Some((0, 5));
    let said = errors(bench.with(pool).check().await).join("\n");
    assert!(said.contains("/nonexistent cannot be read") && said.contains("uid_range"), "{said}");
    let mut pool = bench.pool();
    fs::set_permissions(bench.files.path().join("source/run.sh"), PermissionsExt::from_mode(0o644))
        .unwrap();
    let said = errors(bench.with(pool.clone()).check().await).join("\n");
    assert!(said.contains("`./run.sh` of the runner is not executable"), "{said}");
    pool.source = RunnerSource::RunnerArchive("/nonexistent.tar.gz".into());
    let host = std::sync::Arc::clone(&bench.host);
    let said =
        errors(ProcessProvisioner::new(host, pool, "/nonexistent/shim".into()).check().await)
            .join("\n");
    assert!(said.contains("/nonexistent.tar.gz") && said.contains("/nonexistent/shim"), "{said}");
    bench.clean(&[]).await;
}

#[tokio::test]
async fn a_full_disk_is_no_room_and_keeps_nothing_from_being_removed() {
    if lacks("root", is_root()) {
        return;
    }
    let bench = Bench::new();
    let mount = |size: &str| {
        let flags = rustix::mount::MountFlags::empty();
        let data = std::ffi::CString::new(format!("size={size}")).unwrap();
        rustix::mount::mount("tmpfs", bench.root(), "tmpfs", flags, Some(data.as_c_str())).unwrap();
    };
    let unmount =
        || rustix::mount::unmount(bench.root(), rustix::mount::UnmountFlags::DETACH).unwrap();
    mount("256k");
    let provisioner = bench.reopened();
    let filler = start(&provisioner, 1, "cat /dev/zero > fill; exit 4").await;
    let exit = ended(&provisioner, &filler.name).await;
    let full = provisioner.create(&spec(2), None).await;
    let gone = [provisioner.delete(&filler.name).await, provisioner.delete(&spec(2).name).await];
    let left = fs::read_dir(bench.root()).unwrap().count();
    drop(provisioner);
    unmount();
    assert_eq!(exit.code, Some(4), "{exit:?}");
    assert_eq!(full.unwrap_err().kind, ErrorKind::NoRoom);
    assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    assert_eq!(left, 0);
    bench.clean(&[&filler.name]).await;
}
