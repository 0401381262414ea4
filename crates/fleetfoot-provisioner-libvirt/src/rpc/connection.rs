//! One connection: whoever calls waits for its answer, whoever listens hears the events.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::transport::{Address, Stream};
use super::{CallError, calls};
use crate::tasks::{self, Owned};
use crate::wire::{
    Frame, Kind, LifecycleEvent, Program, Reader, RemoteError, Status, frame_len, procedure,
};

/// Calls open at one time: the daemon takes five of a client and then stops reading.
const OPEN_MAX: usize = 4;
const QUEUE_MAX: usize = 64;
/// All of its memory is taken at once. Who falls further behind lists anew.
const EVENTS_MAX: usize = 1024;
/// A silent daemon is asked this often whether it lives, and given up after this long.
const PING_EACH: Duration = Duration::from_secs(5);
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A connection that is open and initialized.
pub struct Connection {
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Vec<u8>>,
    slots: Arc<Semaphore>,
    serial: AtomicU32,
    _reader: Owned,
    _writer: Owned,
}

struct Shared {
    open: Mutex<Open>,
    events: broadcast::Sender<LifecycleEvent>,
    broken: watch::Sender<Option<String>>,
}

/// Calls without an answer. `None` once the connection broke.
type Open = Option<HashMap<u32, Waiting>>;

struct Waiting {
    answer: oneshot::Sender<Result<Vec<u8>, RemoteError>>,
    _slot: OwnedSemaphorePermit,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Connects, agrees on no login, opens the driver of `uri`.
    pub async fn open(address: &Address, uri: &str) -> Result<Self, CallError> {
        let failed = |cause| CallError::Connect { address: address.to_string(), cause };
        let stream = address.connect().await.map_err(failed)?;
        let connection = Self::over(stream);
        calls::initialize(&connection, uri).await?;
        Ok(connection)
    }

    pub(crate) fn over(stream: Box<dyn Stream>) -> Self {
        let (read, write) = tokio::io::split(stream);
        let (outgoing, queue) = mpsc::channel(QUEUE_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let (broken, _) = watch::channel(None);
        let shared = Arc::new(Shared { open: Mutex::new(Some(HashMap::new())), events, broken });
        let reader = tasks::owned(read_all(read, Arc::clone(&shared), outgoing.clone()));
        let writer = tasks::owned(write_all(write, queue, Arc::clone(&shared)));
        Self {
            shared,
            outgoing,
            slots: Arc::new(Semaphore::new(OPEN_MAX)),
            serial: AtomicU32::new(1),
            _reader: reader,
            _writer: writer,
        }
    }

    /// Whether it broke.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.shared.broken.borrow().is_some()
    }

    /// Waits until it breaks.
    pub async fn broken(&self) {
        let mut broken = self.shared.broken.subscribe();
        let _ = broken.wait_for(Option::is_some).await;
    }

    /// What happens to domains from now on, once the daemon was asked to tell.
    pub(crate) fn events(&self) -> broadcast::Receiver<LifecycleEvent> {
        self.shared.events.subscribe()
    }

    /// Calls a procedure. Its payload comes back as it is.
    pub(crate) async fn call(
        &self,
        program: Program,
        procedure: i32,
        payload: Vec<u8>,
    ) -> Result<Vec<u8>, CallError> {
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = slot.map_err(|_| self.lost())?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(open) = open.as_mut() else { return Err(self.lost()) };
            open.insert(serial, Waiting { answer, _slot: slot });
        }
        let bytes = Frame::call(program, procedure, serial, payload).to_bytes();
        if self.outgoing.send(bytes).await.is_err() {
            return Err(self.lost());
        }
        match answered.await {
            Ok(answer) => answer.map_err(CallError::Refused),
            Err(_) => Err(self.lost()),
        }
    }

    fn lost(&self) -> CallError {
        let why = self.shared.broken.borrow().clone();
        CallError::Lost(why.unwrap_or_else(|| "it was closed".to_owned()))
    }
}

