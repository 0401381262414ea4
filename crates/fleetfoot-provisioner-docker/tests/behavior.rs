//! What the conformance suite does not ask: descriptions, failures and their words, pulls, takeover, images,
//! and an engine that is restarted or frozen. On a real dockerd; some on Podman too.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods
)]

#[allow(unreachable_pub)]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_provisioner::{
    Deletion, EnvironmentState, ErrorKind, Event, InstanceName, Provisioner, Severity,
};
use fleetfoot_provisioner_docker::image;
use fleetfoot_provisioner_docker::{
    BindMount, DockerEngine, DockerPool, DockerProvisioner, EngineSettings, JitDelivery, PullPolicy,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use support::{BOUND, IMAGE, eventually, installation, pool, pool_name, raw, script, spec};

async fn inspect(socket: &Path, name: &InstanceName) -> (u16, Value) {
    raw(socket, "GET", &format!("/v1.41/containers/{name}/json"), "").await
}

fn provisioner(engine: &Arc<DockerEngine>, pool: DockerPool) -> DockerProvisioner {
    DockerProvisioner::new(Arc::clone(engine), pool, installation())
}

#[tokio::test]
async fn a_container_carries_exactly_what_was_asked_for() {
    let Some(socket) = support::socket("docker") else { return };
    let engine = support::engine(&socket).await;
    support::import(&engine).await;
    let directory = tempfile::tempdir().unwrap();
    let mut settings = pool();
    settings.runner_cmd = "/runner/run.sh".to_owned();
    settings.jit = JitDelivery::Argument;
    settings.memory = Some(64 << 20);
    settings.pids = Some(50);
    settings.cpus_millis = Some(500);
    settings.shm_size = Some(8 << 20);
    settings.user = Some("0:0".to_owned());
    settings.log_max_size = Some(1 << 20);
    settings.cap_drop = vec!["NET_RAW".to_owned()];
    settings.security_opt = vec!["no-new-privileges".to_owned()];
    settings.tmpfs.insert("/scratch".to_owned(), "size=1m".to_owned());
    settings.env.insert("GREETING".to_owned(), "hello".to_owned());
    let source = directory.path().display().to_string();
    settings.mounts = vec![BindMount { source, target: "/data".to_owned(), read_only: true }];
    let provisioner = provisioner(&engine, settings);
    let spec = spec(1);
    provisioner.create(&spec, Some(&script("ignored"))).await.unwrap();
    let (_, it) = inspect(&socket, &spec.name).await;
    provisioner.delete(&spec.name).await.unwrap();
    assert_eq!(it["Path"], "/runner/run.sh");
    assert_eq!(it["Args"], json!(["--jitconfig", "ignored"]));
    let labels = it["Config"]["Labels"].as_object().unwrap();
    let ours: Vec<_> =
        labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap())).collect();
    assert_eq!(
        ours,
        [
            format!("fleetfoot.installation={}", installation()),
            format!("fleetfoot.instance={}", spec.name),
            "fleetfoot.pool=fftest".to_owned(),
            "outrunner=true".to_owned(),
            format!("outrunner.name={}", spec.name),
        ]
    );
    let host = &it["HostConfig"];
    assert_eq!(
        (&host["AutoRemove"], &host["RestartPolicy"]["Name"]),
        (&json!(false), &json!("no"))
    );
    assert_eq!((&host["Memory"], &host["PidsLimit"]), (&json!(64 << 20), &json!(50)));
    assert_eq!((&host["NanoCpus"], &host["ShmSize"]), (&json!(500_000_000), &json!(8 << 20)));
    assert_eq!(it["Mounts"][0]["RW"], false);
    assert_eq!(it["Config"]["StopTimeout"], 40);
    let env = it["Config"]["Env"].to_string();
    assert!(env.contains("GREETING=hello") && env.contains("RUNNER_MANUALLY_TRAP_SIG=1"), "{env}");
    assert!(!env.contains("JITCONFIG"), "{env}");
}

