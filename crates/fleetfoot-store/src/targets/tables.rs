//! The statements about targets, in both tables that may hold them.

use fleetfoot_core::{ResourceType, Timestamp};

use super::{NO_TOKEN_EXPIRED_AT, NewTarget, TargetKey, TargetRow, TargetWrite};
use crate::dialect::Dialect;
use crate::driver::Driver;
use crate::fault::DriverError;
use crate::rows::Columns;
use crate::sql::{Kind, Query, Statement, Value};

/// Where targets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tables {
    /// `targets`, made by an operator from the original's schema.
    Original,
    /// `fleetfoot_targets`.
    Ours,
}

const KINDS: &[Kind] = &[
    Kind::Text,
    Kind::Text,
    Kind::Int,
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Int,
    Kind::Int,
];

/// Times of the original are read as moments, whatever the zone of the server or the session is.
const ORIGINAL: &str = "SELECT uuid, scope, CAST(UNIX_TIMESTAMP(token_expired_at) * 1000 AS SIGNED), \
    CAST(resource_type AS CHAR), provider_url, status, status_description, \
    CAST(UNIX_TIMESTAMP(created_at) * 1000 AS SIGNED), CAST(UNIX_TIMESTAMP(updated_at) * 1000 AS SIGNED) FROM targets";

const OURS: &str = "SELECT id, scope, 946684800000, resource_type, provider_url, status, status_description, \
    created_at, updated_at FROM fleetfoot_targets";

/// Reads the targets of whatever table holds them.
pub(super) async fn read(
    driver: &mut Driver,
    key: Option<&TargetKey>,
) -> Result<Vec<TargetRow>, DriverError> {
    Tables::of(driver).await?.read(driver, key).await
}

impl Tables {
    /// An operator's schema is never ours to make: what is there decides.
    pub(super) async fn of(driver: &mut Driver) -> Result<Self, DriverError> {
        if driver.dialect() != Dialect::Mysql {
            return Ok(Self::Ours);
        }
        let columns = Query {
            sql: driver.dialect().text(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() \
                 AND table_name = 'targets' AND column_name IN ('uuid', 'scope', 'github_token', 'resource_type')",
            ),
            values: Vec::new(),
            kinds: &[Kind::Text],
        };
        let is_original = driver.query(&columns).await?.len() == 4;
        Ok(if is_original { Self::Original } else { Self::Ours })
    }

    pub(super) async fn read(
        self,
        driver: &mut Driver,
        key: Option<&TargetKey>,
    ) -> Result<Vec<TargetRow>, DriverError> {
        let (text, id, scope) = match self {
            // The column's own collation compares, which normally ignores case.
            Self::Original => (ORIGINAL, "uuid", "scope"),
            Self::Ours => (OURS, "id", "scope_key"),
        };
        let (rest, values) = match key {
            None => (String::new(), Vec::new()),
            Some(TargetKey::Id(key)) => (format!(" WHERE {id} = ?"), vec![Value::text(key)]),
            Some(TargetKey::Scope(key)) => {
                let key = if self == Self::Ours { key.to_lowercase() } else { key.clone() };
                (format!(" WHERE {scope} = ?"), vec![Value::text(key)])
            }
        };
        let sql = driver.dialect().text(&format!("{text}{rest}"));
        let rows = driver.query(&Query { sql, values, kinds: KINDS }).await?;
        rows.into_iter().map(|row| self.row(row).map_err(DriverError::Row)).collect()
    }

    fn row(self, row: Vec<Value>) -> Result<TargetRow, crate::fault::RowError> {
        let table = match self {
            Self::Original => "targets",
            Self::Ours => "fleetfoot_targets",
        };
        let mut columns = Columns::new(table, row);
        let id = columns.text()?;
        let scope = columns.text()?;
        let token_expired_at = Timestamp(columns.int()?);
        let size = columns.text()?;
        let Ok(resource_type) = size.parse::<ResourceType>();
        Ok(TargetRow {
            id,
            scope,
            token_expired_at,
            resource_type,
            provider_url: columns.maybe_text()?,
            status: columns.text()?,
            status_description: columns.maybe_text()?,
            created_at: Timestamp(columns.int()?),
            updated_at: Timestamp(columns.int()?),
        })
    }

