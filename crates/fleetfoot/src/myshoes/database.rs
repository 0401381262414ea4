//! The database: waited for until it is there; in the original's own, its named lock is taken before anything else.

use std::time::Duration;

use fleetfoot_controller::Tasks;
use fleetfoot_store::{
    Fault, Location, Membership, NamedLock, OpenError, Options, StateDir, StateDirOpenError, Store,
};
use secrecy::ExposeSecret as _;
use tokio::sync::watch;

use super::Environment;
use super::targets::MyshoesError;
use crate::daemon::DaemonError;

/// A line that says that the database is waited for comes this often.
const PAUSE: Duration = Duration::from_secs(5);

/// The named lock is asked for this often. With the bound of the answer its loss is known within five seconds.
const LOCK_CHECK: Duration = Duration::from_secs(2);

/// Looks after the named lock from the moment it is taken to the end of the process, whatever else goes on.
#[derive(Debug, Clone)]
pub struct Guard {
    /// True when it is lost; none where there is no lock.
    lost: Option<watch::Receiver<bool>>,
}

impl Guard {
    /// There is no lock.
    #[must_use]
    pub fn none() -> Self {
        Self { lost: None }
    }

    fn of(mut lock: NamedLock) -> Self {
        let (told, lost) = watch::channel(false);
        // A task of its own: nothing drops it in the middle of a question, and nothing that takes long holds it up.
        Tasks::default().spawn("named lock", async move {
            while lock.is_held().await {
                tokio::time::sleep(LOCK_CHECK).await;
            }
            told.send_replace(true);
        });
        Self { lost: Some(lost) }
    }

    /// Does `work`, but no longer than the lock is held: whoever has it then must not meet us.
    ///
    /// # Errors
    /// Those of `work`, and [`MyshoesError::LockLost`]: nothing more is written then, what was begun is in rows.
    pub async fn during<T>(
        &self,
        work: impl Future<Output = Result<T, DaemonError>>,
    ) -> Result<T, DaemonError> {
        let lost = async {
            match self.lost.clone() {
                // One that panicked asks no more, and is not trusted.
                Some(mut lost) => drop(lost.wait_for(|lost| *lost).await.is_ok()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = lost => Err(MyshoesError::LockLost.into()),
            done = work => done,
        }
    }
}

/// Where the store is, and the lock that goes with it.
#[derive(Debug)]
pub struct Place {
    location: Location,
    /// The named lock of the original: the database's name.
    lock: Option<(String, String)>,
}

impl Place {
    /// What the environment says.
    #[must_use]
    pub fn of(environment: &Environment, state_dir: &StateDir) -> Self {
        if let Some(dsn) = &environment.settings.database {
            let url = dsn.url().expose_secret().to_owned();
            let lock = (url.clone(), dsn.database.clone());
            return Self { location: Location::Url(url), lock: Some(lock) };
        }
        match std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            Some(url) => Self { location: Location::Url(url), lock: None },
            None => Self { location: Location::Sqlite(state_dir.store_file()), lock: None },
        }
    }

    /// Waits for the named lock, where there is one.
    ///
    /// # Errors
    /// What waiting does not help.
    pub async fn lock(&self) -> Result<Guard, MyshoesError> {
        let Some((url, name)) = &self.lock else { return Ok(Guard::none()) };
        tracing::info!("start getting lock...");
        loop {
            match NamedLock::take(url, name).await {
                Ok(Some(lock)) => {
                    tracing::info!("get lock successfully!");
                    return Ok(Guard::of(lock));
                }
                Ok(None) => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    tracing::info!("start getting lock...");
                }
                Err(error) if error.fault() != Fault::Unreachable || error.is_certificate() => {
                    return Err(MyshoesError::Database(error));
                }
                Err(error) => {
                    let place = &self.location;
                    tracing::warn!("database {place} is not there yet: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Opens the store. A server that is not there yet is waited for; a file is not.
    ///
    /// # Errors
    /// What waiting does not help.
    pub async fn open(
        &self,
        state_dir: &StateDir,
        options: &Options,
    ) -> Result<Store, DaemonError> {
        loop {
            let options = Options { member: self.member(state_dir)?, ..options.clone() };
            let error = match state_dir.open_store(self.location.clone(), options).await {
                Ok(store) => {
                    if store.membership().is_some() {
                        store.beat(&std::collections::BTreeMap::new()).await?;
                    }
                    return Ok(store);
                }
                Err(error) => error,
            };
            let is_away = matches!(
                &error,
                StateDirOpenError::Store(OpenError::Driver { fault: Fault::Unreachable, .. })
            );
            if !is_away {
                return Err(error.into());
            }
            tracing::warn!("database {} is not there yet: {}", self.location, crate::chain(&error));
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Where others may share the store and no named lock keeps them away, leases do.
    fn member(&self, state_dir: &StateDir) -> Result<Option<Membership>, DaemonError> {
        if self.lock.is_some() || matches!(self.location, Location::Sqlite(_)) {
            return Ok(None);
        }
        let host_id = state_dir.host_id()?;
        let controller = uuid::Uuid::new_v4().to_string();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Some(Membership {
            boot_id: fleetfoot_store::boot_id().unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Membership::new(&controller, &host_id, &host)
        }))
    }
}
