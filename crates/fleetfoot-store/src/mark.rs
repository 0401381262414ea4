//! The mark beside a SQLite store: what the store itself would not know any more if it were put back.
//!
//! `store.mark` says which copy of the store was last used here, whether it was closed, and which names
//! may be taken. A store that is opened changes its copy's name, and so does one that is closed; so an
//! older copy that somebody put in its place is found out, as is a log that was taken away. Without the
//! file nothing is concluded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::behind::Behind;
use crate::identity::write_atomically;
use crate::options::Durability;

/// So many names may be given before the mark is written again.
const NAMES_AHEAD: i64 = 4096;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Content {
    /// The copy that was last used.
    copy: String,
    /// It was not closed, so its log must be there.
    open: bool,
    /// Every number of a name that was ever given is below.
    names_below: i64,
}

/// The mark of an open store.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    content: Content,
    was_there: bool,
    log_was_there: bool,
    durability: Durability,
}

/// Where the mark of this store is.
pub(crate) fn path_of(store: &Path) -> PathBuf {
    store.with_extension("mark")
}

/// The write-ahead log of this store.
pub(crate) fn log_of(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

impl Mark {
    /// Reads the mark, before the store is opened: opening makes a log.
    pub(crate) fn read(store: &Path, durability: Durability) -> io::Result<Self> {
        let path = path_of(store);
        let found = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let log = fs::metadata(log_of(store)).map_or(0, |meta| meta.len());
        Ok(Self {
            path,
            was_there: found.is_some(),
            content: found.unwrap_or_default(),
            log_was_there: log > 0,
            durability,
        })
    }

    /// What the mark says of the store that was found: `copies` is the name of its copy and the one before.
    pub(crate) fn judge(&self, copies: Option<&str>) -> Option<Behind> {
        let copies = copies.filter(|_| self.is_kept() && !self.content.copy.is_empty())?;
        let is_last = copies.split(' ').any(|copy| copy == self.content.copy);
        match (is_last, self.content.open && !self.log_was_there) {
            (true, false) => None,
            (true, true) => Some(Behind::LogGone),
            (false, _) => Some(Behind::Older),
        }
    }

    /// Copies are told apart: not where a power cut or a careless end may lose commits anyway.
    pub(crate) fn is_kept(&self) -> bool {
        self.durability == Durability::Full
    }

    /// The name of the next copy, and what the store has to say of it first: its own and the last one's.
    pub(crate) fn next_copy(copies: Option<&str>) -> (String, String) {
        let copy = uuid::Uuid::new_v4().simple().to_string();
        let last = copies.and_then(|copies| copies.split(' ').next()).unwrap_or("-");
        let row = format!("{copy} {last}");
        (copy, row)
    }

    /// The store's present copy is this one.
    pub(crate) fn note(&mut self, copy: String, open: bool) -> io::Result<()> {
        self.write(Content { copy, open, names_below: self.content.names_below })
    }

    /// No name at or above this number was ever given; `assumed`, if there was no mark.
    pub(crate) fn names_below(&mut self, assumed: i64) -> io::Result<i64> {
        if !self.was_there {
            self.write(Content { names_below: assumed, ..Content::default() })?;
        }
        Ok(self.content.names_below)
    }

    /// A name with this number is about to be given.
    pub(crate) fn reserve(&mut self, number: i64) -> io::Result<()> {
        if number < self.content.names_below {
            return Ok(());
        }
        let names_below = number.saturating_add(NAMES_AHEAD);
        self.write(Content { names_below, ..self.content.clone() })
    }

    fn write(&mut self, content: Content) -> io::Result<()> {
        let text = serde_json::to_string(&content).unwrap_or_default();
        match self.durability {
            Durability::Full => write_atomically(&self.path, &text)?,
            Durability::Off | Durability::OneThread => fs::write(&self.path, &text)?,
        }
        self.content = content;
        self.was_there = true;
        Ok(())
    }
}

/// Forgets which copy was last used, not which names were given: another store is put in its place.
pub(crate) fn forget_copy(store: &Path) -> io::Result<()> {
    let mut mark = Mark::read(store, Durability::Full)?;
    if mark.was_there { mark.note(String::new(), false) } else { Ok(()) }
}
