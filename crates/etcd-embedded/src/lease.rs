//! Leases: who keeps which keys alive, and until when.
//!
//! Owns grants, expiry times and the attachment of keys. It must never read a clock (every call is told `now`) nor delete keys itself:
//! it says which leases are over, and the writer deletes their keys in one revision. Start reading at [`Lessor`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::error::Refusal;
use super::quota::LEASE_OVERHEAD;

/// The shortest TTL, in seconds: what etcd derives from its default election time-out of one second.
pub(super) const TTL_MIN: i64 = 2;
/// The longest TTL, in seconds (etcd `lease.MaxLeaseTTL`).
const TTL_MAX: i64 = 9_000_000_000;

#[derive(Debug)]
pub(super) struct Lease {
    /// Granted time to live in seconds.
    pub(super) ttl: i64,
    pub(super) expires: Instant,
    pub(super) keys: BTreeSet<Vec<u8>>,
}

impl Lease {
    /// Whole seconds left, 0 when it is over.
    pub(super) fn remaining(&self, now: Instant) -> i64 {
        i64::try_from(self.expires.saturating_duration_since(now).as_secs()).unwrap_or(i64::MAX)
    }
}

/// All leases, also ordered by expiry, so that the next one to end is found at once.
#[derive(Debug, Default)]
pub(super) struct Lessor {
    leases: HashMap<i64, Lease>,
    by_expiry: BTreeSet<(Instant, i64)>,
    /// The lease of every attached key.
    attached: BTreeMap<Vec<u8>, i64>,
}

impl Lessor {
    /// Checks a grant before anything is changed; returns the TTL that will be granted.
    pub(super) fn check_grant(&self, id: i64, ttl: i64) -> Result<i64, Refusal> {
        if ttl > TTL_MAX {
            return Err(Refusal::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        Ok(ttl.max(TTL_MIN))
    }

    /// Adds a lease that runs for its full TTL from `now`; also used for those found on disk.
    pub(super) fn insert(&mut self, id: i64, ttl: i64, now: Instant) {
        let expires = now + lifetime(ttl);
        self.by_expiry.insert((expires, id));
        self.leases.insert(
            id,
            Lease {
                ttl,
                expires,
                keys: BTreeSet::new(),
            },
        );
    }

    pub(super) fn get(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    pub(super) fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    /// Forgets a lease and returns the keys that were attached, sorted.
    pub(super) fn remove(&mut self, id: i64) -> Option<BTreeSet<Vec<u8>>> {
        let lease = self.leases.remove(&id)?;
        self.by_expiry.remove(&(lease.expires, id));
        for key in &lease.keys {
            self.attached.remove(key);
        }
        Some(lease.keys)
    }

    /// Gives a lease its full TTL again. `None` when it does not exist or is already over.
    pub(super) fn renew(&mut self, id: i64, now: Instant) -> Option<i64> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.expires > now)?;
        self.by_expiry.remove(&(lease.expires, id));
        lease.expires = now + lifetime(lease.ttl);
        self.by_expiry.insert((lease.expires, id));
        Some(lease.ttl)
    }

    /// Attaches a key to `id` (0: to none) and detaches it from the lease it had.
    pub(super) fn attach(&mut self, key: &[u8], id: i64) {
        let before = self.attached.get(key).copied().unwrap_or(0);
        if before == id {
            return;
        }
        if let Some(lease) = self.leases.get_mut(&before) {
            lease.keys.remove(key);
            self.attached.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key.to_vec());
            self.attached.insert(key.to_vec(), id);
        }
    }

    /// When the next lease ends.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry.first().map(|(expires, _)| *expires)
    }

    /// At most `limit` leases that are over, the longest over first.
    pub(super) fn expired(&self, now: Instant, limit: usize) -> Vec<i64> {
        self.by_expiry
            .iter()
            .take_while(|(expires, _)| *expires <= now)
            .take(limit)
            .map(|(_, id)| *id)
            .collect()
    }

    /// Size of all leases, as the quota counts it.
    pub(super) fn bytes(&self) -> usize {
        LEASE_OVERHEAD * self.leases.len()
    }

    /// All leases, the next to end first.
    pub(super) fn ids(&self) -> Vec<i64> {
        self.by_expiry.iter().map(|(_, id)| *id).collect()
    }
}

fn lifetime(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_at_its_ttl_and_not_before() {
        let start = Instant::now();
        let mut lessor = Lessor::default();
        lessor.insert(7, 5, start);
        assert_eq!(lessor.expired(start + Duration::from_millis(4_999), 10), Vec::<i64>::new());
        assert_eq!(lessor.expired(start + Duration::from_secs(5), 10), vec![7]);
    }

    #[test]
    fn a_renewed_lease_runs_for_its_full_ttl_again_but_an_ended_one_does_not_come_back() {
        let start = Instant::now();
        let mut lessor = Lessor::default();
        lessor.insert(7, 5, start);
        assert_eq!(lessor.renew(7, start + Duration::from_secs(4)), Some(5));
        assert_eq!(lessor.next_expiry(), Some(start + Duration::from_secs(9)));
        assert_eq!(lessor.renew(7, start + Duration::from_secs(9)), None);
    }

    #[test]
    fn a_key_belongs_to_the_last_lease_it_was_put_with() {
        let now = Instant::now();
        let mut lessor = Lessor::default();
        lessor.insert(1, 5, now);
        lessor.insert(2, 5, now);
        lessor.attach(b"k", 1);
        lessor.attach(b"k", 2);
        assert_eq!(lessor.remove(1), Some(BTreeSet::new()));
        assert_eq!(lessor.remove(2), Some(BTreeSet::from([b"k".to_vec()])));
        lessor.insert(3, 5, now);
        lessor.attach(b"k", 3);
        lessor.attach(b"k", 0);
        assert_eq!(lessor.remove(3), Some(BTreeSet::new()));
    }

    #[test]
    fn ttls_are_held_within_the_limits_of_etcd() {
        let lessor = Lessor::default();
        assert_eq!(lessor.check_grant(1, 1), Ok(TTL_MIN));
        assert_eq!(lessor.check_grant(1, TTL_MAX), Ok(TTL_MAX));
        assert_eq!(lessor.check_grant(1, TTL_MAX + 1), Err(Refusal::LeaseTtlTooLarge));
    }
}
