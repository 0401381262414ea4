//! A file becomes the configuration that it says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use fleetfoot::config::credentials::Flags;
use fleetfoot::config::summary::summarize;
use fleetfoot::config::{
    Backend, Config, Cpus, DiskShare, Flavor, History, InstanceProxy, JitDelivery, LoadOptions,
    LogFormat, LogLevel, PullPolicy, RunnerReleases, RunnerSource, Sandbox, Timeouts,
    WantedRelease, load, parse, schema_json,
};
use fleetfoot_provisioner_libvirt::{DomainType, Network, WarmMode};

fn read(text: &str) -> Config {
    read_as(text, &LoadOptions::default())
}

fn read_as(text: &str, options: &LoadOptions) -> Config {
    let (config, report) = parse(text.as_bytes(), Path::new("f.yml"), options);
    assert!(report.is_ok(), "{}", report.render());
    config.unwrap()
}

const EVERYTHING: &str = include_str!("fixtures/config/everything.yml");

#[test]
fn the_example_has_every_key_of_the_schema() {
    fn walk(value: &serde_json::Value, names: &mut Vec<String>) {
        if let Some(properties) = value["properties"].as_object() {
            for (name, inner) in properties {
                names.push(name.clone());
                walk(inner, names);
            }
        }
        for inner in [&value["items"], &value["additionalProperties"], &value["anyOf"][1]] {
            if !inner.is_null() {
                walk(inner, names);
            }
        }
    }
    let mut names = Vec::new();
    walk(&schema_json(), &mut names);
    for name in names {
        assert!(EVERYTHING.contains(&format!("{name}:")), "{name}");
    }
}

#[test]
fn every_key_reaches_the_config() {
    let config = read(EVERYTHING);
    assert_eq!(config.state_dir, Some(PathBuf::from("/var/lib/fleetfoot")));
    assert_eq!(config.store_url_file, Some(PathBuf::from("/etc/fleetfoot/store-url")));
    let listen = config.listen.clone().unwrap();
    assert_eq!(listen.address.to_string(), "0.0.0.0:9100");
    assert_eq!(listen.token_file, Some(PathBuf::from("/etc/fleetfoot/listen-token")));
    assert_eq!(config.host.max_instances, Some(20));
    assert_eq!(config.host.cpus, Some(Cpus { millis: 14_000 }));
    assert_eq!(config.host.memory, Some(48 << 30));
    assert_eq!(config.history, History { days: 7, events_max: 50_000, jobs_max: 5_000 });
    let releases = RunnerReleases {
        dir: Some(PathBuf::from("/srv/runners")),
        check_interval: Duration::from_secs(3600),
    };
    assert_eq!(config.runner_releases, releases);
    assert_eq!(config.host.min_free_disk, DiskShare::Percent(10));
    let targets = config.myshoes.clone().unwrap();
    assert_eq!(targets.env_file, Some(PathBuf::from("/etc/default/myshoes")));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let said = [pair("SCALESET_ENABLED", "true"), pair("SCALESET_MAX_RUNNERS", "20")];
    assert_eq!(targets.variables, said);
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Debug));
    let app = config.github.app.clone().unwrap();
    assert_eq!((app.issuer.as_str(), app.installation_id), ("12345", 678));
    assert_eq!(app.private_key_file, Some(PathBuf::from("/etc/fleetfoot/app.pem")));
    let names: Vec<&str> = config.runners.iter().map(|runner| runner.name.as_str()).collect();
    assert_eq!(names, ["far", "kept", "linux", "mac", "nothing", "own", "packed", "vm"]);
}

