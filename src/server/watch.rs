//! Watches the connections of a listener: closes those whose client does not send for long, and when the limit is
//! reached, those that have been idle longest.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::activity::{Activity, Phase, State};

/// How often connections are checked; their limits are that exact.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How many connections are selected for closing at one time: to find one of 20 000 takes a while.
const MAX_CANDIDATES: usize = 256;

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections open at one time.
    pub(super) connections: usize,
    /// Time to send the head of a request.
    pub(super) header: Duration,
    /// How long an idle connection is kept.
    pub(super) idle: Duration,
    /// How long one is kept that has never sent anything.
    pub(super) new: Duration,
}

/// What was seen of a connection, and when first.
#[derive(Debug)]
struct Watch {
    activity: Weak<Activity>,
    state: State,
    since: Instant,
}

impl Watch {
    /// Ends a connection that has been waiting for its client for too long; returns whether to check it again.
    fn look(&mut self, limits: Limits, now: Instant) -> bool {
        let Some(activity) = self.activity.upgrade() else { return false };
        let state = activity.state();
        if state != self.state {
            (self.state, self.since) = (state, now);
            return true;
        }
        let limit = match state.phase() {
            Phase::Idle if state.is_new() => limits.new,
            Phase::Idle => limits.idle,
            Phase::Head => limits.header,
            // These have timeouts of their own.
            Phase::Busy | Phase::Body => return true,
        };
        if now - self.since > limit {
            // Checked again, as it goes on when bytes have come meanwhile.
            activity.end_if_still(state);
        }
        true
    }
}

/// Checks the connections of a listener.
#[derive(Debug, Default)]
pub(super) struct Watches {
    all: Vec<Watch>,
    /// Those that are closed next, the last one first, and what they were doing when they were selected.
    chosen: Vec<(Weak<Activity>, State)>,
    /// Nothing was found to select since the last check.
    none: bool,
}

impl Watches {
    pub(super) fn add(&mut self, activity: &Arc<Activity>, limits: Limits) {
        // When very many come and go, closed ones are removed before the second is over.
        if self.all.len() >= 2 * limits.connections {
            self.look(limits);
        }
        self.all.push(Watch { activity: Arc::downgrade(activity), state: State::default(), since: Instant::now() });
    }

    /// Closes those whose time is over, and removes those that are closed.
    pub(super) fn look(&mut self, limits: Limits) {
        let now = Instant::now();
        self.all.retain_mut(|watch| watch.look(limits, now));
        self.none = false;
    }

    /// Closes the connection that has waited longest for its client: an idle one, else one that has sent a part of a
    /// request. Returns whether there was one.
    pub(super) fn make_room(&mut self) -> bool {
        loop {
            while let Some((activity, state)) = self.chosen.pop() {
                if let Some(activity) = activity.upgrade().filter(|activity| activity.state() == state) {
                    activity.end_if_still(state);
                    return true;
                }
            }
            if self.none {
                return false;
            }
            self.choose();
            self.none = self.chosen.is_empty();
        }
    }

    fn choose(&mut self) {
        let waiting = self.all.iter().filter(|watch| {
            let state = watch.activity.upgrade().map(|activity| activity.state());
            // One that has changed has not waited for long.
            state == Some(watch.state) && watch.state.phase() != Phase::Busy
        });
        let mut waiting: Vec<_> = waiting.collect();
        let order = |watch: &&Watch| (watch.state.phase() != Phase::Idle, watch.since);
        if waiting.len() > MAX_CANDIDATES {
            waiting.select_nth_unstable_by_key(MAX_CANDIDATES, order);
            waiting.truncate(MAX_CANDIDATES);
        }
        waiting.sort_unstable_by_key(order);
        self.chosen = waiting.into_iter().rev().map(|watch| (Weak::clone(&watch.activity), watch.state)).collect();
    }

    /// Ends all, whatever they are doing.
    pub(super) fn end_all(&self) {
        for activity in self.all.iter().filter_map(|watch| watch.activity.upgrade()) {
            activity.end_if_still(activity.state());
        }
    }

    /// Every request in progress is the last one of its connection; what comes within the limits from now on is taken.
    pub(super) fn finish(&mut self) {
        let now = Instant::now();
        for watch in &mut self.all {
            let Some(activity) = watch.activity.upgrade() else { continue };
            activity.finish();
            (watch.state, watch.since) = (activity.state(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        connections: 1,
        header: Duration::from_millis(10),
        idle: Duration::from_millis(20),
        new: Duration::from_millis(20),
    };

    #[test]
    fn what_was_decided_of_a_connection_is_void_once_it_has_gone_on() {
        let (activity, start) = (Arc::new(Activity::new(false)), Instant::now());
        let mut watch = Watch { activity: Arc::downgrade(&activity), state: State::default(), since: start };
        let mut look = |after| watch.look(LIMITS, start + Duration::from_millis(after));
        assert!(look(20) && !activity.is_over(), "idle for as long as it may be");
        assert!(look(21) && activity.is_over());
        activity.bytes_came();
        assert!(!activity.is_over(), "a request came before the connection was asked to close");
        assert!(look(30), "seen for the first time");
        activity.bytes_came();
        assert!(look(40) && !activity.is_over() && look(41) && activity.is_over(), "more of a head begins no new one");
        activity.go_on();
        assert!(!activity.is_over() && look(42) && activity.is_over());
        drop(activity);
        assert!(!look(43), "gone");
    }

    #[test]
    fn those_that_wait_for_longest_give_way_first_and_idle_ones_before_others() {
        const LONG: Duration = Duration::from_secs(60);
        let limits = Limits { connections: 10, header: LONG, idle: LONG, new: LONG };
        let mut watches = Watches::default();
        let activities: Vec<_> = (0..4).map(|_| Arc::new(Activity::new(false))).collect();
        activities.iter().for_each(|activity| watches.add(activity, limits));
        activities[0].bytes_came();
        watches.look(limits);
        // Nobody knows yet since when.
        activities[2].bytes_came();
        for expected in [1, 3, 0] {
            assert!(watches.make_room());
            let over: Vec<_> = (0..4).filter(|at| activities[*at].is_over()).collect();
            assert_eq!(over, [expected]);
            activities[expected].go_on();
        }
        drop(activities);
        assert!(!watches.make_room(), "all are gone");
    }
}
