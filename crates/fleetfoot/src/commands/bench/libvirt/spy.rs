//! A Unix socket before libvirt's own, that notes when calls pass and are answered.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::super::figure::now_us;

const REMOTE: u32 = 0x2000_8086;
const QEMU: u32 = 0x2000_8087;
/// So much of a call is kept: its machine's name and the agent's command are in it.
const KEPT: usize = 4096;

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Create,
    Resume,
    Restore,
    Ping,
    Exec,
}

/// A call that passed.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    pub(super) ask: Ask,
    pub(super) sent_us: u64,
    /// When a good answer passed.
    pub(super) answered_us: Option<u64>,
    payload: Vec<u8>,
}

impl Noted {
    /// Whether it is about a machine whose name begins so.
    pub(super) fn is_of(&self, prefix: &str) -> bool {
        find(&self.payload, prefix.as_bytes())
    }
}

#[cfg(test)]
impl Noted {
    pub(super) fn of(ask: Ask, sent_us: u64, answered_us: Option<u64>) -> Self {
        Self { ask, sent_us, answered_us, payload: Vec::new() }
    }
}

type Calls = Arc<Mutex<Vec<Noted>>>;

/// The socket. Dropping it closes what passes through.
pub(super) struct Spy {
    calls: Calls,
    _serving: JoinSet<()>,
}

impl Spy {
    /// Binds `path` and passes everything on to the daemon's socket.
    pub(super) fn start(path: &Path, daemon: PathBuf) -> Result<Self> {
        let listener = UnixListener::bind(path).context("cannot bind a socket before libvirt's")?;
        let calls = Calls::default();
        let noted = calls.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (daemon, noted) = (daemon.clone(), noted.clone());
                connections.spawn(async move { pass(client, &daemon, &noted).await });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { calls, _serving: serving })
    }

    /// The calls since then about machines whose names begin so.
    pub(super) fn since(&self, from_us: u64, prefix: &str) -> Vec<Noted> {
        let calls = lock(&self.calls);
        calls.iter().filter(|it| it.sent_us >= from_us && it.is_of(prefix)).cloned().collect()
    }
}

fn lock(calls: &Calls) -> MutexGuard<'_, Vec<Noted>> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The words of a frame behind its length.
struct Frame<'a> {
    program: u32,
    procedure: u32,
    kind: u32,
    serial: u32,
    status: u32,
    payload: &'a [u8],
}

/// The first whole frame, and how long it is.
fn first(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    let length = word(0)? as usize;
    let frame = Frame {
        program: word(4)?,
        procedure: word(12)?,
        kind: word(16)?,
        serial: word(20)?,
        status: word(24)?,
        payload: bytes.get(28..length)?,
    };
    Some((frame, length))
}

/// What a call's frame asks for, of what is noted.
fn ask(frame: &Frame<'_>) -> Option<Ask> {
    match (frame.program, frame.procedure) {
        (REMOTE, 10) => Some(Ask::Create),
        (REMOTE, 28) => Some(Ask::Resume),
        (REMOTE, 54) => Some(Ask::Restore),
        (QEMU, 3) if find(frame.payload, b"\"guest-ping\"") => Some(Ask::Ping),
        (QEMU, 3) if find(frame.payload, b"\"guest-exec\"") => Some(Ask::Exec),
        _ => None,
    }
}

async fn pass(client: UnixStream, daemon: &Path, calls: &Calls) {
    let Ok(daemon) = UnixStream::connect(daemon).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_daemon, mut to_daemon) = daemon.into_split();
    // Calls without an answer, by their serials: where they are noted.
    let open = Mutex::new(HashMap::new());
    let there = async {
        let (mut buffer, mut kept) = (vec![0; 64 << 10], Vec::new());
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            let chunk = buffer.get(..count).unwrap_or_default();
            kept.extend_from_slice(chunk);
            while let Some((frame, length)) = first(&kept) {
                if let Some(ask) = ask(&frame) {
                    let payload = frame.payload.iter().take(KEPT).copied().collect();
                    let mut calls = lock(calls);
                    calls.push(Noted { ask, sent_us: now_us(), answered_us: None, payload });
                    let at = calls.len() - 1;
                    open.lock().unwrap_or_else(PoisonError::into_inner).insert(frame.serial, at);
                }
                kept.drain(..length);
            }
            if to_daemon.write_all(chunk).await.is_err() {
                break;
            }
        }
        let _ = to_daemon.shutdown().await;
    };
    let back = async {
        let (mut buffer, mut kept) = (vec![0; 64 << 10], Vec::new());
        while let Ok(count @ 1..) = from_daemon.read(&mut buffer).await {
            let chunk = buffer.get(..count).unwrap_or_default();
            kept.extend_from_slice(chunk);
            while let Some((frame, length)) = first(&kept) {
                if (frame.kind, frame.status) == (1, 0)
                    && let Some(at) =
                        open.lock().unwrap_or_else(PoisonError::into_inner).remove(&frame.serial)
                    && let Some(noted) = lock(calls).get_mut(at)
                {
                    noted.answered_us = Some(now_us());
                }
                kept.drain(..length);
            }
            if to_client.write_all(chunk).await.is_err() {
                break;
            }
        }
        let _ = to_client.shutdown().await;
    };
    tokio::join!(there, back);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_recognized() {
        let frame = |program: u32, procedure: u32, text: &[u8]| {
            let length = u32::try_from(28 + text.len()).unwrap();
            let words = [length, program, 1, procedure, 0, 7, 0];
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            bytes.extend(text);
            bytes
        };
        let bytes = frame(QEMU, 3, b"cold-0 {\"execute\":\"guest-exec\"}");
        let (read, length) = first(&bytes).unwrap();
        assert_eq!((read.serial, length), (7, bytes.len()));
        assert_eq!(ask(&read), Some(Ask::Exec));
        assert!(first(&bytes[..40]).is_none());
        let status = frame(QEMU, 3, b"{\"execute\":\"guest-exec-status\"}");
        assert_eq!(ask(&first(&status).unwrap().0), None);
        assert_eq!(ask(&first(&frame(REMOTE, 10, b"")).unwrap().0), Some(Ask::Create));
    }
}
