//! Every key of the file, declared once.
//!
//! Reading, unknown-key advice, defaults and the JSON Schema all come from these tables, so they
//! cannot disagree.

mod backends;
mod runner;
mod top;

pub(crate) use backends::{DOCKER, LIBVIRT, PROCESS, SIMULATED, TART};
pub(crate) use runner::RUNNER;
pub(crate) use top::TOP;

/// What may stand at a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Text,
    Int,
    Bool,
    Duration,
    Size,
    DiskShare,
    Cpus,
    Choice(&'static [&'static str]),
    TextList,
    TextMap,
    Table(&'static Section),
    BoolOrTable(&'static Section),
    Tables(&'static Section),
    Named(&'static Section),
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What holds when the key is absent, in words an operator reads; empty for nothing.
    pub(crate) default: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) required: bool,
}

/// The keys of one mapping.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) keys: &'static [Key],
}

impl Section {
    pub(crate) fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc, required: false }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key { name, kind, default: "", doc, required: true }
}

/// Where a key that was written in the wrong place belongs.
pub(crate) fn place_of(name: &str) -> Option<String> {
    let places: Vec<&str> =
        [&TOP, &RUNNER, &DOCKER, &PROCESS, &LIBVIRT, &TART, &top::HOST, &top::APP]
            .into_iter()
            .filter(|section| section.key(name).is_some())
            .map(|section| section.name)
            .collect();
    match places.as_slice() {
        [] => None,
        places => Some(
            places
                .iter()
                .map(|place| match *place {
                    "file" => "the top of the file".to_owned(),
                    "runner" => "`runners.<name>`".to_owned(),
                    "host" => "`host`".to_owned(),
                    "app" => "`github.app`".to_owned(),
                    other => format!("`runners.<name>.{other}`"),
                })
                .collect::<Vec<_>>()
                .join(" or "),
        ),
    }
}