#[tokio::test]
async fn an_exit_keeps_the_last_lines_and_the_verdict_of_the_kernel() {
    let Some(socket) = support::socket("docker") else { return };
    let engine = support::engine(&socket).await;
    support::import(&engine).await;
    let mut settings = pool();
    settings.memory = Some(16 << 20);
    let provisioner = provisioner(&engine, settings);
    let mut events = provisioner.watch().await.unwrap();
    let (failing, hungry) = (spec(2), spec(3));
    let words = "echo one; echo two >&2; exit 4";
    provisioner.create(&failing, Some(&script(words))).await.unwrap();
    let grow = "x=0123456789abcdef; while :; do x=$x$x; done";
    provisioner.create(&hungry, Some(&script(grow))).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = tokio::time::timeout(BOUND, events.next()).await.unwrap().unwrap();
        let Event::Ended { name, exit } = event else { continue };
        if name == failing.name {
            let message = exit.message.clone().unwrap();
            assert!(message.contains("one") && message.contains("two"), "{message}");
            assert_eq!((exit.code, exit.out_of_memory), (Some(4), false));
        } else if name == hungry.name {
            assert!(exit.out_of_memory, "{exit:?}");
        } else {
            continue;
        }
        assert!(!told.contains(&name), "told twice: {name}");
        told.push(name);
    }
    for one in [failing, hungry] {
        provisioner.delete(&one.name).await.unwrap();
    }
}

#[tokio::test]
async fn the_exit_of_an_adopted_container_is_seen() {
    for kind in ["docker", "podman"] {
        let Some(socket) = support::socket(kind) else { continue };
        let before = support::engine(&socket).await;
        support::import(&before).await;
        let spec = spec(9);
        let waiting = script("trap 'exit 6' TERM; while :; do sleep 0.2; done");
        provisioner(&before, pool()).create(&spec, Some(&waiting)).await.unwrap();
        drop(before);

        let after = provisioner(&support::engine(&socket).await, pool());
        let mut events = after.watch().await.unwrap();
        let adopted = after.create(&spec, Some(&waiting)).await.unwrap();
        let (_, it) = inspect(&socket, &spec.name).await;
        assert_eq!(it["Id"], adopted.0.as_str(), "{kind}: made anew");
        raw(&socket, "POST", &format!("/v1.41/containers/{}/kill?signal=TERM", spec.name), "")
            .await;
        let exit = loop {
            match tokio::time::timeout(BOUND, events.next()).await.expect("no event").unwrap() {
                Event::Ended { name, exit } if name == spec.name => break exit,
                Event::Ended { .. } | Event::Resynced => {}
            }
        };
        assert_eq!(exit.code, Some(6), "{kind}");
        after.delete(&spec.name).await.unwrap();
    }
}

/// Somebody else's `rm -f`, or the engine's own removal: the end is told, stopping it is no failure, and so is stopping what
/// never was.
#[tokio::test]
async fn stopping_what_somebody_else_removed_is_done_already() {
    for kind in ["docker", "podman"] {
        let Some(socket) = support::socket(kind) else { continue };
        let engine = support::engine(&socket).await;
        support::import(&engine).await;
        let provisioner = provisioner(&engine, pool());
        let mut events = provisioner.watch().await.unwrap();
        let (running, ended, never) = (spec(21), spec(22), spec(23));
        provisioner.create(&running, Some(&script("while :; do sleep 1; done"))).await.unwrap();
        provisioner.create(&ended, Some(&script("exit 3"))).await.unwrap();
        let mut told = std::collections::BTreeSet::new();
        for spec in [&ended, &running] {
            // The second one is removed while it runs, the first one after its end was told.
            if spec.name == running.name {
                let path = format!("/v1.41/containers/{}?force=1", running.name);
                assert_eq!(raw(&socket, "DELETE", &path, "").await.0 / 100, 2, "{kind}");
            }
            while !told.contains(&spec.name) {
                match tokio::time::timeout(BOUND, events.next()).await.expect("no event").unwrap() {
                    Event::Ended { name, .. } => drop(told.insert(name)),
                    Event::Resynced => {}
                }
            }
        }
        let path = format!("/v1.41/containers/{}?force=1", ended.name);
        assert_eq!(raw(&socket, "DELETE", &path, "").await.0 / 100, 2, "{kind}");
        for spec in [&running, &ended, &never] {
            assert_eq!(inspect(&socket, &spec.name).await.0, 404, "{kind}");
            let deletion = provisioner.delete(&spec.name).await.unwrap();
            assert_eq!(deletion, Deletion::WasAbsent, "{kind}");
        }
        let left = provisioner.list().await.unwrap().environments;
        let names = [&running.name, &ended.name, &never.name];
        assert!(left.iter().all(|it| !names.contains(&&it.name)), "{kind}: {left:?}");
    }
}

