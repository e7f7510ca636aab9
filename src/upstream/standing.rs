//! Whether a server can be used: what an operator requested, what checks found, and failed connects.
//!
//! Every choice reads it for all servers, so each part is an atomic of its own.

use std::{
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// Whether and how a server may be used.
#[derive(Debug, Default)]
pub(super) struct Standing {
    request: AtomicU8,
    health: AtomicU8,
    /// A [`Millis`]; zero while the server is not ejected.
    ejected_until: AtomicU64,
    /// The [`Millis`] at which the server came back; zero if it was never away.
    back_since: AtomicU64,
}

impl Standing {
    pub(super) fn request(&self) -> ServerRequest {
        match self.request.load(Ordering::Relaxed) {
            DRAIN => ServerRequest::Drain,
            DOWN => ServerRequest::Down,
            _ => ServerRequest::Auto,
        }
    }

    /// A server that is used again starts slowly.
    pub(super) fn set_request(&self, request: ServerRequest, now: Millis) {
        let before = self.request.swap(request as u8, Ordering::Relaxed);
        if before != request as u8 && request == ServerRequest::Auto {
            self.rise(now);
        }
    }

    /// What was stored before the health is visible after this.
    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            UP => Health::Up,
            UNHEALTHY => Health::Down,
            _ => Health::Unknown,
        }
    }

    pub(super) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Release);
    }

    pub(super) fn is_ejected(&self, now: Millis) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now.0
    }

    /// The end of the current or the last ejection.
    pub(super) fn ejected_until(&self) -> Millis {
        Millis(self.ejected_until.load(Ordering::Relaxed))
    }

    /// The server is not used until then, and afterwards starts slowly.
    pub(super) fn eject(&self, until: Millis) {
        self.ejected_until.store(until.0, Ordering::Relaxed);
        self.back_since.store(until.0, Ordering::Relaxed);
    }

    /// Ends an ejection, if there is one. The slow start begins now.
    pub(super) fn end_ejection(&self, now: Millis) {
        self.ejected_until.store(0, Ordering::Relaxed);
        self.back_since.fetch_min(now.0, Ordering::Relaxed);
    }

    /// The server is back and starts slowly.
    pub(super) fn rise(&self, now: Millis) {
        self.back_since.store(now.0, Ordering::Relaxed);
    }

    /// The share of its weight that the server gets, in thousandths: it grows evenly from a tenth over `slow_start`.
    pub(super) fn share(&self, now: Millis, slow_start: Duration) -> u64 {
        let since = self.back_since.load(Ordering::Relaxed);
        let slow_start = Millis::from(slow_start).0;
        let age = now.0.saturating_sub(since);
        if since == 0 || age >= slow_start {
            return WHOLE;
        }
        FIRST_SHARE + (WHOLE - FIRST_SHARE) * age / slow_start
    }
}

/// What an operator requested for a server; see [`Pool::request`](super::Pool::request).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ServerRequest {
    /// It is used as its health allows; the default.
    Auto = 0,
    /// It keeps its connections and gets no new ones.
    Drain = DRAIN as isize,
    /// It is out of use like one that is down.
    Down = DOWN as isize,
}

/// What health checks found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Not checked yet.
    Unknown = 0,
    Up = UP as isize,
    Down = UNHEALTHY as isize,
}

const DRAIN: u8 = 1;
const DOWN: u8 = 2;
const UP: u8 = 1;
const UNHEALTHY: u8 = 2;

const WHOLE: u64 = 1000;
const FIRST_SHARE: u64 = 100;

/// A time in milliseconds of the pool's [`Clock`]; never zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Millis(pub(super) u64);

impl Millis {
    pub(super) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(Self::from(time).0))
    }
}

impl From<Duration> for Millis {
    fn from(time: Duration) -> Self {
        Self(time.as_millis().try_into().unwrap_or(u64::MAX))
    }
}

/// Times that fit an atomic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Millis {
        Millis(Millis::from(self.0.elapsed()).0 + 1)
    }

    /// The time between `now` and `then`.
    pub(super) fn until(now: Millis, then: Millis) -> Duration {
        Duration::from_millis(then.0.saturating_sub(now.0))
    }
}
