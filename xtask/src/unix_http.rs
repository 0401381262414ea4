//! Just enough HTTP over a Unix socket to ask an engine whether it is there and to remove what
//! is left in it, and over any connection to talk to a box. HTTP/1.0, so the answer ends with the
//! connection.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// Sends one request without a body and returns status and body.
pub(crate) fn request(
    socket: &Path,
    method: &str,
    path: &str,
    limit: Duration,
) -> Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    exchange(&mut stream, method, path, None)
}

/// A body and its type.
pub(crate) type Body<'a> = (&'a str, &'a [u8]);

/// Sends one request over a connection and returns status and body.
pub(crate) fn exchange(
    stream: &mut (impl std::io::Read + std::io::Write),
    method: &str,
    path: &str,
    body: Option<Body<'_>>,
) -> Result<(u16, String)> {
    send(stream, method, path, body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("answer without a head")?;
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .context("answer without a status")?;
    Ok((status, body.to_owned()))
}

/// Sends one request; the answer is the caller's to read.
pub(crate) fn send(
    stream: &mut impl std::io::Write,
    method: &str,
    path: &str,
    body: Option<Body<'_>>,
) -> Result<()> {
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\n")?;
    let (kind, body) = body.unwrap_or(("text/plain", &[]));
    write!(stream, "Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    stream.flush()?;
    Ok(())
}
