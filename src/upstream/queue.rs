//! Connections that wait for a server with capacity.

use super::{
    builder::MAX_WAITING,
    member::Reservation,
    pool::{Shared, Unavailable, Wish},
};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// Waiting connections, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Their number, so that a release with an empty queue takes no lock.
    waiting: AtomicUsize,
    waiters: Mutex<VecDeque<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    wish: Wish,
    /// Why it waits, which its limits depend on.
    why: Unavailable,
    sender: oneshot::Sender<Reservation>,
}

/// Why the wait ended without a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotServed {
    QueueFull,
    /// There is nothing to wait for any more, or it is waited for within other limits.
    Changed,
    Elapsed,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Those that were not dropped meanwhile.
    pub(super) fn live(&self) -> usize {
        let waiters = self.lock();
        let live = waiters.iter().filter(|waiter| !waiter.sender.is_closed());
        live.count()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(
        &self,
        wish: &Wish,
        why: Unavailable,
        max: usize,
    ) -> Option<oneshot::Receiver<Reservation>> {
        let mut waiters = self.lock();
        waiters.retain(|waiter| !waiter.sender.is_closed());
        if waiters.len() >= max {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let wish = wish.clone();
        waiters.push_back(Waiter { wish, why, sender });
        self.waiting.store(waiters.len(), Ordering::SeqCst);
        Some(receiver)
    }
}

impl Shared {
    /// Waits for a server with capacity.
    ///
    /// Dropping the future leaves the queue, or gives back what was reserved.
    pub(super) async fn wait(
        &self,
        wish: &Wish,
        until: Instant,
        why: Unavailable,
    ) -> Result<Reservation, NotServed> {
        let max = self.settings().max_waiting;
        let max = match why {
            // The limit is about full servers. There are none before the first are found.
            Unavailable::Pending => max.max(MAX_WAITING),
            _ => max,
        };
        let receiver = self.queue.enter(wish, why, max);
        let receiver = receiver.ok_or(NotServed::QueueFull)?;
        // A server may have become free before the queue was entered.
        self.serve_queue();
        match timeout_at(until, receiver).await {
            Ok(Ok(reservation)) => Ok(reservation),
            Ok(Err(_)) => Err(NotServed::Changed),
            Err(_) => Err(NotServed::Elapsed),
        }
    }

    /// Passes free servers to waiting connections, the oldest first, and ends waits whose reason has changed.
    ///
    /// The order of this and of [`wait`](Self::wait) matters: a release first lowers the count and then looks for
    /// waiters, and a waiter first enters the queue and then looks for a server. So one of them sees the other.
    pub(super) fn serve_queue(&self) {
        if self.queue.len() == 0 {
            return;
        }
        let mut unclaimed = Vec::new();
        let mut waiters = self.queue.lock();
        let (mut index, mut unavailable) = (0, None);
        while let Some(waiter) = waiters.get(index) {
            if waiter.sender.is_closed() {
                drop(waiters.remove(index));
                continue;
            }
            // What one of them did not find, the others would not find either.
            let is_untried = waiter.wish.tried.is_empty();
            let known = unavailable.filter(|_| is_untried);
            match known.map_or_else(|| self.reserve(&waiter.wish), Err) {
                Ok(reserved) => {
                    let waiter = waiters.remove(index);
                    let sent = waiter.map(|waiter| waiter.sender.send(reserved));
                    unclaimed.extend(sent.and_then(Result::err));
                }
                Err(why) => {
                    unavailable = unavailable.or(is_untried.then_some(why));
                    match why == waiter.why {
                        true => index += 1,
                        // Without a sender, the wait ends.
                        false => drop(waiters.remove(index)),
                    }
                }
            }
        }
        self.queue.waiting.store(waiters.len(), Ordering::SeqCst);
        drop(waiters);
        // Without the lock, because a release serves the queue again.
        drop(unclaimed);
    }
}
