//! Two controllers on one store: the second one comes and goes, is frozen and wakes; and whoever writes what
//! another one has taken is found (invariant 9). Settings that change while they run are here too.

use std::time::Duration;

use fleetfoot_controller::Gate;
use fleetfoot_core::PoolName;
use tokio::time::Instant;

use crate::books::{Books, Inner};
use crate::happening::{Happening, PeerChange, SettingsChange};
use crate::incarnation::{Incarnation, POLLS_MAX};
use crate::stage::Stage;
use crate::world::Agenda;

/// After leases change hands, calm pools may wait for a session as long as this.
const CHANGES_HANDS: Duration = Duration::from_secs(60);

/// A controller committed something of these pools: each is its own (9).
pub(crate) fn wrote(books: &Books, who: Option<&str>, touched: &[PoolName]) {
    let Some(who) = who else { return };
    let mut inner = books.lock();
    for pool in touched {
        let Some(owner) = owner(&inner, pool) else { continue };
        if owner != who {
            let text = format!("{pool}: {who} wrote to it after {owner} had taken it");
            inner.breaks(9, vec![pool.to_string()], text);
        }
    }
}

/// What the controller is called that has the pool.
pub(crate) fn owner(inner: &Inner, pool: &PoolName) -> Option<String> {
    let views: Vec<_> = inner.members.iter().map(|(name, it)| (name, it, it.fleet())).collect();
    let rows = views.iter().filter_map(|view| Some((view, view.2.pools.get(pool)?)));
    // Who took it last knows it first.
    let latest = rows.max_by_key(|(_, row)| (row.epoch, row.owner.is_some()));
    let ((name, store, _), row) = latest?;
    // One whose leases lapsed while it stood still believes what was so before.
    let is_past = row.owner.as_ref() == Some(name) && !store.owns(pool);
    row.owner.clone().filter(|_| !is_past)
}

impl Stage {
    /// Ends a controller from one moment to the next.
    pub(crate) async fn end_life(&mut self, life: Incarnation) {
        self.forget_member(&life.store);
        life.gate.end();
        drop(life);
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    /// Stops a controller in order.
    pub(crate) async fn stop_life(&mut self, life: Incarnation) {
        life.gate.thaw();
        let Incarnation { gate, controller, store, .. } = life;
        let stopped = controller.stop().await;
        // What it knows of its own pools counts for as long as it writes to them (seed 1285).
        self.forget_member(&store);
        // One that ends in its last commit answers nobody any more (seed 20500).
        tokio::select! {
            biased;
            () = gate.is_shut() => self.books.matters("", "controller dies while it stops"),
            () = store.close() => {}
        }
        gate.end();
        let text =
            format!("controller stopped: {} idle, {} running", stopped.idle, stopped.running);
        self.books.note("", &text);
        tokio::task::yield_now().await;
    }

    fn forget_member(&self, store: &fleetfoot_store::Store) {
        if let Some(me) = store.membership() {
            self.books.lock().members.remove(&me.controller);
        }
    }

    /// Something happens to the second controller.
    pub(crate) async fn peer(
        &mut self,
        change: PeerChange,
        agenda: &mut Agenda,
    ) -> Result<(), String> {
        if !self.several {
            return Ok(());
        }
        let now = Instant::now();
        self.books.matters("", &format!("second controller: {change:?}"));
        self.disturbed(CHANGES_HANDS);
        self.muddled(Duration::ZERO);
        self.books.lock().unsteady();
        match change {
            PeerChange::Start => {
                if self.second.is_none() {
                    self.frozen[1] = false;
                    self.second = self.life("host-b").await?;
                }
            }
            PeerChange::Kill { away } => {
                if let Some(life) = self.second.take() {
                    self.end_life(life).await;
                    agenda.put(now + away, Happening::Peer(PeerChange::Start));
                }
            }
            PeerChange::Stop { away } => {
                if let Some(life) = self.second.take() {
                    self.stop_life(life).await;
                    agenda.put(now + away, Happening::Peer(PeerChange::Start));
                }
            }
            PeerChange::Freeze { lasts } => {
                if let Some(life) = &self.second {
                    life.gate.freeze();
                    self.frozen[1] = true;
                    self.disturbed(lasts + CHANGES_HANDS);
                    self.muddled(lasts);
                    agenda.put(now + lasts, Happening::Peer(PeerChange::Thaw));
                }
            }
            PeerChange::Thaw => {
                self.frozen[1] = false;
                if let Some(life) = &self.second {
                    self.books.lock().occurs("10 frozen one wakes");
                    life.gate.thaw();
                }
            }
        }
        Ok(())
    }

    /// The gate of the second controller.
    pub(crate) fn second_gate(&self) -> Gate {
        self.second.as_ref().map_or_else(Gate::new, |life| life.gate.clone())
    }

    /// The second controller ended in a commit.
    pub(crate) async fn second_died(&mut self, agenda: &mut Agenda) -> Result<(), String> {
        let Some(life) = self.second.take() else { return Ok(()) };
        if life.gate.polls() >= POLLS_MAX && !self.long {
            return Err("the second controller spins: too many polls in one life".to_owned());
        }
        self.books.matters("", "second controller is killed");
        self.disturbed(CHANGES_HANDS);
        self.muddled(Duration::ZERO);
        self.books.lock().unsteady();
        self.end_life(life).await;
        let away = self.away.max(Duration::from_millis(10));
        agenda.put(Instant::now() + away, Happening::Peer(PeerChange::Start));
        Ok(())
    }

    /// The second controller goes on, if it is there.
    pub(crate) fn peers_well(&mut self) {
        // What stood still until now does late what was due meanwhile, as after any other freeze (seed 48275).
        if self.frozen.contains(&true) {
            self.books.lock().unsteady();
        }
        self.frozen = [false; 2];
        if let Some(life) = &self.second {
            life.gate.thaw();
        }
    }

    /// The configuration changes while it runs; what is frozen is restarted with it.
    pub(crate) async fn reload(
        &mut self,
        change: Option<(PoolName, SettingsChange)>,
        agenda: &mut Agenda,
    ) -> Result<(), String> {
        let again = Instant::now() + Duration::from_secs(10);
        if self.frozen[0] || self.frozen[1] {
            agenda.put(again, Happening::Reload { change });
            return Ok(());
        }
        self.muddled(Duration::ZERO);
        self.disturbed(CHANGES_HANDS);
        self.books.lock().occurs("8 reloaded while running");
        if let Some((pool, change)) = change {
            self.change(&pool, &change);
        }
        let mut applied = true;
        for life in [&mut self.incarnation, &mut self.second].into_iter().flatten() {
            let (github, engines, pools) = (&self.github, &self.engines, &self.pools);
            applied &=
                life.apply(github, engines, pools, &self.installation, self.host_max).await?;
        }
        if !applied {
            agenda.put(again, Happening::Reload { change: None });
        }
        Ok(())
    }
}
