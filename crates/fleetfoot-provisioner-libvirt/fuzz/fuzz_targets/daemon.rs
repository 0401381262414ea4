//! The whole client against a daemon that answers anything: calls, events in between, lists, metadata, agents.
//!
//! The input is what the daemon answers, one call after the other: a byte that says what kind of answer it is, two for
//! its length, and its payload. Each call ends, one way or another, and nothing panics. What is not answered any more
//! ends with the connection, and the client opens another.
#![no_main]

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use fleetfoot_provisioner::{InstallationId, InstanceName, Provisioner as _};
use fleetfoot_provisioner_libvirt::rpc::{Connection, ListFlags};
use fleetfoot_provisioner_libvirt::wire::{
    Domain, Frame, Header, Kind, Program, Status, Writer, frame_len,
};
use fleetfoot_provisioner_libvirt::{Address, LibvirtEngine, LibvirtPool, LibvirtProvisioner};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use uuid::Uuid;

/// No call may hang, also when half a frame comes and then nothing. Of a clock that goes on as soon as nothing happens.
const BOUND: Duration = Duration::from_secs(1800);
const URI: &str = "qemu:///system";

fuzz_target!(|bytes: &[u8]| {
    thread_local! {
        static STAND: RefCell<Option<Rc<Stand>>> = const { RefCell::new(None) };
    }
    let stand = STAND.with(|kept| Rc::clone(kept.borrow_mut().get_or_insert_with(Stand::new)));
    let script = Script { rest: bytes.to_vec(), at: 0 };
    stand.runtime.block_on(async {
        let played = tokio::time::timeout(BOUND, play(&stand, script));
        assert!(played.await.is_ok(), "the client hangs");
    });
});

/// What is made once.
struct Stand {
    runtime: tokio::runtime::Runtime,
    listener: UnixListener,
    directory: tempfile::TempDir,
}

impl Stand {
    fn new() -> Rc<Self> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        let entered = runtime.enter();
        let listener = UnixListener::bind(directory.path().join("s")).expect("a socket");
        drop(entered);
        Rc::new(Self { runtime, listener, directory })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }
}

/// What the daemon still has to say.
struct Script {
    rest: Vec<u8>,
    at: usize,
}

impl Script {
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let &[kind, high, low] = self.rest.get(self.at..self.at + 3)? else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let from = self.at + 3;
        let to = (from + length).min(self.rest.len());
        self.at = to;
        Some((kind, self.rest.get(from..to)?.to_vec()))
    }
}

/// The client's part, and the daemon's.
async fn play(stand: &Stand, script: Script) {
    let script = Rc::new(RefCell::new(script));
    let serving = async {
        loop {
            let Ok((stream, _)) = stand.listener.accept().await else { return };
            serve(stream, &script).await;
        }
    };
    tokio::select! {
        () = calls(stand) => {}
        () = serving => {}
    }
}

async fn calls(stand: &Stand) {
    let address = Address::parse(&stand.socket().display().to_string()).expect("an address");
    let domain = Domain { name: "pool-0a1b2c3d".to_owned(), uuid: Uuid::nil(), id: -1 };
    if let Ok(talk) = Connection::open(&address, URI).await {
        let _ = talk.domains(ListFlags::ALL).await;
        let _ = talk.agent(&domain, "{\"execute\":\"guest-ping\"}", Duration::from_secs(5)).await;
        let _ = talk.metadata(&domain, "https://fleetfoot.dev/libvirt/1").await;
        let _ = talk.state(&domain).await;
        let _ = talk.xml(&domain).await;
        let _ = talk.version().await;
        let _ = talk.processor_time(&domain).await;
        let _ = talk.domain_named("pool-0a1b2c3d").await;
        let _ = talk.domain_of(Uuid::nil()).await;
        let _ = talk.destroy(&domain).await;
        let _ = talk.has_network("default").await;
    }
    let installation = InstallationId::new("fuzz").expect("an id");
    let records = stand.directory.path().join("records");
    let engine = LibvirtEngine::open(address, &records, installation).expect("records");
    let pool = LibvirtPool::new(stand.directory.path().join("image.qcow2"));
    let provisioner = LibvirtProvisioner::new(engine, pool);
    let _ = provisioner.others().await;
    let name = InstanceName::new("pool-0a1b2c3d").expect("a name");
    let _ = provisioner.delete(&name).await;
}

/// One connection: an answer for each call, until there is none left.
async fn serve(mut stream: UnixStream, script: &RefCell<Script>) {
    // What every daemon answers: no login, and the driver is open.
    let mut opened = [Writer::new().u32(0), Writer::new()].into_iter();
    loop {
        let mut word = [0; 4];
        if stream.read_exact(&mut word).await.is_err() {
            return;
        }
        let mut body = vec![0; frame_len(word).expect("the client's own frame")];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let call = Frame::parse(&body).expect("the client's own frame");
        if call.header.program == Program::Keepalive {
            continue;
        }
        let mut bytes = Vec::new();
        if let Some(payload) = opened.next() {
            let header = Header { kind: Kind::Reply, ..call.header };
            bytes = Frame { header, payload: payload.into_bytes() }.to_bytes();
        }
        while bytes.is_empty() {
            let Some((kind, payload)) = script.borrow_mut().next() else { return };
            let reply = Header { kind: Kind::Reply, ..call.header };
            let header = match kind % 9 {
                0..=3 => reply,
                8 => return,
                4 => Header { status: Status::Error, ..reply },
                5 => Header {
                    program: Program::Remote,
                    procedure: 318,
                    kind: Kind::Event,
                    serial: 0,
                    status: Status::Ok,
                },
                // Bytes that are no frame of ours at all.
                6 => {
                    if stream.write_all(&payload).await.is_err() {
                        return;
                    }
                    continue;
                }
                _ => {
                    Header { program: Program::Keepalive, procedure: 1, kind: Kind::Event, ..reply }
                }
            };
            let frame = Frame { header, payload }.to_bytes();
            if header.kind == Kind::Reply {
                bytes = frame;
            } else if stream.write_all(&frame).await.is_err() {
                return;
            }
        }
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
