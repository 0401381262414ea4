//! Rows about runners as the original keeps them, beside ours and in the same transactions: so it can be put back
//! and deletes the machines that we made.
//!
//! | We know | The original's row |
//! | --- | --- |
//! | a machine was made | `runners`, `runner_detail`, `runners_running` |
//! | nothing of it is left | from `runners_running` to `runners_deleted` |

use std::collections::BTreeMap;

use fleetfoot_core::{Instance, PoolName, ResourceType};
use serde_json::Value as Json;

use crate::batch::Working;
use crate::dialect::Dialect;
use crate::driver::Driver;
use crate::fault::DriverError;
use crate::rows::Columns;
use crate::sql::{Kind, Query, Statement, Value};

/// What the rows of a pool's runners say besides what each machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerRows {
    /// The target's uuid.
    pub target: String,
    /// How big machines are that do not say it.
    pub resource_type: ResourceType,
    /// Who runs the runner in a machine.
    pub runner_user: String,
    /// The target's.
    pub provider_url: Option<String>,
    /// The scope's page.
    pub repository_url: String,
    /// What its plugin was told; the original reads labels out of it.
    pub labels: Vec<String>,
}

/// By pool.
pub(crate) type AllRows = BTreeMap<PoolName, RunnerRows>;

/// A machine that the original's rows call alive, whoever made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliveRunner {
    /// Its uuid.
    pub runner: String,
    /// Its target's.
    pub target: String,
    /// The plugin's name for itself.
    pub shoes_type: String,
    /// Where it is, if the plugin said.
    pub ip_address: String,
    /// The plugin's name for it.
    pub cloud_id: String,
    /// How big it is.
    pub resource_type: String,
}

/// All that the rows call alive; none where the original's tables are not.
pub(crate) async fn alive(driver: &mut Driver) -> Result<Vec<AliveRunner>, DriverError> {
    if !are_here(driver).await? {
        return Ok(Vec::new());
    }
    let query = Query {
        sql: driver.dialect().text(
            "SELECT detail.runner_id, detail.target_id, detail.shoes_type, detail.ip_address, detail.cloud_id, \
             CAST(detail.resource_type AS CHAR) FROM runners_running JOIN runner_detail AS detail \
             ON detail.runner_id = runners_running.runner_id",
        ),
        values: Vec::new(),
        kinds: &[Kind::Text; 6],
    };
    let rows = driver.query(&query).await?;
    let read = |row| {
        let mut columns = Columns::new("runner_detail", row);
        Ok(AliveRunner {
            runner: columns.text()?,
            target: columns.text()?,
            shoes_type: columns.text()?,
            ip_address: columns.text()?,
            cloud_id: columns.text()?,
            resource_type: columns.text()?,
        })
    };
    rows.into_iter().map(|row| read(row).map_err(DriverError::Row)).collect()
}

/// Runners that were deleted so many days ago or longer, some of them.
pub(crate) async fn past(
    driver: &mut Driver,
    days: u32,
    most: i64,
) -> Result<Vec<String>, DriverError> {
    if !are_here(driver).await? {
        return Ok(Vec::new());
    }
    let query = Query {
        sql: driver.dialect().text(
            "SELECT runner_id FROM runners_deleted \
             WHERE created_at < CURRENT_TIMESTAMP - INTERVAL ? DAY AND NOT EXISTS \
             (SELECT 1 FROM runners_running WHERE runners_running.runner_id = runners_deleted.runner_id) LIMIT ?",
        ),
        values: vec![Value::Int(Some(i64::from(days))), Value::Int(Some(most))],
        kinds: &[Kind::Text],
    };
    let rows = driver.query(&query).await?;
    let read = |row| Columns::new("runners_deleted", row).text().map_err(DriverError::Row);
    rows.into_iter().map(read).collect()
}

/// Forgets them, in the order that the original's foreign keys ask for.
pub(crate) fn forgotten(runners: &[String]) -> Vec<Statement> {
    const TABLES: [&str; 3] = [
        "DELETE FROM runner_detail WHERE runner_id = ?",
        "DELETE FROM runners_deleted WHERE runner_id = ?",
        "DELETE FROM runners WHERE uuid = ?",
    ];
    let of = |runner: &String| TABLES.map(|sql| statement(sql, vec![Value::text(runner)]));
    runners.iter().flat_map(of).collect()
}