    pub(super) fn statement(
        self,
        dialect: Dialect,
        write: &TargetWrite,
        now: Timestamp,
    ) -> Statement {
        // As the original's columns have it: by the second.
        let now = Value::Int(Some(now.0 - now.0.rem_euclid(1000)));
        let (text, values) = match self {
            Self::Original => original(write),
            Self::Ours => ours(write, now),
        };
        Statement { sql: dialect.text(text), values }
    }
}

fn original(write: &TargetWrite) -> (&'static str, Vec<Value>) {
    match write {
        TargetWrite::Insert(NewTarget { id, scope, ghe_domain, resource_type, provider_url }) => (
            "INSERT INTO targets (uuid, scope, ghe_domain, github_token, token_expired_at, resource_type, provider_url) \
             VALUES (?, ?, ?, '', FROM_UNIXTIME(?), ?, ?)",
            vec![
                Value::text(id),
                Value::text(scope),
                Value::maybe_text(ghe_domain.as_deref()),
                Value::Int(Some(NO_TOKEN_EXPIRED_AT.0 / 1000)),
                Value::text(resource_type),
                Value::maybe_text(provider_url.as_deref()),
            ],
        ),
        TargetWrite::ResourceType(id, size) => (
            "UPDATE targets SET resource_type = ? WHERE uuid = ?",
            vec![Value::text(size), Value::text(id)],
        ),
        TargetWrite::ProviderUrl(id, url) => (
            "UPDATE targets SET provider_url = ? WHERE uuid = ?",
            vec![Value::maybe_text(url.as_deref()), Value::text(id)],
        ),
        TargetWrite::Status(id, status, description) => (
            "UPDATE targets SET status = ?, status_description = ? WHERE uuid = ?",
            vec![Value::text(status), Value::maybe_text(description.as_deref()), Value::text(id)],
        ),
        TargetWrite::StatusOnly(id, status) => (
            "UPDATE targets SET status = ? WHERE uuid = ?",
            vec![Value::text(status), Value::text(id)],
        ),
    }
}

fn ours(write: &TargetWrite, now: Value) -> (&'static str, Vec<Value>) {
    match write {
        TargetWrite::Insert(NewTarget { id, scope, ghe_domain, resource_type, provider_url }) => (
            "INSERT INTO fleetfoot_targets (id, scope, scope_key, ghe_domain, resource_type, provider_url, status, \
             created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, 'active', ?, ?)",
            vec![
                Value::text(id),
                Value::text(scope),
                Value::text(scope.to_lowercase()),
                Value::maybe_text(ghe_domain.as_deref()),
                Value::text(resource_type),
                Value::maybe_text(provider_url.as_deref()),
                now.clone(),
                now,
            ],
        ),
        TargetWrite::ResourceType(id, size) => (
            "UPDATE fleetfoot_targets SET resource_type = ?, updated_at = ? WHERE id = ?",
            vec![Value::text(size), now, Value::text(id)],
        ),
        TargetWrite::ProviderUrl(id, url) => (
            "UPDATE fleetfoot_targets SET provider_url = ?, updated_at = ? WHERE id = ?",
            vec![Value::maybe_text(url.as_deref()), now, Value::text(id)],
        ),
        TargetWrite::Status(id, status, description) => (
            "UPDATE fleetfoot_targets SET status = ?, status_description = ?, updated_at = ? WHERE id = ?",
            vec![
                Value::text(status),
                Value::maybe_text(description.as_deref()),
                now,
                Value::text(id),
            ],
        ),
        TargetWrite::StatusOnly(id, status) => (
            "UPDATE fleetfoot_targets SET status = ?, updated_at = ? WHERE id = ?",
            vec![Value::text(status), now, Value::text(id)],
        ),
    }
}
