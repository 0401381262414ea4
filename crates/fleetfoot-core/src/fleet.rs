//! Several controllers that share pools: who can serve which, who owns which, and what is to change hands.
//!
//! [`share`] is what each of them decides for itself from the same picture. All decide alike, so two seldom
//! reach for the same pool; if they do, the database gives it to one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::names::{InstanceName, PoolName};
use crate::time::{Span, Timestamp};

/// That a controller can serve a pool, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidacy {
    /// A digest of the pool's settings: candidates that would serve it differently are told apart.
    pub digest: String,
    /// The pool is not in this controller's configuration any more: it could only drain it.
    pub removed: bool,
    /// Its backend belongs to this host.
    pub host_bound: bool,
}

/// A controller as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub controller: String,
    /// The identity of its host.
    pub host_id: String,
    /// Its host's name.
    pub host: String,
    /// Its version.
    pub version: String,
    /// What is left of its leases by the database's clock; nothing or less when it is dead.
    pub left: Span,
    /// The pools it can serve. Shared: it says the same for weeks, and is looked at with every heartbeat.
    pub pools: Arc<BTreeMap<PoolName, Candidacy>>,
}

impl Peer {
    /// Its heart beats.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.left > Span::ZERO
    }
}

/// Who owns a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// The controller; nothing when it was let go.
    pub owner: Option<String>,
    /// Grows with every taking.
    pub epoch: i64,
    /// The host that the pool belongs to, if its backend is a host's.
    pub host_id: Option<String>,
    /// Grows with every commit that touched the pool.
    pub writes: i64,
}

/// What an operator asked at a controller that does not own the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WishWord {
    /// Take no more jobs.
    Drain,
    /// Take jobs again.
    Resume,
    /// Remove an instance unless it is busy.
    Stop,
    /// Remove an instance even if it is busy.
    StopForce,
}

impl WishWord {
    const ALL: [Self; 4] = [Self::Drain, Self::Resume, Self::Stop, Self::StopForce];

    /// The word in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::StopForce => "stop force",
        }
    }

    /// The wish of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|word| word.as_str() == name)
    }
}

/// One such word, on its way to the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Its number; 0 before it is in the store.
    pub id: i64,
    /// The pool it concerns.
    pub pool: PoolName,
    /// The instance it concerns.
    pub instance: Option<InstanceName>,
    /// What is asked.
    pub word: WishWord,
    /// When it was asked, by the clock of whoever took it in.
    pub at: Timestamp,
}

/// Everybody who takes part, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fleet {
    /// Controllers, by name; dead ones too, as long as something is known by them.
    pub peers: BTreeMap<String, Peer>,
    /// Who owns what.
    pub pools: BTreeMap<PoolName, Ownership>,
    /// What is asked of owners.
    pub wishes: Vec<Wish>,
}

impl Fleet {
    /// The living controller that owns the pool.
    #[must_use]
    pub fn living_owner(&self, pool: &PoolName) -> Option<&Peer> {
        self.owner(pool).filter(|peer| peer.is_alive())
    }

    /// The controller that owns the pool, dead or alive.
    #[must_use]
    pub fn owner(&self, pool: &PoolName) -> Option<&Peer> {
        self.peers.get(self.pools.get(pool)?.owner.as_ref()?)
    }

    /// The living controllers that can serve the pool, with what they say of it.
    pub fn candidates<'a>(
        &'a self,
        pool: &'a PoolName,
    ) -> impl Iterator<Item = (&'a Peer, &'a Candidacy)> {
        let alive = self.peers.values().filter(|peer| peer.is_alive());
        alive.filter_map(move |peer| Some((peer, peer.pools.get(pool)?)))
    }

    /// The last name that is known of a host.
    #[must_use]
    pub fn host_name(&self, host_id: &str) -> Option<&str> {
        let peer = self.peers.values().filter(|peer| peer.host_id == host_id);
        peer.max_by_key(|peer| peer.left).map(|peer| peer.host.as_str())
    }
}

/// What a controller does next about pools.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Share {
    /// Free pools that it should ask for.
    pub take: Vec<PoolName>,
    /// A pool of its own that another one should have.
    pub hand_over: Option<PoolName>,
    /// Pools that living candidates would serve differently: they stay where they are.
    pub unlike: BTreeSet<PoolName>,
    /// Pools of its own configuration that belong to another host.
    pub elsewhere: BTreeMap<PoolName, String>,
}

/// What the controller `me` sees and knows.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Everybody.
    pub fleet: &'a Fleet,
    /// Its own name.
    pub me: &'a str,
    /// Its host.
    pub host_id: &'a str,
    /// Free pools that whoever should take them did not take in time: anybody may.
    pub overdue: &'a BTreeSet<PoolName>,
    /// Pools that stay, whatever the balance: they were handed over and came back.
    pub settled: &'a BTreeSet<PoolName>,
}

