//! Targets of myshoes: which repositories and organizations are served, and with what.
//!
//! In a database of myshoes they live in the original's own table, byte for byte as it writes them, so that it can
//! be put back; everywhere else in one of ours. No token is stored: the original finds an empty one that has
//! expired, and gets itself a new one.
//!
//! ```text
//! change_target(key, decide) ──▶ the one writer: row ─▶ decide ─▶ statements ─▶ one transaction
//! targets(), target(key)     ──▶ a connection beside it
//! ```

mod tables;

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetfoot_core::{PoolName, ResourceType, Timestamp};
use fleetfoot_ordered::watch;
use secrecy::SecretString;
use tokio::sync::oneshot;

use crate::driver::poll_now;
use crate::error::ReadError;
use crate::fault::DriverError;
use crate::runner_rows::{self, AliveRunner, RunnerRows};
use crate::shared::locked;
use crate::store::Store;
use crate::writer::{Errand, Task, Writer};

use tables::Tables;

/// When a token ended that was never stored: 1 January 2000.
pub const NO_TOKEN_EXPIRED_AT: Timestamp = Timestamp(946_684_800_000);

/// Longer texts do not fit into the original's columns.
const TEXT_MAX: usize = 255;

/// Ticks after changes of targets.
pub type TargetChanges = watch::Receiver<u64>;

/// A row of targets, in the words of the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRow {
    /// A uuid.
    pub id: String,
    /// `org` or `owner/repo`.
    pub scope: String,
    /// When the stored token ends.
    pub token_expired_at: Timestamp,
    /// How big its machines are.
    pub resource_type: ResourceType,
    /// Stored and shown.
    pub provider_url: Option<String>,
    /// A word.
    pub status: String,
    /// Why.
    pub status_description: Option<String>,
    /// When the row was made, by the second.
    pub created_at: Timestamp,
    /// When it was changed last, by the second.
    pub updated_at: Timestamp,
    /// What is said of it beside the original's row.
    pub own: TargetSettings,
}

/// What the original has no columns for: a row of ours beside its own, where anything is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetSettings {
    /// A word that says what brings its jobs, in place of what holds for all.
    pub mode: Option<String>,
    /// Machines at most, in place of the limit for all.
    pub max_runners: Option<u32>,
}

/// An installation's token as the original stores it.
#[derive(Debug, Clone)]
pub struct StoredToken {
    /// The token.
    pub token: SecretString,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Which target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetKey {
    /// By its uuid, in its canonical form.
    Id(String),
    /// By its scope, in any case.
    Scope(String),
}

/// A target to be.
#[derive(Debug, Clone)]
pub struct NewTarget {
    /// A new uuid, in its canonical form.
    pub id: String,
    /// `org` or `owner/repo`.
    pub scope: String,
    /// Where GitHub is, if it is not github.com.
    pub ghe_domain: Option<String>,
    /// How big its machines are.
    pub resource_type: ResourceType,
    /// Stored and shown.
    pub provider_url: Option<String>,
    /// For the original's own table, and only where its operator wants tokens to be there.
    pub token: Option<StoredToken>,
}

/// What is written of a target. Several are one transaction.
#[derive(Debug, Clone)]
pub enum TargetWrite {
    /// A row is made; its status is `active`.
    Insert(NewTarget),
    /// The size changes.
    ResourceType(String, ResourceType),
    /// The provider's URL changes, or goes.
    ProviderUrl(String, Option<String>),
    /// The status changes, with its description.
    Status(String, &'static str, Option<String>),
    /// The status alone changes.
    StatusOnly(String, &'static str),
    /// What is said beside the row changes.
    Own(String, TargetSettings),
    /// The original's own table has this token from now on; elsewhere nothing is written.
    Token(String, StoredToken),
}

impl TargetWrite {
    fn fits(&self) -> bool {
        let fits = |text: &str| text.chars().count() <= TEXT_MAX;
        match self {
            Self::Insert(new) => fits(&new.scope) && new.provider_url.as_deref().is_none_or(fits),
            Self::ProviderUrl(_, url) => url.as_deref().is_none_or(fits),
            Self::Status(_, _, description) => description.as_deref().is_none_or(fits),
            Self::ResourceType(..) | Self::StatusOnly(..) | Self::Own(..) | Self::Token(..) => true,
        }
    }
}

/// Why targets were not read or written.
#[derive(Debug, thiserror::Error)]
pub enum TargetsError {
    /// The database does not say what is there.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// It does not take what was decided.
    #[error(transparent)]
    Write(ReadError),
    /// A text is longer than the column.
    #[error("a text is longer than {TEXT_MAX} characters")]
    TooLong,
}

enum Refused {
    Read(DriverError),
    Write(DriverError),
    TooLong,
}

impl Store {
    /// All targets, in no order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn targets(&self) -> Result<Vec<TargetRow>, TargetsError> {
        self.targets_where(None).await
    }

    /// One target, whatever its status.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn target(&self, key: TargetKey) -> Result<Option<TargetRow>, TargetsError> {
        Ok(self.targets_where(Some(key)).await?.into_iter().next())
    }

