//! From a tree of nodes to typed tables, by the declared keys of [`super::keys`].
//!
//! This is the only place that knows how the original's library reads a value of a type, and it
//! collects every finding instead of stopping at the first.

mod original;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::findings::{Class, Findings, Original, Position};
use super::keys::{self, Key, Kind, Section};
use super::scalar::{Meaning, meaning};
use super::suggest::nearest;
use super::tree::{Data, Node};
use super::units::{self, Cpus, DiskShare};
use values::{CPUS, DURATIONS, SHARES, SIZES};

/// Nodes read before a file counts as hostile: aliases may stand for much more than is written.
const VISITS_MAX: usize = 100_000;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    pub(crate) position: Position,
    pub(crate) value: T,
}

#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Int(i64),
    Bool(bool),
    Duration(Duration),
    Size(u64),
    DiskShare(DiskShare),
    Cpus(Cpus),
    TextList(Vec<Placed<String>>),
    TextMap(Vec<(Placed<String>, Placed<String>)>),
    Table(Table),
    Tables(Vec<Table>),
    Named(Vec<(Placed<String>, Option<Table>)>),
}

/// One mapping of the file, read by its section's keys.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) position: Position,
    pub(crate) entries: BTreeMap<&'static str, Placed<Value>>,
    /// Where each key stands, for findings about the key rather than its value.
    pub(crate) key_positions: BTreeMap<&'static str, Position>,
}

pub(crate) struct Shaper<'a> {
    findings: &'a mut Findings,
    path: Vec<String>,
    visits: usize,
    strict: bool,
}

/// Reads a whole document.
pub(crate) fn shape(root: &Rc<Node>, strict: bool, findings: &mut Findings) -> Option<Table> {
    let mut shaper = Shaper { findings, path: Vec::new(), visits: 0, strict };
    shaper.table(root, &keys::TOP)
}