#[test]
fn every_key_of_a_runner_reaches_it() {
    let config = read(EVERYTHING);
    let linux = config.runner("linux").unwrap();
    assert_eq!(linux.url.as_deref(), Some("https://github.com/my-org/repo"));
    assert_eq!(linux.token_file, Some(PathBuf::from("/etc/fleetfoot/linux-token")));
    assert_eq!(linux.labels, ["self-hosted", "linux"]);
    assert_eq!((linux.max_runners, linux.min_idle, linux.remains_max), (8, 2, 5));
    assert_eq!(linux.runner_group.as_deref(), Some("Trusted"));
    let minutes = |count: u64| Duration::from_secs(count * 60);
    assert_eq!(
        linux.timeouts,
        Timeouts {
            idle: minutes(10),
            start: minutes(1),
            create: minutes(15),
            boot: minutes(3),
            stop: Duration::from_secs(90),
        }
    );
    assert_eq!(linux.max_job_duration, Some(minutes(360)));
    assert_eq!(linux.proxy, Some(InstanceProxy::Ours));
    assert_eq!(linux.ca_file, Some(PathBuf::from("/etc/ssl/inside.pem")));
    assert_eq!(linux.github, config.github);
    assert!(!linux.own_app);

    let own = config.runner("own").unwrap();
    assert!(own.own_app);
    assert_eq!(own.github.app.clone().unwrap().issuer, "Iv23liAbC");
    assert_eq!(own.github.api_url.as_deref(), Some("https://other.example/api/v3"));
    assert_eq!(own.github.proxy.as_deref(), Some("http://other.example:3128"));
    assert_eq!(own.github.ca_file, Some(PathBuf::from("/etc/ssl/other.pem")));
    let Some(InstanceProxy::Explicit { http, https, no_proxy }) = &own.proxy else { panic!() };
    assert_eq!(http.as_deref(), Some("http://p:1"));
    assert_eq!(https.as_deref(), Some("http://p:2"));
    assert_eq!(no_proxy.as_deref(), Some("localhost"));
}

#[test]
fn every_key_of_a_container_reaches_it() {
    let config = read(EVERYTHING);
    let Backend::Docker(docker) = &config.runner("linux").unwrap().backend else { panic!() };
    assert_eq!(docker.image, "ghcr.io/actions/actions-runner:latest");
    assert_eq!(docker.runner_cmd, "/home/runner/run.sh");
    assert_eq!(docker.mounts.len(), 1);
    assert!(docker.mounts[0].read_only);
    let env: Vec<(&str, &str)> = docker.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, [("EMPTY", ""), ("LANG", "C.UTF-8"), ("NUMBER", "1.50")]);
    assert_eq!(docker.user.as_deref(), Some("runner"));
    assert_eq!(docker.runner_release, Some(WantedRelease::Latest));
    assert_eq!(docker.network.as_deref(), Some("jobs"));
    assert_eq!(docker.cpus, Some(Cpus { millis: 1500 }));
    assert_eq!((docker.memory, docker.pids), (Some(4 << 30), Some(4096)));
    assert_eq!(docker.tmpfs[0].path, "/tmp");
    assert_eq!(docker.tmpfs[0].options, "size=1g");
    assert_eq!(docker.tmpfs[1].options, "");
    assert_eq!((docker.shm_size, docker.log_max_size), (Some(256 << 20), Some(10 << 20)));
    assert_eq!(docker.runtime.as_deref(), Some("runsc"));
    assert_eq!(docker.cap_drop, ["ALL"]);
    assert_eq!(docker.security_opt, ["no-new-privileges"]);
    assert_eq!((docker.pull, docker.jit), (PullPolicy::Always, JitDelivery::Argument));
    assert_eq!(docker.registry_auth, Some(PathBuf::from("/etc/fleetfoot/registry.json")));
    assert_eq!(docker.host.as_deref(), Some("unix:///run/user/1000/podman.sock"));
}

