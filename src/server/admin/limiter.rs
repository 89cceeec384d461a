//! How often a wrong token may be tried.
//!
//! Each address has some attempts, and all have some together; both come back by themselves within moments. Whoever has
//! none left waits: the right token is not locked out for longer than that.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::server::client::site;

/// Attempts of an address, and how long one takes to come back.
const OF_ADDRESS: (f64, Duration) = (20.0, Duration::from_secs(3));

/// Attempts of all.
const OF_ALL: (f64, Duration) = (200.0, Duration::from_millis(100));

/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Limiter(Mutex<Attempts>);

#[derive(Debug, Default)]
struct Attempts {
    all: Spent,
    addresses: HashMap<IpAddr, Spent>,
}

/// Attempts that were spent and have not come back.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    count: f64,
    at: Option<Instant>,
}

impl Spent {
    fn left(self, now: Instant, pause: Duration) -> f64 {
        let since = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        (self.count - since.as_secs_f64() / pause.as_secs_f64()).max(0.0)
    }

    /// How long until there is another attempt.
    fn wait(self, now: Instant, (most, pause): (f64, Duration)) -> Option<Duration> {
        let over = self.left(now, pause) + 1.0 - most;
        (over > 0.0).then(|| pause.mul_f64(over))
    }

    fn spend(&mut self, now: Instant, pause: Duration) {
        *self = Self { count: self.left(now, pause) + 1.0, at: Some(now) };
    }
}

impl Limiter {
    /// Whether an address has an attempt left.
    ///
    /// # Errors
    /// The seconds until it has.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), u64> {
        self.check_at(address, Instant::now())
    }

    /// The attempt was a wrong one.
    pub(super) fn failed(&self, address: IpAddr) {
        self.failed_at(address, Instant::now());
    }

    fn check_at(&self, address: IpAddr, now: Instant) -> Result<(), u64> {
        let attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = attempts.addresses.get(&site(address)).and_then(|spent| spent.wait(now, OF_ADDRESS));
        match of_address.max(attempts.all.wait(now, OF_ALL)) {
            None => Ok(()),
            Some(wait) => Err(wait.as_secs() + 1),
        }
    }

    fn failed_at(&self, address: IpAddr, now: Instant) {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.all.spend(now, OF_ALL.1);
        let address = site(address);
        if attempts.addresses.len() >= MAX_ADDRESSES && !attempts.addresses.contains_key(&address) {
            attempts.addresses.retain(|_, spent| spent.left(now, OF_ADDRESS.1) > 0.0);
        }
        // When very many take part, the limit of all holds them.
        if attempts.addresses.len() < MAX_ADDRESSES || attempts.addresses.contains_key(&address) {
            attempts.addresses.entry(address).or_default().spend(now, OF_ADDRESS.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_end_and_come_back() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..20 {
            assert_eq!(limiter.check_at(one, start), Ok(()));
            limiter.failed_at(one, start);
        }
        assert_eq!(limiter.check_at(one, start), Err(4));
        assert_eq!(limiter.check_at(other, start), Ok(()), "it has its own");
        assert_eq!(limiter.check_at(one, start + Duration::from_secs(3)), Ok(()));
    }

    #[test]
    fn many_addresses_have_a_limit_together_and_are_not_all_remembered() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        for at in 0..10_000_u32 {
            limiter.failed_at(IpAddr::from(at.to_be_bytes()), start);
        }
        let fresh = IpAddr::from([192, 168, 0, 1]);
        assert!(limiter.check_at(fresh, start).is_err());
        assert_eq!(limiter.0.lock().map(|attempts| attempts.addresses.len()).unwrap_or_default(), MAX_ADDRESSES);
        assert_eq!(limiter.check_at(fresh, start + Duration::from_secs(1000)), Ok(()));
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one() {
        let addresses = ["2001:db8::1", "2001:db8::2:3:4:5", "2001:db8:0:1::1"];
        let sites: Vec<_> = addresses.iter().filter_map(|it| it.parse().ok()).map(site).collect();
        assert_eq!((sites.len(), sites[0] == sites[1], sites[0] == sites[2]), (3, true, false));
    }
}
