//! Where the store is: the file in the state directory, or a database that several controllers share.
//!
//! The address of a database holds a password, so it never stands in the configuration itself. It is the first
//! of these that exists: the variable `FLEETFOOT_STORE_URL`, the systemd credential `store-url`, the file that
//! `store_url_file` names.

use std::io;
use std::path::{Path, PathBuf};

use fleetfoot_store::Location;
use secrecy::{ExposeSecret, SecretString};

use super::credentials::{Surroundings, systemd_credential};
use super::types::Config;

/// The variable that holds the address.
pub const VARIABLE: &str = "FLEETFOOT_STORE_URL";

/// The address of a database, and where it was found.
#[derive(Debug, Clone)]
pub struct StoreUrl {
    /// Where it was found, in words.
    pub source: String,
    /// The address.
    pub url: SecretString,
}

impl StoreUrl {
    /// The place for the store.
    #[must_use]
    pub fn location(&self) -> Location {
        Location::Url(self.url.expose_secret().to_owned())
    }
}

/// The address of a database cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StoreUrlError {
    /// Its file cannot be read.
    #[error("failed to read `store_url_file` {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is a source, and no address of a database in it.
    #[error(
        "{source_name} does not hold the address of a database: write postgres://user:password@host/name or mysql://user:password@host/name"
    )]
    Unusable {
        /// The source.
        source_name: String,
    },
}

/// Finds the address of a database, if one is to be used.
///
/// # Errors
/// A source exists and is of no use.
pub fn find(
    config: &Config,
    surroundings: &dyn Surroundings,
) -> Result<Option<StoreUrl>, StoreUrlError> {
    find_with(config.store_url_file.as_deref(), surroundings)
}

/// The same with the file that a configuration names.
///
/// # Errors
/// A source exists and is of no use.
pub fn find_with(
    file: Option<&Path>,
    surroundings: &dyn Surroundings,
) -> Result<Option<StoreUrl>, StoreUrlError> {
    if let Some(value) = surroundings.variable(VARIABLE).filter(|value| !value.is_empty()) {
        return checked(VARIABLE.to_owned(), value.into_encoded_bytes()).map(Some);
    }
    if let Some(path) = systemd_credential("store-url", surroundings)
        && let Ok(bytes) = surroundings.read(&path)
    {
        return checked("the systemd credential store-url".to_owned(), bytes).map(Some);
    }
    let Some(path) = file else { return Ok(None) };
    let bytes = surroundings
        .read(path)
        .map_err(|source| StoreUrlError::File { path: path.to_owned(), source })?;
    checked(format!("`store_url_file` {}", path.display()), bytes).map(Some)
}

/// Nothing of the text is ever quoted: it holds a password.
fn checked(source: String, bytes: Vec<u8>) -> Result<StoreUrl, StoreUrlError> {
    const SCHEMES: [&str; 4] = ["postgres://", "postgresql://", "mysql://", "mariadb://"];
    let text = String::from_utf8(bytes).unwrap_or_default();
    let url = text.trim();
    let usable = SCHEMES.iter().any(|scheme| url.starts_with(scheme))
        && !url.contains(|c: char| c.is_whitespace() || c.is_control());
    if !usable {
        return Err(StoreUrlError::Unusable { source_name: source });
    }
    Ok(StoreUrl { source, url: SecretString::from(url.to_owned()) })
}
