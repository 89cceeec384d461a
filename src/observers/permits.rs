//! How many events an observer is given at one time: of each account, and in all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use super::{Gate, Scope};
use crate::journal::Room;

/// What an observer has room for.
#[derive(Debug)]
pub(super) struct Permits {
    /// Of each account.
    each: usize,
    /// In all.
    total: usize,
    state: Mutex<State>,
    /// What else limits it.
    gate: Option<Arc<Gate>>,
    /// Notified when a permit is given back: who leases.
    freed: Notify,
    /// The same, for those that [acquire](Permit::acquire) one again.
    returned: Notify,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    by_account: HashMap<Arc<str>, usize>,
    /// Accounts of which nothing can be done until then.
    rests: HashMap<Arc<str>, Instant>,
}

impl Permits {
    pub(super) fn new(concurrency: usize, scope: Scope, gate: Option<Arc<Gate>>) -> Self {
        let (each, total) = match scope {
            Scope::Account => (concurrency, usize::MAX),
            Scope::All { accounts: 0 | 1 } => (concurrency, concurrency),
            Scope::All { .. } => (concurrency.div_ceil(2), concurrency),
        };
        Self { each, total, state: Mutex::default(), gate, freed: Notify::new(), returned: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is room for, and whether there is more when a permit is given back; nothing when there is no room.
    pub(super) fn room(&self, now: Instant) -> Option<(Room, bool)> {
        let mut state = self.lock();
        let left = self.total.saturating_sub(state.used);
        let limit = self.gate.as_ref().map_or(left, |gate| left.min(gate.room(now, state.used)));
        if limit == 0 {
            return None;
        }
        state.rests.retain(|_, until| *until > now);
        let left = |used: usize| self.each.saturating_sub(used);
        let mut less: HashMap<_, _> =
            state.by_account.iter().map(|(account, used)| (Arc::clone(account), left(*used))).collect();
        let is_limited = less.values().any(|left| *left == 0);
        less.extend(state.rests.keys().map(|account| (Arc::clone(account), 0)));
        Some((Room { limit, each: self.each, less }, is_limited))
    }

    /// Ready when a permit was given back.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Ready when there may be room again.
    pub(super) async fn has_room(&self) {
        match &self.gate {
            None => self.freed().await,
            Some(gate) => tokio::select! {
                () = self.freed() => {}
                () = gate.widened() => {}
            },
        }
    }

    /// A permit for an event that was leased within [`Permits::room`].
    pub(super) fn take(self: &Arc<Self>, account: &Arc<str>) -> Permit {
        let mut state = self.lock();
        state.used += 1;
        *state.by_account.entry(Arc::clone(account)).or_default() += 1;
        drop(state);
        if let Some(gate) = &self.gate {
            gate.take();
        }
        Permit { permits: Arc::clone(self), account: Arc::clone(account), is_held: true }
    }

    /// Nothing of an account can be done until then; returns whether that is new.
    pub(super) fn rest(&self, account: &Arc<str>, until: Instant) -> bool {
        let mut state = self.lock();
        let rests = state.rests.insert(Arc::clone(account), until);
        if let Some(known) = rests.filter(|known| *known > until) {
            state.rests.insert(Arc::clone(account), known);
        }
        rests.is_none()
    }
}

/// Room for one event. It is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    permits: Arc<Permits>,
    account: Arc<str>,
    is_held: bool,
}

impl Permit {
    /// Gives it back while only waiting.
    pub(crate) fn release(&mut self) {
        if !std::mem::take(&mut self.is_held) {
            return;
        }
        let mut state = self.permits.lock();
        state.used -= 1;
        if let Some(used) = state.by_account.get_mut(&self.account) {
            *used -= 1;
            if *used == 0 {
                state.by_account.remove(&self.account);
            }
        }
        drop(state);
        self.permits.freed.notify_one();
        self.permits.returned.notify_waiters();
    }

