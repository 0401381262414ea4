//! Everybody, read with each heartbeat: what stayed as it was is not taken apart again.
//!
//! From one heartbeat to the next mostly nothing changes but what is left of the leases. So the rows are held
//! against those of the time before where they are read, and the picture that was made of them is used again.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetfoot_core::{
    Fleet, InstanceName, Ownership, Peer, PoolName, Span, Timestamp, Wish, WishWord,
};

use crate::dialect::Dialect;
use crate::driver::Driver;
use crate::fault::{DriverError, RowError};
use crate::fleet::Said;
use crate::rows::Columns;
use crate::sql::{Again, Kind, Query, Row, Value};

const CONTROLLER_KINDS: &[Kind] = &[Kind::Text, Kind::Text, Kind::Int, Kind::Text];
pub(crate) const OWNER_KINDS: &[Kind] = &[Kind::Text, Kind::Text, Kind::Int, Kind::Text, Kind::Int];
const WISH_KINDS: &[Kind] = &[Kind::Int, Kind::Text, Kind::Text, Kind::Text, Kind::Int];

/// What is asked with each heartbeat.
#[derive(Debug, Clone)]
pub(crate) struct Questions {
    controllers: Query,
    owners: Query,
    wishes: Query,
}

impl Questions {
    pub(crate) fn new(dialect: Dialect) -> Self {
        let select = |text: &str, kinds| Query { sql: Arc::from(text), values: Vec::new(), kinds };
        let now = dialect.now();
        Self {
            controllers: select(
                &format!("SELECT id, host_id, deadline - {now}, data FROM fleetfoot_controllers"),
                CONTROLLER_KINDS,
            ),
            owners: select(
                "SELECT pool, owner, epoch, host_id, writes FROM fleetfoot_owners",
                OWNER_KINDS,
            ),
            wishes: select(
                "SELECT id, pool, instance, word, wished_at FROM fleetfoot_wishes ORDER BY id LIMIT 1000",
                WISH_KINDS,
            ),
        }
    }
}

/// What was read last, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    controllers: Vec<Row>,
    owners: Vec<Row>,
    wishes: Vec<Row>,
    /// The picture that these rows give; none, if reading them failed in between.
    last: Option<Arc<Fleet>>,
    /// The one before, if only leases differ: it becomes the next one where nobody holds it any more.
    spare: Option<Arc<Fleet>>,
}

impl Heard {
    /// Reads everybody.
    pub(crate) async fn read(
        &mut self,
        driver: &mut Driver,
        questions: &Questions,
    ) -> Result<Arc<Fleet>, DriverError> {
        let (last, spare) = (self.last.take(), self.spare.take());
        let controllers = driver.query_again(&questions.controllers, &mut self.controllers).await?;
        let owners = driver.query_again(&questions.owners, &mut self.owners).await?;
        let wishes = driver.query_again(&questions.wishes, &mut self.wishes).await?;
        // The only number that is said of a controller is what is left of its leases.
        let quiet = controllers <= Again::Numbers && owners.max(wishes) == Again::Same;
        let fleet = match last {
            Some(last) if quiet => {
                let mut fleet = spare.unwrap_or_else(|| last.clone());
                self.note_left(&mut Arc::make_mut(&mut fleet).peers);
                self.spare = Some(last);
                fleet
            }
            last => Arc::new(self.fleet(last.as_deref(), [controllers, owners, wishes])?),
        };
        self.last = Some(fleet.clone());
        Ok(fleet)
    }

    fn note_left(&self, peers: &mut BTreeMap<String, Peer>) {
        for row in &self.controllers {
            if let [Value::Text(Some(id)), _, Value::Int(Some(left)), _] = row.as_slice()
                && let Some(peer) = peers.get_mut(id)
            {
                peer.left = Span(*left);
            }
        }
    }

    /// The picture of these rows; what did not change is as in the `last` one.
    fn fleet(
        &self,
        last: Option<&Fleet>,
        [controllers, owners, wishes]: [Again; 3],
    ) -> Result<Fleet, DriverError> {
        let kept = |is_kept: bool| last.filter(|_| is_kept);
        let peers = match kept(controllers <= Again::Numbers) {
            Some(last) => {
                let mut peers = last.peers.clone();
                self.note_left(&mut peers);
                peers
            }
            None => self.controllers.iter().map(peer_row).collect::<Result<_, _>>()?,
        };
        let pools = match kept(owners == Again::Same) {
            Some(last) => last.pools.clone(),
            None => self.owners.iter().cloned().map(owner_row).collect::<Result<_, _>>()?,
        };
        let wishes = match kept(wishes == Again::Same) {
            Some(last) => last.wishes.clone(),
            None => self.wishes.iter().map(wish_row).collect::<Result<_, _>>()?,
        };
        Ok(Fleet { peers, pools, wishes })
    }
}

fn peer_row(row: &Row) -> Result<(String, Peer), DriverError> {
    let mut columns = Columns::new("fleetfoot_controllers", row.clone());
    let mut read = || {
        let (controller, host_id) = (columns.text()?, columns.text()?);
        let left = Span(columns.int()?);
        let said: Said = columns.json()?;
        let (pools, name) = (Arc::new(said.pools()), controller.clone());
        let (host, version) = (said.host, said.version);
        Ok((name, Peer { controller, host_id, host, version, left, pools }))
    };
    read().map_err(DriverError::Row)
}

