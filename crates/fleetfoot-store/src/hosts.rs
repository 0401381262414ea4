//! Hosts of a shared store: who they are, and forgetting one that is gone for ever.
//!
//! A pool on a host's backend belongs to that host and never moves: nobody else could reach what it left.
//! Only an operator knows that a host is gone for good, so only an operator lets its pools' names go.

use std::collections::{BTreeMap, BTreeSet};

use fleetfoot_core::{Fleet, PoolName};

use crate::driver::server::Server;
use crate::driver::{Driver, WriteFailure};
use crate::error::OpenError;
use crate::fault::DriverError;
use crate::lease;
use crate::location::Location;
use crate::schema;
use crate::sql::Sql;

/// One host, as the database knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostRow {
    /// Its names, for people; none if no controller of it is remembered.
    pub names: BTreeSet<String>,
    /// A controller's heart beats on it.
    pub is_alive: bool,
    /// The pools of its own backends.
    pub pools: BTreeSet<PoolName>,
}

/// Why a host was not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// One store file has one host.
    #[error("the store is a file, it has no hosts but this one")]
    NotShared,
    /// The database cannot be reached, or holds no store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database does not know it.
    #[error("no host `{0}` is known")]
    Unknown(String),
    /// The name is that of several.
    #[error("several hosts are called `{name}`: {}", ids.join(", "))]
    Ambiguous {
        /// The name.
        name: String,
        /// Their identities.
        ids: Vec<String>,
    },
    /// A controller runs there.
    #[error("a controller runs on host `{0}`")]
    Alive(String),
}

/// All hosts that the database knows, by their identities.
///
/// # Errors
/// When the store is no shared one, or cannot be read.
pub async fn hosts(location: &Location) -> Result<BTreeMap<String, HostRow>, HostsError> {
    let (mut driver, place) = open(location).await?;
    let fleet = lease::read(&mut driver).await.map_err(|error| OpenError::driver(&place, error))?;
    driver.close().await;
    Ok(rows(&fleet))
}

/// Forgets a host, by its identity or its name: its pools' names are free, and its dead controllers are gone.
/// Rows of instances stay; whoever takes the pool finds them on another backend, and says so.
///
/// # Errors
/// When it is not known, or lives; [`hosts`].
pub async fn forget_host(location: &Location, host: &str) -> Result<(String, HostRow), HostsError> {
    let (mut driver, place) = open(location).await?;
    let failed = |error: DriverError| HostsError::Open(OpenError::driver(&place, error));
    let known = rows(&lease::read(&mut driver).await.map_err(failed)?);
    let (id, row) = find(known, host)?;
    if row.is_alive {
        return Err(HostsError::Alive(host.to_owned()));
    }
    let statements = lease::forget_host(&driver, &id);
    driver.write(&statements, &[]).await.map_err(|WriteFailure { error, .. }| failed(error))?;
    // It came back while it was asked for: its pools are its own again with its next heartbeat.
    let after = rows(&lease::read(&mut driver).await.map_err(failed)?);
    driver.close().await;
    match after.get(&id) {
        Some(now) if now.is_alive => Err(HostsError::Alive(host.to_owned())),
        Some(_) | None => Ok((id, row)),
    }
}

async fn open(location: &Location) -> Result<(Driver, String), HostsError> {
    let Location::Url(url) = location else { return Err(HostsError::NotShared) };
    let place = location.to_string();
    let failed = |error| OpenError::driver(&place, error);
    let (kind, url) = Location::server(url)?;
    let mut driver = Driver::Server(Server::open(kind, &url, None).await.map_err(failed)?);
    let sql = Sql::new(driver.dialect());
    if schema::meta(&mut driver, &sql).await.map_err(failed)?.is_none() {
        return Err(OpenError::Missing { place }.into());
    }
    Ok((driver, place))
}

fn rows(fleet: &Fleet) -> BTreeMap<String, HostRow> {
    let mut hosts: BTreeMap<String, HostRow> = BTreeMap::new();
    for peer in fleet.peers.values() {
        let row = hosts.entry(peer.host_id.clone()).or_default();
        row.names.insert(peer.host.clone());
        row.is_alive |= peer.is_alive();
    }
    for (pool, owned) in &fleet.pools {
        if let Some(host_id) = &owned.host_id {
            hosts.entry(host_id.clone()).or_default().pools.insert(pool.clone());
        }
    }
    hosts
}

fn find(hosts: BTreeMap<String, HostRow>, wanted: &str) -> Result<(String, HostRow), HostsError> {
    let is_it = |(id, row): &(&String, &HostRow)| *id == wanted || row.names.contains(wanted);
    let found: Vec<String> = hosts.iter().filter(is_it).map(|(id, _)| id.clone()).collect();
    match found.as_slice() {
        [] => Err(HostsError::Unknown(wanted.to_owned())),
        [id] => Ok((id.clone(), hosts.get(id).cloned().unwrap_or_default())),
        _ => Err(HostsError::Ambiguous { name: wanted.to_owned(), ids: found }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_by_its_identity_or_by_a_name_of_its_own() {
        let host = |names: &[&str]| HostRow {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            ..HostRow::default()
        };
        let hosts: BTreeMap<String, HostRow> =
            [("1", host(&["a", "b"])), ("2", host(&["b"])), ("3", host(&[]))]
                .map(|(id, row)| (id.to_owned(), row))
                .into();
        let found = |wanted| find(hosts.clone(), wanted).map(|(id, _)| id);
        assert_eq!(found("a").unwrap(), "1");
        assert_eq!(found("3").unwrap(), "3");
        assert!(matches!(found("b"), Err(HostsError::Ambiguous { ids, .. }) if ids == ["1", "2"]));
        assert!(matches!(found("c"), Err(HostsError::Unknown(_))));
    }
}
