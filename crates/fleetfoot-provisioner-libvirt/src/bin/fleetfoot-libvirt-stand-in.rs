//! A stand-in for libvirt's daemon, for crash cases: `fleetfoot-libvirt-stand-in DIRECTORY` serves on
//! `DIRECTORY/sock`.
//!
//! A domain is a directory of its name. Its guest is this host: what its agent is told to run is a process group
//! that dies with the domain, and `/run/fleetfoot` is in the domain's directory. `DIRECTORY/calls` has a line for
//! each domain that was made.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fleetfoot_provisioner_libvirt::wire::{
    DecodeError, Domain, Frame, Header, Kind, Program, Reader, RemoteError, Status, Writer,
    frame_len,
};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use uuid::Uuid;

fn main() -> io::Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| io::Error::other("it needs a directory"))?;
    let listener = UnixListener::bind(directory.join("sock"))?;
    let state = Arc::new(State { directory, shared: Mutex::default() });
    loop {
        let (stream, _) = listener.accept()?;
        let state = Arc::clone(&state);
        std::thread::spawn(move || {
            // Whoever speaks nonsense or goes away is not served any longer.
            let _ = serve(&state, stream);
        });
    }
}

struct State {
    directory: PathBuf,
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    domains: Vec<Machine>,
    /// Connections that want to be told.
    listeners: Vec<UnixStream>,
}

struct Machine {
    name: String,
    uuid: Uuid,
    xml: String,
    processes: BTreeMap<u32, Running>,
}

struct Running {
    child: Child,
    output: Option<PathBuf>,
}

/// A refusal: its number and words.
type Answer = Result<Writer, (i32, String)>;

fn serve(state: &State, mut stream: UnixStream) -> io::Result<()> {
    loop {
        let mut word = [0; 4];
        stream.read_exact(&mut word)?;
        let mut body = vec![0; frame_len(word).map_err(io::Error::other)?];
        stream.read_exact(&mut body)?;
        let call = Frame::parse(&body).map_err(io::Error::other)?;
        if call.header.program == Program::Keepalive {
            continue;
        }
        let mut shared = state.lock();
        if call.header.procedure == 316 {
            shared.listeners.push(stream.try_clone()?);
        }
        let answer = match call.header.program {
            Program::Qemu => state.agent(&mut shared, &call),
            Program::Remote | Program::Keepalive | Program::Other(_) => {
                state.perform(&mut shared, &call)
            }
        };
        let mut header = Header { kind: Kind::Reply, ..call.header };
        let payload = answer.unwrap_or_else(|(code, words)| {
            header.status = Status::Error;
            Writer::new().i32(code).i32(10).optional_string(Some(&words)).i32(2)
        });
        // Under the lock: an event must not come into the middle of an answer.
        stream.write_all(&Frame { header, payload: payload.into_bytes() }.to_bytes())?;
    }
}

fn cut(_: DecodeError) -> (i32, String) {
    (RemoteError::OPERATION_FAILED, "a call that is cut".to_owned())
}

fn no_domain() -> (i32, String) {
    (RemoteError::NO_DOMAIN, "Domain not found".to_owned())
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
    let (_, rest) = text.split_once(open).unwrap_or_default();
    rest.split_once(close).unwrap_or_default().0
}

impl Machine {
    fn told(&self) -> Domain {
        Domain { name: self.name.clone(), uuid: self.uuid, id: 1 }
    }