#[test]
fn every_key_of_the_other_backends_reaches_them() {
    let config = read(EVERYTHING);
    let Backend::Process(process) = &config.runner("own").unwrap().backend else { panic!() };
    assert_eq!(process.source, RunnerSource::Directory(PathBuf::from("/opt/actions-runner")));
    assert_eq!((process.sandbox, process.uid_range), (Sandbox::Bubblewrap, Some((20000, 20063))));
    assert_eq!(process.cpus, Some(Cpus { millis: 500 }));
    assert_eq!((process.memory, process.pids), (Some(2 << 30), Some(512)));
    assert_eq!(process.env["CI"], "true");
    let Backend::Process(packed) = &config.runner("packed").unwrap().backend else { panic!() };
    assert!(matches!(packed.source, RunnerSource::Archive(_)));
    let Backend::Process(kept) = &config.runner("kept").unwrap().backend else { panic!() };
    let exact = WantedRelease::Exact("2.336.0".to_owned());
    assert_eq!(kept.source, RunnerSource::Release(exact));
    let vm = config.runner("vm").unwrap();
    assert_eq!((vm.warm, vm.warm_ttl), (1, Duration::from_secs(90 * 60)));
    let Backend::Libvirt(vm) = &config.runner("vm").unwrap().backend else { panic!() };
    assert_eq!((vm.cpus, vm.memory_mib, vm.mount.as_deref()), (16, 32768, Some("/cache")));
    assert_eq!(vm.runner_cmd, r"C:\actions-runner\run.cmd");
    assert_eq!(vm.address.socket(), Some(Path::new("/run/libvirt/sock")));
    assert_eq!(vm.network, Network::Bridge("br0".to_owned()));
    assert_eq!((vm.domain_type, vm.warm_mode), (DomainType::Auto, WarmMode::Suspended));
    let shares: Vec<_> = vm.mounts.iter().map(|it| (&*it.source, it.tag.as_deref())).collect();
    assert_eq!(shares, [("/tools", None), ("/srv/data", Some("data"))]);
    let far = config.runner("far").unwrap();
    assert!(!far.backend.binds_late());
    let Backend::Libvirt(far) = &far.backend else { panic!() };
    assert_eq!(far.jit, fleetfoot_provisioner_libvirt::JitDelivery::Seed);
    let address = "qemu+tls://kvm.example/system?pkipath=/etc/fleetfoot/kvm";
    assert_eq!((far.address.socket(), far.address.to_string().as_str()), (None, address));
    let Backend::Tart(mac) = &config.runner("mac").unwrap().backend else { panic!() };
    assert_eq!((mac.cpus, mac.memory_mib), (6, 12288));
    assert_eq!(mac.mounts[0].name, "cache");
    assert!(mac.mounts[0].read_only);
    let Backend::Simulated(simulated) = &config.runner("nothing").unwrap().backend else {
        panic!()
    };
    assert_eq!(simulated.create_time, Duration::from_millis(250));
    assert!(simulated.late_binding);
    assert_eq!(simulated.socket, Some(PathBuf::from("/run/engine.sock")));
    assert!(config.takeover);
}

#[test]
fn a_small_file_has_the_documented_defaults() {
    let config = read("runners: {a: {labels: [x], docker: {image: i}}}");
    let runner = config.runner("a").unwrap();
    assert_eq!((runner.max_runners, runner.min_idle, runner.remains_max), (2, 0, 10));
    assert_eq!(runner.timeouts, Timeouts::default());
    assert_eq!(
        (runner.max_job_duration, &runner.runner_group, &runner.proxy),
        (None, &None, &None)
    );
    assert_eq!(config.history, History::default());
    assert_eq!(config.host.min_free_disk, DiskShare::Percent(5));
    let Backend::Docker(docker) = &runner.backend else { panic!() };
    assert_eq!((docker.runner_cmd.as_str(), docker.jit), ("./run.sh", JitDelivery::Env));
    assert_eq!(docker.pull, PullPolicy::Missing);
}

#[test]
fn under_the_originals_name_the_jit_config_is_an_argument() {
    let options = LoadOptions { flavor: Flavor::Outrunner, ..LoadOptions::default() };
    let config = read_as("runners: {a: {labels: [x], docker: {image: i}}}", &options);
    let Backend::Docker(docker) = &config.runner("a").unwrap().backend else { panic!() };
    assert_eq!(docker.jit, JitDelivery::Argument);
}

/// Checklist 7: two runners with the defaults of virtual machines, and explicit values kept.
#[test]
fn machines_have_the_originals_defaults() {
    let config = read(
        "runners:\n  a: {labels: [x], libvirt: {path: p}}\n  b: {labels: [x], tart: {image: t, cpus: 0}}\n  c: {labels: [x], libvirt: {path: p, cpus: 16, memory: 32768}}\n",
    );
    let Backend::Libvirt(a) = &config.runner("a").unwrap().backend else { panic!() };
    assert_eq!((a.cpus, a.memory_mib), (4, 8192));
    assert_eq!(a.address.socket(), Some(Path::new("/var/run/libvirt/libvirt-sock")));
    assert_eq!(a.runner_cmd, "/actions-runner/run.sh");
    let Backend::Tart(b) = &config.runner("b").unwrap().backend else { panic!() };
    assert_eq!((b.cpus, b.memory_mib, b.runner_cmd.as_str()), (4, 8192, "/actions-runner/run.sh"));
    let Backend::Libvirt(c) = &config.runner("c").unwrap().backend else { panic!() };
    assert_eq!((c.cpus, c.memory_mib), (16, 32768));
}

