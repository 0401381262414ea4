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

/// Takes a row apart, column by column.
pub(crate) struct Columns {
    table: &'static str,
    row: String,
    values: std::vec::IntoIter<Value>,
}

impl Columns {
    pub(crate) fn new(table: &'static str, row: Row) -> Self {
        let name = row
            .iter()
            .take(2)
            .filter_map(|value| match value {
                Value::Text(text) => text.clone(),
                Value::Int(number) => number.map(|number| number.to_string()),
            })
            .collect::<Vec<_>>()
            .join(" ");
        Self { table, row: name, values: row.into_iter() }
    }

    pub(crate) fn malformed(&self, detail: impl ToString) -> RowError {
        RowError::Malformed { table: self.table, row: self.row.clone(), detail: detail.to_string() }
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>, RowError> {
        match self.values.next() {
            Some(Value::Text(text)) => Ok(text),
            Some(Value::Int(_)) | None => Err(self.malformed("a text is missing")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, RowError> {
        self.maybe_text()?.ok_or_else(|| self.malformed("a text is null"))
    }

    pub(crate) fn maybe_int(&mut self) -> Result<Option<i64>, RowError> {
        match self.values.next() {
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

    pub(crate) fn row(&self) -> &str {
        &self.row
    }
}

/// JSON of one of our own row types. They have only texts, numbers and maps by text: it cannot fail.
pub(crate) fn json<T: Serialize>(data: &T) -> Value {
    Value::Text(Some(serde_json::to_string(data).unwrap_or_default()))
}