    /// Everything in it dies with it.
    fn end(&mut self) {
        for (group, running) in &mut self.processes {
            if let Some(group) = i32::try_from(*group).ok().and_then(Pid::from_raw) {
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            let _ = running.child.wait();
        }
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn perform(&self, shared: &mut Shared, call: &Frame) -> Answer {
        let mut reader = Reader::new(&call.payload);
        match call.header.procedure {
            66 => Ok(Writer::new().u32(0)),
            1 | 2 => Ok(Writer::new()),
            4 => Ok(Writer::new().i64(9_000_000)),
            316 => Ok(Writer::new().i32(0)),
            10 => {
                let xml = reader.string().map_err(cut)?;
                self.create(shared, xml)
            }
            12 => {
                let uuid = Domain::read(&mut reader).map_err(cut)?.uuid;
                self.destroy(shared, uuid)
            }
            23 => {
                let name = reader.string().map_err(cut)?;
                let found = shared.domains.iter().find(|it| it.name == name);
                Ok(found.ok_or_else(no_domain)?.told().write(Writer::new()))
            }
            24 => {
                let uuid = Uuid::from_bytes(reader.bytes().map_err(cut)?);
                let found = shared.domains.iter().find(|it| it.uuid == uuid);
                Ok(found.ok_or_else(no_domain)?.told().write(Writer::new()))
            }
            265 => {
                let uuid = Domain::read(&mut reader).map_err(cut)?.uuid;
                let found = shared.domains.iter().find(|it| it.uuid == uuid);
                let xml = &found.ok_or_else(no_domain)?.xml;
                Ok(Writer::new().string(between(xml, "<metadata>", "</metadata>")))
            }
            273 => {
                let count = u32::try_from(shared.domains.len()).unwrap_or(u32::MAX);
                let all = shared
                    .domains
                    .iter()
                    .fold(Writer::new().u32(count), |to, it| it.told().write(to));
                Ok(all.u32(count))
            }
            other => Err((RemoteError::OPERATION_FAILED, format!("no procedure {other} here"))),
        }
    }

    fn create(&self, shared: &mut Shared, xml: String) -> Answer {
        let failed = |words: String| (RemoteError::OPERATION_FAILED, words);
        let name = between(&xml, "<name>", "</name>").to_owned();
        if shared.domains.iter().any(|it| it.name == name) {
            return Err(failed(format!("domain '{name}' already exists")));
        }
        let uuid = Uuid::parse_str(between(&xml, "<uuid>", "</uuid>"));
        let uuid = uuid.map_err(|error| failed(error.to_string()))?;
        let noted = std::fs::create_dir(self.directory.join(&name)).and_then(|()| {
            let calls = self.directory.join("calls");
            let mut calls = std::fs::File::options().append(true).create(true).open(calls)?;
            writeln!(calls, "{name}")
        });
        noted.map_err(|error| failed(error.to_string()))?;
        shared.domains.push(Machine { name, uuid, xml, processes: BTreeMap::new() });
        let made = shared.domains.last().ok_or_else(no_domain)?;
        Ok(made.told().write(Writer::new()))
    }

    /// Pulls the plug, and tells everybody who listens.
    fn destroy(&self, shared: &mut Shared, uuid: Uuid) -> Answer {
        let at = shared.domains.iter().position(|it| it.uuid == uuid).ok_or_else(no_domain)?;
        let mut machine = shared.domains.remove(at);
        machine.end();
        let _ = std::fs::remove_dir_all(self.directory.join(&machine.name));
        let header = Header {
            program: Program::Remote,
            procedure: 318,
            kind: Kind::Event,
            serial: 0,
            status: Status::Ok,
        };
        let payload = Domain { id: -1, ..machine.told() }.write(Writer::new().i32(0));
        let event = Frame { header, payload: payload.i32(5).i32(1).into_bytes() }.to_bytes();
        shared.listeners.retain_mut(|listener| listener.write_all(&event).is_ok());
        Ok(Writer::new())
    }

    fn agent(&self, shared: &mut Shared, call: &Frame) -> Answer {
        let mut reader = Reader::new(&call.payload);
        let uuid = Domain::read(&mut reader).map_err(cut)?.uuid;
        let command = reader.string().map_err(cut)?;
        let machine = shared.domains.iter_mut().find(|it| it.uuid == uuid).ok_or_else(no_domain)?;
        let command: Value = serde_json::from_str(&command).unwrap_or_default();
        let refused = |words: String| (RemoteError::AGENT_COMMAND_FAILED, words);
        let said = match command["execute"].as_str() {
            Some("guest-ping") => json!({}),
            Some("guest-exec") => {
                let home = self.directory.join(&machine.name);
                let pid = start(machine, &home, &command["arguments"]);
                json!({ "pid": pid.map_err(|error| refused(error.to_string()))? })
            }
            Some("guest-exec-status") => status(machine, &command["arguments"])
                .ok_or_else(|| refused("no such process".to_owned()))?,
            _ => return Err(refused("no such command".to_owned())),
        };
        Ok(Writer::new().optional_string(Some(&json!({ "return": said }).to_string())))
    }
}

/// Starts a program as the agent does.
#[expect(clippy::disallowed_methods, reason = "it plays a guest that starts programs")]
fn start(machine: &mut Machine, home: &Path, asked: &Value) -> io::Result<u32> {
    let own = home.join("run").display().to_string();
    let words = asked["arg"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let words = words.map(|word| word.replace("/run/fleetfoot", &own));
    let input = BASE64.decode(asked["input-data"].as_str().unwrap_or_default());
    let output = (asked["capture-output"] == true)
        .then(|| home.join(format!("output.{}", machine.processes.len())));
    let mut command = Command::new(asked["path"].as_str().unwrap_or_default());
    command.args(words).process_group(0).stdin(Stdio::piped()).stderr(Stdio::null());
    command.stdout(match &output {
        Some(path) => Stdio::from(std::fs::File::create(path)?),
        None => Stdio::null(),
    });
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(&input.unwrap_or_default());
    }
    let pid = child.id();
    machine.processes.insert(pid, Running { child, output });
    Ok(pid)
}

/// How a process is; its end is told once.
fn status(machine: &mut Machine, asked: &Value) -> Option<Value> {
    let pid = u32::try_from(asked["pid"].as_u64()?).ok()?;
    let running = machine.processes.get_mut(&pid)?;
    let Some(status) = running.child.try_wait().ok()? else {
        return Some(json!({ "exited": false }));
    };
    let mut told = json!({ "exited": true });
    match (status.code(), status.signal()) {
        (Some(code), _) => told["exitcode"] = code.into(),
        (None, signal) => told["signal"] = signal.into(),
    }
    if let Some(output) = running.output.take() {
        told["out-data"] = BASE64.encode(std::fs::read(output).unwrap_or_default()).into();
    }
    machine.processes.remove(&pid);
    Some(told)
}
