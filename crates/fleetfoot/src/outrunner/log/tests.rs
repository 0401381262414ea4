//! Exact bytes of lines.

use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt;

use super::*;

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(body: impl FnOnce()) -> String {
    let sink = Sink::default();
    let layer =
        OutrunnerLayer::new(sink.clone()).with_local_time(|| "2026-01-02 03:04:05".to_owned());
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, body);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn every_phrase_has_its_exact_line() {
    let lines = logged(|| {
        tracing::info!(runners = 2, "configuration loaded");
        tracing::info!(url = "https://github.com/o", "connection created");
        tracing::info!(pool = "linux", "looking for scale set");
        tracing::info!(pool = "linux", "creating scale set");
        tracing::info!(pool = "linux", "updating scale set labels");
        tracing::info!(pool = "linux", scale_set_id = 7, "scale set ready");
        tracing::info!(pool = "linux", max_runners = 4, "listening");
        tracing::info!(
            pool = "linux",
            instance = "linux-0a1b2c3d",
            runner_id = 9,
            "runner registered"
        );
        tracing::info!(pool = "linux", instance = "linux-0a1b2c3d", "instance launched");
        tracing::info!(pool = "linux", instance = "linux-0a1b2c3d", "instance idle");
        tracing::info!(
            pool = "linux",
            instance = "linux-0a1b2c3d",
            job_assigned = true,
            "instance launched"
        );
        tracing::info!(pool = "linux", instance = "linux-0a1b2c3d", request_id = 0, "job started");
        tracing::info!(
            pool = "linux",
            instance = "linux-0a1b2c3d",
            result = "succeeded",
            "job completed"
        );
        tracing::info!(
            pool = "linux",
            instance = "linux-0a1b2c3d",
            reason = "job over",
            "instance stopping"
        );
        tracing::warn!(
            pool = "linux",
            instance = "linux-0a1b2c3d",
            error = "no image",
            "instance start failed"
        );
        tracing::warn!(
            pool = "linux",
            instance = "linux-0a1b2c3d",
            error = "500",
            "deregistration failed"
        );
        tracing::info!(
            pool = "linux",
            instance = "linux-0a1b2c3d",
            image = "i:1",
            container = "0123456789ab",
            "container started"
        );
        tracing::info!(pool = "linux", host = "unix:///run/d.sock", "docker host detected");
        let instance = "linux-0a1b2c3d";
        tracing::info!(pool = "linux", instance, pid = 77, "runner started in machine");
        tracing::info!(pool = "linux", instance, "cleaning up orphaned machine");
        tracing::info!(pool = "macos", instance, "cleaning up orphaned tart vm");
        tracing::info!(pool = "linux", "all instances left");
        tracing::warn!(pool = "linux", "shutdown timed out");
        let (instance, log) = ("macos-0a1b2c3d", "/tmp/outrunner-vm-macos-0a1b2c3d-1.log");
        let (pool, error, stderr) = ("macos", "exit status 1", "no keychain");
        tracing::error!(pool, instance, error, stderr, log, "tart vm exited with error");
        tracing::error!(pool, instance, error, stderr, log, "tart runner exited with error");
        tracing::error!(pool, instance, error, "failed to start tart vm");
        tracing::error!(pool, instance, error, "failed to start tart runner");
        tracing::warn!(
            pool,
            instance,
            error,
            "failed to create stderr log, running without capture"
        );
        tracing::info!("shut down cleanly");
    });
    let expected = "\
INFO Loaded config runners=2
INFO Created scaleset client url=https://github.com/o
INFO Looking for scale set scaleSet=linux
INFO Creating scale set scaleSet=linux
INFO Updating scale set labels scaleSet=linux
INFO Scale set ready scaleSet=linux id=7
INFO Listening for jobs scaleSet=linux maxRunners=4
INFO Spawning runner scaler.scaleSet=linux scaler.name=linux-0a1b2c3d scaler.runnerID=9
INFO Runner provisioned scaler.scaleSet=linux scaler.name=linux-0a1b2c3d
INFO Runner provisioned (job already assigned) scaler.scaleSet=linux scaler.name=linux-0a1b2c3d
INFO Job started scaler.scaleSet=linux scaler.runnerName=linux-0a1b2c3d scaler.requestId=0
INFO Job completed scaler.scaleSet=linux scaler.runnerName=linux-0a1b2c3d scaler.result=succeeded
INFO Stopping runner scaler.scaleSet=linux scaler.name=linux-0a1b2c3d
ERROR Failed to start runner scaler.scaleSet=linux scaler.name=linux-0a1b2c3d scaler.error=no image
WARN Failed to deregister runner scaler.scaleSet=linux scaler.name=linux-0a1b2c3d scaler.error=500
INFO Container started docker.scaleSet=linux docker.name=linux-0a1b2c3d docker.image=i:1 docker.id=0123456789ab
INFO Auto-detected Docker host docker.scaleSet=linux docker.host=unix:///run/d.sock
INFO Runner started in VM libvirt.scaleSet=linux libvirt.name=linux-0a1b2c3d libvirt.pid=77
INFO Cleaning up orphaned VM libvirt.scaleSet=linux libvirt.name=linux-0a1b2c3d
INFO Cleaning up orphaned VM tart.scaleSet=macos tart.name=linux-0a1b2c3d
INFO All runners shut down scaler.scaleSet=linux
WARN Shutdown timed out, some runners may not be fully cleaned up scaler.scaleSet=linux
ERROR Tart vm exited with error tart.scaleSet=macos tart.name=macos-0a1b2c3d tart.error=exit status 1 tart.stderr=no keychain tart.log=/tmp/outrunner-vm-macos-0a1b2c3d-1.log
ERROR Tart runner exited with error tart.scaleSet=macos tart.name=macos-0a1b2c3d tart.error=exit status 1 tart.stderr=no keychain tart.log=/tmp/outrunner-vm-macos-0a1b2c3d-1.log
ERROR Failed to start tart vm tart.scaleSet=macos tart.name=macos-0a1b2c3d tart.error=exit status 1
ERROR Failed to start tart runner tart.scaleSet=macos tart.name=macos-0a1b2c3d tart.error=exit status 1
WARN Failed to create stderr log, running without capture tart.scaleSet=macos tart.name=macos-0a1b2c3d tart.error=exit status 1
INFO Shut down cleanly
";
    let expected: String =
        expected.lines().map(|line| format!("2026-01-02 03:04:05 {line}\n")).collect();
    assert_eq!(lines, expected);
    for phrase in phrases::PHRASES {
        if let Shown::Line(line) = &phrase.shown {
            assert!(lines.contains(line.message), "{} has no line here", phrase.native);
        }
    }
}

