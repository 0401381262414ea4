//! What several controllers share: a database server of all cases, a database of each, and the engine that every
//! controller of a case sees.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::components::{Kind, Set, query};

/// Everything that an engine holds, whoever made it.
const ALL: &[u8] = b"{\"id\":1,\"op\":\"others\",\"installation\":\"nobody\"}\n";

/// A server that runs for as long as its set.
#[derive(Clone)]
pub(super) struct Server {
    kind: Kind,
    dir: PathBuf,
    url: String,
}

/// A database of one case; it goes with it.
pub(super) struct Database {
    server: Server,
    name: String,
}

/// What an engine holds.
#[derive(Debug, Deserialize)]
pub(super) struct Environment {
    pub(super) name: String,
    pub(super) pool: Option<String>,
    state: String,
}

#[derive(Deserialize)]
struct Told {
    listing: Listing,
}

#[derive(Deserialize)]
struct Listing {
    environments: Vec<Environment>,
}

impl Server {
    /// Starts it; nothing where it is not found.
    pub(super) fn start(set: &mut Set, kind: Kind, variable: &str) -> Option<Self> {
        set.start(kind);
        let url = set.env.get(variable)?.clone();
        Some(Self { kind, dir: set.dir().join(kind.word()), url })
    }

    /// A new database on it.
    pub(super) fn database(&self, name: &str) -> Result<Database> {
        let made = query(self.kind, &self.dir, &format!("CREATE DATABASE {name}"));
        made.context("cannot make a database")?;
        Ok(Database { server: self.clone(), name: name.to_owned() })
    }
}

impl Database {
    /// Its address, as controllers are told it.
    pub(super) fn url(&self) -> String {
        let server = self.server.url.rsplit_once('/').map_or("", |it| it.0);
        format!("{server}/{}", self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A connection of somebody who was killed may not be gone yet.
        let force = if self.server.kind == Kind::Postgres { " WITH (FORCE)" } else { "" };
        let drop = format!("DROP DATABASE {}{force}", self.name);
        let _ = query(self.server.kind, &self.server.dir, &drop);
    }
}

impl Environment {
    pub(super) fn lives(&self) -> bool {
        self.state != "ended"
    }
}

/// Everything that the engine behind this socket holds.
pub(super) fn environments(socket: &Path) -> Result<Vec<Environment>> {
    let mut stream = UnixStream::connect(socket).context("the engine is not there")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(ALL)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let told: Told = serde_json::from_str(&line).context("the engine said something else")?;
    Ok(told.listing.environments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_has_the_address_of_its_server_with_its_own_name() {
        let dir = PathBuf::new();
        let url = "postgres://postgres@127.0.0.1:1/postgres".to_owned();
        let server = Server { kind: Kind::Shellcheck, dir, url };
        let database = std::mem::ManuallyDrop::new(Database { server, name: "c1".to_owned() });
        assert_eq!(database.url(), "postgres://postgres@127.0.0.1:1/c1");
    }

    #[test]
    fn what_an_engine_holds_is_read_as_it_is_told() {
        let told = r#"{"id":1,"listing":{"identity":"","environments":[
            {"name":"a-1","pool":"a","handle":"h","state":"ended","exit":{"code":0,"out_of_memory":false,"message":null}}]}}"#;
        let told: Told = serde_json::from_str(told).unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!(&told.listing.environments[..], [one] if !one.lives()));
    }
}
