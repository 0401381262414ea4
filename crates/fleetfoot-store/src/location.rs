//! Where the store is: a file of our own, or a database server.

use std::fmt;
use std::path::PathBuf;

use crate::error::OpenError;

/// Where the store is.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A file for the built-in SQLite.
    Sqlite(PathBuf),
    /// A server: `mysql://`, `mariadb://`, `postgres://` or `postgresql://`.
    Url(String),
}

/// Which server a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// MySQL or MariaDB.
    Mysql,
    /// PostgreSQL.
    Postgres,
}

impl Location {
    /// The server the URL names, and the URL as its driver wants it.
    pub(crate) fn server(url: &str) -> Result<(ServerKind, String), OpenError> {
        let (scheme, rest) =
            url.split_once("://").unwrap_or((url.split(':').next().unwrap_or(""), ""));
        match scheme {
            "mysql" | "mariadb" => Ok((ServerKind::Mysql, format!("mysql://{rest}"))),
            "postgres" | "postgresql" => Ok((ServerKind::Postgres, format!("postgres://{rest}"))),
            other => Err(OpenError::UnknownScheme { scheme: other.to_owned() }),
        }
    }
}

/// A URL without password and query, for messages.
fn redacted(url: &str) -> String {
    let without_query = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = without_query.split_once("://") else {
        return without_query.split(':').next().unwrap_or_default().to_owned();
    };
    // A password may hold `@` and `/` unescaped: everything up to the last `@` is credentials.
    match rest.rsplit_once('@') {
        Some((credentials, host)) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{host}")
        }
        None => format!("{scheme}://{rest}"),
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(&redacted(url)),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        for (url, shown) in [
            ("postgres://u:secret@db:5432/x?password=secret", "postgres://u:***@db:5432/x"),
            ("mysql://u:se@cr/et@db/x", "mysql://u:***@db/x"),
            ("mysql://db/x#secret", "mysql://db/x"),
            ("mysql:secret", "mysql"),
        ] {
            assert_eq!(Location::Url(url.to_owned()).to_string(), shown);
            assert!(!format!("{:?}", Location::Url(url.to_owned())).contains("secret"));
        }
    }

    #[test]
    fn schemes() {
        assert_eq!(
            Location::server("mariadb://h/x").unwrap(),
            (ServerKind::Mysql, "mysql://h/x".to_owned())
        );
        assert_eq!(Location::server("postgresql://h/x").unwrap().0, ServerKind::Postgres);
        for bad in ["redis://h", "h", "sqlite:x", ""] {
            assert!(matches!(Location::server(bad), Err(OpenError::UnknownScheme { .. })), "{bad}");
        }
    }
}
