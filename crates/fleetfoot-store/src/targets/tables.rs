//! The statements about targets, in both tables that may hold them.

use std::collections::BTreeMap;

use fleetfoot_core::{ResourceType, Timestamp};
use secrecy::ExposeSecret as _;

use super::{
    NO_TOKEN_EXPIRED_AT, NewTarget, StoredToken, TargetKey, TargetRow, TargetSettings, TargetWrite,
};
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
        let rows = rows.into_iter().map(|row| self.row(row).map_err(DriverError::Row));
        let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
        let only = key.and_then(|_| rows.first()).map(|row| row.id.clone());
        if rows.is_empty() {
            return Ok(rows);
        }
        let mut settings = own_settings(driver, only.as_deref()).await?;
        for row in &mut rows {
            row.own = settings.remove(&row.id).unwrap_or_default();
        }
        Ok(rows)
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
            own: TargetSettings::default(),
        })
    }

    pub(super) fn statement(
        self,
        dialect: Dialect,
        write: &TargetWrite,
        now: Timestamp,
    ) -> Option<Statement> {
        if let TargetWrite::Own(id, settings) = write {
            return Some(put_settings(dialect, id, settings));
        }
        // As the original's columns have it: by the second.
        let now = Value::Int(Some(now.0 - now.0.rem_euclid(1000)));
        let (text, values) = match self {
            Self::Original => original(write),
            Self::Ours => ours(write, now),
        }?;
        Some(Statement { sql: dialect.text(text), values })
    }
}

/// What is said beside the rows: few have any.
async fn own_settings(
    driver: &mut Driver,
    only: Option<&str>,
) -> Result<BTreeMap<String, TargetSettings>, DriverError> {
    let rest = if only.is_some() { " WHERE id = ?" } else { "" };
    let text = format!("SELECT id, mode, max_runners FROM fleetfoot_target_settings{rest}");
    let query = Query {
        sql: driver.dialect().text(&text),
        values: only.map(Value::text).into_iter().collect(),
        kinds: &[Kind::Text, Kind::Text, Kind::Int],
    };
    let mut found = BTreeMap::new();
    for row in driver.query(&query).await? {
        let mut columns = Columns::new("fleetfoot_target_settings", row);
        let id = columns.text().map_err(DriverError::Row)?;
        let mode = columns.maybe_text().map_err(DriverError::Row)?;
        let limit = columns.maybe_int().map_err(DriverError::Row)?;
        let max_runners = limit.and_then(|limit| u32::try_from(limit).ok());
        found.insert(id, TargetSettings { mode, max_runners });
    }
    Ok(found)
}

fn put_settings(dialect: Dialect, id: &str, settings: &TargetSettings) -> Statement {
    let columns = ["id", "mode", "max_runners"];
    Statement {
        sql: dialect.upsert("fleetfoot_target_settings", &columns, 1),
        values: vec![
            Value::text(id),
            Value::maybe_text(settings.mode.as_deref()),
            Value::Int(settings.max_runners.map(i64::from)),
        ],
    }
}

type Written = Option<(&'static str, Vec<Value>)>;

fn original(write: &TargetWrite) -> Written {
    let written = match write {
        TargetWrite::Insert(new) => {
            let NewTarget { id, scope, ghe_domain, resource_type, provider_url, token } = new;
            let ends = token.as_ref().map_or(NO_TOKEN_EXPIRED_AT, |token| token.expires_at);
            let token = token.as_ref().map_or("", |token| token.token.expose_secret());
            let values = vec![
                Value::text(id),
                Value::text(scope),
                Value::maybe_text(ghe_domain.as_deref()),
                Value::text(token),
                Value::Int(Some(ends.0 / 1000)),
                Value::text(resource_type.to_string()),
                Value::maybe_text(provider_url.as_deref()),
            ];
            (
                "INSERT INTO targets (uuid, scope, ghe_domain, github_token, token_expired_at, resource_type, \
                 provider_url) VALUES (?, ?, ?, ?, FROM_UNIXTIME(?), ?, ?)",
                values,
            )
        }
        TargetWrite::ResourceType(id, size) => (
            "UPDATE targets SET resource_type = ? WHERE uuid = ?",
            vec![Value::text(size.to_string()), Value::text(id)],
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
        TargetWrite::Token(id, StoredToken { token, expires_at }) => (
            "UPDATE targets SET github_token = ?, token_expired_at = FROM_UNIXTIME(?) WHERE uuid = ?",
            vec![
                Value::text(token.expose_secret()),
                Value::Int(Some(expires_at.0 / 1000)),
                Value::text(id),
            ],
        ),
        TargetWrite::Own(..) => return None,
    };
    Some(written)
}

fn ours(write: &TargetWrite, now: Value) -> Written {
    let written = match write {
        // There is no column for a token.
        TargetWrite::Insert(NewTarget {
            id,
            scope,
            ghe_domain,
            resource_type,
            provider_url,
            token: _,
        }) => (
            "INSERT INTO fleetfoot_targets (id, scope, scope_key, ghe_domain, resource_type, provider_url, status, \
             created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, 'active', ?, ?)",
            vec![
                Value::text(id),
                Value::text(scope),
                Value::text(scope.to_lowercase()),
                Value::maybe_text(ghe_domain.as_deref()),
                Value::text(resource_type.to_string()),
                Value::maybe_text(provider_url.as_deref()),
                now.clone(),
                now,
            ],
        ),
        TargetWrite::ResourceType(id, size) => (
            "UPDATE fleetfoot_targets SET resource_type = ?, updated_at = ? WHERE id = ?",
            vec![Value::text(size.to_string()), now, Value::text(id)],
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
        TargetWrite::Own(..) | TargetWrite::Token(..) => return None,
    };
    Some(written)
}
