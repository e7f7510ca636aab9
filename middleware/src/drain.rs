//! The signal that a server gives its connections before it ends.
//!
//! It only announces: who serves HTTP stops keeping connections alive, who streams finds a good
//! place to stop, who does not care goes on until the server's deadline.

use tokio::sync::watch;

/// Announces the end to all who hold the [`DrainSignal`]; see the [module docs](self).
#[derive(Debug)]
pub struct DrainTrigger(watch::Sender<bool>);

impl DrainTrigger {
    /// A trigger, and the signal that it gives.
    pub fn pair() -> (Self, DrainSignal) {
        let (trigger, announced) = watch::channel(false);
        (Self(trigger), DrainSignal(announced))
    }

    /// Announces the end. Once announced it stays so.
    pub fn announce(&self) {
        self.0.send_replace(true);
    }
}

/// Tells whether the end was announced; cheap to clone.
#[derive(Clone, Debug)]
pub struct DrainSignal(watch::Receiver<bool>);

impl DrainSignal {
    /// Whether the end was announced.
    pub fn is_announced(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the end is announced, at once when it was; never when the trigger is gone
    /// without having been used.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping the future.
    pub async fn announced(mut self) {
        if self.0.wait_for(|announced| *announced).await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_test::{assert_pending, assert_ready, task};

    #[test]
    fn the_announcement_wakes_those_who_wait_and_stays() {
        let (trigger, drain) = DrainTrigger::pair();
        let mut waiting = task::spawn(drain.clone().announced());
        assert_pending!(waiting.poll());
        trigger.announce();
        assert!(waiting.is_woken());
        assert_ready!(waiting.poll());
        drop(trigger);
        assert!(drain.is_announced());
        assert_ready!(task::spawn(drain.announced()).poll());
    }

    #[test]
    fn a_trigger_dropped_unused_announces_nothing() {
        let (trigger, drain) = DrainTrigger::pair();
        drop(trigger);
        assert!(!drain.is_announced());
        assert_pending!(task::spawn(drain.announced()).poll());
    }
}