impl Shared {
    /// Nobody waits any longer, and nobody calls again.
    fn fail(&self, why: &str) {
        self.broken.send_if_modified(|broken| {
            let first = broken.is_none();
            if first {
                *broken = Some(why.to_owned());
            }
            first
        });
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn take(&self, serial: u32) -> Option<Waiting> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_mut()?.remove(&serial)
    }

    fn heed(&self, frame: Frame) -> Option<Frame> {
        let header = frame.header;
        match (header.program, header.kind) {
            (Program::Keepalive, _) if header.procedure == procedure::PING => {
                return Some(Frame::keepalive(procedure::PONG));
            }
            (Program::Remote | Program::Qemu, Kind::Reply) => {
                if let Some(waiting) = self.take(header.serial) {
                    let _ = waiting.answer.send(answer(&frame));
                }
            }
            (Program::Remote, Kind::Event) if header.procedure == procedure::EVENT_LIFECYCLE => {
                match LifecycleEvent::read(&mut Reader::new(&frame.payload)) {
                    Ok(event) => drop(self.events.send(event)),
                    Err(error) => tracing::debug!(%error, "libvirt event cannot be read"),
                }
            }
            (Program::Remote | Program::Qemu | Program::Keepalive | Program::Other(_), _) => {}
        }
        None
    }
}

fn answer(frame: &Frame) -> Result<Vec<u8>, RemoteError> {
    match frame.header.status {
        Status::Ok | Status::Continue => Ok(frame.payload.clone()),
        Status::Error => {
            Err(RemoteError::read(&mut Reader::new(&frame.payload)).unwrap_or_else(|error| {
                RemoteError { code: 0, message: format!("refused in unknown words: {error}") }
            }))
        }
    }
}

/// Bytes as they come, and the frames in them. A wait that is given up loses none.
struct Incoming {
    read: ReadHalf<Box<dyn Stream>>,
    bytes: Vec<u8>,
}

impl Incoming {
    async fn next(&mut self) -> Result<Frame, String> {
        loop {
            if let Some(frame) = take_frame(&mut self.bytes)? {
                return Ok(frame);
            }
            match self.read.read_buf(&mut self.bytes).await {
                Ok(0) => return Err("the daemon closed it".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// Takes the first frame out of `bytes`, if it is there as a whole.
fn take_frame(bytes: &mut Vec<u8>) -> Result<Option<Frame>, String> {
    let Some(word) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = frame_len(*word).map_err(|error| error.to_string())?;
    let Some(body) = bytes.get(4..4 + length) else { return Ok(None) };
    let frame = Frame::parse(body).map_err(|error| error.to_string())?;
    bytes.drain(..4 + length);
    Ok(Some(frame))
}

async fn read_all(
    read: ReadHalf<Box<dyn Stream>>,
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Vec<u8>>,
) {
    let mut incoming = Incoming { read, bytes: Vec::new() };
    let mut heard = Instant::now();
    loop {
        match tokio::time::timeout(PING_EACH, incoming.next()).await {
            Ok(Ok(frame)) => {
                heard = Instant::now();
                if let Some(reply) = shared.heed(frame)
                    && outgoing.send(reply.to_bytes()).await.is_err()
                {
                    return;
                }
            }
            Ok(Err(why)) => return shared.fail(&why),
            Err(_) if heard.elapsed() > SILENCE_MAX => {
                return shared.fail("the daemon does not answer pings");
            }
            Err(_) => {
                let _ = outgoing.try_send(Frame::keepalive(procedure::PING).to_bytes());
            }
        }
    }
}

async fn write_all(
    mut write: WriteHalf<Box<dyn Stream>>,
    mut queue: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
) {
    while let Some(bytes) = queue.recv().await {
        if let Err(error) = write.write_all(&bytes).await {
            return shared.fail(&error.to_string());
        }
        if queue.is_empty()
            && let Err(error) = write.flush().await
        {
            return shared.fail(&error.to_string());
        }
    }
}
