//! What makes a server stop, besides its handle.

use super::shared::Shared;
use portcullis_middleware::error::Panicked;
use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::task::JoinSet;

/// One thing that makes a server stop.
pub(super) enum Trigger {
    Future(Pin<Box<dyn Future<Output = ()> + Send>>),
    Signals,
    Idle(Duration),
}

/// Has each trigger stop the server; they end with what is returned.
pub(super) fn arm(triggers: Vec<Trigger>, shared: &Arc<Shared>) -> io::Result<JoinSet<()>> {
    let mut armed = JoinSet::new();
    for trigger in triggers {
        let shared = shared.clone();
        match trigger {
            Trigger::Future(mut future) => {
                armed.spawn(async move {
                    // However it ends, by a panic too: a server must not lose its way to an end.
                    let _stop = StopOnDrop(shared);
                    poll_fn(|cx| {
                        let polled = Panicked::catch(|| future.as_mut().poll(cx));
                        polled.unwrap_or_else(|error| {
                            tracing::error!(%error, "a trigger panicked: draining");
                            Poll::Ready(())
                        })
                    })
                    .await;
                });
            }
            Trigger::Idle(limit) => {
                armed.spawn(async move {
                    shared.idle(limit).await;
                    tracing::info!(?limit, "nothing to do: draining");
                    shared.stop();
                });
            }
            Trigger::Signals => {
                let mut signals = Signals::install()?;
                armed.spawn(async move {
                    signals.next().await;
                    tracing::info!("signal received: draining; another one ends it at once");
                    shared.stop();
                    signals.next().await;
                    shared.stop_at_once();
                });
            }
        }
    }
    Ok(armed)
}

struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
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
