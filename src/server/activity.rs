//! What a connection is doing, and what it is asked to do.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

use axum::http::{HeaderValue, Response, header::CONNECTION};
use futures_util::task::AtomicWaker;

/// Changes are counted rather than timed, so that a request does not read the clock: the watcher knows since when
/// nothing has changed. Nor does a connection have a timer or wait for a token, which both take locks whenever it is
/// polled: it is woken when something is asked of it.
#[derive(Debug)]
pub(super) struct Activity {
    /// Number of changes, above two bits of [`Phase`].
    state: AtomicU64,
    /// The state that has lasted too long: the connection ends if it still has that one.
    over: AtomicU64,
    /// The request in progress is the last one.
    finish: AtomicBool,
    /// The client may still be sending when the last answer has been written.
    linger: AtomicBool,
    task: AtomicWaker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for a request.
    Idle = 0,
    /// Has sent a part of a head.
    Head = 1,
    /// Has sent a request; handlers have deadlines of their own.
    Busy = 2,
    /// Has sent a head, and not all of the body.
    Body = 3,
}

/// What a connection was doing when it was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State(u64);

impl State {
    pub(super) const fn phase(self) -> Phase {
        match self.0 & 3 {
            0 => Phase::Idle,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Body,
        }
    }

    /// Whether the client has not sent anything yet.
    pub(super) const fn is_new(self) -> bool {
        self.0 == 0
    }
}

impl Activity {
    pub(super) const fn new(finish: bool) -> Self {
        Self {
            state: AtomicU64::new(Phase::Idle as u64),
            over: AtomicU64::new(u64::MAX),
            finish: AtomicBool::new(finish),
            linger: AtomicBool::new(false),
            task: AtomicWaker::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        State(self.state.load(Ordering::Relaxed))
    }

    fn set(&self, phase: Phase) {
        // Only the task of the connection changes it.
        let changes = (self.state.load(Ordering::Relaxed) >> 2).wrapping_add(1);
        self.state.store(changes << 2 | phase as u64, Ordering::Relaxed);
    }

    /// The first bytes of a head begin it; more of them do not begin it again.
    pub(super) fn bytes_came(&self) {
        if self.state().phase() == Phase::Idle {
            self.set(Phase::Head);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) == self.state.load(Ordering::Relaxed)
    }

    pub(super) fn end_if_still(&self, state: State) {
        self.over.store(state.0, Ordering::Relaxed);
        self.task.wake();
    }

    /// The client has sent something that has not been read yet: the connection goes on.
    pub(super) fn go_on(&self) {
        self.over.store(u64::MAX, Ordering::Relaxed);
    }

    /// The next answer has `Connection: close`.
    pub(super) fn finish(&self) {
        self.finish.store(true, Ordering::Relaxed);
    }

    pub(super) fn lingers(&self) -> bool {
        self.linger.load(Ordering::Relaxed)
    }

    pub(super) fn wake_here(&self, waker: &Waker) {
        self.task.register(waker);
    }
}

/// The peer, and what its connection is doing.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) activity: Arc<Activity>,
}

impl Peer {
    /// Marks the connection as busy with a request until the guard is dropped.
    pub(super) fn answers(&self) -> During<'_> {
        During::new(&self.activity, Phase::Busy, Phase::Idle)
    }

    /// Has the connection end behind this response, if it is to finish.
    pub(super) fn finish<B>(&self, response: &mut Response<B>) {
        if self.activity.finish.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Marks the connection as busy with an answer that goes on, until the guard is dropped.
    pub(super) fn goes_on(&self) -> Answering {
        self.activity.set(Phase::Busy);
        Answering(Arc::clone(&self.activity))
    }

    /// Marks the connection as waiting for the rest of a body until the guard is dropped.
    pub(super) fn waits_for_body(&self) -> During<'_> {
        During::new(&self.activity, Phase::Body, Phase::Busy)
    }

    /// Ends the connection behind this response, which the client gets although it may still be sending.
    pub(super) fn close_behind<B>(&self, response: &mut Response<B>) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        self.activity.linger.store(true, Ordering::Relaxed);
    }
}

/// A connection is in a phase until this is dropped.
pub(super) struct During<'a> {
    activity: &'a Activity,
    then: Phase,
}

impl<'a> During<'a> {
    fn new(activity: &'a Activity, phase: Phase, then: Phase) -> Self {
        activity.set(phase);
        Self { activity, then }
    }
}

impl Drop for During<'_> {
    fn drop(&mut self) {
        self.activity.set(self.then);
    }
}

/// A connection is busy until this is dropped.
#[derive(Debug)]
pub(super) struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.set(Phase::Idle);
    }
}
