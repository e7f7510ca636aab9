//! The inner service of the check.

use crate::BoxError;
use std::{
    fmt,
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};
use tower::Service;

/// The inner service of [`assert_contract`](super::assert_contract); only it constructs one.
///
/// It accepts any request and returns `()`. It records calls without readiness instead of panicking, because
/// some layers catch panics.
pub struct Probe {
    shared: Arc<ProbeShared>,
    /// Readiness is a permit, so that losing it is detected.
    ready: Option<ProbePermit>,
}

#[derive(Debug)]
struct ProbeShared(Mutex<ProbeState>);

#[derive(Debug)]
struct ProbeState {
    gate: ProbeGate,
    room: usize,
    /// Permits in ready instances and in futures.
    held: usize,
    calls: usize,
    ending: CallEnding,
    finished: bool,
    violation: Option<&'static str>,
    /// Tasks that wait for a change.
    wakers: Vec<Waker>,
}

/// The behaviour of `poll_ready`.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProbeGate {
    Open,
    Closed,
    Failing,
}

/// The result of the next call; calls after a failure succeed.
#[derive(Clone, Copy, Debug)]
pub(super) enum CallEnding {
    /// It runs until [`Probe::finish`].
    Wait,
    Answer,
    Fail,
    Panic,
    PanicInCall,
}

impl Probe {
    pub(super) fn new() -> Self {
        Self::of(Arc::new(ProbeShared(Mutex::new(ProbeState {
            gate: ProbeGate::Open,
            room: usize::MAX,
            held: 0,
            calls: 0,
            ending: CallEnding::Answer,
            finished: false,
            violation: None,
            wakers: Vec::new(),
        }))))
    }

    const fn of(shared: Arc<ProbeShared>) -> Self {
        let ready = None;
        Self { shared, ready }
    }

    pub(super) fn set_gate(&self, gate: ProbeGate) {
        self.shared.change(|state| state.gate = gate);
    }

    pub(super) fn set_room(&self, room: usize) {
        self.shared.change(|state| state.room = room);
    }

    pub(super) fn set_ending(&self, ending: CallEnding) {
        self.shared.change(|state| {
            state.ending = ending;
            state.finished = false;
        });
    }

    /// Ends waiting calls.
    pub(super) fn finish(&self) {
        self.shared.change(|state| state.finished = true);
    }

    pub(super) fn calls(&self) -> usize {
        self.shared.state().calls
    }

    pub(super) fn held(&self) -> usize {
        self.shared.state().held
    }

    pub(super) fn violation(&self) -> Option<&'static str> {
        self.shared.state().violation
    }

    /// Wakes `cx` at the next change.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        self.shared.state().wakers.push(cx.waker().clone());
    }
}

impl ProbeShared {
    fn state(&self) -> MutexGuard<'_, ProbeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut ProbeState) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        // Wake after unlocking, because wakers are foreign code.
        wakers.into_iter().for_each(Waker::wake);
        result
    }
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        Self::of(self.shared.clone())
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("ready", &self.ready.is_some())
            .finish_non_exhaustive()
    }
}

impl<R> Service<R> for Probe {
    type Response = ();
    type Error = BoxError;
    type Future = ProbeFuture<R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut state = self.shared.state();
        if let ProbeGate::Failing = state.gate {
            return Poll::Ready(Err("the inner service fails to become ready".into()));
        }
        if self.ready.is_some() {
            return Poll::Ready(Ok(()));
        }
        if matches!(state.gate, ProbeGate::Closed) || state.held >= state.room {
            state.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        state.held += 1;
        drop(state);
        self.ready = Some(ProbePermit(self.shared.clone()));
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> ProbeFuture<R> {
        let permit = self.ready.take();
        let ending = self.shared.change(|state| {
            state.calls += 1;
            if permit.is_none() {
                state.violation = Some(UNREADY);
            }
            match state.ending {
                CallEnding::Wait => CallEnding::Wait,
                CallEnding::Answer
                | CallEnding::Fail
                | CallEnding::Panic
                | CallEnding::PanicInCall => {
                    std::mem::replace(&mut state.ending, CallEnding::Answer)
                }
            }
        });
        if let CallEnding::PanicInCall = ending {
            panic_quietly();
        }
        ProbeFuture {
            held: Some((request, permit)),
            ending,
            shared: self.shared.clone(),
        }
    }
}

/// Future of [`Probe`].
#[derive(Debug)]
pub struct ProbeFuture<R> {
    /// The request is dropped first.
    held: Option<(R, Option<ProbePermit>)>,
    ending: CallEnding,
    shared: Arc<ProbeShared>,
}

// The request is never pinned.
impl<R> Unpin for ProbeFuture<R> {}

impl<R> Future for ProbeFuture<R> {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let CallEnding::Wait = self.ending {
            let mut state = self.shared.state();
            if !state.finished {
                state.wakers.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        if let CallEnding::Panic | CallEnding::PanicInCall = self.ending {
            panic_quietly();
        }
        self.held = None;
        match self.ending {
            CallEnding::Fail => Poll::Ready(Err("the inner service fails".into())),
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// Readiness of one instance, released on drop.
#[derive(Debug)]
struct ProbePermit(Arc<ProbeShared>);

impl Drop for ProbePermit {
    fn drop(&mut self) {
        self.0.change(|state| state.held -= 1);
    }
}

/// Panics without invoking the panic hook, because the panic is intended.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("the inner service panics, as requested"))
}

const UNREADY: &str = "the inner service was called, and `poll_ready` of that instance had not \
                       returned ready since its last call";
