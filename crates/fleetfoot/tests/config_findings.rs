//! Every mistake is found, with its place and its cure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use fleetfoot::config::{Finding, LoadOptions, Severity, parse};

fn findings(text: &str) -> Vec<Finding> {
    parse(text.as_bytes(), Path::new("f.yml"), &LoadOptions::default()).1.findings
}

/// One runner `a` with a label, a container, and the given lines in it.
fn runner(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("runners:\n  a:\n    labels: [x]\n    docker: {{image: i}}\n{}", lines.concat())
}

/// One runner `a` with the given container keys.
fn docker(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(|line| format!("      {line}\n")).collect();
    format!("runners:\n  a:\n    labels: [x]\n    docker:\n{}", lines.concat())
}

fn process(lines: &str) -> String {
    docker(lines).replace("docker:", "process:")
}

fn libvirt(lines: &str) -> String {
    docker(lines).replace("docker:", "libvirt:")
}

#[test]
fn each_mistake_has_its_line_key_and_text() {
    use Severity::{Error, Warning};
    let valid = "runners: {a: {labels: [x], docker: {image: i}}}\n";
    let top = |lines: &str| format!("{lines}\n{valid}");
    let table: Vec<(String, Severity, u32, &str, &str, &str)> = vec![
        // text, severity, line, path, part of the message, part of the suggestion
        (
            runner("max_runner: 4"),
            Warning,
            5,
            "runners.a.max_runner",
            "unknown key `max_runner`",
            "did you mean `max_runners`?",
        ),
        (
            runner("image: i"),
            Warning,
            5,
            "runners.a.image",
            "unknown key `image`",
            "belongs under `runners.<name>.docker`",
        ),
        (
            top("myshoes:\n  variables:\n    PORT: 8081\n    MYSQL_PASSWORD: hunter2"),
            Error,
            4,
            "myshoes.variables.MYSQL_PASSWORD",
            "a secret must not stand in this file",
            "put it into the file that `myshoes.env_file` names",
        ),
        (top("labels: [x]"), Warning, 1, "labels", "unknown key", "belongs under `runners.<name>`"),
        (
            runner("max_runners: four"),
            Error,
            5,
            "runners.a.max_runners",
            "`four` where a whole number is due",
            "",
        ),
        (
            runner("max_runners: '4'"),
            Error,
            5,
            "runners.a.max_runners",
            "quoted text `4`",
            "remove the quotes",
        ),
        (runner("max_runners: -1"), Error, 5, "runners.a.max_runners", "-1 is negative", ""),
        (runner("max_runners: 3000000000"), Error, 5, "runners.a.max_runners", "too large", ""),
        (runner("min_idle: 3"), Error, 5, "runners.a.min_idle", "more than the 2", ""),
        (runner("warm: 3"), Error, 5, "runners.a.warm", "more than the 2", ""),
        (
            libvirt("path: /i\njit: seed").replace("    libvirt:", "    warm: 1\n    libvirt:"),
            Error,
            4,
            "runners.a.warm",
            "libvirt, tart or process",
            "",
        ),
        (
            libvirt("path: /i\nuri: qemu+tcp://kvm/system"),
            Error,
            6,
            "runners.a.libvirt.uri",
            "must be `qemu+tls://HOST/system`",
            "",
        ),
        (
            libvirt("path: /i\nsocket: /s\nuri: qemu+tls://kvm/system"),
            Error,
            7,
            "runners.a.libvirt.uri",
            "exclude each other",
            "",
        ),
        (runner("warm_ttl: 5s"), Error, 5, "runners.a.warm_ttl", "at least 1m", ""),
        (
            runner("idle_timeout: 5x"),
            Error,
            5,
            "runners.a.idle_timeout",
            "`5x` is not a duration",
            "90s, 5m",
        ),
        (runner("boot_timeout: 0"), Error, 5, "runners.a.boot_timeout", "must be more than 0", ""),
        (
            runner("max_job_duration: 6"),
            Warning,
            5,
            "runners.a.max_job_duration",
            "less than a minute",
            "write a unit",
        ),
        (runner("remains_max: 0"), Error, 5, "runners.a.remains_max", "0 is less than 1", ""),
        (runner("proxy: maybe"), Error, 5, "runners.a.proxy", "where true or false is due", ""),
        (
            runner("url: https://me:secret@github.com/o"),
            Error,
            5,
            "runners.a.url",
            "must not carry a user or password",
            "token_file",
        ),
        (
            docker("image: i\nmemory: 512"),
            Error,
            6,
            "runners.a.docker.memory",
            "less than any engine accepts",
            "512MiB",
        ),
        (
            docker("image: i\nmemory: lots"),
            Error,
            6,
            "runners.a.docker.memory",
            "`lots` is not a size",
            "512MiB, 2GiB",
        ),
        (
            docker("image: i\npull: allways"),
            Error,
            6,
            "runners.a.docker.pull",
            "not one of missing, always, never",
            "did you mean `always`?",
        ),
        (
            docker("image: i\ncpus: 0"),
            Error,
            6,
            "runners.a.docker.cpus",
            "not between",
            "0.5 or 500m",
        ),
        (docker("image: i\npids: 0"), Error, 6, "runners.a.docker.pids", "0 is less than 1", ""),
        (
            docker("image: i\nhost: /run/docker.sock"),
            Error,
            6,
            "runners.a.docker.host",
            "not an address",
            "write unix:///run/docker.sock",
        ),
        (
            docker("image: i\ntmpfs: [tmp]"),
            Error,
            6,
            "runners.a.docker.tmpfs",
            "`tmp` is not an absolute path",
            "",
        ),
        (
            docker("image: i\nmounts: [{source: a, target: /b}]"),
            Error,
            6,
            "runners.a.docker.mounts[0].source",
            "`a` is not an absolute path",
            "",
        ),
        (
            docker("image: i\nmounts: [{source: /a}]"),
            Error,
            6,
            "runners.a.docker.mounts[0].target",
            "`target` is required",
            "",
        ),
        (
            docker("image: i\nenv: {A=B: c}"),
            Error,
            6,
            "runners.a.docker.env.A=B",
            "not a name for a variable",
            "",
        ),
        (
            docker("image: i\nrunner_cmd: run.sh --once"),
            Warning,
            6,
            "runners.a.docker.runner_cmd",
            "one word",
            "script",
        ),
        (docker("user: u"), Error, 5, "runners.a.docker.image", "`image` is required", ""),
        (docker("image: ''"), Error, 5, "runners.a.docker.image", "must not be empty", ""),
        (
            process("cpus: 1"),
            Error,
            5,
            "runners.a.process",
            "`runner_release`, `runner_dir` or `runner_archive` is required",
            "runner_release: latest",
        ),
        (
            process("runner_dir: /a\nrunner_archive: /b"),
            Error,
            6,
            "runners.a.process",
            "both",
            "keep one",
        ),
        (
            process("runner_dir: /a\nuid_range: 0-5"),
            Error,
            6,
            "runners.a.process.uid_range",
            "not a range",
            "20000-20063",
        ),
        (
            process("runner_dir: /a\nsandbox: bublewrap"),
            Error,
            6,
            "runners.a.process.sandbox",
            "not one of",
            "`bubblewrap`",
        ),
        (top("url: a\nurl: b"), Error, 2, "", "key `url` is already given at line 1", "keep one"),
        (top("listen: 0.0.0.0:1"), Error, 1, "listen", "not encrypted", "listen_insecure"),
        (
            top("listen_insecure: true"),
            Warning,
            1,
            "listen_insecure",
            "no effect without `listen`",
            "",
        ),
        (top("host: {max_instances: 0}"), Error, 1, "host.max_instances", "0 is less than 1", ""),
        (
            top("host: {min_free_disk: 200%}"),
            Error,
            1,
            "host.min_free_disk",
            "not between 0% and 100%",
            "10%",
        ),
        (
            top("github: {app: {id: 1}}"),
            Error,
            1,
            "github.app.installation_id",
            "is required",
            "settings page",
        ),
        (
            top("github: {app: {installation_id: 1}}"),
            Error,
            1,
            "github.app",
            "needs `id` or `client_id`",
            "",
        ),
        (
            top("github: {app: {id: 1, client_id: x, installation_id: 1}}"),
            Error,
            1,
            "github.app",
            "both",
            "keep one",
        ),
        (top("github: {api_url: ghes}"), Error, 1, "github.api_url", "is not a URL", ""),
        (top("github: {proxy: 'ftp://x'}"), Error, 1, "github.proxy", "not an http or https", ""),
        (
            top("github: {proxy: 'http://u:p@x'}"),
            Error,
            1,
            "github.proxy",
            "password",
            "HTTPS_PROXY",
        ),
        (top("log: {level: verbose}"), Error, 1, "log.level", "not one of error, warn", ""),
        (top("log: {level: warning}"), Error, 1, "log.level", "not one of", "did you mean `warn`?"),
        ("runners: {}\n".into(), Error, 1, "runners", "no runners configured", ""),
        (
            "runners:\n  a: {docker: {image: i}}\n".into(),
            Error,
            2,
            "runners.a.labels",
            "labels are required",
            "labels: [",
        ),
        (
            "runners:\n  a: {labels: linux, docker: {image: i}}\n".into(),
            Error,
            2,
            "runners.a.labels",
            "where a list is due",
            "[linux]",
        ),
        (
            "runners:\n  a: {labels: [x]}\n".into(),
            Error,
            2,
            "runners.a",
            "must specify docker",
            "process",
        ),
        (
            "runners:\n  a: {labels: [x], docker: }\n".into(),
            Error,
            2,
            "runners.a",
            "must specify docker",
            "`docker` is there but empty",
        ),
        (
            "runners:\n  a: {labels: [x], docker: {image: i}, tart: {image: i}}\n".into(),
            Error,
            2,
            "runners.a",
            "several backends",
            "exactly one",
        ),
        (
            "runners:\n  a b: {labels: [x], docker: {image: i}}\n".into(),
            Error,
            2,
            "runners.a b",
            "cannot be used",
            "letters, digits",
        ),
        (
            "runners:\n  -a: {labels: [x], docker: {image: i}}\n".into(),
            Error,
            2,
            "runners.-a",
            "cannot be used",
            "",
        ),
        (
            "runners:\n  a: {labels: [x, X], docker: {image: i}}\n".into(),
            Warning,
            2,
            "runners.a.labels",
            "`X` is given twice",
            "",
        ),
        (
            "runners:\n  a: {labels: [''], docker: {image: i}}\n".into(),
            Error,
            2,
            "runners.a.labels",
            "must not be empty",
            "",
        ),
        (
            "runners:\n  a: {labels: ['x,y'], docker: {image: i}}\n".into(),
            Warning,
            2,
            "runners.a.labels",
            "never be asked for",
            "one list entry",
        ),
        ("runners: [\n".into(), Error, 2, "", "not YAML", ""),
        ("- a\n".into(), Error, 1, "", "a list where a mapping is due", ""),
    ];
    for (text, severity, line, path, message, suggestion) in table {
        let all = findings(&text);
        let fits = |f: &&Finding| {
            f.severity == severity
                && f.position.map_or(0, |p| p.line) == line
                && f.path == path
                && f.message.contains(message)
                && f.suggestion.as_deref().unwrap_or_default().contains(suggestion)
        };
        assert!(
            all.iter().any(|f| fits(&f)),
            "{text}\nwanted {line} {path}: {message}\nfound {all:#?}"
        );
        assert_eq!(
            all.iter().filter(|f| f.severity == Severity::Error).count() > 0,
            severity == Severity::Error,
            "{text}: {all:#?}"
        );
    }
}

#[test]
fn a_misspelt_backend_is_pointed_at() {
    let all = findings("runners:\n  a: {labels: [x], dokcer: {image: i}}\n");
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|f| f.suggestion.as_deref().unwrap().contains("did you mean `docker`")));
}
