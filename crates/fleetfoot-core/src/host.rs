//! The host's budget, shared by its pools: who gets the room that is left.

use std::collections::BTreeMap;

use crate::names::PoolName;

/// What the host may carry. `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HostBudget {
    /// Instances at most.
    pub max_instances: Option<u32>,
    /// Processors at most, in thousandths, over the pools that state theirs.
    pub millicpus: Option<u64>,
    /// Memory at most, in MiB, over the pools that state theirs.
    pub memory_mib: Option<u64>,
}

/// What one instance of a pool takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// Processors in thousandths; 0 when the pool states none.
    pub millicpus: u64,
    /// Memory in MiB; 0 when the pool states none.
    pub memory_mib: u64,
}

/// One pool's claim on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claim {
    /// What one of its instances takes.
    pub footprint: Footprint,
    /// Instances that occupy the host now.
    pub occupying: u32,
    /// Further instances it wants for jobs, or to be ready.
    pub missing: u32,
    /// Further environments it would hold waiting: they get what is left when nobody waits for room for jobs.
    pub spare: u32,
    /// Idle runners of it that nobody wants and environments that wait for no job, within `occupying`.
    pub surplus_idle: u32,
    /// Instances of it that are being removed, within `occupying`.
    pub leaving: u32,
}

impl HostBudget {
    /// The budget never says no.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.max_instances.is_none() && self.millicpus.is_none() && self.memory_mib.is_none()
    }

    /// How many further instances of `footprint` fit beside everything that `claims` occupies.
    #[must_use]
    pub fn room(&self, claims: &BTreeMap<PoolName, Claim>, footprint: Footprint) -> u32 {
        let used = claims
            .values()
            .fold(Used::default(), |used, claim| used.plus(claim.footprint, claim.occupying));
        used.room(self, footprint)
    }

    /// How many further instances of `pool` fit if the others gave up what they hold idle beyond what they want.
    #[must_use]
    pub fn room_with_surplus(&self, claims: &BTreeMap<PoolName, Claim>, pool: &PoolName) -> u32 {
        let footprint = claims.get(pool).copied().unwrap_or_default().footprint;
        let kept = |name: &PoolName, claim: &Claim| {
            claim.occupying.saturating_sub(if name == pool { 0 } else { claim.surplus_idle })
        };
        let used = claims.iter().fold(Used::default(), |used, (name, claim)| {
            used.plus(claim.footprint, kept(name, claim))
        });
        used.room(self, footprint)
    }

    /// Which pools should give up how many of their surplus idle runners, so that those that wait for room get
    /// it: no more than that takes, from who has the most, and nothing where it would make no room.
    #[must_use]
    pub fn releases(&self, claims: &BTreeMap<PoolName, Claim>) -> BTreeMap<PoolName, u32> {
        let mut releases: BTreeMap<PoolName, u32> = BTreeMap::new();
        if self.is_unlimited() {
            return releases;
        }
        // What is being removed is as good as free.
        let mut kept: BTreeMap<PoolName, Claim> = claims.clone();
        for claim in kept.values_mut() {
            claim.occupying = claim.occupying.saturating_sub(claim.leaving);
        }
        for (name, waits) in claims.iter().filter(|(_, claim)| claim.missing > 0) {
            let within = self.room_with_surplus(&kept, name).min(waits.missing);
            while self.room(&kept, waits.footprint) < within {
                let most = kept
                    .iter_mut()
                    .filter(|(other, claim)| *other != name && claim.surplus_idle > 0)
                    .max_by_key(|(_, claim)| claim.surplus_idle);
                let Some((other, claim)) = most else { break };
                claim.surplus_idle -= 1;
                claim.occupying = claim.occupying.saturating_sub(1);
                *releases.entry(other.clone()).or_insert(0) += 1;
            }
            // That room is spoken for.
            if let Some(claim) = kept.get_mut(name) {
                claim.occupying = claim.occupying.saturating_add(within);
            }
        }
        releases
    }

    /// Deals the free room round robin: every pool that is missing instances gets one in turn, beginning
    /// with the pool after `last_served`, so none is above its share while another waits.
    #[must_use]
    pub fn deal(
        &self,
        claims: &BTreeMap<PoolName, Claim>,
        last_served: Option<&PoolName>,
    ) -> BTreeMap<PoolName, u32> {
        let mut grants: BTreeMap<PoolName, u32> = BTreeMap::new();
        if self.is_unlimited() {
            let all = |claim: &Claim| claim.missing.saturating_add(claim.spare);
            return claims.iter().map(|(name, claim)| (name.clone(), all(claim))).collect();
        }
        let mut used = claims
            .values()
            .fold(Used::default(), |used, claim| used.plus(claim.footprint, claim.occupying));
        let mut order: Vec<&PoolName> = claims.keys().collect();
        if let Some(last) = last_served {
            let split = order.partition_point(|name| *name <= last);
            order.rotate_left(split);
        }
        self.deal_up_to(claims, &order, &mut used, &mut grants, |claim| claim.missing);
        let is_met = |(name, claim): (&PoolName, &Claim)| {
            grants.get(name).copied().unwrap_or(0) >= claim.missing
        };
        if claims.iter().all(is_met) {
            let all = |claim: &Claim| claim.missing.saturating_add(claim.spare);
            self.deal_up_to(claims, &order, &mut used, &mut grants, all);
        }
        grants
    }

    /// The pool that holds the least goes first; the rotation decides between equals.
    fn deal_up_to(
        &self,
        claims: &BTreeMap<PoolName, Claim>,
        order: &[&PoolName],
        used: &mut Used,
        grants: &mut BTreeMap<PoolName, u32>,
        most: impl Fn(&Claim) -> u32,
    ) {
        loop {
            let next = order
                .iter()
                .filter_map(|name| {
                    let claim = claims.get(*name)?;
                    let granted = grants.get(*name).copied().unwrap_or(0);
                    let fits = granted < most(claim) && used.room(self, claim.footprint) > 0;
                    fits.then_some((claim.occupying.saturating_add(granted), *name, claim))
                })
                .min_by_key(|(held, _, _)| *held);
            let Some((_, name, claim)) = next else { return };
            *used = used.plus(claim.footprint, 1);
            *grants.entry(name.clone()).or_insert(0) += 1;
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    instances: u32,
    millicpus: u64,
    memory_mib: u64,
}

impl Used {
    fn plus(self, footprint: Footprint, count: u32) -> Self {
        Self {
            instances: self.instances.saturating_add(count),
            millicpus: self
                .millicpus
                .saturating_add(footprint.millicpus.saturating_mul(u64::from(count))),
            memory_mib: self
                .memory_mib
                .saturating_add(footprint.memory_mib.saturating_mul(u64::from(count))),
        }
    }

    fn room(self, budget: &HostBudget, footprint: Footprint) -> u32 {
        let by = |limit: Option<u64>, used: u64, each: u64| match limit {
            Some(limit) if each > 0 => limit.saturating_sub(used) / each,
            Some(_) | None => u64::MAX,
        };
        let instances = budget
            .max_instances
            .map_or(u64::MAX, |limit| u64::from(limit.saturating_sub(self.instances)));
        let room = instances
            .min(by(budget.millicpus, self.millicpus, footprint.millicpus))
            .min(by(budget.memory_mib, self.memory_mib, footprint.memory_mib));
        u32::try_from(room).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PoolName {
        PoolName::new(text).unwrap()
    }

    fn claim(occupying: u32, missing: u32) -> Claim {
        Claim { occupying, missing, ..Claim::default() }
    }

    #[test]
    fn deals_round_robin_and_never_beyond_the_budget() {
        let budget = HostBudget { max_instances: Some(6), ..HostBudget::default() };
        let claims = BTreeMap::from([
            (name("a"), claim(1, 10)),
            (name("b"), claim(0, 10)),
            (name("c"), claim(0, 1)),
        ]);
        let grants = budget.deal(&claims, Some(&name("a")));
        assert_eq!(grants, BTreeMap::from([(name("a"), 1), (name("b"), 3), (name("c"), 1)]));
    }

    #[test]
    fn surplus_idle_runners_of_others_are_room_and_are_released_as_far_as_somebody_waits() {
        let budget = HostBudget { max_instances: Some(4), ..HostBudget::default() };
        let idle = |occupying, surplus_idle| Claim { occupying, surplus_idle, ..Claim::default() };
        let mut claims = BTreeMap::from([
            (name("a"), idle(3, 2)),
            (name("b"), idle(1, 1)),
            (name("c"), claim(0, 0)),
        ]);
        assert_eq!(budget.room_with_surplus(&claims, &name("c")), 3);
        assert_eq!(budget.room_with_surplus(&claims, &name("a")), 1, "its own is not room for it");
        assert_eq!(budget.releases(&claims), BTreeMap::new(), "nobody waits");
        claims.insert(name("c"), claim(0, 1));
        assert_eq!(budget.releases(&claims), BTreeMap::from([(name("a"), 1)]));
        claims.insert(name("c"), claim(0, 9));
        assert_eq!(budget.releases(&claims), BTreeMap::from([(name("a"), 2), (name("b"), 1)]));
        // One is on its way out already.
        claims.insert(name("c"), claim(0, 1));
        claims.insert(name("a"), Claim { leaving: 1, ..idle(3, 1) });
        assert_eq!(budget.releases(&claims), BTreeMap::new());
        // Two wait for the same room.
        claims.insert(name("a"), idle(3, 2));
        claims.insert(name("d"), claim(0, 1));
        let released: u32 = budget.releases(&claims).values().sum();
        assert_eq!(released, 2);
        assert_eq!(HostBudget::default().releases(&claims), BTreeMap::new());
    }

    #[test]
    fn what_only_waits_for_jobs_gets_what_no_job_waits_for() {
        let budget = HostBudget { max_instances: Some(4), ..HostBudget::default() };
        let spare = |occupying, missing, spare| Claim { spare, ..claim(occupying, missing) };
        let mut claims = BTreeMap::from([(name("a"), spare(0, 0, 4)), (name("b"), spare(0, 2, 0))]);
        let both = BTreeMap::from([(name("a"), 2), (name("b"), 2)]);
        assert_eq!(budget.deal(&claims, None), both);
        claims.insert(name("b"), spare(0, 9, 0));
        assert_eq!(budget.deal(&claims, None), BTreeMap::from([(name("b"), 4)]));
        // What waits for room only to wait takes nothing from others that wait.
        let full = BTreeMap::from([
            (name("a"), Claim { surplus_idle: 3, ..spare(3, 0, 1) }),
            (name("b"), Claim { surplus_idle: 1, ..spare(1, 0, 3) }),
        ]);
        assert_eq!(budget.releases(&full), BTreeMap::new());
        assert_eq!(HostBudget::default().deal(&full, None)[&name("b")], 3);
    }

    #[test]
    fn nothing_is_released_that_makes_no_room() {
        let budget = HostBudget { memory_mib: Some(8_000), ..HostBudget::default() };
        let of = |memory_mib, occupying, missing, surplus_idle| Claim {
            footprint: Footprint { memory_mib, ..Footprint::default() },
            occupying,
            missing,
            spare: 0,
            surplus_idle,
            leaving: 0,
        };
        let mut claims = BTreeMap::from([
            (name("big"), of(4_000, 1, 1, 0)),
            (name("small"), of(1_000, 4, 0, 3)),
        ]);
        assert_eq!(budget.releases(&claims), BTreeMap::new(), "three small ones are no big one");
        claims.insert(name("small"), of(1_000, 4, 0, 4));
        assert_eq!(budget.releases(&claims), BTreeMap::from([(name("small"), 4)]));
    }

    #[test]
    fn memory_counts_per_instance() {
        let budget = HostBudget { memory_mib: Some(10_000), ..HostBudget::default() };
        let big = Claim {
            footprint: Footprint { memory_mib: 4000, ..Footprint::default() },
            occupying: 1,
            missing: 3,
            ..Claim::default()
        };
        let claims = BTreeMap::from([(name("big"), big)]);
        assert_eq!(budget.deal(&claims, None), BTreeMap::from([(name("big"), 1)]));
        assert_eq!(budget.room(&claims, big.footprint), 1);
        assert_eq!(budget.room(&claims, Footprint::default()), u32::MAX);
    }
}
