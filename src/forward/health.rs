//! What the answers of a target mean for the events that wait: how many are sent, and when.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::{
    pause::Paused,
    status::{ForwardState, ForwardStatus},
};
use crate::{
    journal::{self, Millis},
    log::seconds,
    metrics::ForwardMetrics,
    observers::{Gate, Width},
};

/// So many failures in a row, and only one event is sent at a time.
const MAX_FAILURES: u32 = 10;

/// The pause before the first of those, and before going on where the target does not say when; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The health of one target, as its answers show it.
#[derive(Debug)]
pub(super) struct Health {
    name: Arc<str>,
    gate: Arc<Gate>,
    metrics: ForwardMetrics,
    state: Mutex<State>,
    /// Notified when the forward is to be paused.
    pausing: Notify,
}

#[derive(Debug)]
struct State {
    failures: u32,
    /// While one event is sent at a time: the pause before the next, and when it is over.
    open: Option<(Duration, Instant)>,
    /// The target wants to be left alone until then, and the pause if it does not say how long.
    slowed: Option<Instant>,
    slow_pause: Duration,
    hold: Hold,
    why: Option<String>,
    since: Option<Millis>,
    last_success: Option<Millis>,
}

/// Whether anything is sent at all.
#[derive(Clone, Debug, PartialEq)]
enum Hold {
    /// Nobody knows yet.
    Unknown,
    No,
    Paused(Paused),
}

impl State {
    fn kind(&self, now: Instant) -> ForwardState {
        match (&self.hold, self.open, self.slowed) {
            (Hold::Paused(_), ..) => ForwardState::Paused,
            (_, Some(_), _) => ForwardState::Open,
            (.., Some(until)) if until > now => ForwardState::Slowed,
            _ => ForwardState::Ok,
        }
    }

    fn because(&mut self, why: &str) {
        if matches!(self.hold, Hold::Paused(_)) {
            return;
        }
        self.why = Some(why.to_owned());
        self.since.get_or_insert_with(journal::now_millis);
    }
}

impl Health {
    /// Nothing is sent until it is known whether the forward is paused.
    pub(super) fn new(name: Arc<str>, gate: Arc<Gate>, metrics: ForwardMetrics) -> Self {
        let state = State {
            failures: 0,
            open: None,
            slowed: None,
            slow_pause: FIRST_PAUSE,
            hold: Hold::Unknown,
            why: None,
            since: None,
            last_success: None,
        };
        metrics.show(ForwardState::Ok);
        Self { name, gate, metrics, state: Mutex::new(state), pausing: Notify::new() }
    }

