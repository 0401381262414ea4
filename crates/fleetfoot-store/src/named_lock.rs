//! The named lock of myshoes: whoever holds it works on the database alone, the original included.
//!
//! It lives on a connection of its own, for the server lets it go with its connection.

use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use sqlx::{ConnectOptions, Connection as _, Row as _};
use tokio::time::timeout;

use crate::authorities;
use crate::fault::DriverError;

/// Each step is answered within this.
const BOUND: Duration = Duration::from_secs(2);

/// Taking the lock may wait as long as the original does.
const TAKE_BOUND: Duration = Duration::from_secs(15);

/// The lock, held for as long as this is there.
#[derive(Debug)]
pub struct NamedLock {
    connection: MySqlConnection,
    name: String,
}

impl NamedLock {
    /// Takes the lock; none while somebody else has it.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn take(url: &str, name: &str) -> Result<Option<Self>, DriverError> {
        let taking = async {
            let options = authorities::mysql(url)?.disable_statement_logging();
            let mut connection = MySqlConnection::connect_with(&options).await?;
            // Nobody is idle for longer than between two looks.
            let free =
                sqlx::query("SELECT IS_FREE_LOCK(?)").bind(name).fetch_one(&mut connection).await?;
            if free.try_get_unchecked::<Option<i64>, _>(0)? == Some(0) {
                return Ok(None);
            }
            let got =
                sqlx::query("SELECT GET_LOCK(?, 10)").bind(name).fetch_one(&mut connection).await?;
            let got = got.try_get_unchecked::<Option<i64>, _>(0)? == Some(1);
            Ok(got.then(|| Self { connection, name: name.to_owned() }))
        };
        match timeout(TAKE_BOUND, taking).await {
            Ok(taken) => taken.map_err(DriverError::Server),
            Err(_) => Err(DriverError::Timeout { seconds: TAKE_BOUND.as_secs() }),
        }
    }

    /// Whether it is still ours, as the server says. Not safe to drop at the await: an answer that nobody read would be taken
    /// for that of the next question.
    pub async fn is_held(&mut self) -> bool {
        let asked = sqlx::query("SELECT IS_USED_LOCK(?) = CONNECTION_ID()")
            .bind(&self.name)
            .fetch_one(&mut self.connection);
        match timeout(BOUND, asked).await {
            Ok(Ok(row)) => row.try_get_unchecked::<Option<i64>, _>(0).is_ok_and(|it| it == Some(1)),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}
