//! The store among several controllers: heartbeats, taking pools and letting them go, wishes for owners.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::{Candidacy, Fleet, InstallationId, Ownership, PoolName, PoolState, Span};
use tokio::sync::oneshot;

use crate::compare;
use crate::driver::Driver;
use crate::error::ReadError;
use crate::fault::DriverError;
use crate::fleet::{Beat, Membership, Said, Taken};
use crate::lease;
use crate::member::{Member, Owned, Spoken};
use crate::options::Options;
use crate::reads::Reads;
use crate::schema;
use crate::shared::{Shared, locked};
use crate::sql::Sql;
use crate::store::{Inner, Store};
use crate::writer::{Errand, Task, Writer};

/// Leases are given back within this, or lapse.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// More changed pools of others than this are read all at once.
const ONE_BY_ONE_MAX: usize = 8;

impl Member {
    /// Shows a change of hands before the next heartbeat does.
    fn show(&self, pool: &PoolName, owner: Option<String>, epoch: i64, host_id: Option<String>) {
        self.fleet.send_modify(|fleet| {
            let row = Ownership { owner, epoch, host_id, writes: 0 };
            Arc::make_mut(fleet).pools.insert(pool.clone(), row);
        });
    }

    /// What there is to say, if it is new.
    fn say(&self, pools: &BTreeMap<PoolName, Candidacy>) -> Option<Spoken> {
        let said = locked(&self.said);
        (said.pools != *pools).then(|| {
            let text = lease::said(&Said::new(&self.me, pools));
            Spoken { pools: pools.clone(), text }
        })
    }

    pub(crate) async fn join(&self, driver: &mut Driver) -> Result<(), DriverError> {
        let pools = BTreeMap::new();
        let text = lease::said(&Said::new(&self.me, &pools));
        let said = Spoken { pools, text };
        lease::join(driver, &self.me, &said.text).await?;
        *locked(&self.said) = said;
        Ok(())
    }

    /// One heartbeat, and a look at everybody.
    async fn beat(
        &self,
        driver: &mut Driver,
        sql: &Sql,
        pools: &BTreeMap<PoolName, Candidacy>,
    ) -> Result<(Arc<Owned>, Arc<Fleet>), DriverError> {
        let owned = self.owned();
        let new = self.say(pools);
        let sent = self.me.clock.now();
        let mut heard = std::mem::take(&mut *locked(&self.heard));
        driver.enter()?;
        let looked = async {
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("store.lease.beat.before");
            if new.is_some() || !lease::keep(driver, sql, &self.me).await? {
                let text = new.as_ref().map(|new| new.text.clone());
                let text = text.unwrap_or_else(|| locked(&self.said).text.clone());
                lease::say(driver, &self.me, &text).await?;
            }
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("store.lease.beat.after");
            self.beaten(sent);
            if let Some(new) = new {
                *locked(&self.said) = new;
            }
            heard.read(driver, &sql.everybody).await
        };
        let looked = looked.await;
        *locked(&self.heard) = heard;
        driver.leave()?;
        Ok((owned, looked?))
    }
}

/// The pools of others that changed since `seen`.
fn changed(me: &Membership, seen: &Fleet, now: &Fleet) -> Vec<PoolName> {
    if seen.pools == now.pools {
        return Vec::new();
    }
    let news = |pool: &&PoolName| {
        let (before, after) = (seen.pools.get(*pool), now.pools.get(*pool));
        let ours = after.is_some_and(|row| row.owner.as_deref() == Some(me.controller.as_str()));
        before != after && !ours
    };
    let names = seen.pools.keys().chain(now.pools.keys()).filter(news);
    let names: std::collections::BTreeSet<&PoolName> = names.collect();
    names.into_iter().cloned().collect()
}

