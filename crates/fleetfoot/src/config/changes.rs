//! What a changed file changes: key by key, as an operator wrote it, and from when on it holds.
//!
//! Only for files that can be used. Values that may be secret are compared and never shown.

use std::collections::BTreeMap;
use std::fmt;

use super::findings::Findings;
use super::read_table;
use super::shape::{Table, Value};
use super::units::{DiskShare, show_duration, show_size};

/// From when on another value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At once, for everything.
    AtOnce,
    /// For instances made from now on; those that are there stay as they are.
    NextInstance,
    /// At once; the pool opens another session at GitHub for it.
    NewSession,
    /// The pool is drained where it is, then begins anew with it.
    Moves,
    /// With the next start only.
    Restart,
}

impl Effect {
    /// In words, as the log says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::NextInstance => "from the next instance on",
            Self::NewSession => "at once, in another session",
            Self::Moves => "once the pool is drained where it is",
            Self::Restart => "needs a restart",
        }
    }
}

/// One key that is another one now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The pool, or nothing for the whole file.
    pub pool: Option<String>,
    /// The key from the top, the pool's name in it.
    pub key: String,
    /// What it was; `(not set)` if it was not there.
    pub from: String,
    /// What it is.
    pub to: String,
    /// From when on.
    pub effect: Effect,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, from, to, effect, .. } = self;
        write!(f, "{key}: {from} → {to} ({})", effect.as_str())
    }
}

/// Everything that differs between two files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Pools that were not there.
    pub added: Vec<String>,
    /// Pools that are not there any more.
    pub removed: Vec<String>,
    /// Keys of the file and of pools that stay.
    pub changed: Vec<Change>,
}

