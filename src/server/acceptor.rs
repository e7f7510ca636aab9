//! The loop that drives a stack: accept, wait until the stack is ready, spawn the call.
//!
//! It takes one connection, waits until the stack is ready for it, and takes no other meanwhile. So
//! back-pressure ends up in the kernel's accept queue, one connection at most per acceptor waits
//! outside of it, and no readiness is held while no client connects. (The other order, ready and then
//! accept, starves: with a limit of one, an idle acceptor would hold the only permit.) Nothing that
//! waits on the network happens here, and nothing that a client does stalls or ends the loop.

use crate::{
    listener::accept_error::{AcceptErrorKind, AcceptErrorPolicy},
    listener::{Accepted, Listener},
    server::Stack,
    server::{
        shared::{Mode, Shared},
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
    sync::watch,
    task::{consume_budget, unconstrained},
    time::timeout,
};

/// Takes connections from a listener and has them served, until it is told to finish.
pub(crate) struct Acceptor<L, S> {
    pub(crate) listener: L,
    pub(crate) stack: S,
    pub(crate) origin: Arc<ListenerInfo>,
    pub(crate) policy: AcceptErrorPolicy,
    pub(crate) shared: Arc<Shared>,
    pub(crate) spawn: Spawn,
    /// Failed connections in a row.
    pub(crate) failures: u32,
}

impl<L: Listener, S: Stack<L::Io>> Acceptor<L, S> {
    /// Runs until the server finishes or the listener is broken.
    ///
    /// # Errors
    ///
    /// That of accept which the policy calls fatal.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let mut mode = self.shared.mode.subscribe();
        loop {
            let current = *mode.borrow_and_update();
            match current {
                Mode::Accept => self.accept_while(&mut mode).await?,
                Mode::Pause => drop(mode.changed().await),
                Mode::Finish => return self.empty_queue(&mut mode).await,
                Mode::Quit => return Ok(()),
            }
        }
    }

    /// Accepts until the mode changes.
    async fn accept_while(&mut self, mode: &mut watch::Receiver<Mode>) -> io::Result<()> {
        // One to look at; and one that waits, begun once for all accepts: to begin takes longer than
        // to look. It begins whatever is left of the task's budget, which a crowd uses up.
        let current = mode.clone();
        let mut changes = mode.clone();
        let mut changed = pin!(unconstrained(changes.changed()));
        loop {
            let accept = poll_fn(|cx| {
                // First, so that whoever comes after the change is not taken.
                if !matches!(current.has_changed(), Ok(false)) {
                    return Poll::Ready(None);
                }
                if let Poll::Ready(accepted) = self.listener.poll_accept(cx) {
                    return Poll::Ready(Some(accepted));
                }
                // Each time: it may have been woken by a change that was seen already.
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

    /// Serves what is in the queue already: closing a listener resets the clients that wait in it.
    async fn empty_queue(&mut self, mode: &mut watch::Receiver<Mode>) -> io::Result<()> {
        for _ in 0..QUEUE_BOUND {
            if *mode.borrow_and_update() == Mode::Quit {
                break;
            }
            // A long queue leaves room for others.
            consume_budget().await;
            match self.listener.accept_now() {
                Ok(Some(accepted)) => self.admit(accepted).await,
                Ok(None) => break,
                // Linux says that it is out of descriptors before it looks at the queue.
                Err(error) if self.is_out_of_resources(&error) && self.queue_is_empty() => break,
                Err(error) => self.pause_after(error, mode).await?,
            }
        }
        Ok(())
    }

    fn is_out_of_resources(&self, error: &io::Error) -> bool {
        self.policy.classify(error) == AcceptErrorKind::Resource
    }

    /// Whether the listener knows that no client waits.
    fn queue_is_empty(&self) -> bool {
        matches!(self.listener.is_ready(), Ok(false))
    }

    /// Waits until the stack is ready and spawns the call. When the server quits first, the
    /// connection is dropped.
    async fn admit(&mut self, accepted: Accepted<L::Io>) {
        let (io, peer) = accepted.into_parts();
        self.shared
            .counters
            .accepted
            .fetch_add(1, Ordering::Relaxed);
        let local = self.listener.connection_local_address(&io);
        let info = ConnectionInfo::from_listener(self.origin.clone(), peer, local);
        self.failures = 0;
        let unserved = match caught(|| self.stack.clone()) {
            Ok(mut stack) => match ready(&self.shared, &mut stack, &info).await {
                Ok(true) => return self.spawn.spawn(&self.shared, stack, io, info),
                unready => caught(|| drop(stack)).and(unready),
            },
            Err(panicked) => Err(panicked),
        };
        drop(io);
        match unserved {
            Ok(_) => self.shared.record_unserved(&info),
            Err(error) => self.shared.record_unready(&info, &error),
        }
    }

    /// What follows on a failed accept, as the policy says.
    async fn pause_after(
        &mut self,
        error: io::Error,
        mode: &mut watch::Receiver<Mode>,
    ) -> io::Result<()> {
        let kind = self.policy.classify(&error);
        self.shared.accept_errors.add(kind);
        let listener = self.origin.name().unwrap_or("unnamed");
        match kind {
            AcceptErrorKind::Connection if self.failures < ENDLESS => {
                // One connection failed before it was accepted: its own concern. A listener that
                // does nothing else still leaves room for others.
                self.failures += 1;
                consume_budget().await;
                Ok(())
            }
            AcceptErrorKind::Connection | AcceptErrorKind::Resource => {
                self.shared.log_pause(kind, listener, &error);
                let released = self.shared.registry.released();
                tokio::select! {
                    _ = timeout(self.policy.pause(), released) => {}
                    _ = mode.changed() => mode.mark_changed(),
                }
                Ok(())
            }
            AcceptErrorKind::Fatal => {
                tracing::error!(listener, %error, "listener is broken and ends");
                Err(error)
            }
        }
    }
}

/// Waits until `stack` is ready for a connection; false when the server quits first.
///
/// Whatever panics in here is an error of this one connection: a client that can make a service's
/// `clone` panic must not end the listener by it.
async fn ready<S: Stack<Io>, Io>(
    shared: &Shared,
    stack: &mut S,
    info: &ConnectionInfo,
) -> Result<bool, BoxError> {
    let mut poll = |cx: &mut Context<'_>| match caught(|| stack.poll_ready(cx)) {
        Ok(ready) => ready.map_err(Into::into),
        Err(panicked) => Poll::Ready(Err(panicked)),
    };
    // Not in the select at once: a stack is ready as a rule.
    if let Poll::Ready(ready) = poll_fn(|cx| Poll::Ready(poll(cx))).await {
        return ready.map(|()| true);
    }
    let mut waiting = WaitForStack::new(shared, info);
    let mut quit = shared.mode.subscribe();
    let ready = tokio::select! {
        biased;
        ready = poll_fn(poll) => ready.map(|()| true),
        _ = quit.wait_for(|mode| *mode == Mode::Quit) => Ok(false),
    };
    waiting.over = true;
    ready
}

/// Runs code of the stack's; a panic in there is an error.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, BoxError> {
    Panicked::catch(run).map_err(Into::into)
}

/// One more connection waits outside of the kernel's queue, until this is dropped.
struct WaitForStack<'a> {
    shared: &'a Shared,
    info: &'a ConnectionInfo,
    over: bool,
}

impl<'a> WaitForStack<'a> {
    fn new(shared: &'a Shared, info: &'a ConnectionInfo) -> Self {
        shared.counters.waiting.fetch_add(1, Ordering::Relaxed);
        Self {
            shared,
            info,
            over: false,
        }
    }
}

impl Drop for WaitForStack<'_> {
    fn drop(&mut self) {
        self.shared.counters.waiting.fetch_sub(1, Ordering::Relaxed);
        if !self.over {
            // The acceptor was dropped with the connection that waits.
            self.shared.record_unserved(self.info);
        }
    }
}

/// So many failed connections in a row are no chance: the listener has nothing else to give. It is
/// asked again after a pause then, until a connection comes.
const ENDLESS: u32 = 1024;

/// Connections served from the queue at the end, at most: the largest backlog that Linux grants by
/// default (net.core.somaxconn). A client that never stops connecting must not prolong the end.
const QUEUE_BOUND: usize = 4096;
