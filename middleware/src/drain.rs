//! The signal that a server gives its connections before it ends.
//!
//! It only announces: who serves HTTP stops keeping connections alive, who streams finds a good
//! place to stop, who does not care goes on until the server's deadline. It comes in two
//! [stages](DrainStage), so that a connection that is idle can be kept for as long as clients may
//! still use it in good faith.

#[cfg(any(feature = "tls", feature = "proxy-protocol"))]
use crate::{ConnectionInfo, internal::IDLE_GRACE_PERIOD};
#[cfg(any(feature = "tls", feature = "proxy-protocol"))]
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::watch;

/// How far a server is on its way to its end.
///
/// A stage may be skipped, as the announcement is where the server accepts no more right after it: compare
/// with `>=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DrainStage {
    /// No end is in sight.
    #[default]
    Serving,
    /// The end was announced; the server still accepts. Finish, take on nothing long, tell the peer.
    Notified,
    /// The server accepts no more: a connection without work to do goes now.
    Closing,
}

/// Announces the end to all who hold the [`DrainSignal`]; see the [module docs](self).
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<DrainStage>);

impl DrainTrigger {
    /// A trigger, and the signal that it gives.
    pub fn pair() -> (Self, DrainSignal) {
        let (trigger, stage) = watch::channel(DrainStage::Serving);
        (Self(trigger), DrainSignal(stage))
    }

    /// Announces the end. Once announced it stays so.
    pub fn notify(&self) {
        self.advance(DrainStage::Notified);
    }

    /// Asks connections that have nothing to do to go.
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

/// Tells whether the end was announced; cheap to clone.
#[derive(Clone, Debug)]
pub struct DrainSignal(watch::Receiver<DrainStage>);

impl DrainSignal {
    /// How far the server is.
    #[inline]
    pub fn stage(&self) -> DrainStage {
        // Nobody marks a stage as seen, so unchanged means the first one: that is one load, where
        // to borrow takes a lock.
        match self.0.has_changed() {
            Ok(false) => DrainStage::Serving,
            Ok(true) | Err(_) => *self.0.borrow(),
        }
    }

    /// Whether the end was announced.
    pub fn is_announced(&self) -> bool {
        self.stage() >= DrainStage::Notified
    }

    /// Resolves when the end is announced, at once when it was; never when the trigger is gone
    /// without having been used.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping the future.
    pub async fn notified(self) {
        self.reached(DrainStage::Notified).await;
    }

    /// Resolves when `stage` is reached, at once when it was; never when the trigger is gone before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping the future.
    pub async fn reached(mut self, stage: DrainStage) {
        if self.0.wait_for(|now| *now >= stage).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Drives `work`, which waits for the peer, until the idle grace period after the server's last accept is over.
///
/// Fails with the grace period where `work` takes longer.
#[cfg(any(feature = "tls", feature = "proxy-protocol"))]
pub(crate) const fn until_last_call<F>(info: &ConnectionInfo, work: F) -> UntilLastCall<'_, F> {
    UntilLastCall {
        work,
        info,
        idle_grace_period: None,
    }
}

/// Future of [`until_last_call`].
#[cfg(any(feature = "tls", feature = "proxy-protocol"))]
#[pin_project::pin_project]
pub(crate) struct UntilLastCall<'a, F> {
    #[pin]
    work: F,
    info: &'a ConnectionInfo,
    /// In a box, made when the peer has to be waited for: silent connections stay small.
    idle_grace_period: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

#[cfg(any(feature = "tls", feature = "proxy-protocol"))]
impl<F: Future> Future for UntilLastCall<'_, F> {
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
        assert!(drain.is_announced());
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
        assert!(!drain.is_announced());
        assert_pending!(task::spawn(drain.notified()).poll());
    }
}
