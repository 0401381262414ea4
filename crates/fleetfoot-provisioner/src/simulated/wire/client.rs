//! The side of the controller.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fleetfoot_core::InstallationId;
use futures_util::StreamExt as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::super::faults::Operation;
use super::super::request::{Answer, Request};
use super::{Ask, OTHERS, Tell, WATCH};
use crate::error::{BackendError, ErrorKind};
use crate::provisioner::{EnvironmentInfo, Event, EventStream};
use crate::tasks;

const LINES_MAX: usize = 4096;
/// All of its memory is taken at once. Who falls further behind lists anew.
const EVENTS_MAX: usize = 1024;
const RECONNECT: Duration = Duration::from_millis(100);

/// A handle of one pipelined connection, made with the first call and again when it broke.
#[derive(Clone)]
pub(in crate::simulated) struct Client(Arc<Shared>);

struct Shared {
    path: PathBuf,
    next_id: AtomicU64,
    connection: tokio::sync::Mutex<Option<Connection>>,
}

#[derive(Clone)]
struct Connection {
    lines: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Waiting>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct Waiting {
    closed: AtomicBool,
    answers: Mutex<HashMap<u64, oneshot::Sender<Tell>>>,
}

impl Waiting {
    fn answers(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Tell>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.0.path.display())
    }
}

impl Client {
    pub(in crate::simulated) fn new(path: PathBuf) -> Self {
        Self(Arc::new(Shared {
            path,
            next_id: AtomicU64::new(1),
            connection: tokio::sync::Mutex::new(None),
        }))
    }

    pub(in crate::simulated) async fn call(
        &self,
        request: Request,
    ) -> Result<Answer, BackendError> {
        let operation = request.operation();
        let connection = self.connection(operation.phrase()).await?;
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let tell = connection.ask(operation.phrase(), &Ask::of(id, &request)).await?;
        tell.answer(operation, request.name())
    }

    /// What exists of any other installation.
    pub(in crate::simulated) async fn others(
        &self,
        installation: &InstallationId,
    ) -> Result<Vec<EnvironmentInfo>, BackendError> {
        let operation = Operation::List;
        let connection = self.connection(operation.phrase()).await?;
        let ask = self.bare(OTHERS, installation);
        let tell = connection.ask(operation.phrase(), &ask).await?;
        Ok(match tell.answer(operation, None)? {
            Answer::Listing(listing) => listing.environments,
            Answer::Done | Answer::Deleted(_) | Answer::Handle(_) | Answer::Logs(_) => Vec::new(),
        })
    }

    /// Events of one installation; a broken connection is made again and told by [`Event::Resynced`].
    pub(in crate::simulated) async fn events(
        &self,
        installation: &InstallationId,
    ) -> Result<EventStream, BackendError> {
        let receiver = self.subscribe(installation).await?;
        let start = (self.clone(), installation.clone(), receiver);
        Ok(futures_util::stream::unfold(start, |(client, installation, mut receiver)| async move {
            let event = match receiver.recv().await {
                Ok(event) => event,
                Err(broadcast::error::RecvError::Lagged(_)) => Event::Resynced,
                Err(broadcast::error::RecvError::Closed) => {
                    receiver = loop {
                        tokio::time::sleep(RECONNECT).await;
                        if let Ok(receiver) = client.subscribe(&installation).await {
                            break receiver;
                        }
                    };
                    Event::Resynced
                }
            };
            Some((event, (client, installation, receiver)))
        })
        .boxed())
    }

    async fn subscribe(
        &self,
        installation: &InstallationId,
    ) -> Result<broadcast::Receiver<Event>, BackendError> {
        // A connection of its own: it ends with the stream that reads it.
        let connection = self.open("watch environments").await?;
        let receiver = connection.events.subscribe();
        let ask = self.bare(WATCH, installation);
        connection.ask("watch environments", &ask).await?;
        Ok(receiver)
    }

    /// A request that is about the installation as a whole.
    fn bare(&self, op: &str, installation: &InstallationId) -> Ask {
        Ask {
            id: self.0.next_id.fetch_add(1, Ordering::Relaxed),
            op: op.to_owned(),
            installation: installation.to_string(),
            pool: None,
            name: None,
            jit: None,
            lines: None,
        }
    }

    async fn connection(&self, operation: &'static str) -> Result<Connection, BackendError> {
        let mut held = self.0.connection.lock().await;
        if let Some(connection) =
            held.as_ref().filter(|it| !it.waiting.closed.load(Ordering::Acquire))
        {
            return Ok(connection.clone());
        }
        let connection = self.open(operation).await?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    async fn open(&self, operation: &'static str) -> Result<Connection, BackendError> {
        let stream = UnixStream::connect(&self.0.path).await.map_err(|error| {
            let message = format!("cannot connect to {}: {error}", self.0.path.display());
            BackendError::new(operation, ErrorKind::Backend, message).caused_by(error)
        })?;
        let (read, write) = stream.into_split();
        let (lines_tx, lines_rx) = mpsc::channel(LINES_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let waiting = Arc::new(Waiting::default());
        tasks::start(write_lines(write, lines_rx));
        tasks::start(read_lines(read, Arc::clone(&waiting), events.clone()));
        Ok(Connection { lines: lines_tx, waiting, events })
    }
}

impl Connection {
    async fn ask(&self, operation: &'static str, ask: &Ask) -> Result<Tell, BackendError> {
        let unanswered = || {
            BackendError::new(operation, ErrorKind::Unanswered, "the simulated engine went away")
        };
        let mut line = serde_json::to_vec(ask).map_err(|error| {
            BackendError::new(operation, ErrorKind::Instance, error.to_string())
        })?;
        line.push(b'\n');
        let (tell_tx, tell_rx) = oneshot::channel();
        self.waiting.answers().insert(ask.id, tell_tx);
        let _forget = Forget(&self.waiting, ask.id);
        if self.waiting.closed.load(Ordering::Acquire) || self.lines.send(line).await.is_err() {
            return Err(unanswered());
        }
        tell_rx.await.map_err(|_| unanswered())
    }
}

/// Takes a dropped call out of the waiting ones.
struct Forget<'a>(&'a Waiting, u64);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.0.answers().remove(&self.1);
    }
}

async fn write_lines(mut write: OwnedWriteHalf, mut lines: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = lines.recv().await {
        if write.write_all(&line).await.is_err() {
            return;
        }
    }
}

async fn read_lines(read: OwnedReadHalf, waiting: Arc<Waiting>, events: broadcast::Sender<Event>) {
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(tell) = serde_json::from_str::<Tell>(&line) else { continue };
        if let Some(event) = tell.event {
            let _ = events.send(event.event());
        } else if let Some(answer) = tell.id.and_then(|id| waiting.answers().remove(&id)) {
            let _ = answer.send(tell);
        }
    }
    waiting.closed.store(true, Ordering::Release);
    waiting.answers().clear();
}