#[tokio::test]
async fn what_cannot_start_is_removed_and_named() {
    for kind in ["docker", "podman"] {
        let Some(socket) = support::socket(kind) else { continue };
        let engine = support::engine(&socket).await;
        support::import(&engine).await;
        let mut settings = pool();
        settings.runner_cmd = "/no/such/program".to_owned();
        let provisioner = provisioner(&engine, settings);
        let spec = spec(4);
        let error = provisioner.create(&spec, Some(&script("true"))).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Instance, "{kind}: {error}");
        assert!(error.to_string().contains("/no/such/program"), "{kind}: {error}");
        assert_eq!(inspect(&socket, &spec.name).await.0, 404, "{kind}");
    }
}

#[tokio::test]
async fn a_missing_image_is_said_or_pulled() {
    for kind in ["docker", "podman"] {
        let Some(socket) = support::socket(kind) else { continue };
        let engine = support::engine(&socket).await;
        let mut settings = pool();
        settings.image = "127.0.0.1:9/nothing/here:1".to_owned();
        let never = provisioner(&engine, settings.clone());
        let error = never.create(&spec(5), Some(&script("true"))).await.unwrap_err();
        assert_eq!(
            (error.kind, error.operation),
            (ErrorKind::Instance, "create container"),
            "{kind}: {error}"
        );
        let findings = never.check().await;
        assert!(
            findings.iter().any(|it| it.message.contains("127.0.0.1:9/nothing/here:1")),
            "{kind}: {findings:?}"
        );
        settings.pull = PullPolicy::Missing;
        let missing = provisioner(&engine, settings);
        let jit = script("true");
        let (one, other) = (spec(6), spec(7));
        let (first, second) =
            tokio::join!(missing.create(&one, Some(&jit)), missing.create(&other, Some(&jit)));
        for error in [first.unwrap_err(), second.unwrap_err(), missing.prepare().await.unwrap_err()]
        {
            assert_eq!(error.operation, "pull image", "{kind}: {error}");
            assert!(error.to_string().contains("127.0.0.1:9/nothing/here:1"), "{kind}: {error}");
        }
    }
}

