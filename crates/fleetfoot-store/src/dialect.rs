//! All that differs between the three databases, in one place: placeholders, upsert, types, the clock.

use std::sync::Arc;

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The built-in one.
    Sqlite,
    /// MySQL and MariaDB.
    Mysql,
    /// PostgreSQL.
    Postgres,
}

impl Dialect {
    /// A statement written with `?` placeholders, as this database wants it.
    pub(crate) fn text(self, sql: &str) -> Arc<str> {
        match self {
            Self::Sqlite | Self::Mysql => Arc::from(sql),
            Self::Postgres => {
                let mut out = String::with_capacity(sql.len() + 16);
                let mut number = 0;
                for c in sql.chars() {
                    if c == '?' {
                        number += 1;
                        out.push('$');
                        out.push_str(&number.to_string());
                    } else {
                        out.push(c);
                    }
                }
                Arc::from(out)
            }
        }
    }

    /// An insert that replaces the row of the same key. The first `keys` columns are the key.
    pub(crate) fn upsert(self, table: &str, columns: &[&str], keys: usize) -> Arc<str> {
        let (key, rest) = columns.split_at(keys);
        let marks = vec!["?"; columns.len()].join(", ");
        let assign = |with: &dyn Fn(&str) -> String| {
            rest.iter()
                .map(|column| format!("{column} = {}", with(column)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let tail = match self {
            Self::Sqlite | Self::Postgres => format!(
                "ON CONFLICT ({}) DO UPDATE SET {}",
                key.join(", "),
                assign(&|column| format!("excluded.{column}"))
            ),
            Self::Mysql => {
                format!("ON DUPLICATE KEY UPDATE {}", assign(&|column| format!("VALUES({column})")))
            }
        };
        self.text(&format!("INSERT INTO {table} ({}) VALUES ({marks}) {tail}", columns.join(", ")))
    }

    /// A text of the schema, with its types filled in.
    pub(crate) fn schema(self, sql: &str) -> String {
        let (serial, key, long, short, end) = match self {
            Self::Sqlite => ("INTEGER PRIMARY KEY AUTOINCREMENT", "TEXT", "TEXT", "TEXT", ""),
            Self::Mysql => (
                "BIGINT AUTO_INCREMENT PRIMARY KEY",
                "VARCHAR(128)",
                "LONGTEXT",
                "VARCHAR(600)",
                "ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            ),
            Self::Postgres => {
                ("BIGSERIAL PRIMARY KEY", "TEXT COLLATE \"C\"", "TEXT", "TEXT COLLATE \"C\"", "")
            }
        };
        sql.replace("{SERIAL}", serial)
            .replace("{NAME}", key)
            .replace("{ID}", short)
            .replace("{TEXT}", long)
            .replace("{END}", end)
    }

    /// The database's own clock in milliseconds: the only clock of a lease. SQLite's is a function of ours,
    /// so that a simulated world can give it its own time.
    pub(crate) fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "fleetfoot_now()",
            Self::Mysql => "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
            Self::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// Whether a table of ours is there: the statement has one row if so.
    pub(crate) fn table_exists(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?",
            Self::Mysql => {
                "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
            }
            Self::Postgres => {
                "SELECT table_name::text FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = ?"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_upserts() {
        assert_eq!(&*Dialect::Postgres.text("a = ? AND b = ?"), "a = $1 AND b = $2");
        assert_eq!(
            &*Dialect::Sqlite.upsert("t", &["k", "v"], 1),
            "INSERT INTO t (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
        );
        assert_eq!(
            &*Dialect::Mysql.upsert("t", &["k", "v"], 1),
            "INSERT INTO t (k, v) VALUES (?, ?) ON DUPLICATE KEY UPDATE v = VALUES(v)"
        );
    }
}
