//! Triggers that stop a server, besides its handle.

use super::shared::SharedState;
use portcullis_middleware::error::Panicked;
use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::{task::JoinSet, time::sleep};

/// An event that stops a server.
pub(super) enum Trigger {
    Future(Pin<Box<dyn Future<Output = ()> + Send>>),
    Signals,
    Idle(Duration),
}

/// Arms the triggers until the returned set is dropped.
pub(super) fn arm(triggers: Vec<Trigger>, shared: &Arc<SharedState>) -> io::Result<JoinSet<()>> {
    let mut armed = JoinSet::new();
    for trigger in triggers {
        let shared = shared.clone();
        match trigger {
            Trigger::Future(mut future) => {
                armed.spawn(async move {
                    // Also stops the server if the future panics.
                    let _stop = StopAfterTrigger(shared);
                    poll_fn(|cx| {
                        let polled = Panicked::catch(|| future.as_mut().poll(cx));
                        polled.unwrap_or_else(|error| {
                            tracing::error!(%error, "a stop trigger panicked, shutting down");
                            Poll::Ready(())
                        })
                    })
                    .await;
                });
            }
            Trigger::Idle(limit) => {
                armed.spawn(async move {
                    idle(&shared, limit).await;
                    tracing::info!(?limit, "server is idle, shutting down");
                    shared.lifecycle.stop();
                });
            }
            Trigger::Signals => {
                let mut signals = Signals::install()?;
                armed.spawn(async move {
                    signals.next().await;
                    tracing::info!("signal received, shutting down; a second signal force-closes");
                    shared.lifecycle.stop();
                    signals.next().await;
                    shared.lifecycle.stop_now();
                });
            }
        }
    }
    Ok(armed)
}

/// Resolves when, for `limit`, no connection was accepted and none was alive.
async fn idle(shared: &SharedState, limit: Duration) {
    let (listeners, registry) = (&shared.listeners, &shared.registry);
    loop {
        registry.emptied().await;
        let (before, _) = listeners.accepted_and_waiting();
        tokio::select! {
            () = sleep(limit) => {}
            // A connection was accepted and ended, so the time restarts.
            () = registry.released() => continue,
        }
        if listeners.any_paused() {
            // Clients may wait in the kernel's queue.
            continue;
        }
        let (accepted, waiting) = listeners.accepted_and_waiting();
        if accepted == before && waiting == 0 && registry.len() == 0 {
            return;
        }
    }
}

struct StopAfterTrigger(Arc<SharedState>);

impl Drop for StopAfterTrigger {
    fn drop(&mut self) {
        self.0.lifecycle.stop();
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals(());

#[cfg(not(unix))]
impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self(()))
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
