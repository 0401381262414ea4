//! A gateway behind which GitHub has a path (`http://host/git/…`): it takes the path off, and what is asked beside the
//! path it does not know.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub(crate) struct Gateway {
    /// With its path, without a slash at its end.
    pub(crate) url: String,
    /// Paths that are not under its own.
    beside: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Gateway {
    /// Before this GitHub.
    pub(crate) async fn start(github: &str, path: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = format!("http://{}", listener.local_addr().unwrap());
        let url = format!("{host}{path}");
        let beside = Arc::new(Mutex::new(Vec::new()));
        let (seen, ours, theirs) = (beside.clone(), url.clone(), github.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, path, ours.clone(), theirs.clone(), seen.clone()));
            }
        });
        Self { url, beside, task }
    }

    pub(crate) fn beside(&self) -> Vec<String> {
        self.beside.lock().unwrap().clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request: its connection is closed with its answer.
async fn carry(
    mut client: TcpStream,
    path: &str,
    ours: String,
    theirs: String,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let Some((head, body)) = request(&mut client).await else { return };
    let (first, headers) = head.split_once("\r\n").unwrap();
    let (method, rest) = first.split_once(' ').unwrap();
    let Some(rest) = rest.strip_prefix(path).filter(|rest| rest.starts_with('/')) else {
        seen.lock().unwrap().push(first.to_owned());
        let refusal = "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let _ = client.write_all(refusal.as_bytes()).await;
        return;
    };
    // What a body names is behind the gateway, too.
    let body = body.replace(&ours, &theirs);
    let host = theirs.trim_start_matches("http://");
    let kept = headers.split("\r\n").filter(|line| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !matches!(name.as_str(), "host" | "content-length" | "connection" | "")
    });
    let kept: String = kept.map(|line| format!("{line}\r\n")).collect();
    let whole = format!(
        "{method} {rest}\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n{kept}\r\n{body}",
        body.len()
    );
    let Ok(mut github) = TcpStream::connect(host).await else { return };
    if github.write_all(whole.as_bytes()).await.is_ok() {
        let _ = tokio::io::copy(&mut github, &mut client).await;
    }
}

/// Head and body of a request.
async fn request(client: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("\r\n").find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        let mut more = [0; 8192];
        let read = client.read(&mut more).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&more[..read]);
    }
}