/// Decides what to take and what to hand over.
///
/// A free pool goes to the living candidate with the fewest shared pools. When none is free, a controller
/// that has two more than another one hands one over, the one for which `load` is least.
#[must_use]
pub fn share(view: View<'_>, load: impl Fn(&PoolName) -> usize) -> Share {
    let mut share = Share::default();
    let View { fleet, me, host_id, overdue, .. } = view;
    let Some(mine) = fleet.peers.get(me).filter(|peer| peer.is_alive()) else { return share };
    let mut counts = counts(fleet);
    for (pool, candidacy) in &*mine.pools {
        let row = fleet.pools.get(pool);
        if let Some(other) = row.and_then(|row| row.host_id.as_deref()).filter(|it| *it != host_id)
        {
            share.elsewhere.insert(pool.clone(), other.to_owned());
            continue;
        }
        if differ(fleet, pool) {
            share.unlike.insert(pool.clone());
        }
        if fleet.living_owner(pool).is_some() {
            continue;
        }
        if candidacy.host_bound || overdue.contains(pool) {
            share.take.push(pool.clone());
            continue;
        }
        let chosen =
            eligible(fleet, pool).min_by_key(|peer| (count(&counts, peer), &peer.controller));
        let Some(chosen) = chosen else { continue };
        *counts.entry(&chosen.controller).or_default() += 1;
        if chosen.controller == me {
            share.take.push(pool.clone());
        }
    }
    let anything_free = mine
        .pools
        .keys()
        .any(|pool| fleet.living_owner(pool).is_none() && !share.elsewhere.contains_key(pool));
    if !anything_free {
        share.hand_over = surplus(view, &share, &counts, load);
    }
    share
}

/// Shared pools of each living controller.
fn counts(fleet: &Fleet) -> BTreeMap<&str, usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (pool, row) in &fleet.pools {
        if let Some(owner) = fleet.living_owner(pool).filter(|_| row.host_id.is_none()) {
            *counts.entry(&owner.controller).or_default() += 1;
        }
    }
    counts
}

fn count(counts: &BTreeMap<&str, usize>, peer: &Peer) -> usize {
    counts.get(peer.controller.as_str()).copied().unwrap_or(0)
}

/// Who may serve a shared pool: those that have it in their configuration, or else those that could drain it.
fn eligible<'a>(fleet: &'a Fleet, pool: &'a PoolName) -> impl Iterator<Item = &'a Peer> {
    let configured = fleet.candidates(pool).any(|(_, it)| !it.removed);
    let may = move |it: &Candidacy| !it.host_bound && it.removed != configured;
    fleet.candidates(pool).filter(move |(_, it)| may(it)).map(|(peer, _)| peer)
}

/// Living candidates that have the pool in their configuration have it differently.
fn differ(fleet: &Fleet, pool: &PoolName) -> bool {
    let configured = fleet.candidates(pool).filter(|(_, it)| !it.removed);
    let mut digests = configured.map(|(_, it)| &it.digest);
    let first = digests.next();
    digests.any(|it| Some(it) != first)
}