#[test]
fn an_absent_value_prints_as_an_empty_one() {
    let lines = logged(|| tracing::info!(pool = "l", result = "canceled", "job completed"));
    assert_eq!(
        lines,
        "2026-01-02 03:04:05 INFO Job completed scaler.scaleSet=l scaler.runnerName= scaler.result=canceled\n"
    );
    let mut out = "INFO x".to_owned();
    attribute(&mut out, "", "", "");
    assert_eq!(out, "INFO x");
}

#[test]
fn a_runner_that_ended_by_itself_is_stopped_in_the_originals_words() {
    let (pool, instance) = ("l", "l-0a1b2c3d");
    let lines = logged(|| {
        tracing::info!(pool, instance, result = "succeeded", "instance closed");
        tracing::info!(pool, instance, result = "succeeded", retired = true, "instance closed");
    });
    assert_eq!(
        lines,
        "2026-01-02 03:04:05 INFO Stopping runner scaler.scaleSet=l scaler.name=l-0a1b2c3d\n\
         2026-01-02 03:04:05 INFO instance closed scaleSet=l instance=l-0a1b2c3d result=succeeded retired=true\n"
    );
}

#[test]
fn other_phrases_pass_with_their_fields() {
    let lines = logged(|| {
        tracing::warn!(pool = "l", since_s = 4, what = %"a\nb", "session held by another");
        let error = "failed to list domains: cannot reach libvirt at /run/l: no such file";
        tracing::error!(connection = "libvirt", error, "backend does not answer");
        for tried in ["get the scale set", "open a message session", "list the runners"] {
            let error = format!("could not {tried}: GitHub cannot be reached");
            tracing::warn!(pool = "l", error, "listener failed");
        }
        tracing::debug!("hidden");
        tracing::info!(target: "hyper::client", "hidden too");
        tracing::warn!(target: "hyper::client", "odd");
        tracing::error!("bare");
    });
    assert_eq!(
        lines,
        "2026-01-02 03:04:05 WARN session held by another scaleSet=l since_s=4 what=a\nb\n\
         2026-01-02 03:04:05 ERROR backend does not answer connection=libvirt error=libvirt connect to /run/l: no such file\n\
         2026-01-02 03:04:05 WARN listener failed scaleSet=l error=runner l: get scale set: GitHub cannot be reached\n\
         2026-01-02 03:04:05 WARN listener failed scaleSet=l error=runner l: create message session: GitHub cannot be reached\n\
         2026-01-02 03:04:05 WARN listener failed scaleSet=l error=could not list the runners: GitHub cannot be reached\n\
         2026-01-02 03:04:05 WARN odd\n\
         2026-01-02 03:04:05 ERROR bare\n"
    );
}

#[test]
fn a_span_lends_its_pool_and_instance() {
    let lines = logged(|| {
        let pool = tracing::info_span!("pool", pool = "linux");
        let _in_pool = pool.enter();
        let instance = tracing::info_span!("instance", instance = "linux-00000000");
        let _in_instance = instance.enter();
        tracing::info!(request_id = 3, "job started");
        tracing::info!("something else");
    });
    assert_eq!(
        lines,
        "2026-01-02 03:04:05 INFO Job started scaler.scaleSet=linux scaler.runnerName=linux-00000000 scaler.requestId=3\n\
         2026-01-02 03:04:05 INFO something else scaleSet=linux\n"
    );
}

#[test]
fn an_error_shows_its_whole_chain() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);
    let lines = logged(|| {
        let error = Outer(std::io::Error::other("inner"));
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::error!(pool = "l", instance = "l-1", error, "instance start failed");
    });
    assert!(lines.ends_with("scaler.error=outer: inner\n"), "{lines}");
}

#[test]
fn the_local_time_has_the_originals_form() {
    let now = local_time();
    let form: String = now.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(form, "9999-99-99 99:99:99");
}

#[test]
fn errors_of_backends_have_the_originals_words() {
    for (ours, theirs) in [
        (
            "failed to create container `l-0a1b2c3d`: no such image: x",
            "create container: no such image: x",
        ),
        ("failed to pull image: x: denied", "pull image: x: denied"),
        (
            "failed to create tart machine `m-0a1b2c3d`: tart clone: exit status 1: no disk",
            "tart clone: exit status 1: no disk",
        ),
        (
            "failed to create overlay `w-0a1b2c3d`: create overlay: exit status 1: no base",
            "create overlay: exit status 1: no base",
        ),
        (
            "failed to create domain `w-0a1b2c3d`: guest agent not ready: timeout after 3m0s (the guest agent does not answer: QEMU guest agent is not connected)",
            "guest agent not ready: timeout after 3m0s",
        ),
        ("the backend did not answer in time", "the backend did not answer in time"),
    ] {
        assert_eq!(original_error(ours), theirs);
    }
}
