//! `fleetfoot import outrunner`: the same pools in fleetfoot's own words.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use base64::Engine as _;
use fleetfoot::config::{
    Backend, Config, Flavor, JitDelivery, LoadOptions, Position, RunnerConfig, import_outrunner,
    parse,
};

/// The original's own examples (spec 2, 3 and its tutorials), each with something of its own.
const FILES: [&str; 9] = [
    include_str!("../../../packaging/config/outrunner.yml"),
    "url: https://github.com/my-org\ntoken_file: /etc/outrunner/token\nrunners:\n  linux:\n    labels: [self-hosted, linux]\n    max_runners: 4\n    docker:\n      image: ghcr.io/actions/actions-runner:latest\n      mounts:\n        - source: /var/run/docker.sock\n          target: /var/run/docker.sock\n        - {source: /cache, target: /cache, read_only: yes}\n",
    "runners:\n  windows:\n    url: https://github.com/o/r\n    token_file: \"/etc/a b/token\"\n    labels: [self-hosted, windows]\n    runner_group: \"Group: #1\"\n    libvirt:\n      path: /var/lib/images/win.qcow2\n      runner_cmd: 'C:\\actions-runner\\run.cmd'\n      socket: /run/libvirt/libvirt-sock\n      cpus: 8\n      memory: 16384\n      mount: {source: /srv/cache}\n",
    "url: https://ghes.example/enterprises/e\ntoken_file: t\nrunners:\n  macos:\n    labels: [macos, \"on\", \"1.0\"]\n    tart:\n      image: ghcr.io/cirruslabs/macos-sonoma-base:latest\n      runner_cmd: /Users/admin/actions-runner/run.sh\n      cpus: 4\n      memory: 8192\n      mounts: [{name: cache, source: /Users/me/cache, read_only: true}]\n",
    "url: https://github.com/o\nrunners: {custom: {labels: [x], docker: {image: \"r.example:5000/own@sha256:00\", runner_cmd: /opt/start}}}\n",
    "defaults: &d {labels: [x, 'y z'], max_runners: 0}\nurl: https://github.com/o\nrunners:\n  a:\n    <<: *d\n    docker: {image: i}\n  '0.5':\n    <<: *d\n    max_runners: 7\n    docker: {image: j}\n",
    "url: https://github.com/o\nlabelz: [a]\nrunners:\n  two:\n    labels: [x]\n    docker: {image: i}\n    libvirt: {path: /p}\n",
    "url: https://github.com/o\nlisten: 9100\nhost: {memory: 10GiB, cpus: 1.5, min_free_disk: 3%}\nrunners:\n  new:\n    labels: [x]\n    min_idle: 1\n    idle_timeout: 90s\n    docker: {image: i, memory: 4GiB, cpus: 0.5, env: {A: 'b: c', E: }, jit: env}\n",
    "url: https://github.com/o\ntakeover: false\nrunners:\n  vm: {labels: [x], libvirt: {path: /p, memory: 0}}\n  mac: {labels: [y], tart: {image: local, runner_cmd: /run/mine}}\n",
];

fn read(text: &str, flavor: Flavor) -> Config {
    let options = LoadOptions { flavor, ..LoadOptions::default() };
    let (config, report) = parse(text.as_bytes(), Path::new("f.yml"), &options);
    assert!(report.is_ok(), "{}\n{text}", report.render());
    config.unwrap()
}

/// What is the same under both names.
fn alike(runner: &RunnerConfig) -> RunnerConfig {
    let mut runner = runner.clone();
    runner.position = Position { line: 0, column: 0, width: 0 };
    match &mut runner.backend {
        Backend::Docker(docker) => docker.jit = JitDelivery::Env,
        Backend::Libvirt(libvirt) => {
            libvirt.jit = fleetfoot_provisioner_libvirt::JitDelivery::Input;
        }
        Backend::Tart(tart) => tart.jit_argument = false,
        Backend::Process(_) | Backend::Simulated(_) => {}
    }
    runner
}

/// The new file loads without a finding, and its pools are those of the old one, but for how the JIT config goes in.
#[test]
fn the_same_pools() {
    for text in FILES {
        let Ok(new) = import_outrunner(text.as_bytes(), Path::new("/etc/outrunner/config.yml"))
        else {
            // The shipped file has no runner until somebody writes one.
            assert!(text == FILES[0], "{text}");
            continue;
        };
        let options = LoadOptions { strict: true, ..LoadOptions::default() };
        let (config, report) = parse(new.as_bytes(), Path::new("new.yml"), &options);
        assert!(report.is_ok() && report.warnings().count() == 0, "{}\n{new}", report.render());
        let (old, new_config) = (read(text, Flavor::Outrunner), config.unwrap());
        let runners = |config: &Config| config.runners.iter().map(alike).collect::<Vec<_>>();
        assert_eq!(runners(&old), runners(&new_config), "{new}");
        assert_eq!(old.takeover, new_config.takeover, "{new}");
        let top = |config: &Config| {
            (config.url.clone(), config.token_file.clone(), config.host, config.listen.clone())
        };
        assert_eq!(top(&old), top(&new_config), "{new}");
    }
}