    /// Takes it again; ready when there is room.
    pub(crate) async fn acquire(&mut self) {
        while !self.is_held {
            let returned = self.permits.returned.notified();
            {
                let mut state = self.permits.lock();
                let of_account = state.by_account.get(&self.account).copied().unwrap_or_default();
                if state.used < self.permits.total && of_account < self.permits.each {
                    state.used += 1;
                    *state.by_account.entry(Arc::clone(&self.account)).or_default() += 1;
                    self.is_held = true;
                    return;
                }
            }
            returned.await;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use futures_util::FutureExt as _;

    use super::{super::gate::Width, Gate, Permits, Scope};

    fn room(permits: &Permits, account: &str) -> usize {
        permits.room(Instant::now()).map_or(0, |(room, _)| room.of_account(account).min(room.limit))
    }

    #[test]
    fn an_account_has_no_more_than_its_part() {
        let (a, b): (Arc<str>, Arc<str>) = ("mp/a".into(), "mp/b".into());
        let permits = Arc::new(Permits::new(4, Scope::All { accounts: 2 }, None));
        let of_a: Vec<_> = (0..2).map(|_| permits.take(&a)).collect();
        assert_eq!((room(&permits, &a), room(&permits, &b)), (0, 2));
        let of_b: Vec<_> = (0..2).map(|_| permits.take(&b)).collect();
        assert!(permits.room(Instant::now()).is_none());
        drop((of_a, of_b));
        assert_eq!(room(&permits, &a), 2);
        {
            let state = permits.lock();
            assert!(state.used == 0 && state.by_account.is_empty());
        }

        let permits = Arc::new(Permits::new(4, Scope::Account, None));
        let of_a: Vec<_> = (0..4).map(|_| permits.take(&a)).collect();
        assert_eq!((room(&permits, &a), room(&permits, &b)), (0, 4));
        assert!(permits.room(Instant::now()).unwrap().1);
        drop(of_a);

        let permits = Permits::new(3, Scope::All { accounts: 1 }, None);
        assert_eq!(room(&permits, &a), 3);
    }

    #[test]
    fn a_gate_leaves_room_for_fewer() {
        let a: Arc<str> = "mp/a".into();
        let gate = Arc::new(Gate::new(Width::Closed, None));
        let permits = Arc::new(Permits::new(2, Scope::Account, Some(Arc::clone(&gate))));
        assert!(permits.room(Instant::now()).is_none());
        gate.set(Width::One, None);
        let permit = permits.take(&a);
        assert!(permits.room(Instant::now()).is_none());
        gate.set(Width::All, None);
        assert_eq!(room(&permits, &a), 1);
        drop(permit);
        assert_eq!(room(&permits, &a), 2);
    }

    #[test]
    fn an_account_that_rests_has_no_room() {
        let (a, now): (Arc<str>, _) = ("mp/a".into(), Instant::now());
        let permits = Permits::new(4, Scope::Account, None);
        permits.rest(&a, now + Duration::from_secs(60));
        permits.rest(&a, now + Duration::from_secs(1));
        let (room, is_limited) = permits.room(now + Duration::from_secs(59)).unwrap();
        assert_eq!((room.of_account(&a), room.of_account("mp/b"), is_limited), (0, 4, false));
        let (room, _) = permits.room(now + Duration::from_secs(60)).unwrap();
        assert_eq!(room.of_account(&a), 4);
    }

    #[test]
    fn a_permit_is_given_back_while_its_holder_waits() {
        let a: Arc<str> = "mp/a".into();
        let permits = Arc::new(Permits::new(1, Scope::Account, None));
        let mut first = permits.take(&a);
        assert!(permits.freed().now_or_never().is_none());
        first.release();
        assert!(permits.freed().now_or_never().is_some());
        let second = permits.take(&a);
        {
            let mut again = Box::pin(first.acquire());
            assert!(again.as_mut().now_or_never().is_none());
            drop(second);
            assert!(again.now_or_never().is_some());
        }
        assert_eq!(room(&permits, &a), 0);
        drop(first);
        assert_eq!(room(&permits, &a), 1);
    }
}
