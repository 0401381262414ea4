//! The container engine: the runner's image, what is left there, and what it told of starts and deaths.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::{run_quiet, wait_until};
use crate::unix_http;

/// The image of the runner.
pub(super) const IMAGE: &str = "fleetfoot-crash:runner";
/// The runner in it; by this name the binary is one.
pub(super) const RUNNER: &str = "/home/runner/run.sh";
const LABEL_POOL: &str = "fleetfoot.pool";
const LIMIT: Duration = Duration::from_secs(30);

/// An engine of our own.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) socket: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

/// What the engine told, by pool.
#[derive(Default)]
struct Seen {
    alive: BTreeMap<String, BTreeSet<String>>,
    most: BTreeMap<String, usize>,
    started: BTreeSet<String>,
    twice: Vec<String>,
}

impl Engine {
    /// Makes the image there from the binary, and listens from now on.
    pub(super) fn prepare(socket: &Path, binary: &Path, dir: &Path) -> Result<Self> {
        let engine = Self { socket: socket.to_owned(), seen: Arc::default() };
        engine.import(binary, dir)?;
        engine.listen()?;
        Ok(engine)
    }

    /// An image of one program and the libraries that it is linked with, at the same places.
    fn import(&self, binary: &Path, dir: &Path) -> Result<()> {
        let root = dir.join("image");
        let mut files = vec![(binary.to_owned(), PathBuf::from(RUNNER))];
        for word in run_quiet(Command::new("ldd").arg(binary))?.split_whitespace() {
            if word.starts_with('/') {
                files.push((word.into(), word.into()));
            }
        }
        for (from, to) in files {
            let to = root.join(to.strip_prefix("/").unwrap_or(&to));
            std::fs::create_dir_all(to.parent().unwrap_or(&root))?;
            std::fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        std::fs::create_dir_all(root.join("tmp"))?;
        let tar = dir.join("image.tar");
        run_quiet(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."))?;
        let body = std::fs::read(&tar)?;
        std::fs::remove_file(&tar)?;
        std::fs::remove_dir_all(&root)?;
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let path = format!("/images/create?fromSrc=-&repo={IMAGE}");
        let body = Some(("application/x-tar", body.as_slice()));
        let (status, answer) = unix_http::exchange(&mut stream, "POST", &path, body)?;
        ensure!(status == 200 && !answer.contains("error"), "image not imported: {answer}");
        Ok(())
    }

    /// Takes in what the engine tells of containers, until it ends.
    fn listen(&self) -> Result<()> {
        let filters = r#"{"type":["container"],"event":["start","die"]}"#;
        let filters: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut stream = UnixStream::connect(&self.socket)?;
        unix_http::send(&mut stream, "GET", &format!("/events?filters={filters}"), None)?;
        let seen = self.seen.clone();
        let mut lines = BufReader::new(stream).lines();
        let head = lines.next().context("no events")??;
        ensure!(head.contains(" 200 "), "no events: {head}");
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str::<Value>(&line) {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).take(&event);
                }
            }
        });
        Ok(())
    }

    /// Containers of these pools, dead ones too: id and name.
    pub(super) fn containers(&self, pools: &[&str]) -> Result<Vec<(String, String)>> {
        let (status, body) =
            unix_http::request(&self.socket, "GET", "/containers/json?all=1", LIMIT)?;
        ensure!(status == 200, "the engine does not list: {status} {body}");
        let all: Vec<Value> = serde_json::from_str(&body)?;
        let ours = all.iter().filter(|container| {
            let pool = container["Labels"][LABEL_POOL].as_str();
            pool.is_some_and(|pool| pools.contains(&pool))
        });
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(ours.map(|it| (text(&it["Id"]), text(&it["Names"][0]))).collect())
    }

    /// Removes what a failed case left.
    pub(super) fn clear(&self, pools: &[&str]) {
        for (id, _) in self.containers(pools).unwrap_or_default() {
            let path = format!("/containers/{id}?force=1&v=1");
            let _ = unix_http::request(&self.socket, "DELETE", &path, LIMIT);
        }
    }

    /// What was wrong in what the engine told of a pool.
    pub(super) fn wrong(&self, pool: &str, limit: usize) -> Option<String> {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // What it tells comes a little after it is so.
        wait_until(Duration::from_secs(2), || {
            seen().alive.get(pool).is_none_or(BTreeSet::is_empty)
        });
        let seen = seen();
        let most = seen.most.get(pool).copied().unwrap_or_default();
        if most > limit {
            return Some(format!("{most} containers of pool {pool} at once, its limit is {limit}"));
        }
        let twice = seen.twice.iter().find(|name| name.starts_with(&format!("{pool}-")))?;
        Some(format!("container {twice} was started twice"))
    }
}

impl Seen {
    fn take(&mut self, event: &Value) {
        let attributes = &event["Actor"]["Attributes"];
        let Some(pool) = attributes[LABEL_POOL].as_str() else { return };
        let id = event["Actor"]["ID"].as_str().unwrap_or_default().to_owned();
        let alive = self.alive.entry(pool.to_owned()).or_default();
        if event["Action"] == "start" {
            alive.insert(id.clone());
            let most = self.most.entry(pool.to_owned()).or_default();
            *most = alive.len().max(*most);
            if !self.started.insert(id) {
                self.twice.push(attributes["name"].as_str().unwrap_or_default().to_owned());
            }
        } else {
            alive.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_most_at_once_is_remembered() {
        let mut seen = Seen::default();
        for (action, id) in [("start", "1"), ("start", "2"), ("die", "1"), ("start", "3")] {
            let attributes = json!({ "fleetfoot.pool": "a", "name": format!("a-{id}") });
            seen.take(
                &json!({ "Action": action, "Actor": { "ID": id, "Attributes": attributes } }),
            );
        }
        assert_eq!(seen.most["a"], 2);
        assert_eq!(seen.alive["a"].len(), 2);
        assert!(seen.twice.is_empty());
    }
}
