//! Limits the request rate per client address. Callers pass the current time.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Number of tracked addresses above which idle addresses are dropped. An address is idle if its bucket is full again.
const ADDRESSES_KEPT: usize = 1024;

/// Rate limiter with a token bucket for each client address. The bucket size is the number of requests allowed per second.
pub struct RateLimiter {
    per_second: f64,
    // A std mutex is sufficient, because it is locked only during map operations.
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl RateLimiter {
    /// Creates a limiter that allows this many requests per second from one address.
    pub fn new(per_second: u32) -> Self {
        RateLimiter {
            per_second: f64::from(per_second),
            buckets: Mutex::new(HashMap::new()),
        }
    }

    /// Counts a request from this address.
    ///
    /// # Errors
    /// Fails if the limit is exceeded. The error is the time until the next request is allowed.
    pub fn admit(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES_KEPT && !buckets.contains_key(&address) {
            let full = |bucket: &Bucket| bucket.refilled(self.per_second, now) >= self.per_second;
            buckets.retain(|_, bucket| !full(bucket));
        }
        let bucket = buckets.entry(address).or_insert(Bucket {
            left: self.per_second,
            at: now,
        });
        bucket.left = bucket.refilled(self.per_second, now);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) / self.per_second));
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

impl Bucket {
    fn refilled(&self, per_second: f64, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + since * per_second).min(per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_limited_and_tokens_refill() {
        let limiter = RateLimiter::new(2);
        let (one, other): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let start = Instant::now();
        assert_eq!([limiter.admit(one, start), limiter.admit(one, start)], [Ok(()), Ok(())]);
        assert_eq!(limiter.admit(one, start), Err(Duration::from_millis(500)));
        assert_eq!(limiter.admit(other, start), Ok(()), "other addresses are not limited");
        assert_eq!(limiter.admit(one, start + Duration::from_millis(500)), Ok(()));
        assert!(limiter.admit(one, start + Duration::from_millis(500)).is_err());
    }

    #[test]
    fn idle_addresses_are_forgotten() {
        let limiter = RateLimiter::new(1);
        let start = Instant::now();
        for number in 0..5000_u32 {
            let at = start + Duration::from_secs(u64::from(number));
            assert_eq!(limiter.admit(std::net::Ipv4Addr::from(number).into(), at), Ok(()));
        }
        assert!(limiter.buckets.lock().expect("not poisoned").len() <= ADDRESSES_KEPT);
    }
}
