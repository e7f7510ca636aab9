//! What the parts of one HTTP connection know of its requests: the IO sees bytes, the service sees
//! requests, and the keeper judges by both.

use portcullis_middleware::ConnectionInfo;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// The requests of one connection.
///
/// Only the task of the connection reads bytes and begins requests. Requests of HTTP/2 end in tasks of
/// their own.
#[derive(Debug)]
pub(super) struct Exchanges {
    pub(super) info: ConnectionInfo,
    began: Instant,
    in_flight: AtomicUsize,
    /// When the last request ended, in milliseconds since `began`.
    idle_since: AtomicU64,
    /// See [`Input`].
    input: AtomicU8,
    /// How much of HTTP/2's preface has come, or [`HTTP1`].
    preface: AtomicU8,
    begun: AtomicBool,
    /// Responses are to be the last ones of their connections.
    last: AtomicBool,
    /// An HTTP/2 stream became a tunnel, whose end nobody tells.
    tunnel: AtomicBool,
}

/// What an HTTP connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The first byte.
    FirstByte,
    /// The rest of a head.
    Head,
    /// The next request, since this time.
    Request(Instant),
    /// Its own service, or the peer as part of a request.
    Exchange,
}

impl Exchanges {
    pub(super) fn new(info: ConnectionInfo) -> Arc<Self> {
        Arc::new(Self {
            info,
            began: Instant::now(),
            in_flight: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            input: AtomicU8::new(0),
            preface: AtomicU8::new(0),
            begun: AtomicBool::new(false),
            last: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
        })
    }

    /// When the connection came to HTTP.
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// Notes what was read; nothing is the end of input.
    #[inline]
    pub(super) fn note_read(&self, bytes: &[u8]) {
        let input = self.input.load(RELAXED);
        if bytes.is_empty() {
            self.input.store(input | ENDED, RELAXED);
            return;
        }
        if self.in_flight.load(RELAXED) == 0 {
            self.input.store(input | ANY | FRESH, RELAXED);
        }
        let preface = self.preface.load(RELAXED);
        if usize::from(preface) < PREFACE.len() {
            self.preface.store(match_preface(preface, bytes), RELAXED);
        }
    }

    pub(super) fn input_ended(&self) -> bool {
        self.input.load(RELAXED) & ENDED != 0
    }

    pub(super) fn is_http2(&self) -> bool {
        usize::from(self.preface.load(RELAXED)) == PREFACE.len()
    }

    /// Begins a request, which lasts until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, RELAXED);
        self.begun.store(true, RELAXED);
        let input = self.input.load(RELAXED);
        self.input.store(input & !FRESH, RELAXED);
        InFlight(self.clone())
    }

    /// Whether there was a request.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(RELAXED)
    }

    pub(super) fn waiting(&self) -> Waiting {
        let input = self.input.load(RELAXED);
        // What was stored before the last request ended is seen after this.
        if self.in_flight.load(Ordering::Acquire) > 0 || self.tunnel.load(RELAXED) {
            Waiting::Exchange
        } else if input & ANY == 0 {
            Waiting::FirstByte
        } else if input & FRESH != 0 && !self.is_http2() {
            Waiting::Head
        } else {
            let since = Duration::from_millis(self.idle_since.load(RELAXED));
            Waiting::Request(self.began + since)
        }
    }

    /// Has responses say that they are the last ones.
    pub(super) fn set_last(&self) {
        self.last.store(true, RELAXED);
    }

    pub(super) fn is_last(&self) -> bool {
        self.last.load(RELAXED)
    }
}

/// A request in flight: from its head to the end of its response.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Exchanges>);

impl InFlight {
    pub(super) fn exchanges(&self) -> &Exchanges {
        &self.0
    }

    /// Keeps the connection from ever being idle again.
    pub(super) fn becomes_tunnel(&self) {
        self.0.tunnel.store(true, RELAXED);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let since = self.0.began.elapsed().as_millis();
        self.0.idle_since.store(since as u64, RELAXED);
        self.0.in_flight.fetch_sub(1, Ordering::Release);
    }
}

fn match_preface(matched: u8, bytes: &[u8]) -> u8 {
    let rest = &PREFACE[usize::from(matched)..];
    let seen = rest.len().min(bytes.len());
    match bytes[..seen] == rest[..seen] {
        true => matched + seen as u8,
        false => HTTP1,
    }
}

const RELAXED: Ordering = Ordering::Relaxed;

/// Flags of `Exchanges::input`: something was read; something that belongs to no request yet; the end.
const ANY: u8 = 1;
const FRESH: u8 = 2;
const ENDED: u8 = 4;

/// The first bytes of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Not HTTP/2.
const HTTP1: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::connection::Address;

    fn exchanges() -> Arc<Exchanges> {
        Exchanges::new(ConnectionInfo::new(Address::Unknown, Address::Unknown))
    }

    #[tokio::test]
    async fn the_preface_is_known_however_it_is_cut() {
        for cut in 1..PREFACE.len() {
            let exchanges = exchanges();
            exchanges.note_read(&PREFACE[..cut]);
            assert!(!exchanges.is_http2());
            exchanges.note_read(&PREFACE[cut..]);
            assert!(exchanges.is_http2());
            exchanges.note_read(b"frames");
            assert!(exchanges.is_http2());
        }
    }

    #[tokio::test]
    async fn a_method_that_begins_like_the_preface_is_http1() {
        let exchanges = exchanges();
        exchanges.note_read(b"PR");
        exchanges.note_read(b"OPFIND / HTTP/1.1\r\n");
        exchanges.note_read(PREFACE);
        assert!(!exchanges.is_http2());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_waited_for_follows_bytes_and_requests() {
        let exchanges = exchanges();
        assert_eq!(exchanges.waiting(), Waiting::FirstByte);
        exchanges.note_read(b"GET /");
        assert_eq!(exchanges.waiting(), Waiting::Head);
        let (first, second) = (exchanges.begin(), exchanges.begin());
        assert_eq!(exchanges.waiting(), Waiting::Exchange);
        exchanges.note_read(b"body");
        drop(first);
        assert_eq!(exchanges.waiting(), Waiting::Exchange);
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(second);
        assert_eq!(exchanges.waiting(), Waiting::Request(Instant::now()));
        exchanges.note_read(b"G");
        assert_eq!(exchanges.waiting(), Waiting::Head);
    }
}