    async fn targets_where(&self, key: Option<TargetKey>) -> Result<Vec<TargetRow>, TargetsError> {
        let again = key.clone();
        let read = self.on_connection(
            move |driver| poll_now(tables::read(driver, key.as_ref())),
            |server, _| async move {
                tables::read(&mut crate::driver::Driver::Server(server), again.as_ref()).await
            },
        );
        Ok(read.await?)
    }

    /// Whether targets live in the original's own tables.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn has_tables_of_myshoes(&self) -> Result<bool, TargetsError> {
        let read = self.on_connection(
            move |driver| poll_now(Tables::of(driver)),
            |server, _| async move { Tables::of(&mut crate::driver::Driver::Server(server)).await },
        );
        Ok(read.await? == Tables::Original)
    }

    /// From now on what is made and deleted in these pools is written into the original's tables, too, if they
    /// are here.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn keep_runner_rows(
        &self,
        rows: BTreeMap<PoolName, RunnerRows>,
    ) -> Result<(), TargetsError> {
        let here = self.on_connection(
            move |driver| poll_now(runner_rows::are_here(driver)),
            |server, _| async move {
                runner_rows::are_here(&mut crate::driver::Driver::Server(server)).await
            },
        );
        let rows = here.await?.then(|| Arc::new(rows));
        *locked(&self.inner.shared.runner_rows) = rows;
        Ok(())
    }

    /// Machines that the original's rows call alive, those of the original itself, too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn alive_runners(&self) -> Result<Vec<AliveRunner>, TargetsError> {
        let read = self.on_connection(
            move |driver| poll_now(runner_rows::alive(driver)),
            |server, _| async move {
                runner_rows::alive(&mut crate::driver::Driver::Server(server)).await
            },
        );
        Ok(read.await?)
    }

    /// Forgets what the original's tables say of runners that were deleted so many days ago or longer: a part of
    /// them; how many.
    ///
    /// # Errors
    /// When nothing of it was written.
    pub async fn forget_runner_rows(&self, days: u32, most: usize) -> Result<usize, TargetsError> {
        let (reply, answer) = oneshot::channel();
        let errand: Errand = Box::new(move |writer| {
            Box::pin(async move {
                let _ = reply.send(forget(writer, days, most).await);
            })
        });
        self.hand_in(Task::Errand(errand)).await;
        let done = answer.await.map_err(|_| ReadError::Closed)?;
        done.map_err(|error| TargetsError::Store(self.read_error(error)))
    }

    /// Looks a target up and writes what `decide` makes of it, alone in the one writer and in one transaction.
    ///
    /// Once handed in it is done even if this future is dropped.
    ///
    /// # Errors
    /// When nothing of it was written.
    pub async fn change_target<T: Send + 'static>(
        &self,
        key: TargetKey,
        decide: impl FnOnce(Option<&TargetRow>) -> (Vec<TargetWrite>, T) + Send + 'static,
    ) -> Result<T, TargetsError> {
        let (reply, answer) = oneshot::channel();
        let errand: Errand = Box::new(move |writer| {
            Box::pin(async move {
                let _ = reply.send(change(writer, &key, decide).await);
            })
        });
        self.hand_in(Task::Errand(errand)).await;
        let done = answer.await.map_err(|_| ReadError::Closed)?;
        done.map_err(|refused| match refused {
            Refused::Read(error) => TargetsError::Store(self.read_error(error)),
            Refused::Write(error) => TargetsError::Write(self.read_error(error)),
            Refused::TooLong => TargetsError::TooLong,
        })
    }

    /// Ticks after each change of a target that was made here; what others write is not told.
    #[must_use]
    pub fn target_changes(&self) -> TargetChanges {
        self.inner.shared.targets.subscribe()
    }
}

async fn forget(writer: &mut Writer, days: u32, most: usize) -> Result<usize, DriverError> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let past = runner_rows::past(&mut writer.driver, days, most).await?;
    if !past.is_empty() {
        let statements = runner_rows::forgotten(&past);
        writer.driver.write(&statements, &[]).await.map_err(|failure| failure.error)?;
    }
    Ok(past.len())
}

async fn change<T>(
    writer: &mut Writer,
    key: &TargetKey,
    decide: impl FnOnce(Option<&TargetRow>) -> (Vec<TargetWrite>, T),
) -> Result<T, Refused> {
    let tables = Tables::of(&mut writer.driver).await.map_err(Refused::Read)?;
    let rows = tables.read(&mut writer.driver, Some(key)).await.map_err(Refused::Read)?;
    let row = rows.into_iter().next();
    let (writes, told) = decide(row.as_ref());
    if !writes.iter().all(TargetWrite::fits) {
        return Err(Refused::TooLong);
    }
    if writes.is_empty() {
        return Ok(told);
    }
    let now = crate::schema::now(&crate::options::Options::default());
    let dialect = writer.driver.dialect();
    let statements: Vec<_> =
        writes.iter().filter_map(|write| tables.statement(dialect, write, now)).collect();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("store.target.before");
    let written = writer.driver.write(&statements, &[]).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("store.target.after");
    written.map_err(|failure| Refused::Write(failure.error))?;
    writer.shared.targets.send_modify(|tick| *tick += 1);
    Ok(told)
}
