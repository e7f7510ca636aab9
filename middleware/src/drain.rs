//! The signal by which a server notifies its connections of a graceful shutdown.
//!
//! HTTP services stop using keep-alive, streaming handlers stop at a convenient point, and handlers that ignore
//! the signal run until the shutdown deadline. The signal has two [stages](DrainStage), so that idle connections
//! stay open while clients may still send requests on them.

use crate::{ConnectionInfo, internal::IDLE_GRACE_PERIOD};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::watch;

/// How far the graceful shutdown of a server is.
///
/// A server without a notice period skips [`Notified`](Self::Notified), so compare with `>=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DrainStage {
    /// The server is not shutting down.
    #[default]
    Serving,
    /// The server still accepts during its notice period. Finish soon, and notify the peer.
    Notified,
    /// The server has stopped accepting. Connections without work close now.
    Closing,
}

/// Notifies all holders of the [`DrainSignal`]; see the [module docs](self).
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<DrainStage>);

impl DrainTrigger {
    /// Creates a trigger and its signal.
    pub fn pair() -> (Self, DrainSignal) {
        let (trigger, stage) = watch::channel(DrainStage::Serving);
        (Self(trigger), DrainSignal::new(stage))
    }

    /// Notifies connections of the shutdown. It cannot be undone.
    pub fn notify(&self) {
        self.advance(DrainStage::Notified);
    }

    /// Asks connections without work to close.
    pub fn close(&self) {
        self.advance(DrainStage::Closing);
    }

    fn advance(&self, stage: DrainStage) {
        self.0.send_if_modified(|now| {
            let further = stage > *now;
            *now = stage.max(*now);
            further
        });
    }
}

/// Reports whether the server shuts down. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DrainSignal {
    server: watch::Receiver<DrainStage>,
    /// Of a single connection that ends before its server.
    connection: Option<Box<watch::Receiver<DrainStage>>>,
}

impl DrainSignal {
    const fn new(server: watch::Receiver<DrainStage>) -> Self {
        Self {
            server,
            connection: None,
        }
    }

    /// A trigger for one connection of the server with the signal `server`, and the connection's signal, which
    /// follows both.
    pub(crate) fn for_connection(server: Option<&Self>) -> (DrainTrigger, Self) {
        let (trigger, own) = DrainTrigger::pair();
        let signal = match server {
            None => own,
            Some(Self { server, .. }) => Self {
                server: server.clone(),
                connection: Some(Box::new(own.server)),
            },
        };
        (trigger, signal)
    }

    /// The current stage.
    #[inline]
    pub fn stage(&self) -> DrainStage {
        let stage = stage(&self.server);
        match &self.connection {
            None => stage,
            Some(connection) => stage.max(self::stage(connection)),
        }
    }

    /// Whether the server has notified its connections.
    pub fn is_notified(&self) -> bool {
        self.stage() >= DrainStage::Notified
    }

    /// Resolves when the server notifies its connections, or immediately if it already has.
    ///
    /// Stays pending if the trigger is dropped unused.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn notified(self) {
        self.reached(DrainStage::Notified).await;
    }

    /// Resolves when `stage` is reached, or immediately if it already is.
    ///
    /// Stays pending if the trigger is dropped before.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    pub async fn reached(self, stage: DrainStage) {
        let Self { server, connection } = self;
        match connection {
            None => reached(server, stage).await,
            // Boxed, so that it does not enlarge the future of the others.
            Some(connection) => {
                let either = async move {
                    tokio::select! {
                        () = reached(server, stage) => {}
                        () = reached(*connection, stage) => {}
                    }
                };
                Box::pin(either).await;
            }
        }
    }
}

#[inline]
fn stage(signal: &watch::Receiver<DrainStage>) -> DrainStage {
    // No stage is ever marked as seen, so unchanged means the first stage. This check is one load, while a borrow
    // takes a lock.
    match signal.has_changed() {
        Ok(false) => DrainStage::Serving,
        Ok(true) | Err(_) => *signal.borrow(),
    }
}

async fn reached(mut signal: watch::Receiver<DrainStage>, stage: DrainStage) {
    if signal.wait_for(|now| *now >= stage).await.is_err() {
        std::future::pending().await
    }
}

/// Polls `work`, which waits for the peer, until the idle grace period after [`DrainStage::Closing`] elapses.
///
/// Fails with the grace period if `work` takes longer.
pub(crate) const fn within_grace_period<F>(
    info: &ConnectionInfo,
    work: F,
) -> WithinGracePeriod<'_, F> {
    WithinGracePeriod {
        work,
        info,
        idle_grace_period: None,
    }
}

/// Future of [`within_grace_period`].
#[pin_project::pin_project]
pub(crate) struct WithinGracePeriod<'a, F> {
    #[pin]
    work: F,
    info: &'a ConnectionInfo,
    /// In a box, allocated when `work` is pending, to keep silent connections small.
    idle_grace_period: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<F: Future> Future for WithinGracePeriod<'_, F> {
    type Output = Result<F::Output, Duration>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(done) = this.work.poll(cx) {
            return Poll::Ready(Ok(done));
        }
        let Some(signal) = this.info.drain_signal() else {
            return Poll::Pending;
        };
        let idle_grace_period = this.idle_grace_period.get_or_insert_with(|| {
            let closing = signal.clone().reached(DrainStage::Closing);
            Box::pin(async {
                closing.await;
                tokio::time::sleep(IDLE_GRACE_PERIOD).await;
            })
        });
        idle_grace_period
            .as_mut()
            .poll(cx)
            .map(|()| Err(IDLE_GRACE_PERIOD))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_test::{assert_pending, assert_ready, task};

    #[test]
    fn the_announcement_wakes_those_who_wait_and_stays() {
        let (trigger, drain) = DrainTrigger::pair();
        let mut waiting = task::spawn(drain.clone().notified());
        assert_pending!(waiting.poll());
        trigger.notify();
        assert!(waiting.is_woken());
        assert_ready!(waiting.poll());
        drop(trigger);
        assert!(drain.is_notified());
        assert_ready!(task::spawn(drain.notified()).poll());
    }

    #[test]
    fn the_stages_follow_each_other_and_never_go_back() {
        let (trigger, drain) = DrainTrigger::pair();
        let mut closing = task::spawn(drain.clone().reached(DrainStage::Closing));
        assert_eq!(drain.stage(), DrainStage::Serving);
        trigger.notify();
        assert_eq!(drain.stage(), DrainStage::Notified);
        assert_pending!(closing.poll());
        trigger.close();
        assert_ready!(closing.poll());
        trigger.notify();
        assert_eq!(drain.stage(), DrainStage::Closing);
        drop(trigger);
        assert_eq!(drain.clone().stage(), DrainStage::Closing);
    }

    #[test]
    fn a_trigger_dropped_unused_announces_nothing() {
        let (trigger, drain) = DrainTrigger::pair();
        drop(trigger);
        assert!(!drain.is_notified());
        assert_pending!(task::spawn(drain.notified()).poll());
    }
}