    pub(super) const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, state: &State, now: Instant) {
        match (&state.hold, state.open) {
            (Hold::Unknown | Hold::Paused(_), _) => self.gate.set(Width::Closed, None),
            (Hold::No, Some((_, next))) => self.gate.set(Width::One, Some(next).max(state.slowed)),
            (Hold::No, None) => self.gate.set(Width::All, state.slowed),
        }
        self.metrics.show(state.kind(now));
    }

    /// The target took an event.
    pub(super) fn succeeded(&self, now: Instant) {
        let mut state = self.lock();
        state.last_success = Some(journal::now_millis());
        if state.failures == 0 && state.open.is_none() && state.slowed.is_none() {
            return;
        }
        let was_open = state.open.take().is_some();
        state.failures = 0;
        // What was in flight before the target asked for a pause does not end that.
        if state.slowed.is_some_and(|until| until <= now) {
            (state.slowed, state.slow_pause) = (None, FIRST_PAUSE);
        }
        if state.kind(now) == ForwardState::Ok {
            (state.why, state.since) = (None, None);
        }
        self.apply(&state, now);
        drop(state);
        if was_open {
            let name = &*self.name;
            info!(forward = name, "forward {name}: the target takes events again");
        }
    }

    /// An attempt failed; the next one is not before `at_least`.
    pub(super) fn failed(&self, now: Instant, why: &str, at_least: Option<Duration>) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        let pause = match state.open {
            // What was sent before it came to that says nothing new.
            Some((_, next)) if now < next => None,
            Some((pause, _)) => Some((pause * 2).min(LONGEST_PAUSE)),
            None if state.failures >= MAX_FAILURES => Some(FIRST_PAUSE),
            None => None,
        };
        let is_new = state.open.is_none() && pause.is_some();
        if let Some(pause) = pause {
            state.open = Some((pause, now + pause.max(at_least.unwrap_or_default())));
            if is_new {
                state.since = None;
            }
            state.because(why);
            self.apply(&state, now);
        }
        drop(state);
        if is_new {
            let name = &*self.name;
            error!(
                forward = name,
                "forward {name}: {MAX_FAILURES} failures in a row, the last one: {why}; one event at a time is tried until \
                 the target takes it, the others wait in the journal"
            );
        }
    }

    /// The target wants to be left alone for a while; returns for how long.
    pub(super) fn slow(&self, now: Instant, why: &str, retry_after: Option<Duration>) -> Duration {
        let mut state = self.lock();
        let is_new = state.slowed.is_none_or(|until| until <= now);
        if is_new && state.slowed.is_some() {
            state.slow_pause = (state.slow_pause * 2).min(LONGEST_PAUSE);
        }
        let pause = retry_after.unwrap_or(state.slow_pause);
        state.slowed = state.slowed.max(Some(now + pause));
        state.because(why);
        self.apply(&state, now);
        drop(state);
        if is_new {
            let (name, pause) = (&*self.name, seconds(pause));
            warn!(forward = name, "forward {name}: {why}; nothing is sent for {pause}, what waits is kept");
        }
        pause
    }

    /// The target is gone: nothing is sent until somebody resumes the forward.
    pub(super) fn pause(&self, paused: Paused) {
        if self.hold(paused.clone()) {
            let (name, why) = (&*self.name, &paused.why);
            error!(
                forward = name,
                "forward {name}: PAUSED: {why}; what waits is kept: set another `to`, or run `echostr forwards resume {name}`"
            );
            self.pausing.notify_one();
        }
    }

    /// It is paused, as the journal has it; returns whether that is new.
    pub(super) fn hold(&self, paused: Paused) -> bool {
        let mut state = self.lock();
        if matches!(state.hold, Hold::Paused(_)) {
            return false;
        }
        (state.why, state.since) = (Some(paused.why.clone()), Some(paused.since));
        state.hold = Hold::Paused(paused);
        self.apply(&state, Instant::now());
        true
    }

    /// It is not paused.
    pub(super) fn resume(&self) {
        let mut state = self.lock();
        if state.hold == Hold::No {
            return;
        }
        let was_paused = state.hold != Hold::Unknown;
        state.hold = Hold::No;
        if was_paused {
            (state.why, state.since, state.failures, state.open, state.slowed) = (None, None, 0, None, None);
        }
        self.apply(&state, Instant::now());
        drop(state);
        if was_paused {
            let name = &*self.name;
            info!(forward = name, "forward {name}: resumed");
        }
    }

    /// What the journal is to keep of a pause.
    pub(super) fn paused(&self) -> Option<Paused> {
        match &self.lock().hold {
            Hold::Paused(paused) => Some(paused.clone()),
            Hold::Unknown | Hold::No => None,
        }
    }

    /// Ready when it was paused.
    pub(super) async fn pausing(&self) {
        self.pausing.notified().await;
    }

    /// What the forward is doing.
    pub(super) fn status(&self, to: &str) -> ForwardStatus {
        let state = self.lock();
        let kind = state.kind(Instant::now());
        let is_ok = kind == ForwardState::Ok;
        let time = |millis: Option<Millis>| Some(jiff::Timestamp::from_millisecond(millis?).ok()?.to_string());
        ForwardStatus {
            name: self.name.to_string(),
            to: to.to_owned(),
            state: kind,
            why: state.why.clone().filter(|_| !is_ok),
            since: time(state.since).filter(|_| !is_ok),
            failures: state.failures,
            last_success: time(state.last_success),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn health() -> Health {
        let health = Health::new("crm".into(), Arc::new(Gate::new(Width::Closed, None)), Metrics::new().forward("crm"));
        health.resume();
        health
    }

    fn room(health: &Health, now: Instant, in_flight: usize) -> usize {
        health.gate().room(now, in_flight)
    }

    #[test]
    fn after_ten_failures_one_is_sent_at_a_time_with_growing_pauses() {
        let (health, now) = (health(), Instant::now());
        (0..9).for_each(|_| health.failed(now, "no", None));
        assert_eq!((health.status("").state, room(&health, now, 5)), (ForwardState::Ok, usize::MAX));
        // Sixteen were in flight.
        (0..7).for_each(|_| health.failed(now, "no", None));
        assert_eq!((health.status("").state, health.status("").failures), (ForwardState::Open, 16));
        let mut at = now;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let next = at + Duration::from_secs(seconds);
            assert_eq!(room(&health, next - Duration::from_millis(1), 0), 0, "{seconds}");
            assert_eq!((room(&health, next, 0), room(&health, next, 1)), (1, 0), "{seconds}");
            at = next;
            health.failed(at, "no", None);
        }
        health.failed(at + LONGEST_PAUSE, "no", Some(Duration::from_secs(300)));
        assert_eq!(room(&health, at + LONGEST_PAUSE + Duration::from_secs(299), 0), 0, "the target says when");
        health.succeeded(at);
        assert_eq!((health.status("").state, room(&health, at, 5)), (ForwardState::Ok, usize::MAX));
        assert_eq!(health.status("").why, None);
    }

    #[test]
    fn a_target_is_left_alone_for_as_long_as_it_asks() {
        let (health, now) = (health(), Instant::now());
        let minute = Duration::from_secs(60);
        assert_eq!(health.slow(now, "busy", Some(minute)), minute);
        assert_eq!(health.slow(now, "busy", Some(FIRST_PAUSE)), FIRST_PAUSE);
        assert_eq!((health.status("").state, health.status("").why.as_deref()), (ForwardState::Slowed, Some("busy")));
        // One that was on its way.
        health.succeeded(now);
        assert_eq!((room(&health, now + minute / 2, 0), room(&health, now + minute, 0)), (0, usize::MAX));
        health.succeeded(now + minute);
        for seconds in [1, 2, 4] {
            let pause = health.slow(now + 2 * minute * seconds, "busy", None);
            assert_eq!(pause, Duration::from_secs(seconds.into()));
        }
    }

    #[test]
    fn a_paused_forward_sends_nothing_whatever_comes_in() {
        let (health, now) = (health(), Instant::now());
        health.pause(Paused::new("http://a/b", 7, "gone"));
        health.succeeded(now);
        health.failed(now, "no", None);
        health.slow(now, "busy", None);
        assert_eq!((health.status("").state, room(&health, now + LONGEST_PAUSE, 0)), (ForwardState::Paused, 0));
        assert_eq!(health.status("").why.as_deref(), Some("gone"));
        health.resume();
        assert_eq!((health.status("").state, room(&health, now, 0)), (ForwardState::Ok, usize::MAX));
    }
}