/// Reads these pools as their owners wrote them.
async fn read_pools(
    driver: &mut Driver,
    sql: &Sql,
    names: Vec<PoolName>,
) -> Result<Vec<(PoolName, Option<Arc<PoolState>>)>, DriverError> {
    if names.len() > ONE_BY_ONE_MAX {
        let mut all = schema::load_live(driver, sql).await?;
        return Ok(names.into_iter().map(|name| (name.clone(), all.remove(&name))).collect());
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    driver.enter()?;
    let read = async {
        let mut states = Vec::with_capacity(names.len());
        for name in names {
            let state = schema::live_of(driver, sql, &name).await?.remove(&name);
            states.push((name, state));
        }
        Ok(states)
    };
    let states = read.await;
    driver.leave()?;
    states
}

async fn beat(
    shared: &Shared,
    driver: &mut Driver,
    sql: &Sql,
    installation: &InstallationId,
    pools: &BTreeMap<PoolName, Candidacy>,
) -> Result<Beat, DriverError> {
    let Some(member) = &shared.member else {
        return Ok(Beat { fleet: Arc::default(), lost: Vec::new() });
    };
    let seen = member.fleet.borrow().clone();
    if *member.put_back.borrow() {
        return Err(DriverError::PutBack);
    }
    let lapsed = member.left() <= Span::ZERO;
    let (owned, fleet) = member.beat(driver, sql, pools).await?;
    if member.is_past(&owned, &seen, &fleet, lapsed) {
        member.ends();
        let now = schema::now(&Options::default());
        compare::went_back(driver, sql, now).await?;
        return Err(DriverError::PutBack);
    }
    let lost = member.compare(&owned, &fleet);
    let others = read_pools(driver, sql, changed(&member.me, &seen, &fleet)).await?;
    shared.show(others);
    member.remember(installation, &fleet, false);
    member.fleet.send_replace(fleet.clone());
    Ok(Beat { fleet, lost })
}

async fn take(writer: &mut Writer, pool: &PoolName, host: bool) -> Result<Taken, DriverError> {
    let shared = writer.shared.clone();
    let Some(member) = &shared.member else {
        return Ok(Taken::Yes { epoch: 0, before: None });
    };
    if *member.put_back.borrow() {
        return Err(DriverError::PutBack);
    }
    let taken = lease::take(&mut writer.driver, &member.me, pool, host).await?;
    if let Taken::Yes { epoch, .. } = &taken {
        // Nobody else can write these rows any more: what is read now is the truth.
        let mut present = schema::load_pool(&mut writer.driver, &writer.sql, pool).await?;
        writer.names.extend(present.closed);
        shared.gain(pool, *epoch, present.pools.remove(pool));
        let host_id = host.then(|| member.me.host_id.clone());
        member.show(pool, Some(member.me.controller.clone()), *epoch, host_id);
    }
    Ok(taken)
}

async fn let_go(writer: &mut Writer, pool: &PoolName) -> Result<(), DriverError> {
    let shared = writer.shared.clone();
    let Some(member) = &shared.member else { return Ok(()) };
    let Some(epoch) = member.owned().get(pool).copied() else { return Ok(()) };
    member.lose(pool);
    let statement = lease::let_go(&writer.driver, &member.me, pool, epoch);
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("store.lease.let_go.before");
    writer.driver.execute(&statement).await?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("store.lease.let_go.after");
    let host_id = member.fleet.borrow().pools.get(pool).and_then(|row| row.host_id.clone());
    member.show(pool, None, epoch, host_id);
    Ok(())
}

impl Store {
    fn member(&self) -> Option<&Member> {
        self.inner.shared.member.as_ref()
    }

    /// This controller's part among several; nothing if it is alone.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.member().map(|member| &member.me)
    }

    /// The pool may be changed here. Always, if this controller is alone.
    #[must_use]
    pub fn owns(&self, pool: &PoolName) -> bool {
        self.lease_left(pool).is_some_and(|left| left > Span::ZERO)
    }

    /// What is left of the lease on a pool, by our own clock; nothing if it is not ours. Without end, if this
    /// controller is alone.
    #[must_use]
    pub fn lease_left(&self, pool: &PoolName) -> Option<Span> {
        let Some(member) = self.member() else { return Some(Span(i64::MAX)) };
        member.owned().contains_key(pool).then(|| member.left())
    }

    /// Everybody, as of the last heartbeat.
    #[must_use]
    pub fn fleet(&self) -> Arc<Fleet> {
        self.member().map(|member| member.fleet.borrow().clone()).unwrap_or_default()
    }

    /// Reads everybody from the database.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read_fleet(&self) -> Result<Fleet, ReadError> {
        self.on_connection(
            |driver| crate::driver::poll_now(lease::read(driver)),
            |server, _| async move { lease::read(&mut Driver::Server(server)).await },
        )
        .await
    }

    /// One heartbeat: keeps every pool that is ours, tells which ones are not any more, and reads what others
    /// wrote. `pools` is what this controller can serve.
    ///
    /// # Errors
    /// When the database did not take it: the leases go on to lapse.
    pub async fn beat(&self, pools: &BTreeMap<PoolName, Candidacy>) -> Result<Beat, ReadError> {
        if let Reads::Server(server) = &self.inner.reads {
            // Not behind the writer: a commit that hangs must not cost the leases.
            let mut driver = Driver::Server(server.clone());
            let Inner { shared, sql, identity, .. } = &*self.inner;
            let beaten = beat(shared, &mut driver, sql, &identity.installation, pools);
            let beaten = Box::pin(beaten).await;
            return beaten.map_err(|error| self.read_error(error));
        }
        let (pools, installation) = (pools.clone(), self.installation().clone());
        self.errand(|reply| {
            Box::new(move |writer| {
                Box::pin(async move {
                    let (shared, sql) = (writer.shared.clone(), writer.sql.clone());
                    let driver = &mut writer.driver;
                    let _ = reply.send(beat(&shared, driver, &sql, &installation, &pools).await);
                })
            })
        })
        .await
    }

    /// Asks for a pool: it is given if nobody living has it. Its rows are then read anew.
    ///
    /// # Errors
    /// When the database did not answer; the pool may be ours by then, and asking again is harmless.
    pub async fn take(&self, pool: &PoolName, host_bound: bool) -> Result<Taken, ReadError> {
        let pool = pool.clone();
        self.errand(move |reply| {
            Box::new(move |writer| {
                Box::pin(async move {
                    let _ = reply.send(take(writer, &pool, host_bound).await);
                })
            })
        })
        .await
    }

    /// Lets a pool go, after everything that was handed in before.
    ///
    /// # Errors
    /// When the database did not answer: the pool is not ours any more all the same, and free when the lease
    /// ends.
    pub async fn let_go(&self, pool: &PoolName) -> Result<(), ReadError> {
        let pool = pool.clone();
        self.errand(move |reply| {
            Box::new(move |writer| {
                Box::pin(async move {
                    let _ = reply.send(let_go(writer, &pool).await);
                })
            })
        })
        .await
    }

    /// Lets everything go and leaves, as far as the database still answers.
    pub(crate) async fn leave(&self) {
        if self.member().is_none() {
            return;
        }
        let installation = self.installation().clone();
        let leaving = self.errand(|reply| {
            Box::new(move |writer| {
                Box::pin(async move {
                    let shared = writer.shared.clone();
                    let Some(member) = &shared.member else { return };
                    if !*member.put_back.borrow()
                        && let Ok(fleet) = lease::read(&mut writer.driver).await
                    {
                        member.remember(&installation, &fleet, true);
                    }
                    for pool in member.owned().keys() {
                        member.lose(pool);
                    }
                    let _ = reply.send(lease::leave(&mut writer.driver, &member.me).await);
                })
            })
        });
        match tokio::time::timeout(LEAVE_TIMEOUT, leaving).await {
            Ok(Ok(()) | Err(ReadError::Closed)) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "leases were not given back, they lapse by themselves");
            }
            Err(_) => tracing::warn!("leases were not given back, they lapse by themselves"),
        }
    }

    /// Waits until the database is found to have been put back while it was in use. Nothing more is written to it
    /// then; whoever opens it next looks at everything outside first.
    pub async fn put_back(&self) {
        let Some(member) = self.member() else { return std::future::pending().await };
        let mut put_back = member.put_back.subscribe();
        if put_back.wait_for(|it| *it).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) async fn errand<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, DriverError>>) -> Errand,
    ) -> Result<T, ReadError> {
        let (reply, answer) = oneshot::channel();
        self.hand_in(Task::Errand(make(reply))).await;
        let done = answer.await.map_err(|_| ReadError::Closed)?;
        done.map_err(|error| self.read_error(error))
    }
}
