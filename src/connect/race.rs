//! Tries several addresses, each after a delay (Happy Eyeballs, RFC 8305).
//!
//! The caller defines the attempts; this module defines their order and timing.

use super::Attempt;
use portcullis_middleware::error::Elapsed;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};
use tokio::time::{Sleep, sleep};

/// The attempts at the addresses of one host. Dropping it drops the running attempts.
pub(super) struct Race<A, Fut> {
    waiting: vec::IntoIter<SocketAddr>,
    running: Vec<(SocketAddr, Pin<Box<Fut>>)>,
    failed: Vec<Attempt>,
    attempt: A,
    delay: Duration,
    /// Fires when the next attempt begins, even if the previous one is still running.
    next: Pin<Box<Sleep>>,
}

impl<A, Fut, T> Race<A, Fut>
where
    A: FnMut(SocketAddr) -> Fut,
    Fut: Future<Output = io::Result<T>>,
{
    /// Tries `addresses` in order, each at most `delay` after the previous one.
    pub(super) fn new(addresses: Vec<SocketAddr>, delay: Duration, attempt: A) -> Self {
        Self {
            waiting: addresses.into_iter(),
            running: Vec::new(),
            failed: Vec::new(),
            attempt,
            delay,
            next: Box::pin(sleep(delay)),
        }
    }

    /// Ready with the first success, or with `None` once all have failed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(SocketAddr, T)>> {
        loop {
            let failed = self.failed.len();
            if let Some(won) = self.poll_running(cx) {
                return Poll::Ready(Some(won));
            }
            if self.waiting.len() == 0 {
                let over = self.running.is_empty();
                return if over {
                    Poll::Ready(None)
                } else {
                    Poll::Pending
                };
            }
            let at_once = self.running.is_empty() || self.failed.len() > failed;
            if !at_once {
                ready!(self.next.as_mut().poll(cx));
            }
            self.start();
        }
    }

    /// The failed attempts; those still running when `elapsed` occurred come last.
    pub(super) fn into_failures(self, elapsed: Option<Elapsed>) -> Vec<Attempt> {
        let mut failures = self.failed;
        if let Some(elapsed) = elapsed {
            let unanswered = self.running.into_iter();
            failures.extend(unanswered.map(|(address, _)| Attempt::new(address, elapsed.into())));
        }
        failures
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) -> Option<(SocketAddr, T)> {
        let mut index = 0;
        while let Some((address, attempt)) = self.running.get_mut(index) {
            match attempt.as_mut().poll(cx) {
                Poll::Ready(Ok(won)) => return Some((*address, won)),
                Poll::Ready(Err(error)) => {
                    self.failed.push(Attempt::new(*address, error));
                    drop(self.running.remove(index));
                }
                Poll::Pending => index += 1,
            }
        }
        None
    }

    fn start(&mut self) {
        if let Some(address) = self.waiting.next() {
            let attempt = Box::pin((self.attempt)(address));
            self.running.push((address, attempt));
            self.next.set(sleep(self.delay));
        }
    }
}

/// Alternates between IPv6 and IPv4, beginning with the family of the first address, and removes duplicates.
/// The order within a family stays (RFC 8305, 4).
pub(super) fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if addresses.len() < 2 {
        return addresses;
    }
    let mut unique = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !unique.contains(&address) {
            unique.push(address);
        }
    }
    let first_is_v6 = unique.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = unique
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut interleaved = Vec::with_capacity(first.len() + second.len());
    while first.len() + second.len() > 0 {
        interleaved.extend(first.next());
        interleaved.extend(second.next());
    }
    interleaved
}
