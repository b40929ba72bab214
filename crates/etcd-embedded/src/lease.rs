//! Leases: grants, expiry times and attached keys.
//!
//! This module only reports expired leases. The writer then deletes the keys of each expired lease in one revision. Callers pass the current time in
//! the argument `now`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::error::Refusal;
use super::quota::LEASE_OVERHEAD;

/// Minimum TTL in seconds. etcd derives the same value from its default election timeout of one second.
pub(super) const TTL_MIN: i64 = 2;
/// Maximum TTL in seconds (etcd's `lease.MaxLeaseTTL`).
const TTL_MAX: i64 = 9_000_000_000;

#[derive(Debug)]
pub(super) struct Lease {
    /// Granted time to live in seconds.
    pub(super) ttl: i64,
    pub(super) expires: Instant,
    pub(super) keys: BTreeSet<Vec<u8>>,
}

impl Lease {
    /// Returns the remaining time in whole seconds, or 0 if the lease has expired.
    pub(super) fn remaining(&self, now: Instant) -> i64 {
        i64::try_from(self.expires.saturating_duration_since(now).as_secs()).unwrap_or(i64::MAX)
    }
}

/// All leases, with an index that is sorted by expiry time.
#[derive(Debug, Default)]
pub(super) struct Lessor {
    leases: HashMap<i64, Lease>,
    by_expiry: BTreeSet<(Instant, i64)>,
    /// Lease ID of each key that is attached to a lease.
    attached: BTreeMap<Vec<u8>, i64>,
}

impl Lessor {
    /// Checks a grant request without changing any lease. Returns the TTL to grant.
    pub(super) fn check_grant(&self, id: i64, ttl: i64) -> Result<i64, Refusal> {
        if ttl > TTL_MAX {
            return Err(Refusal::LeaseTtlTooLarge);
        }
        if self.leases.contains_key(&id) {
            return Err(Refusal::LeaseExists);
        }
        Ok(ttl.max(TTL_MIN))
    }

    /// Adds a lease that expires one TTL after `now`. A lease that was loaded from disk also gets its full TTL.
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

    /// Removes a lease and returns its attached keys, sorted.
    pub(super) fn remove(&mut self, id: i64) -> Option<BTreeSet<Vec<u8>>> {
        let lease = self.leases.remove(&id)?;
        self.by_expiry.remove(&(lease.expires, id));
        for key in &lease.keys {
            self.attached.remove(key);
        }
        Some(lease.keys)
    }

    /// Restores the full TTL of a lease. Returns `None` if the lease does not exist or has expired.
    pub(super) fn renew(&mut self, id: i64, now: Instant) -> Option<i64> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.expires > now)?;
        self.by_expiry.remove(&(lease.expires, id));
        lease.expires = now + lifetime(lease.ttl);
        self.by_expiry.insert((lease.expires, id));
        Some(lease.ttl)
    }

    /// Detaches a key from its previous lease and attaches it to the lease `id`. An `id` of 0 only detaches the key.
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

    /// Returns the time at which the next lease expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.by_expiry.first().map(|(expires, _)| *expires)
    }

    /// Returns at most `limit` expired leases, in the order they expired.
    pub(super) fn expired(&self, now: Instant, limit: usize) -> Vec<i64> {
        self.by_expiry
            .iter()
            .take_while(|(expires, _)| *expires <= now)
            .take(limit)
            .map(|(_, id)| *id)
            .collect()
    }

    /// Returns the size of all leases in bytes, as counted by the quota.
    pub(super) fn bytes(&self) -> usize {
        LEASE_OVERHEAD * self.leases.len()
    }

    /// Returns the IDs of all leases, in the order they expire.
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
    fn lease_expires_after_its_ttl() {
        let start = Instant::now();
        let mut lessor = Lessor::default();
        lessor.insert(7, 5, start);
        assert_eq!(lessor.expired(start + Duration::from_millis(4_999), 10), Vec::<i64>::new());
        assert_eq!(lessor.expired(start + Duration::from_secs(5), 10), vec![7]);
    }

    #[test]
    fn renewal_restores_the_full_ttl_but_not_an_expired_lease() {
        let start = Instant::now();
        let mut lessor = Lessor::default();
        lessor.insert(7, 5, start);
        assert_eq!(lessor.renew(7, start + Duration::from_secs(4)), Some(5));
        assert_eq!(lessor.next_expiry(), Some(start + Duration::from_secs(9)));
        assert_eq!(lessor.renew(7, start + Duration::from_secs(9)), None);
    }

    #[test]
    fn key_is_attached_to_its_most_recent_lease() {
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
    fn ttls_are_limited_as_in_etcd() {
        let lessor = Lessor::default();
        assert_eq!(lessor.check_grant(1, 1), Ok(TTL_MIN));
        assert_eq!(lessor.check_grant(1, TTL_MAX), Ok(TTL_MAX));
        assert_eq!(lessor.check_grant(1, TTL_MAX + 1), Err(Refusal::LeaseTtlTooLarge));
    }
}
