//! How many requests without a valid signature an address may send.
//!
//! A table of fixed size has a bucket for each address that lately sent some. An address whose bucket is full is *over*: what it
//! sends is refused cheaply, unless it is authentic. When very many addresses take part, those that have been quiet for longest are
//! forgotten first. There is no lock, and as long as no address is over, a request costs the read of one number.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::server::client::site;

/// Addresses with a bucket, and how many of them have their place in common.
const BUCKETS: usize = 4096;
const WAYS: usize = 4;

/// How long a bucket is filled at the usual rate until it is full: what an address may send at once.
const BURST: Duration = Duration::from_secs(60);

/// A bucket is a number: the upper bits say whose it is, the lower ones when it will be empty, in ticks since the start.
const TIME_BITS: u32 = 44;
const TICK: Duration = Duration::from_micros(10);
const TICKS_PER_SECOND: u64 = 100_000;

#[derive(Debug)]
pub(super) struct Limiter {
    buckets: Box<[AtomicU64]>,
    hasher: RandomState,
    started: Instant,
    /// How many an address may send in a second; 0 for any number.
    pub(super) per_second: u32,
    /// Until then some address is over.
    until: AtomicU64,
}

impl Limiter {
    /// So many a second, and as many at once as there may be in a minute. 0 for any number.
    pub(super) fn new(per_second: u32) -> Self {
        let buckets = if per_second == 0 { 0 } else { BUCKETS };
        Self {
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            started: Instant::now(),
            per_second,
            until: AtomicU64::new(0),
        }
    }

    /// Whether any address is over.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        match self.until.load(Ordering::Relaxed) {
            0 => false,
            until => self.ticks(now) < until,
        }
    }

    /// Whether this address is.
    pub(super) fn is_over(&self, client: IpAddr, now: Instant) -> bool {
        let (tag, ways) = self.place(client);
        let now = self.ticks(now);
        let full = now + burst();
        ways.iter().map(|bucket| bucket.load(Ordering::Relaxed)).any(|it| tag_of(it) == tag && empty_at(it) > full)
    }

    /// Counts a request without a valid signature; returns whether its address is over.
    pub(super) fn count(&self, client: IpAddr, now: Instant) -> bool {
        let (tag, ways) = self.place(client);
        let now = self.ticks(now);
        let loaded = || ways.iter().map(|bucket| (bucket, bucket.load(Ordering::Relaxed)));
        let own = loaded().find(|(_, it)| tag_of(*it) == tag).or_else(|| loaded().min_by_key(|(_, it)| empty_at(*it)));
        let Some((bucket, _)) = own else { return false };
        let step = TICKS_PER_SECOND.checked_div(self.per_second.into()).unwrap_or(0);
        // However many there are, it is over for no longer than one of them takes.
        let filled = |it: u64| {
            let from = if tag_of(it) == tag { empty_at(it).max(now) } else { now };
            (from + step).min(now + burst() + step)
        };
        let before = bucket
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| Some(tag << TIME_BITS | filled(it)))
            .unwrap_or_else(|it| it);
        let filled = filled(before);
        let is_over = filled > now + burst();
        if is_over {
            self.until.fetch_max(filled - burst(), Ordering::Relaxed);
        }
        is_over
    }

    fn ticks(&self, now: Instant) -> u64 {
        let ticks = now.saturating_duration_since(self.started).as_micros() / TICK.as_micros();
        // Beyond that every bucket is full, and the process 5 years old.
        u64::try_from(ticks).unwrap_or(u64::MAX).min((1 << TIME_BITS) - 2 * burst() - 2 * TICKS_PER_SECOND)
    }

    /// Which buckets may be that of an address, and by which number it is known there.
    fn place(&self, client: IpAddr) -> (u64, &[AtomicU64]) {
        let hash = self.hasher.hash_one(site(client));
        let sets = self.buckets.len() / WAYS;
        let set = (hash as usize).checked_rem(sets).unwrap_or(0) * WAYS;
        // A bucket that nobody has had is nobody's.
        ((hash >> TIME_BITS).max(1), self.buckets.get(set..set + WAYS).unwrap_or_default())
    }
}

