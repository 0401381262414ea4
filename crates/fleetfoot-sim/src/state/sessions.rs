//! Message sessions: one per scale set, and what becomes of a dead one.

use crate::config::Flavor;
use crate::model::Session as SessionRecord;

use super::State;
use super::messages::Item;
use super::timers::Due;

#[derive(Debug)]
pub(crate) struct Session {
    /// Number of its record.
    pub(crate) number: u64,
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) queue_token: String,
    pub(crate) queue_token_until_us: Option<u64>,
    /// Calls of this session that are being answered.
    pub(crate) in_flight: u64,
    /// Grows with each call, so that an old lapse timer is seen to be old.
    pub(crate) quiet: u64,
}

/// Why a session cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dead {
    /// The scale set is gone.
    ScaleSet,
    /// The session is not the open one.
    Session,
    /// The message queue token is not, or no longer, good.
    Token,
}

#[derive(Debug)]
pub(crate) struct SessionOpened {
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) queue_token: String,
}

impl State {
    /// Opens a session; `None` while another is open.
    pub(crate) fn open_session(&mut self, set_id: i64, owner: &str) -> Option<SessionOpened> {
        let now = self.now_us();
        if self.sets.get(&set_id)?.session.is_some() {
            return None;
        }
        let (id, queue_token) = (self.uuid(), self.secret("queue"));
        let number = self.next_secret;
        let lapse = self.settings.session_lapse_ms;
        let session = Session {
            number,
            id: id.clone(),
            owner: owner.to_owned(),
            queue_token: queue_token.clone(),
            queue_token_until_us: self.settings.queue_token_ttl_ms.map(|ttl| now + ttl * 1000),
            in_flight: 0,
            quiet: 0,
        };
        let set = self.sets.get_mut(&set_id)?;
        set.session = Some(session);
        set.capacity = None;
        let offered = if set.flavor == Flavor::Ghes { set.available.clone() } else { Vec::new() };
        self.sessions.insert(
            number,
            SessionRecord {
                id: id.clone(),
                scale_set_id: set_id,
                owner: owner.to_owned(),
                opened_us: now,
                first_poll_us: None,
                last_poll_us: None,
                polls: 0,
                closed_us: None,
                closed_by: None,
            },
        );
        while self.sessions.len() > self.settings.history_max {
            self.sessions.pop_first();
        }
        for job in offered {
            let known = self.has_offer(set_id, job);
            if let Some(job) = self.jobs.get(&job).filter(|_| !known) {
                let item = Item::available(job.id, std::sync::Arc::clone(&job.facts), now);
                self.tell(set_id, item, true);
            }
        }
        self.totals.sessions += 1;
        self.timers.after(lapse, Due::SessionLapse { set: set_id, session: number, quiet: 0 });
        self.assign(set_id);
        self.touch();
        Some(SessionOpened { id, owner: owner.to_owned(), queue_token })
    }

    /// A new message queue token for the open session.
    pub(crate) fn refresh_session(&mut self, set_id: i64, id: &str) -> Result<SessionOpened, Dead> {
        let queue_token = self.secret("queue");
        let until = self.settings.queue_token_ttl_ms.map(|ttl| self.now_us() + ttl * 1000);
        let set = self.sets.get_mut(&set_id).ok_or(Dead::ScaleSet)?;
        let session =
            set.session.as_mut().filter(|session| session.id == id).ok_or(Dead::Session)?;
        session.queue_token.clone_from(&queue_token);
        session.queue_token_until_us = until;
        Ok(SessionOpened { id: id.to_owned(), owner: session.owner.clone(), queue_token })
    }

    /// Deletes the open session by its id.
    pub(crate) fn delete_session(&mut self, set_id: i64, id: &str) -> Result<(), Dead> {
        let set = self.sets.get(&set_id).ok_or(Dead::ScaleSet)?;
        set.session.as_ref().filter(|session| session.id == id).ok_or(Dead::Session)?;
        self.end_session(set_id, "deleted");
        Ok(())
    }

    /// Ends the open session, if there is one, for this reason.
    pub(crate) fn end_session(&mut self, set_id: i64, why: &str) {
        let now = self.now_us();
        let Some(set) = self.sets.get_mut(&set_id) else { return };
        let Some(session) = set.session.take() else { return };
        set.capacity = None;
        set.wake.notify_waiters();
        if let Some(record) = self.sessions.get_mut(&session.number) {
            record.closed_us = Some(now);
            record.closed_by = Some(why.to_owned());
        }
        self.totals.sessions -= 1;
        self.touch();
    }

    /// Checks a call of a session and holds the session alive until [`Self::session_left`].
    pub(crate) fn session_entered(
        &mut self,
        set_id: i64,
        id: Option<&str>,
        token: &str,
    ) -> Result<u64, Dead> {
        let now = self.now_us();
        let set = self.sets.get_mut(&set_id).ok_or(Dead::ScaleSet)?;
        let session = set
            .session
            .as_mut()
            .filter(|session| id.is_none_or(|id| session.id == id))
            .ok_or(Dead::Session)?;
        let late = session.queue_token_until_us.is_some_and(|until| now >= until);
        if session.queue_token != token || late {
            return Err(Dead::Token);
        }
        session.in_flight += 1;
        session.quiet += 1;
        Ok(session.number)
    }

    /// A call of a session is over, answered or not.
    pub(crate) fn session_left(&mut self, set_id: i64, number: u64) {
        let lapse = self.settings.session_lapse_ms;
        let Some(session) = self.sets.get_mut(&set_id).and_then(|set| set.session.as_mut()) else {
            return;
        };
        if session.number != number {
            return;
        }
        session.in_flight -= 1;
        session.quiet += 1;
        if session.in_flight == 0 {
            let due = Due::SessionLapse { set: set_id, session: number, quiet: session.quiet };
            self.timers.after(lapse, due);
        }
    }

    pub(crate) fn lapse(&mut self, set_id: i64, number: u64, quiet: u64) {
        let lapsed =
            self.sets.get(&set_id).and_then(|set| set.session.as_ref()).is_some_and(|session| {
                session.number == number && session.quiet == quiet && session.in_flight == 0
            });
        if lapsed {
            self.end_session(set_id, "lapsed");
        }
    }

    /// Makes the queue token of a scale set worthless and ends its waiting polls.
    pub(crate) fn expire_queue_token(&mut self, set_id: i64) {
        let Some(set) = self.sets.get_mut(&set_id) else { return };
        if let Some(session) = set.session.as_mut() {
            session.queue_token.clear();
        }
        set.wake.notify_waiters();
    }

    /// Whether an offer of this job waits to be fetched or acknowledged.
    pub(crate) fn has_offer(&self, set_id: i64, job: u64) -> bool {
        self.sets.get(&set_id).is_some_and(|set| {
            set.outbox.iter().any(|item| item.job == job)
                || set.unacknowledged.as_ref().is_some_and(|message| message.names_new(job))
        })
    }
}
