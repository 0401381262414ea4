//! How instances are named, so that no name is ever made twice (invariant 1).
//!
//! A name is `<pool>-<8 hex digits>`, as the original's: too few digits to leave it to chance (of 200,000
//! random ones about five were there before), and too many names to remember them all. So each pool counts,
//! and the number is shuffled into the digits by a permutation of all 32-bit numbers that belongs to the
//! installation and the pool: names tell nothing of order, and two installations do not meet.
//!
//! The count is in the pool's row, committed with the instance. It never falls behind a clock of four ticks
//! a second, so a store that lost its count (made anew, or restored from an older copy) goes on beyond it;
//! what a burst made ahead of that clock, or a pool counted that has no row any more, the store's floor covers. The
//! numbers last for 34 years.

use crate::names::{InstallationId, InstanceName, PoolName};
use crate::time::Timestamp;

/// The first of January 2025: no name is older.
const BEGINNING: i64 = 1_735_689_600_000;

/// One number per pool in this time, on average over years; bursts may run ahead.
const TICK_MS: i64 = 250;

/// The number after `last`: never below the floor, never behind the clock.
#[must_use]
pub fn next_number(last: i64, floor: i64, now: Timestamp) -> i64 {
    last.saturating_add(1).max(floor).max(ticks(now))
}

/// Where the clock is, in numbers.
#[must_use]
pub fn ticks(now: Timestamp) -> i64 {
    now.0.saturating_sub(BEGINNING).max(0) / TICK_MS
}

/// The name with this number: two numbers of a pool that differ in their lower 32 bits have two names.
#[must_use]
pub fn numbered(installation: &InstallationId, pool: &PoolName, number: i64) -> InstanceName {
    let key = key(installation, pool);
    let low = u32::try_from(number & 0xffff_ffff).unwrap_or_default();
    InstanceName::of_pool(pool, shuffle(low, key))
}

/// How a pool's instances are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// `<pool>-<8 hex digits>`.
    #[default]
    OfPool,
    /// `myshoes-<uuid>`: shoes plugins read it.
    Myshoes,
}

/// The name with this number, in the pool's way of naming.
#[must_use]
pub fn named(
    naming: Naming,
    installation: &InstallationId,
    pool: &PoolName,
    number: i64,
) -> InstanceName {
    match naming {
        Naming::OfPool => numbered(installation, pool, number),
        Naming::Myshoes => InstanceName::of_uuid(uuid(installation, pool, number)),
    }
}

/// The bits of a random uuid, which it is not: the shuffled number stands in it, so that no two numbers of a
/// pool share one; the other bits are a digest of installation, pool and number.
fn uuid(installation: &InstallationId, pool: &PoolName, number: i64) -> u128 {
    const VERSION: u128 = 0x4 << 76;
    const VARIANT: u128 = 0x2 << 62;
    const FREE: u128 = !((0xf << 76) | (0x3 << 62));
    let key = key(installation, pool);
    let low = u32::try_from(number & 0xffff_ffff).unwrap_or_default();
    let digest = |salt: u64| {
        let mut word =
            key ^ number.cast_unsigned().wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for _ in 0..3 {
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        }
        word ^ (word >> 31)
    };
    let bits = (u128::from(digest(1)) << 64) | u128::from(digest(2));
    // The first 32 bits hold neither version nor variant.
    let bits = (bits & (u128::MAX >> 32)) | (u128::from(shuffle(low, key)) << 96);
    (bits & FREE) | VERSION | VARIANT
}

/// A digest of both names.
fn key(installation: &InstallationId, pool: &PoolName) -> u64 {
    fnv1a(installation.as_str().bytes().chain([0]).chain(pool.as_str().bytes()))
}

/// FNV-1a in 64 bits: a short digest that is the same in every version; nothing secret, nothing that must not meet.
#[must_use]
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A Feistel network over the two halves: each step can be undone, so it is a permutation whatever the key.
fn shuffle(number: u32, key: u64) -> u32 {
    let (mut left, mut right) = (number >> 16, number & 0xffff);
    for round in 0..6_u64 {
        (left, right) = (right, left ^ mix(right, key, round));
    }
    (left << 16) | right
}

/// Sixteen bits of half a number, the key and the round.
fn mix(half: u32, key: u64, round: u64) -> u32 {
    let mut word = key ^ (u64::from(half) | (round << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word ^= word >> 29;
    u32::try_from(word >> 48).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn installation(name: &str) -> InstallationId {
        InstallationId::new(name).unwrap()
    }

    fn pool(name: &str) -> PoolName {
        PoolName::new(name).unwrap()
    }

    #[test]
    fn numbers_only_grow_and_keep_up_with_the_clock() {
        let day = Timestamp(BEGINNING + 86_400_000);
        assert_eq!(next_number(0, 0, Timestamp(0)), 1, "a clock before the beginning counts");
        assert_eq!(next_number(0, 0, day), 345_600);
        assert_eq!(next_number(400_000, 0, day), 400_001, "a burst runs ahead");
        assert_eq!(next_number(7, 900_000, day), 900_000);
        assert_eq!(next_number(900_000, 900_000, Timestamp(i64::MIN)), 900_001, "backwards");
    }

    #[test]
    fn no_number_shares_a_name_with_another() {
        for key in [0, 1, 0xdead_beef_0123_4567, u64::MAX] {
            // The whole of both halves, and a stretch across their border.
            let whole = (0..=0xffff_u32).chain((0..=0xffff).map(|high| high << 16));
            let stretch = 0x00ff_8000..=0x0103_0000;
            let numbers: BTreeSet<u32> = whole.chain(stretch).collect();
            let names: BTreeSet<u32> = numbers.iter().map(|one| shuffle(*one, key)).collect();
            assert_eq!(names.len(), numbers.len());
        }
    }

    #[test]
    fn names_with_uuids_are_of_their_form_and_never_twice() {
        let name = |of: &str, number| {
            named(Naming::Myshoes, &installation("a"), &pool(of), number).as_str().to_owned()
        };
        let mut names = BTreeSet::new();
        for number in (1..5_000).chain(0xffff_ff00..0x1_0000_0100) {
            for of in ["one", "other"] {
                let name = name(of, number);
                let uuid = name.strip_prefix("myshoes-").unwrap();
                let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
                assert_eq!(lengths, [8, 4, 4, 4, 12], "{name}");
                assert!(uuid.chars().all(|it| it == '-' || it.is_ascii_hexdigit()), "{name}");
                assert_eq!((&uuid[14..15], "89ab".contains(&uuid[19..20])), ("4", true), "{name}");
                assert!(names.insert(name));
            }
        }
    }

    #[test]
    fn names_tell_no_order_and_installations_do_not_meet() {
        let name = |of: &str, number| numbered(&installation(of), &pool("linux"), number);
        let ours: BTreeSet<InstanceName> = (1..20_000).map(|number| name("a", number)).collect();
        let theirs: BTreeSet<InstanceName> = (1..20_000).map(|number| name("b", number)).collect();
        assert_eq!((ours.len(), theirs.len()), (19_999, 19_999));
        assert!(ours.intersection(&theirs).count() <= 3);
        let sorted: Vec<_> = ours.iter().take(3).collect();
        assert!(sorted.iter().all(|one| one.as_str().len() == "linux-01234567".len()));
        let rising = (1..100).filter(|number| name("a", *number) < name("a", number + 1)).count();
        assert!((30..70).contains(&rising), "{rising}");
    }
}