const fn burst() -> u64 {
    BURST.as_secs() * TICKS_PER_SECOND
}

const fn tag_of(bucket: u64) -> u64 {
    bucket >> TIME_BITS
}

const fn empty_at(bucket: u64) -> u64 {
    bucket & ((1 << TIME_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    /// How many of so many are within the limit.
    fn within(limiter: &Limiter, client: IpAddr, now: Instant, count: u32) -> u32 {
        (0..count).map(|_| u32::from(!limiter.count(client, now))).sum()
    }

    #[test]
    fn a_minutes_worth_at_once_and_then_the_rate() {
        let (one, other) = (address(1), address(2));
        for rate in [1, 3, 20, 1_000] {
            let limiter = Limiter::new(rate);
            let start = Instant::now();
            assert_eq!(within(&limiter, one, start, 60 * rate), 60 * rate, "{rate}");
            assert!(!limiter.is_active(start) && !limiter.is_over(one, start), "{rate}");
            assert_eq!(within(&limiter, one, start, 100_000), 0, "{rate}");
            assert!(limiter.is_active(start) && limiter.is_over(one, start), "{rate}");
            assert!(!limiter.is_over(other, start) && !limiter.count(other, start), "{rate}: it has its own");
            // However long the flood was, it is over within a moment.
            let later = start + Duration::from_secs(2);
            assert!(!limiter.is_active(later) && !limiter.is_over(one, later), "{rate}");
            let again = within(&limiter, one, later, 100_000);
            assert!((rate..=2 * rate + 1).contains(&again), "{rate}: {again}");
            let rested = later + Duration::from_secs(120);
            assert_eq!(within(&limiter, one, rested, 100_000), 60 * rate, "{rate}");
        }
    }

    #[test]
    fn zero_is_no_limit() {
        let (limiter, now) = (Limiter::new(0), Instant::now());
        assert_eq!(within(&limiter, address(1), now, 100_000), 100_000);
        assert!(!limiter.is_active(now) && !limiter.is_over(address(1), now) && limiter.buckets.is_empty());
    }

    #[test]
    fn the_table_does_not_grow_and_the_quiet_are_forgotten_first() {
        let (limiter, start) = (Limiter::new(1), Instant::now());
        let loud = address(u32::MAX);
        assert_eq!(within(&limiter, loud, start, 100), 60);
        // Far more addresses than there are buckets, each once.
        for number in 0..200_000 {
            assert!(!limiter.count(address(number), start), "{number}");
        }
        assert_eq!(limiter.buckets.len(), BUCKETS);
        assert!(limiter.is_over(loud, start), "a fuller bucket stays");
        // Full ones are replaced, too, and the new owner begins with an empty one.
        for number in 1_000_000..1_008_000 {
            assert_eq!(within(&limiter, address(number), start, 61), 60, "{number}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_mapped_ipv4_is_ipv4() {
        let (limiter, now) = (Limiter::new(1), Instant::now());
        let parse = |text: &str| text.parse::<IpAddr>().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        for at in 0..70_u32 {
            limiter.count(parse(&format!("2001:db8::{at:x}")), now);
            limiter.count(parse("::ffff:10.0.0.1"), now);
        }
        for (text, is_over) in
            [("2001:db8::ffff:1", true), ("2001:db8:0:1::1", false), ("10.0.0.1", true), ("10.0.0.2", false)]
        {
            assert_eq!(limiter.is_over(parse(text), now), is_over, "{text}");
        }
    }

    #[test]
    fn it_goes_on_when_the_process_is_old() {
        let (limiter, start) = (Limiter::new(1), Instant::now());
        let Some(old) = start.checked_add(Duration::from_secs(10 * 365 * 86_400)) else { return };
        assert_eq!(within(&limiter, address(1), old, 100), 60);
        assert!(limiter.is_over(address(1), old));
    }
}
