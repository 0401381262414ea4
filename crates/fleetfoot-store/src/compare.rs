//! Whether the store that was found is the one that was last used here, and what it says of itself if not.

use std::collections::HashMap;
use std::sync::Arc;

use fleetfoot_core::{Timestamp, naming};

use crate::behind::Behind;
use crate::driver::Driver;
use crate::event::Event;
use crate::fault::DriverError;
use crate::floor::NAME_FLOOR;
use crate::lease;
use crate::mark::Mark;
use crate::options::Options;
use crate::rows;
use crate::schema::{Identity, meta, now, number, put_meta};
use crate::seen::Seen;
use crate::sql::{Sql, Statement, Value};

/// The row that says whether, and why, what is outside is still to be looked at.
pub(crate) const BEHIND: &str = "lost";

/// The row that says when a restored backup was taken.
pub(crate) const RESTORED_FROM: &str = "restored_from";

/// The row that makes a copy a backup: when it was taken.
pub(crate) const TAKEN_AT: &str = "backup_taken_at";

/// The row with the name of this copy and of the one before.
const COPY: &str = "copy";

/// A name may have been given this far ahead of the clock when nothing says how far.
const NAMES_UNKNOWN: i64 = 1 << 16;

/// Notes whether what is outside is still to be looked at.
pub(crate) fn put_behind(sql: &Sql, behind: Option<Behind>) -> Statement {
    put_meta(sql, BEHIND, Behind::stored(behind))
}

/// Finds out whether this is the store that was last used here, and notes what is found.
pub(crate) async fn compare(
    driver: &mut Driver,
    sql: &Sql,
    found: &HashMap<String, String>,
    options: &Options,
    mut mark: Option<&mut Mark>,
    identity: &mut Identity,
) -> Result<(), DriverError> {
    let copies = found.get(COPY).map(String::as_str);
    let told = put_back(found).or_else(|| mark.as_ref().and_then(|mark| mark.judge(copies)));
    let mut rows = Vec::new();
    if let Some(behind) = told {
        rows.extend(newly_behind(sql, behind, now(options)));
        identity.behind = Some(behind);
    }
    let assumed = naming::ticks(now(options)) + NAMES_UNKNOWN;
    let below = match &mut mark {
        Some(mark) => mark.names_below(assumed).map_err(DriverError::Io)?,
        None => assumed,
    };
    // Kept in the store: what is looked at is soon forgotten, and the pools' counts stay of the past until a name is
    // given (seed 854).
    identity.name_floor = number(found, NAME_FLOOR).unwrap_or(0);
    if identity.behind.is_some() && below > identity.name_floor {
        identity.name_floor = below;
        rows.push(put_meta(sql, NAME_FLOOR, &below.to_string()));
    } else if !found.contains_key(NAME_FLOOR) {
        rows.push(put_meta(sql, NAME_FLOOR, "0"));
    }
    let kept = mark.as_ref().is_some_and(|mark| mark.is_kept());
    let copy = kept.then(|| Mark::next_copy(copies));
    rows.extend(copy.iter().map(|(_, row)| put_meta(sql, COPY, row)));
    if matches!(told, Some(Behind::Older | Behind::LogGone))
        && let Some(detail) = driver.check_wholly().await?
    {
        return Err(DriverError::Damaged(detail));
    }
    if !rows.is_empty() {
        driver.write(&rows, &[]).await.map_err(|failure| failure.error)?;
    }
    if let (Some(mark), Some((copy, _))) = (mark, copy) {
        mark.note(copy, true).map_err(DriverError::Io)?;
    }
    Ok(())
}

/// Finds out whether a shared database is what this host has seen of it, and notes if it is not.
pub(crate) async fn look_back(
    driver: &mut Driver,
    sql: &Sql,
    options: &Options,
    identity: &mut Identity,
) -> Result<Option<Seen>, DriverError> {
    let Some(path) = options.seen.as_ref().filter(|_| options.member.is_some()) else {
        return Ok(None);
    };
    let seen = Seen::read(path).map_err(DriverError::Io)?;
    let fleet = lease::read(driver).await?;
    if identity.behind.is_none() && seen.is_past(&identity.installation, &fleet) {
        went_back(driver, sql, now(options)).await?;
        identity.behind = Some(Behind::Older);
        let below = naming::ticks(now(options)) + NAMES_UNKNOWN;
        identity.name_floor = identity.name_floor.max(below);
        let row = put_meta(sql, NAME_FLOOR, &identity.name_floor.to_string());
        driver.execute(&row).await?;
    }
    Ok(Some(seen))
}

/// Notes that the database was put back to what it was before.
pub(crate) async fn went_back(
    driver: &mut Driver,
    sql: &Sql,
    now: Timestamp,
) -> Result<(), DriverError> {
    let rows = newly_behind(sql, Behind::Older, now);
    driver.write(&rows, &[]).await.map_err(|failure| failure.error)
}

/// The rows that say that the store is behind from now on.
fn newly_behind(sql: &Sql, behind: Behind, now: Timestamp) -> Vec<Statement> {
    let mut event = Event::new(now, "store is behind").field("cause", behind.as_str());
    let mut rows = vec![
        put_behind(sql, Some(behind)),
        Statement {
            sql: sql.dialect.text("DELETE FROM fleetfoot_meta WHERE name = ?"),
            values: vec![Value::text(TAKEN_AT)],
        },
    ];
    if let Behind::Restored { taken_at } = behind {
        let taken_at = taken_at.map_or_else(String::new, |at| at.0.to_string());
        rows.push(put_meta(sql, RESTORED_FROM, &taken_at));
        event = event.field("taken_at", taken_at);
    }
    rows.push(Statement {
        sql: Arc::clone(&sql.insert_event),
        values: rows::event::values(&event),
    });
    rows
}

/// The store is a backup, and this program opens it as the store for the first time.
pub(crate) fn put_back(meta: &HashMap<String, String>) -> Option<Behind> {
    meta.get(TAKEN_AT)?;
    Some(Behind::Restored { taken_at: number(meta, TAKEN_AT).map(Timestamp) })
}

/// What the store says of itself: that it may know less than what is true outside.
pub(crate) fn behind(meta: &HashMap<String, String>) -> Option<Behind> {
    let taken_at = number(meta, RESTORED_FROM).map(Timestamp);
    meta.get(BEHIND).and_then(|word| Behind::from_stored(word, taken_at))
}

/// The last words of a store that closes: its copy has another name from now on.
pub(crate) async fn close(
    driver: &mut Driver,
    sql: &Sql,
    mark: &mut Mark,
) -> Result<(), DriverError> {
    let found = meta(driver, sql).await?.unwrap_or_default();
    let (copy, row) = Mark::next_copy(found.get(COPY).map(String::as_str));
    driver.write(&[put_meta(sql, COPY, &row)], &[]).await.map_err(|failure| failure.error)?;
    if driver.fold_log()? { mark.note(copy, false).map_err(DriverError::Io) } else { Ok(()) }
}