/// Checklist 8: `max_runners` is used; absent or 0 is the flag's.
#[test]
fn a_limit_of_nothing_is_the_flags() {
    let text = "runners:\n  a: {labels: [x], max_runners: 8, docker: {image: i}}\n  b: {labels: [x], max_runners: 0, docker: {image: i}}\n  c: {labels: [x], docker: {image: i}}\n";
    for default in [0, 2, 7] {
        let options = LoadOptions { default_max_runners: default, ..LoadOptions::default() };
        let limits: Vec<u32> =
            read_as(text, &options).runners.iter().map(|r| r.max_runners).collect();
        assert_eq!(limits, [8, default, default]);
    }
}

/// Checklist 9: mounts of each backend.
#[test]
fn mounts_read_as_in_the_original() {
    let config = read(
        "runners:\n  a: {labels: [x], docker: {image: i, mounts: [{source: /a, target: /b, read_only: true}, {source: /c, target: /d}]}}\n  b: {labels: [x], tart: {image: i, mounts: [{name: n, source: /a, read_only: on}]}}\n  c: {labels: [x], libvirt: {path: p, mount: {source: /m}}}\n",
    );
    let Backend::Docker(a) = &config.runner("a").unwrap().backend else { panic!() };
    let mounts: Vec<_> =
        a.mounts.iter().map(|m| (m.source.as_str(), m.target.as_str(), m.read_only)).collect();
    assert_eq!(mounts, [("/a", "/b", true), ("/c", "/d", false)]);
    let Backend::Tart(b) = &config.runner("b").unwrap().backend else { panic!() };
    assert_eq!((b.mounts[0].name.as_str(), b.mounts[0].read_only), ("n", true));
    let Backend::Libvirt(c) = &config.runner("c").unwrap().backend else { panic!() };
    assert_eq!(c.mount.as_deref(), Some("/m"));
}

/// Checklist 10 and 11: unknown keys only warn, and a file without any URL loads.
#[test]
fn unknown_keys_warn_and_a_url_is_not_needed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.yml");
    std::fs::write(
        &path,
        "surprise: 1\nrunners: {a: {labels: [x], more: 2, docker: {image: i}}}\n",
    )
    .unwrap();
    let loaded = load(&path, &LoadOptions::default()).unwrap();
    assert_eq!(loaded.report.warnings().count(), 2);
    assert!(loaded.config.url.is_none());
    let strict = LoadOptions { strict: true, ..LoadOptions::default() };
    assert!(load(&path, &strict).is_err());
}

#[test]
fn addresses_to_listen_on() {
    let file = |listen: &str| {
        format!("listen: '{listen}'\nrunners: {{a: {{labels: [x], docker: {{image: i}}}}}}\n")
    };
    for (written, address) in [
        ("9100", "127.0.0.1:9100"),
        ("localhost:9100", "127.0.0.1:9100"),
        ("127.0.0.2:1", "127.0.0.2:1"),
        ("[::1]:9100", "[::1]:9100"),
        ("127.0.0.1:0", "127.0.0.1:0"),
    ] {
        assert_eq!(read(&file(written)).listen.unwrap().address.to_string(), address, "{written}");
    }
    for written in
        ["0.0.0.0:1", ":9100", "[::]:1", "x", "127.0.0.1", "127.0.0.1:99999", "10.0.0.1:1"]
    {
        let (_, report) = parse(file(written).as_bytes(), Path::new("f"), &LoadOptions::default());
        assert!(!report.is_ok(), "{written}");
    }
}

#[test]
fn the_summary_names_every_pool() {
    let config = read(EVERYTHING);
    let summary = summarize(&config, &Flags::default());
    assert_eq!(summary.pools.len(), 8);
    let text = summary.to_string();
    let linux = "  linux: https://github.com/my-org/repo, group Trusted, labels self-hosted,linux, docker ghcr.io/actions/actions-runner:latest, runner latest, up to 8, 2 kept idle, each 1.5 cpus, 4GiB memory, 4096 pids, jobs at most 6h\n";
    assert!(text.contains(linux), "{text}");
    assert!(
        text.contains(
            "libvirt /images/base.qcow2, up to 2, 0 kept idle, 1 kept warm, each 16 cpus, 32GiB memory"
        ),
        "{text}"
    );
    assert!(text.contains("on this host: at most 20 instances, 14 cpus, 48GiB memory, 10% of the disk stays free\n"), "{text}");
    assert!(text.contains("health and metrics at http://0.0.0.0:9100\n"));
}
