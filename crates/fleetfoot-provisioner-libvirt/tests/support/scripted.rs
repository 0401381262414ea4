//! A libvirt daemon in the test: speaks the wire by the room's own frames, keeps domains, and asks the test
//! what its guests' agents answer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use fleetfoot_provisioner_libvirt::wire::{
    Domain, Frame, Header, Kind, Program, Reader, Status, Writer, frame_len,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use uuid::Uuid;

/// What an agent answers: its JSON, or an error's number and words.
pub type Agent = Box<dyn FnMut(&serde_json::Value) -> Result<String, (i32, String)> + Send>;

#[derive(Default)]
pub struct State {
    /// Domains by name: UUID, XML, whether they vanish when they stop.
    pub domains: Vec<(String, Uuid, String, bool)>,
    /// Every command that an agent got.
    pub commands: Vec<serde_json::Value>,
    /// The procedures that were called, about domains.
    pub calls: Vec<i32>,
    /// Domains' processors are never still.
    pub busy: bool,
    /// What the host can do.
    pub capabilities: String,
    /// Connections so far.
    pub connections: usize,
    /// Answered instead of what would be: procedure, error number, words. Once.
    pub refuse: Option<(i32, i32, String)>,
    /// A procedure that is not begun, and one whose answer is not given, before the test says so. Once each.
    pub hold_call: Option<(i32, Arc<Notify>)>,
    pub hold_answer: Option<(i32, Arc<Notify>)>,
    writers: Vec<tokio::sync::mpsc::UnboundedSender<Vec<u8>>>,
}

pub struct Daemon {
    pub socket: PathBuf,
    pub state: Arc<Mutex<State>>,
    agent: Arc<Mutex<Agent>>,
    tasks: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>,
}

impl Daemon {
    pub fn start(socket: PathBuf, agent: Agent) -> Self {
        let daemon = Self {
            socket,
            state: Arc::default(),
            agent: Arc::new(Mutex::new(agent)),
            tasks: Arc::default(),
        };
        daemon.listen();
        daemon
    }

