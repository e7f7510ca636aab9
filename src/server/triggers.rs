//! Triggers that stop a server, besides its handle.

use super::{lifecycle::Lifecycle, shared::SharedState};
use portcullis_middleware::error::Panicked;
use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    sync::atomic::Ordering,
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
        let lifecycle = shared.lifecycle.clone();
        match trigger {
            Trigger::Future(mut future) => {
                armed.spawn(async move {
                    // Also stops the server if the future panics.
                    let _stop = StopAfterTrigger(lifecycle);
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
                let shared = shared.clone();
                armed.spawn(async move {
                    idle(&shared, limit).await;
                    tracing::info!(?limit, "server is idle, shutting down");
                    lifecycle.stop();
                });
            }
            Trigger::Signals => {
                let mut signals = Signals::install()?;
                armed.spawn(async move {
                    signals.next().await;
                    tracing::info!("signal received, shutting down; a second signal force-closes");
                    lifecycle.stop();
                    signals.next().await;
                    lifecycle.stop_now();
                });
            }
        }
    }
    Ok(armed)
}

/// Resolves when, for `limit`, no connection was accepted and none was alive.
async fn idle(shared: &SharedState, limit: Duration) {
    let (counters, registry) = (&shared.recorder.counters, &shared.registry);
    let accepted = || counters.accepted.load(Ordering::Relaxed);
    loop {
        registry.emptied().await;
        let before = accepted();
        tokio::select! {
            () = sleep(limit) => {}
            // A connection was accepted and ended, so the time restarts.
            () = registry.released() => continue,
        }
        if shared.lifecycle.is_paused() {
            // Clients may wait in the kernel's queue.
            continue;
        }
        let waiting = counters.waiting.load(Ordering::Relaxed);
        if accepted() == before && waiting == 0 && registry.len() == 0 {
            return;
        }
    }
}

struct StopAfterTrigger(Arc<Lifecycle>);

impl Drop for StopAfterTrigger {
    fn drop(&mut self) {
        self.0.stop();
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
