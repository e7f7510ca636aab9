//! The loop that drives a stack: accept, wait until the stack is ready, spawn the call.
//!
//! An acceptor takes one connection and waits until the stack is ready for it before it takes the next. So
//! backpressure reaches the kernel's accept queue, and at most one connection per acceptor waits outside of it.
//! In the other order (ready, then accept) an idle acceptor would hold a permit, and with a limit of one the
//! other acceptors would starve. The loop itself does no network I/O besides accept, so clients can neither
//! stall nor end it.

use crate::{
    listener::accept_error::{AcceptErrorKind, AcceptErrorPolicy},
    listener::{Accepted, Listener},
    server::Stack,
    server::{
        lifecycle::{Mode, ModeWatch},
        listener_state::ListenerState,
        recorder::Recorder,
        shared::SharedState,
        spawn::Spawn,
    },
};
use portcullis_middleware::{BoxError, ConnectionInfo, connection::ListenerInfo, error::Panicked};
use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};
use tokio::{
    task::{consume_budget, unconstrained},
    time::timeout,
};

/// Accepts connections and spawns their tasks, until its listener is closed or drained.
pub(crate) struct Acceptor<L, S> {
    pub(crate) listener: L,
    pub(crate) stack: S,
    pub(crate) origin: Arc<ListenerInfo>,
    pub(crate) policy: AcceptErrorPolicy,
    /// The state of the listener.
    pub(crate) state: Arc<ListenerState>,
    /// The state of the server.
    pub(crate) shared: Arc<SharedState>,
    pub(crate) spawn: Spawn,
    /// Failed connections in a row.
    pub(crate) failures: u32,
}

impl<L: Listener, S: Stack<L::Io>> Acceptor<L, S> {
    /// Runs until the listener is closed, drained or broken.
    ///
    /// # Errors
    ///
    /// An accept error that the policy classifies as fatal.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let mut mode = self.state.lifecycle.watch_mode();
        loop {
            match mode.current() {
                Mode::Accept => self.accept_while(&mut mode).await?,
                Mode::Pause => drop(mode.changed().await),
                Mode::Finish => return self.empty_queue(&mut mode).await,
                Mode::Leave | Mode::Quit => return Ok(()),
            }
        }
    }

    /// Accepts until the lifecycle changes.
    async fn accept_while(&mut self, mode: &mut ModeWatch) -> io::Result<()> {
        // `current` is checked before each accept. `changed` waits, and is created once for all accepts, because
        // creating it costs more than the check. It is unconstrained because a burst of clients uses up the
        // budget of the task.
        let current = mode.clone();
        let mut changes = mode.clone();
        let mut changed = pin!(unconstrained(changes.changed()));
        loop {
            let accept = poll_fn(|cx| {
                // First, so that no client is accepted after the change.
                if current.has_changed() {
                    return Poll::Ready(None);
                }
                if let Poll::Ready(accepted) = self.listener.poll_accept(cx) {
                    return Poll::Ready(Some(accepted));
                }
                // Polled each time, because a change that was already seen may have woken it.
                changed.as_mut().poll(cx).map(|_| None)
            });
            let Some(accepted) = accept.await else {
                return Ok(());
            };
            match accepted {
                Ok(accepted) => self.admit(accepted).await,
                Err(error) => self.pause_after(error, mode).await?,
            }
        }
    }

    /// Serves the clients in the accept queue, because closing the listener would reset them.
    async fn empty_queue(&mut self, mode: &mut ModeWatch) -> io::Result<()> {
        for _ in 0..QUEUE_BOUND {
            if mode.current() == Mode::Quit {
                break;
            }
            // Lets other tasks run while the queue is long.
            consume_budget().await;
            match self.listener.accept_now() {
                Ok(Some(accepted)) => self.admit(accepted).await,
                Ok(None) => break,
                // Linux reports a lack of file descriptors before it checks the queue.
                Err(error) if self.is_out_of_resources(&error) && self.queue_is_empty() => break,
                Err(error) => self.pause_after(error, mode).await?,
            }
        }
        Ok(())
    }

    fn is_out_of_resources(&self, error: &io::Error) -> bool {
        self.policy.classify(error) == AcceptErrorKind::Resource
    }

    /// Whether the listener knows that its queue is empty.
    fn queue_is_empty(&self) -> bool {
        matches!(self.listener.is_ready(), Ok(false))
    }

    /// Waits until the stack is ready and spawns the call. If the listener quits first, the connection is dropped.
    async fn admit(&mut self, accepted: Accepted<L::Io>) {
        let (io, peer) = accepted.into_parts();
        let recorder = &self.state.recorder;
        recorder.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let local = self.listener.connection_local_address(&io);
        let info = ConnectionInfo::from_listener(self.origin.clone(), peer, local);
        self.failures = 0;
        let unserved = match caught(|| self.stack.clone()) {
            Ok(mut stack) => match ready(&self.state, &mut stack, &info).await {
                Ok(true) => {
                    let (state, shared) = (&self.state, &self.shared);
                    return self.spawn.spawn(state, shared, stack, io, info);
                }
                unready => caught(|| drop(stack)).and(unready),
            },
            Err(panicked) => Err(panicked),
        };
        drop(io);
        match unserved {
            Ok(_) => recorder.record_unserved(&info),
            Err(error) => recorder.record_unready(&info, &error),
        }
    }

    /// Handles a failed accept according to the policy.
    async fn pause_after(&mut self, error: io::Error, mode: &mut ModeWatch) -> io::Result<()> {
        let kind = self.policy.classify(&error);
        let recorder = &self.state.recorder;
        recorder.counters.accept_errors.add(kind);
        let listener = self.origin.name().unwrap_or("unnamed");
        match kind {
            AcceptErrorKind::Connection if self.failures < MAX_FAILURES => {
                // One connection failed before it was accepted, which concerns no other. A listener that only
                // fails still lets other tasks run.
                self.failures += 1;
                consume_budget().await;
                Ok(())
            }
            AcceptErrorKind::Connection | AcceptErrorKind::Resource => {
                recorder.log_pause(kind, listener, &error);
                let released = self.shared.registry.released();
                tokio::select! {
                    _ = timeout(self.policy.pause(), released) => {}
                    _ = mode.changed() => mode.mark_changed(),
                }
                Ok(())
            }
            AcceptErrorKind::Fatal => {
                tracing::error!(listener, %error, "listener is broken and closes");
                Err(error)
            }
        }
    }
}