impl Changes {
    /// Nothing differs that anybody would notice.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// What `new` changes of `old`.
#[must_use]
pub fn changes(old: &[u8], new: &[u8]) -> Changes {
    let (old, new) = (Flat::read(old), Flat::read(new));
    let mut out = Changes::default();
    out.changed.extend(differences(None, &old.top, &new.top));
    for (name, was) in &old.pools {
        match new.pools.get(name) {
            Some(is) => out.changed.extend(differences(Some(name), was, is)),
            None => out.removed.push(name.clone()),
        }
    }
    let added = new.pools.keys().filter(|name| !old.pools.contains_key(*name));
    out.added.extend(added.cloned());
    out
}

/// A value as it is compared, and as it may be shown.
#[derive(Clone, Debug)]
struct Shown {
    value: String,
    shown: String,
}

type Keys = BTreeMap<String, Shown>;

/// Every key with its value, pools apart.
#[derive(Default)]
struct Flat {
    top: Keys,
    pools: BTreeMap<String, Keys>,
}

impl Flat {
    fn read(bytes: &[u8]) -> Self {
        let mut flat = Self::default();
        let (_, table) = read_table(bytes, false, &mut Findings::default());
        let Some(table) = table else { return flat };
        for (key, placed) in &table.entries {
            if let Value::Named(pools) = &placed.value {
                for (name, table) in pools {
                    let mut keys = Keys::new();
                    if let Some(table) = table {
                        flatten(table, "", &mut keys);
                    }
                    backend(&mut keys);
                    flat.pools.insert(name.value.clone(), keys);
                }
            } else {
                take(&placed.value, key, &mut flat.top);
            }
        }
        flat
    }
}

fn flatten(table: &Table, path: &str, keys: &mut Keys) {
    for (key, placed) in &table.entries {
        take(&placed.value, &super::lower::join(path, key), keys);
    }
}

fn take(value: &Value, path: &str, keys: &mut Keys) {
    let text = match value {
        Value::Text(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Duration(duration) => show_duration(*duration),
        Value::Size(size) => show_size(*size),
        Value::DiskShare(DiskShare::Bytes(bytes)) => show_size(*bytes),
        Value::DiskShare(DiskShare::Percent(percent)) => format!("{percent}%"),
        Value::Cpus(cpus) => format!("{}", f64::from(cpus.millis) / 1000.0),
        Value::TextList(list) => {
            let items: Vec<&str> = list.iter().map(|item| item.value.as_str()).collect();
            format!("[{}]", items.join(", "))
        }
        Value::TextMap(pairs) => {
            for (name, value) in pairs {
                let hidden = Shown { value: value.value.clone(), shown: "(hidden)".to_owned() };
                keys.insert(format!("{path}.{}", name.value), hidden);
            }
            return;
        }
        Value::Table(table) => return flatten(table, path, keys),
        Value::Tables(tables) => {
            for (index, table) in tables.iter().enumerate() {
                flatten(table, &format!("{path}[{index}]"), keys);
            }
            return;
        }
        Value::Named(_) => return,
    };
    let shown = without_password(&text);
    keys.insert(path.to_owned(), Shown { value: text, shown });
}

const BACKENDS: [&str; 5] = ["docker", "process", "libvirt", "tart", "simulated"];

/// Which backend it is, as a key of its own.
fn backend(keys: &mut Keys) {
    let own = |kind: &&&str| {
        keys.keys().any(|key| key.strip_prefix(**kind).is_some_and(|rest| rest.starts_with('.')))
    };
    let kind = BACKENDS.iter().find(own).copied().unwrap_or("simulated").to_owned();
    keys.insert("backend".to_owned(), Shown { value: kind.clone(), shown: kind });
}

/// An address without what stands before its `@`.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let host = rest.split('/').next().unwrap_or(rest);
    match host.rsplit_once('@') {
        Some((secret, _)) => format!("{scheme}://(hidden){}", &rest[secret.len()..]),
        None => text.to_owned(),
    }
}

fn differences(pool: Option<&str>, old: &Keys, new: &Keys) -> Vec<Change> {
    let kind = |keys: &Keys| keys.get("backend").map(|kind| kind.value.clone());
    let switched = kind(old) != kind(new);
    let mut all: Vec<&String> = old.keys().chain(new.keys()).collect();
    all.sort();
    all.dedup();
    let mut out = Vec::new();
    for key in all {
        let (was, is) = (old.get(key), new.get(key));
        let first = key.split('.').next().unwrap_or_default();
        // Another backend has other keys; that it is another one says it all.
        let of_backend = BACKENDS.contains(&first);
        if was.map(|it| &it.value) == is.map(|it| &it.value) || (switched && of_backend) {
            continue;
        }
        let shown =
            |it: Option<&Shown>| it.map_or_else(|| "(not set)".to_owned(), |it| it.shown.clone());
        out.push(Change {
            pool: pool.map(str::to_owned),
            key: pool.map_or_else(|| key.clone(), |pool| format!("runners.{pool}.{key}")),
            from: shown(was),
            to: shown(is),
            effect: if pool.is_some() { of_pool(key, first) } else { of_file(first) },
        });
    }
    out
}

/// From when on another value of a key at the top holds.
fn of_file(first: &str) -> Effect {
    match first {
        "host" | "takeover" => Effect::AtOnce,
        "url" => Effect::Moves,
        "token_file" | "github" => Effect::NewSession,
        // state_dir, listen…, log: what the process itself is made of.
        _ => Effect::Restart,
    }
}

/// From when on another value of a pool's key holds.
fn of_pool(key: &str, first: &str) -> Effect {
    match (first, key) {
        ("url" | "backend", _)
        | (_, "docker.host" | "libvirt.socket" | "simulated.socket" | "simulated.late_binding") => {
            Effect::Moves
        }
        ("token_file" | "github" | "labels" | "runner_group", _) => Effect::NewSession,
        ("proxy" | "ca_file", _) => Effect::NextInstance,
        (first, _) if BACKENDS.contains(&first) => Effect::NextInstance,
        _ => Effect::AtOnce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "url: https://github.com/acme\ntoken_file: /t\nlisten: 127.0.0.1:1\nhost:\n  cpus: 4\nrunners:\n  a:\n    labels: [a]\n    max_runners: 2\n    docker:\n      image: one\n      env:\n        SECRET: hunter2\n  b:\n    labels: [b]\n    docker:\n      image: one\n";

    fn lines(new: &str) -> Vec<String> {
        changes(OLD.as_bytes(), new.as_bytes()).changed.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_same_file_written_otherwise_changes_nothing() {
        let same =
            OLD.replace("[a]", "\n      - \"a\"").replace("max_runners: 2", "max_runners: 0x2");
        assert!(changes(OLD.as_bytes(), same.as_bytes()).is_empty());
    }

    #[test]
    fn every_key_says_from_when_on_it_holds() {
        let new = OLD
            .replace("max_runners: 2", "max_runners: 4\n    idle_timeout: 90s")
            .replace("[b]", "[b, c]")
            .replacen("image: one", "image: two", 1)
            .replace("cpus: 4", "cpus: 6")
            .replace("127.0.0.1:1", "127.0.0.1:2");
        assert_eq!(
            lines(&new),
            [
                "host.cpus: 4 → 6 (at once)",
                "listen: 127.0.0.1:1 → 127.0.0.1:2 (needs a restart)",
                "runners.a.docker.image: one → two (from the next instance on)",
                "runners.a.idle_timeout: (not set) → 1m30s (at once)",
                "runners.a.max_runners: 2 → 4 (at once)",
                "runners.b.labels: [b] → [b, c] (at once, in another session)",
            ]
        );
    }

    #[test]
    fn a_renamed_pool_is_one_less_and_one_more() {
        let found = changes(OLD.as_bytes(), OLD.replace("  b:", "  c:").as_bytes());
        assert_eq!((found.added, found.removed), (vec!["c".to_owned()], vec!["b".to_owned()]));
        assert_eq!(found.changed, []);
    }

    #[test]
    fn another_backend_is_one_change() {
        let new = OLD.replacen(
            "    docker:\n      image: one\n      env:\n        SECRET: hunter2\n",
            "    process:\n      runner_dir: /r\n",
            1,
        );
        assert_eq!(
            lines(&new),
            ["runners.a.backend: docker → process (once the pool is drained where it is)"]
        );
    }

    #[test]
    fn secrets_are_compared_and_not_shown() {
        let new =
            OLD.replace("hunter2", "hunter3").replace("https://github", "https://u:pw@github");
        let lines = lines(&new);
        assert_eq!(
            lines,
            [
                "url: https://github.com/acme → https://(hidden)@github.com/acme (once the pool is drained where it is)",
                "runners.a.docker.env.SECRET: (hidden) → (hidden) (from the next instance on)",
            ]
        );
    }
}