/// Whether the original's tables are here.
pub(crate) async fn are_here(driver: &mut Driver) -> Result<bool, DriverError> {
    if driver.dialect() != Dialect::Mysql {
        return Ok(false);
    }
    let tables = Query {
        sql: driver.dialect().text(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN \
             ('targets', 'runners', 'runner_detail', 'runners_running', 'runners_deleted')",
        ),
        values: Vec::new(),
        kinds: &[Kind::Text],
    };
    Ok(driver.query(&tables).await?.len() == 5)
}

/// What a batch means for the original's rows.
pub(crate) fn statements(all: &AllRows, working: &Working) -> Vec<Statement> {
    let mut out = Vec::new();
    let before = |instance: &Instance| {
        let pool = working.base.get(&instance.pool)?;
        pool.instances.get(&instance.name).and_then(|old| old.handle.clone())
    };
    let made = |rows: &RunnerRows, instance: &Instance, out: &mut Vec<Statement>| {
        if instance.handle.is_some() && before(instance).is_none() {
            out.extend(begun(rows, instance));
        }
    };
    for (name, state) in &working.pools {
        let (Some(rows), Some(state)) = (all.get(name), state) else { continue };
        for instance in state.instances.values() {
            made(rows, instance, &mut out);
        }
    }
    for instance in working.past.closed.values() {
        let Some(rows) = all.get(&instance.pool) else { continue };
        made(rows, instance, &mut out);
        if instance.handle.is_some() {
            out.extend(ended(instance));
        }
    }
    out
}

fn uuid(instance: &Instance) -> Option<&str> {
    instance.name.as_str().strip_prefix("myshoes-")
}

fn statement(sql: &'static str, values: Vec<Value>) -> Statement {
    Statement { sql: sql.into(), values }
}

/// A longer text does not fit into the original's columns, and a plugin may say anything: what we ourselves know of its
/// machine is not refused for that.
fn fitting(text: &str) -> String {
    const TEXT_MAX: usize = 255;
    text.chars().take(TEXT_MAX).collect()
}

/// Each can be repeated: a commit whose answer was lost is made again. A target whose row an operator took away has no
/// rows of runners.
fn begun(rows: &RunnerRows, instance: &Instance) -> Vec<Statement> {
    let (Some(id), Some(handle)) = (uuid(instance), &instance.handle) else { return Vec::new() };
    let machine: Json = serde_json::from_str(handle).unwrap_or_default();
    let said = |key: &str| machine[key].as_str().unwrap_or_default().to_owned();
    let size = Some(said("resource_type")).filter(|size| !matches!(size.as_str(), "" | "unknown"));
    let webhook = serde_json::json!({ "workflow_job": { "labels": rows.labels } });
    let detail = vec![
        Value::text(id),
        Value::text(fitting(&said("shoes_type"))),
        Value::text(fitting(&said("ip_address"))),
        Value::text(said("cloud_id")),
        Value::text(size.unwrap_or_else(|| rows.resource_type.word().to_owned())),
        Value::text(&rows.runner_user),
        Value::maybe_text(rows.provider_url.as_deref()),
        Value::text(fitting(&rows.repository_url)),
        Value::text(webhook.to_string()),
        Value::text(&rows.target),
        Value::text(id),
    ];
    vec![
        statement(
            "INSERT IGNORE INTO runners (uuid) SELECT ? FROM targets WHERE uuid = ?",
            vec![Value::text(id), Value::text(&rows.target)],
        ),
        statement(
            "INSERT INTO runner_detail (runner_id, shoes_type, ip_address, cloud_id, resource_type, \
             runner_user, provider_url, repository_url, request_webhook, target_id) \
             SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, uuid FROM targets \
             WHERE uuid = ? AND NOT EXISTS (SELECT 1 FROM runner_detail WHERE runner_id = ?)",
            detail,
        ),
        statement(
            "INSERT INTO runners_running (runner_id) SELECT uuid FROM runners \
             WHERE uuid = ? AND NOT EXISTS (SELECT 1 FROM runners_running WHERE runner_id = ?)",
            vec![Value::text(id), Value::text(id)],
        ),
    ]
}

fn ended(instance: &Instance) -> Vec<Statement> {
    let Some(id) = uuid(instance) else { return Vec::new() };
    vec![
        statement(
            "INSERT INTO runners_deleted (runner_id, reason) SELECT runner_id, 'completed' FROM runners_running \
             WHERE runner_id = ?",
            vec![Value::text(id)],
        ),
        statement("DELETE FROM runners_running WHERE runner_id = ?", vec![Value::text(id)]),
    ]
}