/// With the comments taken at their word, it is still a configuration.
#[test]
fn what_it_suggests_can_be_written() {
    let new = import_outrunner(FILES[1].as_bytes(), Path::new("old.yml")).unwrap();
    let is_hint = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("# ")
            && line.trim_start_matches("# ").split_once(": ").is_some_and(|(key, _)| {
                [
                    "cpus",
                    "memory",
                    "pids",
                    "pull",
                    "runner_release",
                    "min_idle",
                    "max_job_duration",
                    "listen",
                ]
                .contains(&key)
            })
    };
    let hints = new.lines().filter(|line| is_hint(line)).count();
    assert!(hints >= 8, "{hints}\n{new}");
    let taken: Vec<String> = new
        .lines()
        .map(|line| if is_hint(&line) { line.replacen("# ", "", 1) } else { line.to_owned() })
        .collect();
    let config = read(&taken.join("\n"), Flavor::Native);
    let runner = config.runner("linux").unwrap();
    assert_eq!(runner.min_idle, 1);
    let Backend::Docker(docker) = &runner.backend else { panic!() };
    assert_eq!((docker.memory, docker.pids), (Some(4 << 30), Some(4096)));
}

/// The same for machines.
#[test]
fn what_it_suggests_for_machines_can_be_written() {
    let new = import_outrunner(FILES[2].as_bytes(), Path::new("old.yml")).unwrap();
    let taken: Vec<String> = new
        .lines()
        .map(|line| match line.trim_start() {
            hint if hint.starts_with("# type: ") || hint.starts_with("# overlay_dir: ") => {
                line.replacen("# ", "", 1)
            }
            _ => line.to_owned(),
        })
        .collect();
    let config = read(&taken.join("\n"), Flavor::Native);
    let Backend::Libvirt(libvirt) = &config.runner("windows").unwrap().backend else { panic!() };
    assert!(libvirt.overlay_dir.is_some(), "{}", taken.join("\n"));
}

/// What the original did by its name alone stays where the command may need it, and what it ignored is named.
#[test]
fn what_differs_is_said() {
    let import = |text: &str| import_outrunner(text.as_bytes(), Path::new("old.yml")).unwrap();
    let custom = import(FILES[4]);
    assert!(custom.contains("      jit: argument\n"), "{custom}");
    let plain = import(FILES[1]);
    assert!(!plain.contains("\n      jit: argument\n"), "{plain}");
    assert!(plain.contains("# The JIT config goes in as a variable"), "{plain}");
    let two = import(FILES[6]);
    assert!(two.contains("labelz") && two.contains("several backends are given"), "{two}");
    assert!(!two.contains("\n    libvirt:"), "{two}");
    assert!(import_outrunner(b"runners: {a: {}}", Path::new("old.yml")).is_err());
}

/// Every odd file that the original reads and that we can use, by the table that its own YAML library made.
#[test]
fn every_odd_file_of_the_original_keeps_its_pools() {
    let table = include_str!("fixtures/config/yaml-table.json");
    let rows: Vec<serde_json::Value> = serde_json::from_str(table).unwrap();
    let options = LoadOptions { flavor: Flavor::Outrunner, ..LoadOptions::default() };
    let mut count = 0;
    for row in rows {
        let input = row["input"].as_str().unwrap();
        let input = base64::engine::general_purpose::STANDARD.decode(input).unwrap();
        let path = Path::new("old.yml");
        let (old, report) = parse(&input, path, &options);
        let new = import_outrunner(&input, path);
        assert_eq!(report.is_ok() && old.is_some(), new.is_ok(), "{}", row["name"]);
        let (Some(old), Ok(new)) = (old, new) else { continue };
        let config = read(&new, Flavor::Native);
        let runners = |config: &Config| config.runners.iter().map(alike).collect::<Vec<_>>();
        assert_eq!(runners(&old), runners(&config), "{}\n{new}", row["name"]);
        assert_eq!((old.url, old.token_file), (config.url, config.token_file), "{new}");
        count += 1;
    }
    assert!(count >= 20, "{count}");
}
