//! A database of the original's, on a server that the run has.

use super::{component, unique};

/// The original's tables, as its operator applied them.
const SCHEMA: [&str; 5] = [
    "CREATE TABLE targets (uuid VARCHAR(36) NOT NULL PRIMARY KEY, scope VARCHAR(255) NOT NULL, \
     ghe_domain VARCHAR(255), github_token TEXT NOT NULL, token_expired_at TIMESTAMP NOT NULL, \
     resource_type ENUM('nano','micro','small','medium','large','xlarge','2xlarge','3xlarge','4xlarge') NOT NULL, \
     provider_url VARCHAR(255), status VARCHAR(255) NOT NULL DEFAULT 'active', status_description VARCHAR(255), \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp, \
     updated_at TIMESTAMP NOT NULL DEFAULT current_timestamp ON UPDATE current_timestamp, \
     UNIQUE KEY ghe_domain_scope (ghe_domain, scope))",
    "CREATE TABLE runners (uuid VARCHAR(36) NOT NULL PRIMARY KEY, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp)",
    "CREATE TABLE runner_detail (runner_id VARCHAR(36) NOT NULL, shoes_type VARCHAR(255) NOT NULL, \
     ip_address VARCHAR(255) NOT NULL, target_id VARCHAR(36) NOT NULL, cloud_id TEXT NOT NULL, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp, \
     updated_at TIMESTAMP NOT NULL DEFAULT current_timestamp ON UPDATE current_timestamp, \
     resource_type ENUM('nano','micro','small','medium','large','xlarge','2xlarge','3xlarge','4xlarge') NOT NULL, \
     runner_user VARCHAR(255), provider_url VARCHAR(255), repository_url VARCHAR(255) NOT NULL, \
     request_webhook TEXT NOT NULL, FOREIGN KEY (runner_id) REFERENCES runners(uuid) ON DELETE RESTRICT, \
     FOREIGN KEY (target_id) REFERENCES targets(uuid) ON DELETE RESTRICT)",
    "CREATE TABLE runners_running (runner_id VARCHAR(36) NOT NULL PRIMARY KEY, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp, \
     FOREIGN KEY (runner_id) REFERENCES runners(uuid) ON DELETE CASCADE)",
    "CREATE TABLE runners_deleted (runner_id VARCHAR(36) NOT NULL PRIMARY KEY, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp, reason VARCHAR(255) NOT NULL, \
     FOREIGN KEY (runner_id) REFERENCES runners(uuid) ON DELETE CASCADE)",
];

/// A database with the original's schema, on a server that the run has.
pub(crate) struct Database {
    pub(crate) admin: sqlx::mysql::MySqlPool,
    pub(crate) name: String,
    /// As the original's environment file has it.
    pub(crate) dsn: String,
}

impl Database {
    pub(crate) async fn new() -> Option<Self> {
        let url = component("mariadb", "FLEETFOOT_TEST_MARIADB_URL")?;
        Some(Self::at(&url).await)
    }

    /// At this server.
    pub(crate) async fn at(url: &str) -> Self {
        let name = unique("shoes_");
        let server = sqlx::mysql::MySqlPool::connect(url).await.unwrap();
        let make = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(make).execute(&server).await.unwrap();
        let (base, _) = url.rsplit_once('/').unwrap();
        let admin = sqlx::mysql::MySqlPool::connect(&format!("{base}/{name}")).await.unwrap();
        for table in SCHEMA {
            sqlx::query(table).execute(&admin).await.unwrap();
        }
        let (user, place) = base.strip_prefix("mysql://").unwrap().rsplit_once('@').unwrap();
        let dsn = format!("{user}@tcp({place})/{name}");
        Self { admin, name, dsn }
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let row = sqlx::query(sql).fetch_one(&self.admin).await.unwrap();
        sqlx::Row::get_unchecked(&row, 0)
    }

    pub(crate) async fn done(self) {
        let sql = sqlx::AssertSqlSafe(format!("DROP DATABASE {}", self.name));
        sqlx::query(sql).execute(&self.admin).await.unwrap();
    }
}
