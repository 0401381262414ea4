//! Typed look-ups in a table.
//!
//! A look-up under a name that [`super::super::keys`] does not declare, or of another type, finds
//! nothing; the test `every_key_reaches_the_config` fails then.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::super::findings::{Class, Position};
use super::super::shape::{Placed, Table, Value};
use super::super::types::{Cpus, DiskShare};
use super::{Lowering, join};

/// A free mapping of text to text, with places.
type TextPairs = [(Placed<String>, Placed<String>)];

impl Table {
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.entries.get(name).map(|placed| &placed.value)
    }

    /// Where a key's value stands.
    pub(super) fn position_of(&self, name: &str) -> Option<Position> {
        self.entries.get(name).map(|placed| placed.position)
    }

    /// Where a key itself stands.
    pub(super) fn key_position(&self, name: &str) -> Option<Position> {
        self.key_positions.get(name).copied()
    }

    /// Text; empty counts as absent, as everywhere in the original.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.value(name) {
            Some(Value::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        match self.value(name) {
            Some(Value::Int(value)) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        match self.value(name) {
            Some(Value::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        match self.value(name) {
            Some(Value::Duration(value)) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn size(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Size(value)) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn cpus(&self, name: &str) -> Option<Cpus> {
        match self.value(name) {
            Some(Value::Cpus(value)) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn disk_share(&self, name: &str) -> Option<DiskShare> {
        match self.value(name) {
            Some(Value::DiskShare(value)) => Some(*value),
            _ => None,
        }
    }

    pub(super) fn table(&self, name: &str) -> Option<&Table> {
        match self.value(name) {
            Some(Value::Table(table)) => Some(table),
            _ => None,
        }
    }

    pub(super) fn tables(&self, name: &str) -> &[Table] {
        match self.value(name) {
            Some(Value::Tables(tables)) => tables,
            _ => &[],
        }
    }

    pub(super) fn list(&self, name: &str) -> &[Placed<String>] {
        match self.value(name) {
            Some(Value::TextList(list)) => list,
            _ => &[],
        }
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.list(name).iter().map(|item| item.value.clone()).collect()
    }

    pub(super) fn pairs(&self, name: &str) -> &TextPairs {
        match self.value(name) {
            Some(Value::TextMap(pairs)) => pairs,
            _ => &[],
        }
    }

    pub(super) fn named(&self, name: &str) -> &[(Placed<String>, Option<Table>)] {
        match self.value(name) {
            Some(Value::Named(named)) => named,
            _ => &[],
        }
    }
}

impl Lowering<'_> {
    pub(super) fn unusable(
        &mut self,
        table: &Table,
        path: &str,
        key: &str,
        message: impl Into<String>,
    ) {
        let position = table.position_of(key);
        self.findings.error(Class::Value, join(path, key), position, message);
    }

    /// A whole number from `min` up to what fits.
    pub(super) fn count(&mut self, table: &Table, path: &str, key: &str, min: u32) -> Option<u32> {
        let value = table.int(key)?;
        match u32::try_from(value) {
            Ok(count) if count >= min && count <= i32::MAX.unsigned_abs() => Some(count),
            _ => {
                let message = if value < 0 {
                    format!("{value} is negative")
                } else if value < i64::from(min) {
                    format!("{value} is less than {min}")
                } else {
                    format!("{value} is too large")
                };
                self.unusable(table, path, key, message);
                None
            }
        }
    }

    /// A required text; its absence is a finding.
    pub(super) fn required(&mut self, table: &Table, path: &str, key: &str) -> Option<String> {
        let text = table.owned(key);
        // A value of a wrong type has its own finding already.
        if text.is_none() && table.position_of(key).is_none() && !self.reported(&join(path, key)) {
            let message = format!("`{key}` is required");
            self.findings.error(Class::Value, join(path, key), Some(table.position), message);
        } else if text.is_none() && table.position_of(key).is_some() {
            self.unusable(table, path, key, format!("`{key}` must not be empty"));
        }
        text
    }

    /// Whether a finding about that key exists already.
    pub(super) fn reported(&self, path: &str) -> bool {
        self.findings.list.iter().any(|finding| finding.path == path)
    }

    /// Environment variables: usable names, no line break or NUL in values.
    pub(super) fn env(&mut self, table: &Table, path: &str) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (name, value) in table.pairs("env") {
            let good = !name.value.is_empty() && !name.value.contains(['=', '\0']);
            if good {
                out.insert(name.value.clone(), value.value.clone());
            } else {
                let path = join(&join(path, "env"), &name.value);
                let message = format!("`{}` is not a name for a variable", name.value);
                self.findings.error(Class::Value, path, Some(name.position), message);
            }
        }
        out
    }
}