/// Waits until `stack` is ready for a connection. False if the listener quits first.
///
/// A panic is an error of this connection only, so that a client that can make a service panic cannot end the
/// listener.
async fn ready<S: Stack<Io>, Io>(
    state: &ListenerState,
    stack: &mut S,
    info: &ConnectionInfo,
) -> Result<bool, BoxError> {
    let mut poll = |cx: &mut Context<'_>| match caught(|| stack.poll_ready(cx)) {
        Ok(ready) => ready.map_err(Into::into),
        Err(panicked) => Poll::Ready(Err(panicked)),
    };
    // Polled once before the select, because a stack usually is ready.
    if let Poll::Ready(ready) = poll_fn(|cx| Poll::Ready(poll(cx))).await {
        return ready.map(|()| true);
    }
    let mut waiting = WaitForStack::new(&state.recorder, info);
    let mut mode = state.lifecycle.watch_mode();
    let ready = tokio::select! {
        biased;
        ready = poll_fn(poll) => ready.map(|()| true),
        () = mode.quit() => Ok(false),
    };
    waiting.over = true;
    ready
}

/// Runs code of the stack, and turns its panic into an error.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, BoxError> {
    Panicked::catch(run).map_err(Into::into)
}

/// Counts a connection that waits outside of the kernel's queue, until this is dropped.
struct WaitForStack<'a> {
    recorder: &'a Recorder,
    info: &'a ConnectionInfo,
    over: bool,
}

impl<'a> WaitForStack<'a> {
    fn new(recorder: &'a Recorder, info: &'a ConnectionInfo) -> Self {
        recorder.counters.waiting.fetch_add(1, Ordering::Relaxed);
        Self {
            recorder,
            info,
            over: false,
        }
    }
}

impl Drop for WaitForStack<'_> {
    fn drop(&mut self) {
        self.recorder
            .counters
            .waiting
            .fetch_sub(1, Ordering::Relaxed);
        if !self.over {
            // The acceptor was dropped with the connection that waits.
            self.recorder.record_unserved(self.info);
        }
    }
}

/// This many failed connections in a row mean that the listener fails. The acceptor then pauses between
/// attempts, until it accepts a connection.
const MAX_FAILURES: u32 = 1024;

/// Maximum number of connections served from the queue during the shutdown, so that clients which keep
/// connecting cannot prolong it. It is the largest backlog that Linux grants by default (net.core.somaxconn).
const QUEUE_BOUND: usize = 4096;