    fn listen(&self) {
        let _ = std::fs::remove_file(&self.socket);
        let listener = UnixListener::bind(&self.socket).unwrap();
        let (state, agent, tasks) =
            (Arc::clone(&self.state), Arc::clone(&self.agent), Arc::clone(&self.tasks));
        let accept = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serve(stream, Arc::clone(&state), Arc::clone(&agent));
                tasks.lock().unwrap().push(tokio::spawn(serving));
            }
        });
        self.tasks.lock().unwrap().push(accept);
    }

    /// Ends all connections and, until [`back`](Self::back), the socket. Domains live on.
    pub fn stop(&self) {
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
        self.state.lock().unwrap().writers.clear();
        let _ = std::fs::remove_file(&self.socket);
    }

    pub fn back(&self) {
        self.listen();
    }

    pub fn names(&self) -> Vec<String> {
        self.state.lock().unwrap().domains.iter().map(|it| it.0.clone()).collect()
    }

    pub fn commands(&self, execute: &str) -> Vec<serde_json::Value> {
        let state = self.state.lock().unwrap();
        state.commands.iter().filter(|it| it["execute"] == execute).cloned().collect()
    }

    /// A domain that somebody else made.
    pub fn add(&self, name: &str, xml: &str, transient: bool) {
        let domain = (name.to_owned(), Uuid::new_v4(), xml.to_owned(), transient);
        self.state.lock().unwrap().domains.push(domain);
    }

    /// A domain ends by itself, and everybody who listens hears of it.
    pub fn end(&self, name: &str, detail: i32) {
        let mut state = self.state.lock().unwrap();
        let at = state.domains.iter().position(|it| it.0 == name).unwrap();
        let (name, uuid, ..) = state.domains.remove(at);
        let payload = Domain { name, uuid, id: -1 }.write(Writer::new().i32(0));
        let header = Header {
            program: Program::Remote,
            procedure: 318,
            kind: Kind::Event,
            serial: 0,
            status: Status::Ok,
        };
        let frame = Frame { header, payload: payload.i32(5).i32(detail).into_bytes() };
        state.writers.retain(|writer| writer.send(frame.to_bytes()).is_ok());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(stream: UnixStream, state: Arc<Mutex<State>>, agent: Arc<Mutex<Agent>>) {
    let (mut read, mut write) = stream.into_split();
    let (writer, mut queue) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    {
        let mut state = state.lock().unwrap();
        state.connections += 1;
        state.writers.push(writer.clone());
    }
    loop {
        let mut word = [0; 4];
        tokio::select! {
            Some(bytes) = queue.recv() => {
                if write.write_all(&bytes).await.is_err() { return }
            }
            got = read.read_exact(&mut word) => {
                if got.is_err() { return }
                let mut body = vec![0; frame_len(word).unwrap()];
                if read.read_exact(&mut body).await.is_err() { return }
                let call = Frame::parse(&body).unwrap();
                if call.header.program == Program::Keepalive { continue }
                held(&state, |state| &mut state.hold_call, &call).await;
                let reply = answer(&call, &state, &agent);
                held(&state, |state| &mut state.hold_answer, &call).await;
                let _ = writer.send(reply.to_bytes());
            }
        }
    }
}

/// Waits until the test lets this call go on, if it is held.
async fn held(
    state: &Mutex<State>,
    which: impl Fn(&mut State) -> &mut Option<(i32, Arc<Notify>)>,
    call: &Frame,
) {
    let held = which(&mut state.lock().unwrap()).take_if(|held| held.0 == call.header.procedure);
    if let Some((_, release)) = held {
        release.notified().await;
    }
}

type Answer = Result<Writer, (i32, String)>;

fn answer(call: &Frame, state: &Mutex<State>, agent: &Mutex<Agent>) -> Frame {
    let refused = {
        let mut state = state.lock().unwrap();
        state.refuse.take_if(|refuse| refuse.0 == call.header.procedure)
    };
    let answer = match refused {
        Some((_, code, words)) => Err((code, words)),
        None => perform(call, state, agent),
    };
    let mut header = Header { kind: Kind::Reply, ..call.header };
    let payload = match answer {
        Ok(payload) => payload.into_bytes(),
        Err((code, words)) => {
            header.status = Status::Error;
            Writer::new().i32(code).i32(10).optional_string(Some(&words)).i32(2).into_bytes()
        }
    };
    Frame { header, payload }
}

fn perform(call: &Frame, state: &Mutex<State>, agent: &Mutex<Agent>) -> Answer {
    let mut reader = Reader::new(&call.payload);
    let no_domain = || (42, "Domain not found".to_owned());
    let mut state = state.lock().unwrap();
    if call.header.program == Program::Qemu {
        let domain = Domain::read(&mut reader).unwrap();
        let command: serde_json::Value = serde_json::from_str(&reader.string().unwrap()).unwrap();
        if !state.domains.iter().any(|it| it.1 == domain.uuid) {
            return Err(no_domain());
        }
        state.commands.push(command.clone());
        drop(state);
        let said = agent.lock().unwrap()(&command)?;
        return Ok(Writer::new().optional_string(Some(&said)));
    }
    state.calls.push(call.header.procedure);
    let named =
        |it: &(String, Uuid, String, bool)| Domain { name: it.0.clone(), uuid: it.1, id: 1 };
    match call.header.procedure {
        66 => Ok(Writer::new().u32(0)),
        1 | 28 | 34 | 338 => Ok(Writer::new()),
        4 => Ok(Writer::new().i64(7_002_000)),
        316 => Ok(Writer::new().i32(0)),
        46 => Ok(Writer::new().string("default").bytes(&[0; 16])),
        10 => {
            let xml = reader.string().unwrap();
            let between = |open: &str, close: &str| {
                let (_, rest) = xml.split_once(open).unwrap_or_default();
                rest.split_once(close).unwrap_or_default().0.to_owned()
            };
            let name = between("<name>", "</name>");
            if state.domains.iter().any(|it| it.0 == name) {
                return Err((9, format!("domain '{name}' already exists")));
            }
            let uuid = Uuid::parse_str(&between("<uuid>", "</uuid>")).unwrap();
            state.domains.push((name.clone(), uuid, xml, true));
            Ok(Domain { name, uuid, id: 1 }.write(Writer::new()))
        }
        12 => {
            let domain = Domain::read(&mut reader).unwrap();
            let at = state.domains.iter().position(|it| it.1 == domain.uuid);
            state.domains.remove(at.ok_or_else(no_domain)?);
            Ok(Writer::new())
        }
        7 => Ok(Writer::new().string(&state.capabilities)),
        16 => {
            let since = std::time::UNIX_EPOCH.elapsed().unwrap();
            let nanos = if state.busy { i64::try_from(since.as_nanos()).unwrap() } else { 0 };
            Ok(Writer::new().u32(1).i64(0).i64(0).u32(1).i64(nanos))
        }
        14 => {
            let domain = Domain::read(&mut reader).unwrap();
            let found = state.domains.iter().find(|it| it.1 == domain.uuid);
            Ok(Writer::new().string(&found.ok_or_else(no_domain)?.2))
        }
        23 => {
            let name = reader.string().unwrap();
            let found = state.domains.iter().find(|it| it.0 == name).ok_or_else(no_domain)?;
            Ok(named(found).write(Writer::new()))
        }
        24 => {
            let uuid = Uuid::from_bytes(reader.bytes().unwrap());
            let found = state.domains.iter().find(|it| it.1 == uuid).ok_or_else(no_domain)?;
            Ok(named(found).write(Writer::new()))
        }
        265 => {
            let domain = Domain::read(&mut reader).unwrap();
            let found = state.domains.iter().find(|it| it.1 == domain.uuid);
            let xml = &found.ok_or_else(no_domain)?.2;
            let metadata =
                xml.split_once("<metadata>").and_then(|it| it.1.split_once("</metadata>"));
            let (metadata, _) = metadata.ok_or((80, "metadata not found".to_owned()))?;
            Ok(Writer::new().string(metadata))
        }
        273 => {
            let _ = reader.i32();
            let flags = reader.u32().unwrap();
            let listed: Vec<_> =
                state.domains.iter().filter(|it| flags != 8 || it.3).map(named).collect();
            let count = u32::try_from(listed.len()).unwrap();
            let all = listed.iter().fold(Writer::new().u32(count), |to, it| it.write(to));
            Ok(all.u32(count))
        }
        other => Err((3, format!("procedure {other} is not scripted"))),
    }
}
