//! A disk that forgets: what was synced is there, of the rest anything may be.
//!
//! Pessimistic where POSIX permits it: a file's content is durable when the file was synced, a name when its
//! directory was.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use crate::trace::Event;

/// A change of a file that a power cut may lose.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Cut { length: usize },
}

#[derive(Debug, Clone, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Where the next write without an offset goes.
    position: usize,
}

type Names = BTreeMap<String, usize>;

/// The state directory, as it is and as a power cut may leave it.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    directory: String,
    files: Vec<File>,
    /// The names after each change since the directory was synced; the first are durable.
    names: Vec<Names>,
}

/// Files by name, as they would be found.
pub(crate) type Found = BTreeMap<String, Vec<u8>>;

/// What a power cut leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing.
    AllLost,
    /// All, but the last page of the last write only half.
    Torn,
    /// All data, no name.
    NamesLost,
    /// Some of it, by chance.
    Some,
}

pub(crate) const CUTS: [Cut; 4] = [Cut::AllLost, Cut::Torn, Cut::NamesLost, Cut::Some];

impl Disk {
    pub(crate) fn new(directory: &str) -> Self {
        Self { directory: directory.to_owned(), files: Vec::new(), names: vec![Names::new()] }
    }

    /// The name of a file that counts: directly in the directory, and no index that is built anew.
    fn name(&self, path: &str) -> Option<String> {
        let name = path.strip_prefix(&self.directory)?.strip_prefix('/')?;
        let counts = !name.contains('/') && !name.ends_with("-shm") && !name.ends_with(".sock");
        counts.then(|| name.to_owned())
    }

    fn live(&self) -> &Names {
        self.names.last().unwrap()
    }

    fn file(&mut self, path: &str) -> Option<&mut File> {
        let at = *self.live().get(&self.name(path)?)?;
        self.files.get_mut(at)
    }

    fn rename(&mut self, change: impl FnOnce(&mut Names)) {
        let mut names = self.live().clone();
        change(&mut names);
        self.names.push(names);
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Opened { path, create, truncate } => {
                let Some(name) = self.name(path) else { return };
                if *create && !self.live().contains_key(&name) {
                    self.files.push(File::default());
                    let at = self.files.len() - 1;
                    self.rename(|names| {
                        names.insert(name, at);
                    });
                }
                if let Some(file) = self.file(path) {
                    file.position = 0;
                    if *truncate {
                        file.pending.push(Change::Cut { length: 0 });
                    }
                }
            }
            Event::Wrote { path, offset, data } => {
                if let Some(file) = self.file(path) {
                    let at = offset.unwrap_or(file.position);
                    if offset.is_none() {
                        file.position = at + data.len();
                    }
                    file.pending.push(Change::Write { offset: at, data: data.clone() });
                }
            }
            Event::Cut { path, length } => {
                if let Some(file) = self.file(path) {
                    file.pending.push(Change::Cut { length: *length });
                }
            }
            Event::Renamed { from, to } => {
                if let (Some(from), Some(to)) = (self.name(from), self.name(to)) {
                    self.rename(|names| {
                        if let Some(at) = names.remove(&from) {
                            names.insert(to, at);
                        }
                    });
                }
            }
            Event::Linked { from, to } => {
                if let (Some(from), Some(to)) = (self.name(from), self.name(to)) {
                    self.rename(|names| {
                        if let Some(at) = names.get(&from).copied() {
                            names.insert(to, at);
                        }
                    });
                }
            }
            Event::Unlinked { path } => {
                if let Some(name) = self.name(path) {
                    self.rename(|names| {
                        names.remove(&name);
                    });
                }
            }
            Event::Synced { path } if *path == self.directory => {
                self.names = vec![self.live().clone()];
            }
            Event::Synced { path } => {
                if let Some(file) = self.file(path) {
                    let changes = std::mem::take(&mut file.pending);
                    changes.iter().for_each(|change| change.onto(&mut file.durable));
                }
            }
            Event::Acknowledged { .. } | Event::Named { .. } => {}
        }
    }

    pub(crate) fn has_unsynced_names(&self) -> bool {
        self.names.len() > 1
    }

    /// What is there after a power cut now.
    pub(crate) fn after(&self, cut: Cut, chance: &mut fastrand::Rng) -> Found {
        let names = match cut {
            Cut::AllLost | Cut::NamesLost => &self.names[0],
            Cut::Torn => self.live(),
            Cut::Some => &self.names[chance.usize(..self.names.len())],
        };
        let content = |at: &usize| {
            let file = &self.files[*at];
            let mut bytes = file.durable.clone();
            let last = file.pending.len().saturating_sub(1);
            for (number, change) in file.pending.iter().enumerate() {
                match cut {
                    Cut::AllLost => {}
                    Cut::Torn if number == last => change.half().onto(&mut bytes),
                    Cut::Torn | Cut::NamesLost => change.onto(&mut bytes),
                    Cut::Some => {}
                }
            }
            bytes
        };
        let mut found: Found = names.iter().map(|(name, at)| (name.clone(), content(at))).collect();
        if cut == Cut::Some {
            for (name, at) in names {
                let bytes = found.get_mut(name).unwrap();
                for change in &self.files[*at].pending {
                    match chance.u8(0..4) {
                        0 => {}
                        1 => change.half().onto(bytes),
                        _ => change.onto(bytes),
                    }
                }
            }
        }
        found
    }
}

impl Change {
    fn onto(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Self::Cut { length } => bytes.resize(*length, 0),
        }
    }

    /// The first half of a write; half of a cut is none.
    fn half(&self) -> Self {
        match self {
            Self::Write { offset, data } => {
                Self::Write { offset: *offset, data: data[..data.len() / 2].to_vec() }
            }
            Self::Cut { .. } => Self::Write { offset: 0, data: Vec::new() },
        }
    }
}

/// Puts what was found into a directory.
pub(crate) fn lay_out(found: &Found, directory: &Path) {
    let _ = std::fs::remove_dir_all(directory);
    std::fs::create_dir_all(directory).unwrap();
    for (name, bytes) in found {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}

/// Equal for equal finds.
pub(crate) fn fingerprint(found: &Found) -> u64 {
    let mut hasher = DefaultHasher::new();
    found.hash(&mut hasher);
    hasher.finish()
}
