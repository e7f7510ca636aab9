//! Limits the connections whose handshake is unfinished, and chooses which one to displace.

use super::handshake::HandshakeFailure;
use std::{
    collections::BTreeMap,
    future::poll_fn,
    mem,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// A limited number of places. When all are taken, the next connection displaces the one that has waited
/// longest for its client.
///
/// An active client answers within a round trip, so it is displaced only if that many others connect
/// meanwhile. sshd's `MaxStartups` is based on the same idea, with random drops.
#[derive(Debug)]
pub(super) struct Unfinished {
    max: usize,
    state: Mutex<UnfinishedState>,
}

#[derive(Debug, Default)]
struct UnfinishedState {
    taken: usize,
    /// Connections that wait for their client, by ticket, the oldest first.
    waiting: BTreeMap<u64, Waker>,
    next_ticket: u64,
}

impl Unfinished {
    pub(super) fn new(max: usize) -> Self {
        let state = Mutex::default();
        Self { max, state }
    }

    /// Takes a place; `None` if `max` connections wait for a slot and not for their clients.
    pub(super) fn enter(&self) -> Option<HandshakePlace<'_>> {
        let mut state = self.state();
        let mut displaced = None;
        if state.taken >= self.max {
            displaced = Some(state.waiting.pop_first()?);
        } else {
            state.taken += 1;
        }
        drop(state);
        if let Some((_, waker)) = displaced {
            waker.wake();
        }
        let (all, standing) = (self, Standing::Working);
        Some(HandshakePlace { all, standing })
    }

    pub(super) const fn max(&self) -> usize {
        self.max
    }

    pub(super) fn count(&self) -> usize {
        self.state().taken
    }

    fn state(&self) -> MutexGuard<'_, UnfinishedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one connection, freed on drop.
#[derive(Debug)]
pub(super) struct HandshakePlace<'a> {
    all: &'a Unfinished,
    standing: Standing,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    Working,
    Waiting(u64),
    Displaced,
}

impl HandshakePlace<'_> {
    /// Waits for the client by running `wait`; fails if another connection takes the place meanwhile.
    pub(super) async fn wait_for_client<T>(
        &mut self,
        wait: impl Future<Output = Result<T, HandshakeFailure>>,
    ) -> Result<T, HandshakeFailure> {
        let mut wait = pin!(wait);
        poll_fn(|cx| match wait.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(self.work().and(result)),
            Poll::Pending => self.poll_displaced(cx),
        })
        .await
    }

    /// Leaves the queue of connections that can be displaced.
    fn work(&mut self) -> Result<(), HandshakeFailure> {
        if let Standing::Waiting(ticket) = self.standing {
            let left = self.all.state().waiting.remove(&ticket);
            self.standing = left.map_or(Standing::Displaced, |_| Standing::Working);
        }
        match self.standing {
            Standing::Displaced => Err(HandshakeFailure::Displaced),
            Standing::Working | Standing::Waiting(_) => Ok(()),
        }
    }

    fn poll_displaced<T>(&mut self, cx: &Context<'_>) -> Poll<Result<T, HandshakeFailure>> {
        let mut state = self.all.state();
        match self.standing {
            Standing::Working => {
                let ticket = state.next_ticket;
                state.next_ticket += 1;
                state.waiting.insert(ticket, cx.waker().clone());
                self.standing = Standing::Waiting(ticket);
            }
            Standing::Waiting(ticket) => match state.waiting.get_mut(&ticket) {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                Some(waker) => {
                    let old = mem::replace(waker, cx.waker().clone());
                    drop(state);
                    drop(old);
                }
                None => self.standing = Standing::Displaced,
            },
            Standing::Displaced => {}
        }
        match self.standing {
            Standing::Displaced => Poll::Ready(Err(HandshakeFailure::Displaced)),
            Standing::Working | Standing::Waiting(_) => Poll::Pending,
        }
    }
}

impl Drop for HandshakePlace<'_> {
    fn drop(&mut self) {
        // A displaced connection frees nothing, because another connection has its place.
        if self.work().is_ok() {
            self.all.state().taken -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio_test::{assert_pending, assert_ready, task};

    fn is_displaced<T>(result: &Result<T, HandshakeFailure>) -> bool {
        matches!(result, Err(HandshakeFailure::Displaced))
    }

    #[test]
    fn the_one_that_waits_for_its_client_the_longest_makes_room() {
        let all = Unfinished::new(2);
        let (mut first, mut second) = (all.enter().unwrap(), all.enter().unwrap());
        let mut second = task::spawn(second.wait_for_client(pending::<Result<(), _>>()));
        assert_pending!(second.poll());
        let mut first = task::spawn(first.wait_for_client(pending::<Result<(), _>>()));
        assert_pending!(first.poll());

        let third = all.enter().unwrap();
        assert!(second.is_woken() && !first.is_woken());
        assert!(is_displaced(&assert_ready!(second.poll())));
        assert_eq!(all.count(), 2);
        drop(second);
        assert_eq!(all.count(), 2);
        drop(third);
        assert_eq!(all.count(), 1);
    }

    #[test]
    fn one_that_waits_for_us_is_not_displaced_and_the_next_is_rejected() {
        let all = Unfinished::new(2);
        let mut first = all.enter().unwrap();
        let mut second = all.enter().unwrap();
        assert!(all.enter().is_none());
        // With its input received, it waits for a slot again.
        assert_ready!(task::spawn(first.wait_for_client(async { Ok(()) })).poll()).unwrap();
        assert!(all.enter().is_none());
        {
            let mut waiting = task::spawn(second.wait_for_client(pending::<Result<(), _>>()));
            assert_pending!(waiting.poll());
            assert!(all.enter().is_some());
        }
        drop(second);
        drop(first);
        assert_eq!(all.count(), 0);
    }

    #[test]
    fn input_that_comes_after_the_place_is_lost_is_too_late() {
        let all = Unfinished::new(1);
        let (send, receive) = tokio::sync::oneshot::channel::<()>();
        let mut first = all.enter().unwrap();
        {
            let wait = async { receive.await.map_err(|_| HandshakeFailure::Displaced) };
            let mut first = task::spawn(first.wait_for_client(wait));
            assert_pending!(first.poll());
            let _second = all.enter().unwrap();
            send.send(()).unwrap();
            assert!(is_displaced(&assert_ready!(first.poll())));
        }
        drop(first);
        assert_eq!(all.count(), 0);
    }
}
