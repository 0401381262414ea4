//! HTTP/1.1 as far as a runner needs it: one request after the other, plain, JSON.

use std::io;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than the box holds a poll.
const ANSWER_MAX: Duration = Duration::from_secs(120);
const CONNECT_MAX: Duration = Duration::from_secs(20);
const BODY_MAX: usize = 1 << 20;

pub(crate) struct Client {
    authority: String,
    stream: Option<BufReader<TcpStream>>,
    pub(crate) token: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or("no message")
    }
}

impl Client {
    /// A client for `http://authority`; other schemes are no business of a box.
    pub(crate) fn new(url: &str) -> Option<Self> {
        let authority = url.strip_prefix("http://")?.split('/').next()?.to_owned();
        Some(Self { authority, stream: None, token: None })
    }

    /// Another connection with the same token.
    pub(crate) fn fork(&self) -> Self {
        Self { authority: self.authority.clone(), stream: None, token: self.token.clone() }
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        // A kept connection may have been closed meanwhile; only then, once more.
        let kept = self.stream.is_some();
        match self.exchange(path, body).await {
            Err(error) if kept && closed_early(&error) => self.exchange(path, body).await,
            other => other,
        }
    }

    async fn exchange(&mut self, path: &str, body: &Value) -> io::Result<Answer> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(self.connect().await?),
        };
        let body = body.to_string();
        let authorization = match &self.token {
            Some(token) => format!("Authorization: Bearer {token}\r\n"),
            None => String::new(),
        };
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.authority,
            body.len()
        );
        stream.get_mut().write_all(request.as_bytes()).await?;
        let (answer, keep) = timeout(ANSWER_MAX, read_answer(&mut stream)).await??;
        if keep {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let target =
            if self.authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
            {
                self.authority.clone()
            } else {
                format!("{}:80", self.authority)
            };
        let stream = timeout(CONNECT_MAX, TcpStream::connect(target)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn closed_early(error: &io::Error) -> bool {
    [
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionAborted,
    ]
    .contains(&error.kind())
}

fn bad(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

async fn read_answer(stream: &mut BufReader<TcpStream>) -> io::Result<(Answer, bool)> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = line
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| bad("no status line"))?;
    let (mut length, mut keep) = (0_usize, true);
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let header = line.trim_end();
        if header.is_empty() {
            break;
        }
        let Some((name, value)) = header.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().map_err(|_| bad("no content length"))?;
        } else if name.eq_ignore_ascii_case("connection") {
            keep = !value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(bad("the box does not send chunks"));
        }
    }
    if length > BODY_MAX {
        return Err(bad("answer too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).map_err(|_| bad("answer is not JSON"))?
    };
    Ok((Answer { status, body }, keep))
}