/// A registry that asks for credentials and notes what it is told.
async fn registry() -> (u16, Arc<std::sync::Mutex<Vec<String>>>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&told);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let noted = Arc::clone(&noted);
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 << 10];
                let count = stream.read(&mut bytes).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                let authorization =
                    text.lines().find_map(|line| line.strip_prefix("Authorization: "));
                let answer = match authorization {
                    Some(value) => {
                        noted.lock().unwrap().push(value.to_owned());
                        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    }
                    None => {
                        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\"\r\n\
                         Docker-Distribution-Api-Version: registry/2.0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    }
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    (port, told)
}

#[tokio::test]
async fn registry_credentials_reach_the_registry_whatever_their_letters() {
    use base64::Engine as _;
    let Some(socket) = support::socket("docker") else { return };
    let engine = support::engine(&socket).await;
    let (port, told) = registry().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("auth.json");
    let text = json!({ "auths": { format!("127.0.0.1:{port}"): { "username": "me", "password": "a>b?c~~~???>>>" } } });
    std::fs::write(&file, text.to_string()).unwrap();
    let mut settings = pool();
    settings.image = format!("127.0.0.1:{port}/private/runner:1");
    settings.pull = PullPolicy::Always;
    settings.registry_auth = Some(file);
    let error = provisioner(&engine, settings).prepare().await.unwrap_err();
    assert_eq!(error.operation, "pull image", "{error}");
    let wanted = base64::engine::general_purpose::STANDARD.encode("me:a>b?c~~~???>>>");
    assert!(told.lock().unwrap().contains(&format!("Basic {wanted}")), "{told:?}");
}

#[tokio::test]
async fn what_is_missing_is_found_with_its_remedy() {
    let nowhere = support::engine(Path::new("/nowhere/docker.sock")).await;
    let provisioner_of_none = provisioner(&nowhere, pool());
    let findings = provisioner_of_none.check().await;
    assert_eq!(findings[0].message, "there is no engine socket at unix:///nowhere/docker.sock");
    // A daemon that runs says what to do, too.
    let failed = provisioner_of_none.list().await.unwrap_err();
    assert!(failed.message.ends_with(&findings[0].hint), "{failed}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let findings = provisioner(&support::engine(&path).await, pool()).check().await;
    assert!(findings[0].message.starts_with("nobody listens at"), "{findings:?}");
    let Some(socket) = support::socket("docker") else { return };
    let engine = support::engine(&socket).await;
    support::import(&engine).await;
    let mut settings = pool();
    settings.runtime = Some("runsc-that-is-not".to_owned());
    settings.network = Some("net-that-is-not".to_owned());
    settings.mounts = vec![BindMount {
        source: "/nowhere/data".to_owned(),
        target: "/data".to_owned(),
        read_only: false,
    }];
    let findings = provisioner(&engine, settings).check().await;
    let errors: Vec<_> = findings.iter().filter(|it| it.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 3, "{findings:?}");
    assert!(errors.iter().all(|it| !it.hint.is_empty()));
}

#[tokio::test]
async fn only_the_original_s_own_leftovers_are_taken_over() {
    let Some(socket) = support::socket("docker") else { return };
    let engine = support::engine(&socket).await;
    support::import(&engine).await;
    let unique = std::process::id();
    let old = InstanceName::new(&format!("fftest-{unique:08x}")).unwrap();
    let renamed = format!("fftest-renamed-{unique:08x}");
    let theirs = format!("fftest-other-{unique:08x}");
    for (name, labels) in [
        (old.to_string(), json!({ "outrunner": "true", "outrunner.name": old.as_str() })),
        (
            renamed.clone(),
            json!({ "outrunner": "true", "outrunner.name": format!("fftest-{:08x}", !unique) }),
        ),
        (
            theirs.clone(),
            json!({ "outrunner": "true", "outrunner.name": theirs, "fleetfoot.installation": "x" }),
        ),
    ] {
        let body = json!({ "Image": IMAGE, "Cmd": ["./run.sh"], "Labels": labels, "HostConfig": { "NetworkMode": "none" } });
        let path = format!("/v1.41/containers/create?name={name}");
        assert_eq!(raw(&socket, "POST", &path, &body.to_string()).await.0, 201);
    }
    let provisioner = provisioner(&engine, pool());
    let found = provisioner.legacy(&pool_name()).await.unwrap();
    let names: Vec<_> = found.iter().map(|it| it.name.to_string()).collect();
    assert_eq!(names, [old.to_string()]);
    assert!(provisioner.list().await.unwrap().environments.iter().all(|it| it.name != old));
    provisioner.delete(&old).await.unwrap();
    assert_eq!(inspect(&socket, &old).await.0, 200, "`delete` took what is not ours");
    for name in [old.as_str(), &renamed, &theirs] {
        provisioner.delete_legacy(&InstanceName::new(name).unwrap()).await.unwrap();
    }
    assert_eq!(inspect(&socket, &old).await.0, 404);
    for name in [renamed, theirs] {
        let path = format!("/v1.41/containers/{name}");
        assert_eq!(
            raw(&socket, "GET", &format!("{path}/json"), "").await.0,
            200,
            "{name} was touched"
        );
        raw(&socket, "DELETE", &format!("{path}?force=1"), "").await;
    }
}

#[tokio::test]
async fn an_image_of_a_program_is_made_once() {
    for kind in ["docker", "podman"] {
        let Some(socket) = support::socket(kind) else { continue };
        let engine = support::engine(&socket).await;
        let tag = format!("localhost/fleetfoot-test-program-{}:1", std::process::id());
        let (program, name) = (Path::new("/bin/sh"), Path::new("/home/runner/run.sh"));
        assert!(image::from_program(&engine, &tag, program, name).await.unwrap(), "{kind}");
        assert!(
            !image::from_program(&engine, &tag, program, name).await.unwrap(),
            "{kind}: made twice"
        );
        // Another program under the same tag replaces it.
        let other = Path::new("/bin/sleep");
        assert!(image::from_program(&engine, &tag, other, name).await.unwrap(), "{kind}: kept");
        assert!(image::from_program(&engine, &tag, program, name).await.unwrap(), "{kind}: kept");
        let mut settings = pool();
        settings.image.clone_from(&tag);
        let provisioner = provisioner(&engine, settings);
        let spec = spec(8);
        // A shell without a script and without input ends well.
        provisioner.create(&spec, Some(&script(""))).await.unwrap();
        eventually("the program ends well", || async {
            let listing = provisioner.list().await.unwrap();
            let found = listing.environments.into_iter().find(|it| it.name == spec.name);
            matches!(found.map(|it| it.state), Some(EnvironmentState::Ended(exit)) if exit.code == Some(0))
        })
        .await;
        provisioner.delete(&spec.name).await.unwrap();
        raw(&socket, "DELETE", &format!("/v1.41/images/{tag}"), "").await;
    }
}

#[tokio::test]
async fn the_default_engine_address_needs_no_engine() {
    let settings =
        EngineSettings { host: Some("tcp://127.0.0.1:9".to_owned()), ..EngineSettings::default() };
    let engine = DockerEngine::connect(settings).await.unwrap();
    let error = provisioner(&engine, pool()).list().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Backend, "{error}");
    let odd =
        EngineSettings { host: Some("npipe:////./x".to_owned()), ..EngineSettings::default() };
    assert!(DockerEngine::connect(odd).await.is_err());
}

/// A dockerd of this test alone, which may be stopped, continued and restarted.
struct Own {
    directory: tempfile::TempDir,
    script: std::path::PathBuf,
    child: std::process::Child,
}

impl Own {
    async fn start() -> Option<Self> {
        let Some(script) = std::env::var_os("FLEETFOOT_TEST_DOCKERD") else {
            support::skip("docker", "dockerd (FLEETFOOT_TEST_DOCKERD)");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("ffd").tempdir_in("/tmp").unwrap();
        let script = std::path::PathBuf::from(script);
        let child = Self::spawn(&script, directory.path());
        let own = Self { directory, script, child };
        own.ready().await;
        Some(own)
    }

    fn spawn(script: &Path, directory: &Path) -> std::process::Child {
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let mut command = std::process::Command::new(script);
        command
            .arg(directory)
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.spawn().unwrap()
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("d.sock")
    }

    async fn ready(&self) {
        let socket = self.socket();
        eventually("dockerd answers", || async {
            tokio::net::UnixStream::connect(&socket).await.is_ok()
                && raw(&socket, "GET", "/_ping", "").await.0 == 200
        })
        .await;
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    async fn end(&mut self) {
        self.signal("-TERM");
        let end = std::time::Instant::now() + BOUND;
        while self.child.try_wait().unwrap().is_none() {
            assert!(std::time::Instant::now() < end, "dockerd does not end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn restart(&mut self) {
        self.end().await;
        self.child = Self::spawn(&self.script, self.directory.path());
        self.ready().await;
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            self.signal("-CONT");
            self.signal("-TERM");
            let _ = self.child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_may_freeze_and_restart() {
    let Some(mut own) = Own::start().await else { return };
    let engine = support::engine(&own.socket()).await;
    support::import(&engine).await;
    let provisioner = provisioner(&engine, pool());
    let waiting = script("trap 'exit 0' TERM; while :; do sleep 0.2; done");
    let (before, during, after) = (spec(20), spec(21), spec(22));
    provisioner.create(&before, Some(&waiting)).await.unwrap();
    let identity = provisioner.list().await.unwrap().identity;
    let mut events = provisioner.watch().await.unwrap();

    own.signal("-STOP");
    let short = Duration::from_secs(1);
    assert!(
        tokio::time::timeout(short, provisioner.create(&during, Some(&waiting))).await.is_err()
    );
    assert!(tokio::time::timeout(short, provisioner.list()).await.is_err());
    own.signal("-CONT");
    // Late or never: a repeat makes one, and only one.
    provisioner.create(&during, Some(&waiting)).await.unwrap();
    eventually("both run", || async {
        let listing = provisioner.list().await.unwrap();
        listing.environments.iter().filter(|it| it.state == EnvironmentState::Running).count() == 2
    })
    .await;

    own.restart().await;
    let mut seen = (false, false);
    while seen != (true, true) {
        match tokio::time::timeout(BOUND, events.next()).await.expect("no event").unwrap() {
            Event::Resynced => seen.0 = true,
            Event::Ended { name, .. } => seen.1 |= name == before.name,
        }
    }
    assert_eq!(provisioner.list().await.unwrap().identity, identity);
    provisioner.create(&after, Some(&waiting)).await.unwrap();
    for one in [before, during, after] {
        provisioner.delete(&one.name).await.unwrap();
    }
    assert_eq!(provisioner.list().await.unwrap().environments, vec![]);
    own.end().await;
}

/// A container that waits has no credential and was never started; launched, it becomes what it would have been, with
/// the JIT config from a file that is empty by then.
#[tokio::test]
async fn what_waits_takes_its_jit_config_at_its_start() {
    let Some(socket) = support::socket("docker") else { return };
    let engine = support::engine(&socket).await;
    support::import(&engine).await;
    let text = "IFS= read -r l </.fleetfoot/jit || echo \"empty: $l\"\necho second line";
    // The second one's program understands the argument only.
    for (at, jit, command) in [
        (41, JitDelivery::Environment, "./run.sh"),
        (42, JitDelivery::Argument, "/runner/argument.sh"),
    ] {
        // Another user than root, as runners' images have it.
        let settings = DockerPool {
            waits: true,
            jit,
            runner_cmd: command.to_owned(),
            user: Some("65534".to_owned()),
            ..pool()
        };
        let waits = provisioner(&engine, settings.clone());
        assert!(waits.capabilities().late_binding);
        let spec = spec(at);
        let refused = waits.create(&spec, Some(&script(text))).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Instance);
        let handle = waits.create(&spec, None).await.unwrap();
        assert_eq!(waits.create(&spec, None).await.unwrap(), handle);
        let (_, it) = inspect(&socket, &spec.name).await;
        assert_eq!(it["State"]["Status"], "created");
        // Whoever comes later finds it as it is, also when its pool's containers wait no longer.
        let later = provisioner(&engine, DockerPool { waits: false, ..settings });
        later.launch(&spec, &handle, &script(text)).await.unwrap();
        let (_, it) = inspect(&socket, &spec.name).await;
        assert!(!it.to_string().contains("second line"), "the JIT config is shown: {it}");
        eventually("it says that the file is empty", || async {
            let said = later.logs(&spec.name, 10).await.unwrap();
            said.trim() == "empty: \nsecond line"
        })
        .await;
        let again = later.launch(&spec, &handle, &script(text)).await.unwrap_err();
        assert_eq!(again.kind, ErrorKind::Instance, "{again}");
        later.delete(&spec.name).await.unwrap();
    }
}

/// An image without a shell: its containers wait all the same, and are made anew for their jobs.
#[tokio::test]
async fn what_has_no_shell_is_made_anew_for_its_job() {
    let Some(socket) = support::socket("docker") else { return };
    let engine = support::engine(&socket).await;
    const BARE: &str = "localhost/fleetfoot-test-bare:1";
    // The shell under another name is a program like any other.
    let program = Path::new("/runner/program");
    let mut files = image::program_files(Path::new("/bin/sh"), program).unwrap();
    let run = b"#!/runner/program\necho \"got $ACTIONS_RUNNER_INPUT_JITCONFIG\"\n".to_vec();
    let content = image::ImageContent::Bytes(run);
    files.push(image::ImageFile { path: "/runner/run.sh".into(), mode: 0o755, content });
    image::import(&engine, BARE, &files, &["WORKDIR /runner".to_owned()]).await.unwrap();
    let settings = DockerPool { image: BARE.to_owned(), waits: true, ..pool() };
    let waits = provisioner(&engine, settings.clone());
    let said = "the image localhost/fleetfoot-test-bare:1 has no `/bin/sh`: a container that waits is made anew for its job";
    let findings = waits.check().await;
    let messages: Vec<_> = findings.iter().map(|it| it.message.as_str()).collect();
    assert_eq!(messages, [said]);
    // One with a shell has nothing to be told, and neither leaves a container.
    support::import(&engine).await;
    let shelled = provisioner(&engine, DockerPool { waits: true, ..pool() });
    assert_eq!(shelled.check().await, vec![]);
    for at in [51, 52] {
        let spec = spec(at);
        let handle = waits.create(&spec, None).await.unwrap();
        let (_, it) = inspect(&socket, &spec.name).await;
        assert_eq!(it["State"]["Status"], "created");
        // The second one by a process that made none.
        let launcher = provisioner(&engine, settings.clone());
        let launcher = if at == 51 { &waits } else { &launcher };
        launcher.launch(&spec, &handle, &script("once")).await.unwrap();
        eventually("it says what it got", || async {
            waits.logs(&spec.name, 10).await.unwrap().trim() == "got once"
        })
        .await;
        let again = waits.launch(&spec, &handle, &script("twice")).await.unwrap_err();
        assert_eq!(again.kind, ErrorKind::Instance, "{again}");
        waits.delete(&spec.name).await.unwrap();
    }
    let kept = DockerPool { kept_runner: Some("/".into()), waits: false, ..settings };
    let findings = provisioner(&engine, kept).check().await;
    assert!(
        findings.iter().any(|it| it.message.contains("copies the kept runner")),
        "{findings:?}"
    );
    let listed = waits.list().await.unwrap().environments;
    assert!(!listed.iter().any(|it| it.name.as_str().starts_with("fleetfoot-check")), "{listed:?}");
}

/// An engine whose answer to a pull breaks off in the middle, as when it is restarted or the way to it is cut.
#[tokio::test]
async fn a_pull_that_breaks_off_is_told_from_one_that_is_refused() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = vec![0; 64 << 10];
            let count = stream.read(&mut bytes).await.unwrap_or(0);
            let body = if bytes[..count].starts_with(b"GET /version ") {
                r#"{"ApiVersion":"1.41","MinAPIVersion":"1.24","Version":"20.10.24"}"#
            } else {
                "{\"status\":\"Pulling from a/b\"}\r\n{\"status\":\"Downl"
            };
            // Half of what it promises of a pull, all of its version.
            let length = if body.ends_with('}') { body.len() } else { 2 * body.len() };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let mut settings = pool();
    settings.image = "a/b:1".to_owned();
    settings.pull = PullPolicy::Always;
    let error = provisioner(&support::engine(&path).await, settings).prepare().await.unwrap_err();
    assert_eq!((error.operation, error.kind), ("drain image pull", ErrorKind::Backend), "{error}");
    assert!(error.to_string().starts_with("failed to drain image pull: a/b:1: "), "{error}");
}
