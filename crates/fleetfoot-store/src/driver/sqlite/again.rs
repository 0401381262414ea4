//! A query whose answer is held against the one before while it is read: what is the same is not copied.

use rusqlite::params_from_iter;

use super::Sqlite;
use crate::fault::DriverError;
use crate::sql::{Again, Kind, Query, Row, Value};

impl Sqlite {
    /// Runs a query whose answer was `known` the last time; that becomes what it is now.
    pub(crate) fn query_again(
        &mut self,
        query: &Query,
        known: &mut Vec<Row>,
    ) -> Result<Again, DriverError> {
        let mut prepared =
            self.connection.prepare_cached(&query.sql).map_err(DriverError::Sqlite)?;
        let mut rows =
            prepared.query(params_from_iter(&query.values)).map_err(DriverError::Sqlite)?;
        let (mut again, mut count) = (Again::Same, 0);
        while let Some(row) = rows.next().map_err(DriverError::Sqlite)? {
            if count == known.len() {
                known.push(vec![Value::Int(None); query.kinds.len()]);
                again = Again::Words;
            }
            for ((column, kind), known) in query.kinds.iter().enumerate().zip(&mut known[count]) {
                let differs = match kind {
                    Kind::Int => note_number(row, column, known),
                    Kind::Text => note_text(row, column, known),
                };
                again = again.max(differs.map_err(DriverError::Sqlite)?);
            }
            count += 1;
        }
        if count < known.len() {
            known.truncate(count);
            again = Again::Words;
        }
        Ok(again)
    }
}

fn note_number(
    row: &rusqlite::Row<'_>,
    column: usize,
    known: &mut Value,
) -> rusqlite::Result<Again> {
    let number = Value::Int(row.get(column)?);
    Ok(if *known == number {
        Again::Same
    } else {
        *known = number;
        Again::Numbers
    })
}

fn note_text(row: &rusqlite::Row<'_>, column: usize, known: &mut Value) -> rusqlite::Result<Again> {
    if let (Value::Text(known), Ok(text)) = (&*known, row.get_ref(column)?.as_str_or_null())
        && known.as_deref() == text
    {
        return Ok(Again::Same);
    }
    *known = Value::Text(row.get(column)?);
    Ok(Again::Words)
}