pub(crate) fn owner_row(row: Row) -> Result<(PoolName, Ownership), DriverError> {
    let mut columns = Columns::new("fleetfoot_owners", row);
    let mut read = || {
        let pool = columns.text()?;
        let pool = PoolName::new(&pool).map_err(|error| columns.malformed(error))?;
        let (owner, epoch) = (columns.maybe_text()?, columns.int()?);
        let (host_id, writes) = (columns.maybe_text()?, columns.int()?);
        Ok((pool, Ownership { owner, epoch, host_id, writes }))
    };
    read().map_err(DriverError::Row)
}

fn wish_row(row: &Row) -> Result<Wish, DriverError> {
    let mut columns = Columns::new("fleetfoot_wishes", row.clone());
    let mut read = || {
        let (id, pool, instance) = (columns.int()?, columns.text()?, columns.maybe_text()?);
        let (word, at) = (columns.text()?, Timestamp(columns.int()?));
        let pool = PoolName::new(&pool).map_err(|error| columns.malformed(error))?;
        let instance = instance.as_deref().map(InstanceName::new).transpose();
        let instance = instance.map_err(|error| columns.malformed(error))?;
        let known = WishWord::from_name(&word);
        let unknown =
            || RowError::UnknownWord { what: "wish", word: word.clone(), row: id.to_string() };
        Ok(Wish { id, pool, instance, word: known.ok_or_else(unknown)?, at })
    };
    read().map_err(DriverError::Row)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::driver::poll_now;
    use crate::driver::sqlite::{Sharing, Sqlite};
    use crate::fleet::Ticks;
    use crate::lease;
    use crate::options::{Durability, Options};
    use crate::schema::{MIGRATIONS, prepare};
    use crate::sql::{Sql, Statement};

    #[test]
    fn what_is_heard_again_is_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let time = Arc::new(AtomicI64::new(0));
        let (path, now) = (dir.path().join("store.db"), time.clone());
        let clock = Ticks::new(move || now.load(Ordering::Relaxed));
        let sqlite = Sqlite::open(&path, Durability::Off, Sharing::Alone, Some(&clock)).unwrap();
        let mut driver = Driver::Sqlite(sqlite);
        let sql = Sql::new(driver.dialect());
        poll_now(prepare(&mut driver, &sql, "here", &Options::default(), MIGRATIONS, None))
            .unwrap();
        let mut heard = Heard::default();
        let changes = [
            "",
            "INSERT INTO fleetfoot_controllers VALUES ('a', 'h', 'b', 9, '{\"host\":\"x\"}')",
            "INSERT INTO fleetfoot_controllers VALUES ('b', 'i', 'b', 9, '{\"host\":\"y\"}')",
            "",
            "UPDATE fleetfoot_controllers SET deadline = 20",
            "",
            "UPDATE fleetfoot_controllers SET deadline = 30 WHERE id = 'a'",
            "INSERT INTO fleetfoot_owners VALUES ('p', NULL, 0, NULL, 0)",
            "UPDATE fleetfoot_owners SET owner = 'a', epoch = 1, writes = 1",
            "",
            "UPDATE fleetfoot_owners SET writes = writes + 1",
            "INSERT INTO fleetfoot_wishes VALUES (1, 'p', NULL, 'drain', 7)",
            "",
            "UPDATE fleetfoot_controllers SET data = '{\"host\":\"z\"}' WHERE id = 'b'",
            "DELETE FROM fleetfoot_wishes",
            "UPDATE fleetfoot_owners SET owner = NULL, writes = writes + 1",
            "DELETE FROM fleetfoot_owners",
            "DELETE FROM fleetfoot_controllers WHERE id = 'a'",
            "",
            "",
        ];
        for (number, change) in changes.into_iter().enumerate() {
            if !change.is_empty() {
                let statement = Statement { sql: Arc::from(change), values: Vec::new() };
                assert!(poll_now(driver.execute(&statement)).unwrap() > 0, "{change}");
            }
            time.fetch_add(1, Ordering::Relaxed);
            // What somebody still holds stays as it was.
            let held = heard.last.clone().filter(|_| number % 2 == 0);
            let before = held.as_deref().cloned();
            let again = poll_now(heard.read(&mut driver, &sql.everybody)).unwrap();
            assert_eq!(held.as_deref().cloned(), before, "{change}");
            assert_eq!(*again, poll_now(lease::read(&mut driver)).unwrap(), "{change}");
        }
        assert_eq!(heard.last.map(|fleet| fleet.peers.len()), Some(1));
    }

    #[test]
    fn a_file_and_a_server_tell_alike_what_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let mut sqlite = Sqlite::open(&path, Durability::Off, Sharing::Alone, None).unwrap();
        let row = |rows: &str| {
            let sql = format!("SELECT * FROM (VALUES {rows}) WHERE column1 <> ''");
            Query { sql: Arc::from(sql), values: Vec::new(), kinds: &[Kind::Text, Kind::Int] }
        };
        let (mut of_file, mut of_server) = (Vec::new(), Vec::new());
        for (rows, expected) in [
            ("('', 0)", Again::Same),
            ("('a', 1)", Again::Words),
            ("('a', 1)", Again::Same),
            ("('a', NULL)", Again::Numbers),
            ("('a', 2), ('b', 2)", Again::Words),
            ("('a', 3), ('b', 2)", Again::Numbers),
            ("('a', 4), ('c', 2)", Again::Words),
            ("('a', 4)", Again::Words),
            ("('', 0)", Again::Words),
        ] {
            let query = row(rows);
            let answer = sqlite.query(&query).unwrap();
            let told = sqlite.query_again(&query, &mut of_file).unwrap();
            assert_eq!((told, Again::note(&mut of_server, answer)), (expected, expected), "{rows}");
            assert_eq!(of_file, of_server);
        }
    }
}