impl Shaper<'_> {
    fn path_text(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            if !out.is_empty() && !step.starts_with('[') {
                out.push('.');
            }
            out.push_str(step);
        }
        out
    }

    /// Counts one read; false once too much was read.
    fn visit(&mut self, node: &Node) -> bool {
        self.visits += 1;
        if self.visits == VISITS_MAX {
            let position = Some(node.position);
            self.findings.error(
                Class::Syntax,
                "",
                position,
                "document contains excessive aliasing",
            );
        }
        self.visits < VISITS_MAX
    }

    fn wrong(&mut self, node: &Node, message: String) {
        let path = self.path_text();
        self.findings.error(Class::Type, path, Some(node.position), message);
    }

    fn wrong_type(&mut self, node: &Node, due: &str) {
        self.wrong(node, format!("{} where {due} is due", describe(node)));
        let words = original::cannot(node, due, &self.path);
        self.findings.originally(Original::Listed(words));
    }

    /// Whether a node counts as absent.
    fn is_null(&mut self, node: &Node) -> bool {
        match meaning(node) {
            Ok(meaning) => matches!(node.data, Data::Scalar { .. }) && meaning == Meaning::Null,
            Err(message) => {
                let words = message.replace("cannot read ", "cannot decode !!str ");
                self.wrong(node, message);
                self.findings.originally(Original::Alone(words.replace(" as !!", " as a !!")));
                true
            }
        }
    }

    fn table(&mut self, node: &Node, section: &'static Section) -> Option<Table> {
        if !self.visit(node) || self.is_null(node) {
            return None;
        }
        let Data::Mapping(pairs) = &node.data else {
            self.wrong_type(node, "a mapping");
            return None;
        };
        let mut table = Table {
            position: node.position,
            entries: BTreeMap::new(),
            key_positions: BTreeMap::new(),
        };
        self.fill(pairs, section, &mut table, &mut BTreeSet::new());
        Some(table)
    }

    /// Reads the pairs of one mapping and then what it merges in; the first to name a key wins.
    fn fill(
        &mut self,
        pairs: &[(Rc<Node>, Rc<Node>)],
        section: &'static Section,
        table: &mut Table,
        taken: &mut BTreeSet<String>,
    ) {
        let own = self.own_pairs(pairs);
        for (name, key_node, value_node) in own.pairs {
            if !taken.insert(name.clone()) {
                continue;
            }
            match section.key(&name) {
                None => self.unknown_key(&name, key_node, section),
                Some(key) => {
                    self.path.push(name);
                    table.key_positions.insert(key.name, key_node.position);
                    if let Some(value) = self.value(value_node, key) {
                        let position = value_node.position;
                        table.entries.insert(key.name, Placed { position, value });
                    }
                    self.path.pop();
                }
            }
        }
        for merged in own.merged {
            if self.visit(merged)
                && let Data::Mapping(pairs) = &merged.data
            {
                self.fill(pairs, section, table, taken);
            }
        }
    }

    fn own_pairs<'n>(&mut self, pairs: &'n [(Rc<Node>, Rc<Node>)]) -> OwnPairs<'n> {
        let mut own = OwnPairs { pairs: Vec::new(), merged: Vec::new() };
        let mut seen: BTreeMap<String, Position> = BTreeMap::new();
        for (key, value) in pairs {
            if !self.visit(key) {
                break;
            }
            let Data::Scalar { text, plain } = &key.data else {
                self.wrong_type(key, "a key");
                continue;
            };
            if let Some(first) = seen.insert(text.clone(), key.position) {
                let message = format!("key `{text}` is already given at line {}", first.line);
                self.wrong(key, message);
                self.findings.suggest("keep one of the two");
                let words = format!("mapping key {text:?} already defined at line {}", first.line);
                self.findings.originally(Original::Listed(words));
                continue;
            }
            if text == "<<" && *plain {
                self.merged(value, &mut own.merged);
            } else if !self.is_null(key) {
                own.pairs.push((text.clone(), key, value));
            }
        }
        own
    }

    fn merged<'n>(&mut self, value: &'n Node, out: &mut Vec<&'n Node>) {
        let fits = match &value.data {
            Data::Mapping(_) => {
                out.push(value);
                true
            }
            Data::Sequence(items) => items.iter().all(|item| {
                out.push(item);
                matches!(item.data, Data::Mapping(_))
            }),
            Data::Scalar { .. } | Data::Loop => false,
        };
        if !fits {
            self.wrong(value, "`<<` needs a mapping or a list of mappings".to_owned());
            let words = "map merge requires map or sequence of maps as the value";
            self.findings.originally(Original::Alone(words.to_owned()));
        }
    }

    fn unknown_key(&mut self, name: &str, node: &Node, section: &'static Section) {
        if name.starts_with("x-") || name.starts_with('.') {
            return; // the usual places for anchors
        }
        self.path.push(name.to_owned());
        let path = self.path_text();
        self.path.pop();
        let position = Some(node.position);
        let message = format!("unknown key `{name}`");
        if self.strict {
            self.findings.error(Class::UnknownKey, path, position, message);
        } else {
            self.findings.warning(Class::UnknownKey, path, position, message + " is ignored");
        }
        let names = section.keys.iter().map(|key| key.name);
        if let Some(near) = nearest(name, names) {
            self.findings.suggest(format!("did you mean `{near}`?"));
        } else if let Some(place) = keys::place_of(name) {
            self.findings.suggest(format!("`{name}` belongs under {place}"));
        }
    }

    fn value(&mut self, node: &Node, key: &Key) -> Option<Value> {
        if !self.visit(node) || self.is_null(node) {
            return None;
        }
        match key.kind {
            Kind::Text => self.text(node).map(Value::Text),
            Kind::Int => self.int(node).map(Value::Int),
            Kind::Bool => self.boolean(node).map(Value::Bool),
            Kind::Duration => self.parsed(node, units::duration, DURATIONS).map(Value::Duration),
            Kind::Size => self.parsed(node, units::size, SIZES).map(Value::Size),
            Kind::DiskShare => self.parsed(node, units::disk_share, SHARES).map(Value::DiskShare),
            Kind::Cpus => self.parsed(node, units::cpus, CPUS).map(Value::Cpus),
            Kind::Choice(words) => self.choice(node, words).map(Value::Text),
            Kind::TextList => self.text_list(node).map(Value::TextList),
            Kind::TextMap => self.text_map(node).map(Value::TextMap),
            Kind::Table(section) => self.table(node, section).map(Value::Table),
            Kind::BoolOrTable(section) => match &node.data {
                Data::Mapping(_) => self.table(node, section).map(Value::Table),
                Data::Scalar { .. } | Data::Sequence(_) | Data::Loop => {
                    self.boolean(node).map(Value::Bool)
                }
            },
            Kind::Tables(section) => self.tables(node, section).map(Value::Tables),
            Kind::Named(section) => self.named(node, section).map(Value::Named),
        }
    }

    fn text_map(&mut self, node: &Node) -> Option<Vec<(Placed<String>, Placed<String>)>> {
        let mut out = Vec::new();
        self.pairs(node, &mut BTreeSet::new(), &mut |shaper, key, value| {
            let text = if shaper.is_null(value) { Some(String::new()) } else { shaper.text(value) };
            if let Some(text) = text {
                out.push((key, Placed { position: value.position, value: text }));
            }
        })?;
        Some(out)
    }

    fn named(
        &mut self,
        node: &Node,
        section: &'static Section,
    ) -> Option<Vec<(Placed<String>, Option<Table>)>> {
        let mut out = Vec::new();
        self.pairs(node, &mut BTreeSet::new(), &mut |shaper, key, value| {
            let before = shaper.findings.list.len();
            let table = shaper.table(value, section);
            // A null is a runner without anything; a wrong value is no runner at all.
            if table.is_some() || shaper.findings.list.len() == before {
                out.push((key, table));
            }
        })?;
        Some(out)
    }

    /// Calls `each` for every pair of a free mapping, merged ones last.
    fn pairs(
        &mut self,
        node: &Node,
        taken: &mut BTreeSet<String>,
        each: &mut dyn FnMut(&mut Self, Placed<String>, &Node),
    ) -> Option<()> {
        let Data::Mapping(pairs) = &node.data else {
            self.wrong_type(node, "a mapping");
            return None;
        };
        let own = self.own_pairs(pairs);
        for (name, key, value) in own.pairs {
            if taken.insert(name.clone()) && self.visit(value) {
                self.path.push(name.clone());
                each(self, Placed { position: key.position, value: name }, value);
                self.path.pop();
            }
        }
        for merged in own.merged {
            if self.visit(merged) {
                self.pairs(merged, taken, each)?;
            }
        }
        Some(())
    }

    fn tables(&mut self, node: &Node, section: &'static Section) -> Option<Vec<Table>> {
        let items = self.items(node, "a list")?;
        let mut out = Vec::new();
        for (index, item) in items.iter().enumerate() {
            self.path.push(format!("[{index}]"));
            out.extend(self.table(item, section));
            self.path.pop();
        }
        Some(out)
    }
}

struct OwnPairs<'n> {
    pairs: Vec<(String, &'n Node, &'n Node)>,
    merged: Vec<&'n Node>,
}

fn describe(node: &Node) -> String {
    match &node.data {
        Data::Scalar { text, plain } => {
            let mut short: String = text.chars().take(40).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            let quoted = if *plain { "" } else { "the quoted text " };
            format!("{quoted}`{}`", short.escape_debug())
        }
        Data::Sequence(_) => "a list".to_owned(),
        Data::Mapping(_) => "a mapping".to_owned(),
        Data::Loop => "an alias that contains itself".to_owned(),
    }
}

impl Table {
    /// A mapping without keys, as a null runner is.
    pub(crate) fn empty(position: Position) -> Table {
        Table { position, entries: BTreeMap::new(), key_positions: BTreeMap::new() }
    }
}
