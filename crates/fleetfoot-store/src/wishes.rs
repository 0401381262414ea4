//! What an operator asked, written into the rows: by the server where the pool is owned, or by the owner when
//! it reads a wish that was left at another controller.

use fleetfoot_core::{Intent, Observation, Phase, PoolName, Reason, Timestamp, Wish, WishWord};

use crate::error::ReadError;
use crate::event::Event;
use crate::lease;
use crate::store::Store;
use crate::txn::Txn;

impl Store {
    /// Leaves word for the owner of a pool.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn wish(&self, wish: Wish) -> Result<(), ReadError> {
        self.errand(move |reply| {
            Box::new(move |writer| {
                Box::pin(async move {
                    let statement = lease::put_wish(&writer.driver, &wish);
                    #[cfg(feature = "faults")]
                    fleetfoot_faults::point("store.lease.wish.before");
                    let put = writer.driver.execute(&statement).await;
                    #[cfg(feature = "faults")]
                    fleetfoot_faults::point("store.lease.wish.after");
                    let _ = reply.send(put.map(|_| ()));
                })
            })
        })
        .await
    }

    /// A wish was seen to.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn wish_done(&self, id: i64) -> Result<(), ReadError> {
        self.errand(move |reply| {
            Box::new(move |writer| {
                Box::pin(async move {
                    let statement = lease::wish_done(&writer.driver, id);
                    #[cfg(feature = "faults")]
                    fleetfoot_faults::point("store.lease.wish_done.before");
                    let done = writer.driver.execute(&statement).await;
                    #[cfg(feature = "faults")]
                    fleetfoot_faults::point("store.lease.wish_done.after");
                    let _ = reply.send(done.map(|_| ()));
                })
            })
        })
        .await
    }
}

impl Txn<'_> {
    /// Writes what is wanted of a pool, with an event, if it is news.
    pub fn set_intent(&mut self, pool: &PoolName, intent: Intent, now: Timestamp) {
        let Some(row) = self.pool(pool).filter(|state| state.pool.intent != intent) else { return };
        let name = row.pool.name.clone();
        if let Some(row) = self.pool_mut(&name) {
            row.intent = intent;
        }
        let phrase = match intent {
            Intent::Active => "pool resumed by an operator",
            Intent::Draining => "pool drained by an operator",
            Intent::Removed => "pool removed",
        };
        self.event(Event::new(now, phrase).pool(&name));
    }

    /// Sees to a wish as far as it still makes sense; what does not is dropped.
    pub fn grant(&mut self, wish: &Wish, now: Timestamp) {
        match wish.word {
            WishWord::Drain => self.grant_intent(wish, Intent::Draining, now),
            WishWord::Resume => self.grant_intent(wish, Intent::Active, now),
            WishWord::Stop => self.grant_stop(wish, false, now),
            WishWord::StopForce => self.grant_stop(wish, true, now),
        }
    }

    fn grant_intent(&mut self, wish: &Wish, intent: Intent, now: Timestamp) {
        if self.pool(&wish.pool).is_some_and(|state| state.pool.intent != Intent::Removed) {
            self.set_intent(&wish.pool, intent, now);
        }
    }

    fn grant_stop(&mut self, wish: &Wish, force: bool, now: Timestamp) {
        let Some(name) = &wish.instance else { return };
        let Some(row) = self.instance(name).filter(|row| row.pool == wish.pool) else { return };
        if (row.phase == Phase::Running || row.phase == Phase::Stopping) && !force {
            return;
        }
        let reason = if force { Reason::OperatorForce } else { Reason::Operator };
        if self.observe(name, &Observation::Removal { reason }, now).is_ok() {
            let event = Event::new(now, "instance stopped by an operator");
            self.event(event.pool(&wish.pool).instance(name).field("force", force));
        }
    }
}
