//! `bench` with an engine that accepts calls and never answers: it ends when it is told to, in one line.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Says who it is, and nothing more; tells when it was asked for something else.
fn hanging_engine(socket: &Path, asked: Sender<String>) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let asked = asked.clone();
            std::thread::spawn(move || serve(&stream, &asked));
        }
    });
}

fn serve(stream: &UnixStream, asked: &Sender<String>) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(request)) = lines.next() {
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        if !request.contains("/_ping") && !request.contains("/version") {
            let _ = asked.send(request);
            // Reads on and says nothing until the other side gives up.
            while lines.next().is_some_and(|line| line.is_ok()) {}
            return;
        }
        let body = r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = stream;
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this test runs the real program")]
fn an_engine_that_hangs_does_not_keep_the_bench() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("engine.sock");
    let (asked_tx, asked) = channel();
    hanging_engine(&socket, asked_tx);
    let mut child = Command::new(env!("CARGO_BIN_EXE_fleetfoot"))
        .args(["bench", "refill", "--quick"])
        .env_clear()
        .env("HOME", home.path())
        .env("TMPDIR", home.path())
        .env("FLEETFOOT_TEST_DOCKER_SOCKET", &socket)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let kind = asked.recv_timeout(Duration::from_secs(60));
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{said}");
    assert!(kind.is_ok(), "the engine was not used: {said}");
    let last = said.lines().last().unwrap();
    for part in ["interrupted; the engine at unix://", "no answer to", "restart it", "ps -aq"] {
        assert!(last.contains(part), "no `{part}` in: {last}");
    }
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "only the socket is left: {left:?}");
}
