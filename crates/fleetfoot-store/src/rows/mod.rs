//! Rows: how each noun of the core is kept. What is asked for by SQL has a column, the rest is JSON.
//!
//! The core knows no serde, so the JSON types live here; each takes its core type apart without `..`,
//! so that a new field in the core does not compile until it has its place in a row.

pub(crate) mod event;
pub(crate) mod instance;
pub(crate) mod job;
pub(crate) mod pool;
pub(crate) mod words;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fault::RowError;
use crate::sql::{Row, Value};

/// A row is called by its first columns.
const KEYS_MAX: usize = 2;

/// Takes a row apart, column by column.
pub(crate) struct Columns {
    table: &'static str,
    values: Row,
    next: usize,
}

impl Columns {
    pub(crate) fn new(table: &'static str, row: Row) -> Self {
        Self { table, values: row, next: 0 }
    }

    /// The next value. The first ones stay, for they name the row.
    fn take(&mut self) -> Option<Value> {
        let at = self.next;
        self.next += 1;
        if at < KEYS_MAX {
            return self.values.get(at).cloned();
        }
        self.values.get_mut(at).map(|value| std::mem::replace(value, Value::Int(None)))
    }

    pub(crate) fn malformed(&self, detail: impl ToString) -> RowError {
        RowError::Malformed { table: self.table, row: self.row(), detail: detail.to_string() }
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>, RowError> {
        match self.take() {
            Some(Value::Text(text)) => Ok(text),
            Some(Value::Int(_)) | None => Err(self.malformed("a text is missing")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, RowError> {
        self.maybe_text()?.ok_or_else(|| self.malformed("a text is null"))
    }

    pub(crate) fn maybe_int(&mut self) -> Result<Option<i64>, RowError> {
        match self.take() {
            Some(Value::Int(number)) => Ok(number),
            Some(Value::Text(_)) | None => Err(self.malformed("a number is missing")),
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64, RowError> {
        self.maybe_int()?.ok_or_else(|| self.malformed("a number is null"))
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T, RowError> {
        let text = self.text()?;
        serde_json::from_str(&text).map_err(|error| self.malformed(error))
    }

    /// What the row is called in a complaint about it.
    pub(crate) fn row(&self) -> String {
        let names = self.values.iter().take(KEYS_MAX).filter_map(|value| match value {
            Value::Text(text) => text.clone(),
            Value::Int(number) => number.map(|number| number.to_string()),
        });
        names.collect::<Vec<_>>().join(" ")
    }
}

/// JSON of one of our own row types. They have only texts, numbers and maps by text: it cannot fail.
pub(crate) fn json<T: Serialize>(data: &T) -> Value {
    Value::Text(Some(serde_json::to_string(data).unwrap_or_default()))
}
