//! A database of its own for each case, on the server that the environment names, or on a server of its own
//! where one is to be restarted.

use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlPool;
use sqlx::postgres::PgPool;

use crate::server::Server;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Mariadb,
}

impl Kind {
    fn url(self) -> Option<String> {
        let variable = match self {
            Self::Postgres => "FLEETFOOT_TEST_POSTGRES_URL",
            Self::Mariadb => "FLEETFOOT_TEST_MARIADB_URL",
        };
        std::env::var(variable).ok()
    }

    /// Whether there is such a server; a required one may not be missing.
    pub(crate) fn is_there(self) -> bool {
        let word = match self {
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
        };
        let required = std::env::var("FLEETFOOT_TEST_REQUIRE").unwrap_or_default();
        let there = self.url().is_some();
        assert!(there || !required.split(',').any(|one| one == word), "{word} is required");
        if !there {
            eprintln!("SKIPPED: needs {word}");
        }
        there
    }
}

/// A fresh database.
pub(crate) struct Database {
    pub(crate) kind: Kind,
    url: url::Url,
    /// A server of its own, if it has one.
    pub(crate) server: Option<Server>,
}

impl Database {
    /// On the server that all cases share.
    pub(crate) async fn of(kind: Kind) -> Self {
        Self::on(kind, kind.url().unwrap(), None).await
    }

    /// On a server of its own, where its programs are; else on the shared one.
    pub(crate) async fn alone(kind: Kind) -> Self {
        if !Server::is_there(kind) {
            return Self::of(kind).await;
        }
        let server = Server::start(kind).await;
        Self::on(kind, server.url(), Some(server)).await
    }

    async fn on(kind: Kind, address: String, own: Option<Server>) -> Self {
        let server = address;
        let name = format!("ffc_{:08x}", fastrand::u32(..));
        let create = format!("CREATE DATABASE {name}");
        match kind {
            Kind::Postgres => {
                let admin = PgPool::connect(&server).await.unwrap();
                sqlx::query(AssertSqlSafe(create)).execute(&admin).await.unwrap();
                admin.close().await;
            }
            Kind::Mariadb => {
                let admin = MySqlPool::connect(&server).await.unwrap();
                sqlx::query(AssertSqlSafe(create)).execute(&admin).await.unwrap();
                admin.close().await;
            }
        }
        let mut url = url::Url::parse(&server).unwrap();
        url.set_path(&format!("/{name}"));
        Self { kind, url, server: own }
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.url.host_str().unwrap(), self.url.port().unwrap())
    }

    /// The address through another port.
    pub(crate) fn through(&self, port: u16) -> String {
        let mut url = self.url.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(port)).unwrap();
        url.to_string()
    }

    /// Ends every connection to this database in the middle of whatever it does, as a restart would.
    pub(crate) async fn end_connections(&self) {
        match self.kind {
            Kind::Postgres => {
                let admin = PgPool::connect(self.url.as_str()).await.unwrap();
                let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                           WHERE datname = current_database() AND pid <> pg_backend_pid()";
                sqlx::query(end).execute(&admin).await.unwrap();
                admin.close().await;
            }
            Kind::Mariadb => {
                let admin = MySqlPool::connect(self.url.as_str()).await.unwrap();
                let ids = "SELECT id FROM information_schema.processlist \
                           WHERE db = DATABASE() AND id <> CONNECTION_ID()";
                let ids: Vec<i64> = sqlx::query_scalar(ids).fetch_all(&admin).await.unwrap();
                for id in ids {
                    // One that ended meanwhile is unknown: as well.
                    let kill = AssertSqlSafe(format!("KILL {id}"));
                    let _ = sqlx::raw_sql(kill).execute(&admin).await;
                }
                admin.close().await;
            }
        }
    }
}