fn surplus(
    view: View<'_>,
    share: &Share,
    counts: &BTreeMap<&str, usize>,
    load: impl Fn(&PoolName) -> usize,
) -> Option<PoolName> {
    let View { fleet, me, settled, .. } = view;
    let mine = fleet.peers.get(me)?;
    let owned = fleet.pools.iter().filter(|(pool, row)| {
        row.owner.as_deref() == Some(me) && row.host_id.is_none() && !settled.contains(*pool)
    });
    let wants = |pool: &PoolName| {
        let others = eligible(fleet, pool).filter(|peer| peer.controller != me);
        // Not in our configuration any more, but in another one's: it is not ours to drain.
        let ours = mine.pools.get(pool).is_some_and(|it| !it.removed);
        let configured = fleet.candidates(pool).any(|(_, it)| !it.removed);
        let surplus = count(counts, mine);
        others.into_iter().any(|peer| {
            (!ours && configured)
                || (!share.unlike.contains(pool) && surplus >= count(counts, peer) + 2)
        })
    };
    owned.map(|(pool, _)| pool).filter(|pool| wants(pool)).min_by_key(|pool| load(pool)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> PoolName {
        PoolName::new(name).unwrap()
    }

    fn peer(controller: &str, left: i64, pools: &[(&str, &str)]) -> Peer {
        let candidacy = |digest: &str| Candidacy {
            digest: digest.trim_start_matches(['-', '!']).to_owned(),
            removed: digest.starts_with('-'),
            host_bound: digest.starts_with('!'),
        };
        Peer {
            controller: controller.to_owned(),
            host_id: format!("host-{controller}"),
            host: controller.to_owned(),
            version: String::new(),
            left: Span(left),
            pools: Arc::new(
                pools.iter().map(|(pool, digest)| (name(pool), candidacy(digest))).collect(),
            ),
        }
    }

    fn owned(by: Option<&str>, host_id: Option<&str>) -> Ownership {
        let host_id = host_id.map(str::to_owned);
        Ownership { owner: by.map(str::to_owned), epoch: 1, host_id, writes: 0 }
    }

    fn fleet(peers: &[Peer], pools: &[(&str, Option<&str>)]) -> Fleet {
        Fleet {
            peers: peers.iter().map(|peer| (peer.controller.clone(), peer.clone())).collect(),
            pools: pools.iter().map(|(pool, by)| (name(pool), owned(*by, None))).collect(),
            wishes: Vec::new(),
        }
    }

    fn decide(fleet: &Fleet, me: &str) -> Share {
        let none = BTreeSet::new();
        let host_id = &format!("host-{me}");
        share(View { fleet, me, host_id, overdue: &none, settled: &none }, |_| 0)
    }

    const ALL: &[(&str, &str)] = &[("p", "1"), ("q", "1"), ("r", "1"), ("s", "1")];

    #[test]
    fn free_pools_are_dealt_out_evenly_and_once() {
        let peers = [peer("a", 9, ALL), peer("b", 9, ALL), peer("dead", 0, ALL)];
        let of_dead = [("p", Some("dead")), ("q", None), ("r", Some("dead")), ("s", Some("b"))];
        let fleet = fleet(&peers, &of_dead);
        let (a, b) = (decide(&fleet, "a"), decide(&fleet, "b"));
        assert_eq!(a.take, [name("p"), name("q")]);
        assert_eq!(b.take, [name("r")]);
        assert_eq!(decide(&fleet, "dead"), Share::default());
        assert_eq!((a.hand_over, b.hand_over), (None, None), "first what is free");
    }

    #[test]
    fn what_nobody_took_in_time_anybody_may_take() {
        let fleet = fleet(&[peer("a", 9, ALL), peer("b", 9, ALL)], &[("p", None)]);
        let overdue = BTreeSet::from([name("p")]);
        let none = BTreeSet::new();
        let view = View { fleet: &fleet, me: "b", host_id: "h", overdue: &overdue, settled: &none };
        assert!(share(view, |_| 0).take.contains(&name("p")));
    }

    #[test]
    fn a_surplus_of_two_is_handed_over_least_load_first() {
        let all = [("p", Some("a")), ("q", Some("a")), ("r", Some("a")), ("s", Some("b"))];
        let fleet = fleet(&[peer("a", 9, ALL), peer("b", 9, ALL)], &all);
        let none = BTreeSet::new();
        let view = View { fleet: &fleet, me: "a", host_id: "h", overdue: &none, settled: &none };
        let load = |pool: &PoolName| usize::from(pool.as_str() != "q");
        assert_eq!(share(view, load).hand_over, Some(name("q")));
        let settled = BTreeSet::from([name("q")]);
        let view = View { settled: &settled, ..view };
        assert_eq!(share(view, load).hand_over, Some(name("p")));
        assert_eq!(decide(&fleet, "b").hand_over, None);
    }

    #[test]
    fn unlike_settings_stay_where_they_are_until_the_owner_dies() {
        let other = &[("p", "2"), ("q", "2"), ("r", "2"), ("s", "2")];
        let all = [("p", Some("a")), ("q", Some("a")), ("r", Some("a")), ("s", Some("a"))];
        let alive = fleet(&[peer("a", 9, ALL), peer("b", 9, other)], &all);
        let a = decide(&alive, "a");
        assert_eq!((a.hand_over, a.unlike.len()), (None, 4));
        assert_eq!(decide(&alive, "b").unlike.len(), 4, "both know");
        let dead = fleet(&[peer("a", -1, ALL), peer("b", 9, other)], &all);
        assert_eq!(decide(&dead, "b").take.len(), 4);
    }

    #[test]
    fn a_hosts_pools_stay_and_are_refused_elsewhere() {
        let peers = [peer("a", 0, &[("p", "!1")]), peer("b", 9, &[("p", "!1"), ("q", "!1")])];
        let mut fleet = fleet(&peers, &[]);
        fleet.pools.insert(name("p"), owned(Some("a"), Some("host-a")));
        let b = decide(&fleet, "b");
        assert_eq!(b.take, [name("q")]);
        assert_eq!(b.elsewhere, BTreeMap::from([(name("p"), "host-a".to_owned())]));
    }

    #[test]
    fn a_pool_that_is_removed_here_goes_to_who_has_it_and_else_is_drained() {
        let gone = [peer("a", 9, &[("p", "-1")]), peer("b", 9, &[("p", "1")])];
        let both = fleet(&gone, &[("p", Some("a"))]);
        assert_eq!(decide(&both, "a").hand_over, Some(name("p")));
        let free = fleet(&gone, &[("p", None)]);
        assert!(decide(&free, "a").take.is_empty());
        assert_eq!(decide(&free, "b").take, [name("p")]);
        let alone = fleet(&gone[..1], &[("p", None)]);
        assert_eq!(decide(&alone, "a").take, [name("p")]);
    }
}
