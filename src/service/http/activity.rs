//! Activity of one HTTP connection, that is, requests in flight and bytes waiting to be sent.
//!
//! The I/O object records bytes, the service records requests, and the supervisor decides by both.

use super::protocol::HttpVersion;
use portcullis_middleware::ConnectionInfo;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::time::Instant;

/// The recorded activity of one connection.
///
/// Only the connection's task moves bytes and begins requests. HTTP/2 requests may end in their own tasks.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) info: ConnectionInfo,
    began: Instant,
    /// The number of shares in requests, and how many of these are data waiting to be sent; see [`InFlight`].
    shares: AtomicU64,
    /// When the last request ended, or HTTP/2 began.
    idle_since: Mutex<Instant>,
    /// See [`ANY`] and its neighbours.
    input: AtomicU8,
    /// How many bytes of HTTP/2's preface have arrived, or [`HTTP1`].
    preface: AtomicU8,
    /// The last write or flush is pending.
    blocked: AtomicBool,
    /// Changes whenever the client reads some of the waiting data.
    sent: AtomicU64,
    begun: AtomicBool,
    /// The input ends unless its first byte is already there.
    hung_up: AtomicBool,
    /// hyper gives the I/O object away, because an HTTP/1 response switched protocols.
    upgraded: AtomicBool,
    /// hyper was dropped before it was done.
    abandoned: AtomicBool,
    /// An HTTP/2 stream became a tunnel, which may be read after the end of its share.
    tunnel: AtomicBool,
    /// The server is shutting down and has asked the client to leave. A client that still sends may also
    /// still be reading.
    leaving: AtomicBool,
}

/// What an HTTP connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitingFor {
    /// The first byte.
    FirstByte,
    /// The rest of a head.
    Head,
    /// The next request, since [`Activity::idle_since`].
    Request,
    /// The client, to read what is ready for it. The number changes whenever it reads some.
    Send(u64),
    /// The service, or the peer as part of a request.
    Exchange,
}

impl Activity {
    pub(super) fn new(info: ConnectionInfo) -> Arc<Self> {
        let began = Instant::now();
        Arc::new(Self {
            info,
            began,
            shares: AtomicU64::new(0),
            idle_since: Mutex::new(began),
            input: AtomicU8::new(0),
            preface: AtomicU8::new(0),
            blocked: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            begun: AtomicBool::new(false),
            hung_up: AtomicBool::new(false),
            upgraded: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        })
    }

    /// When HTTP took over the connection.
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// Records what was read; an empty slice is the end of input.
    #[inline]
    pub(super) fn note_read(&self, bytes: &[u8]) {
        let input = self.input.load(RELAXED);
        if bytes.is_empty() {
            self.input.store(input | ENDED, RELAXED);
            return;
        }
        if self.shares.load(RELAXED) == 0 {
            self.input.store(input | ANY | FRESH, RELAXED);
            let leaving = self.leaving.load(RELAXED);
            if leaving || self.tunnel.load(RELAXED) && !are_pings(bytes) {
                self.note_idle();
            }
        }
        let preface = self.preface.load(RELAXED);
        if usize::from(preface) < PREFACE.len() {
            self.preface.store(match_preface(preface, bytes), RELAXED);
            if self.is_http2() {
                // It may have arrived late.
                self.note_idle();
            }
        }
    }

    /// Records whether a write or flush is pending.
    #[inline]
    pub(super) fn note_write<T>(&self, result: &Poll<T>) {
        if result.is_pending() != self.blocked.load(RELAXED) {
            self.blocked.store(result.is_pending(), RELAXED);
            self.note_sent();
        }
    }

    /// Records that the client read some data.
    fn note_sent(&self) {
        // Only the connection's task sends.
        let sent = self.sent.load(RELAXED).wrapping_add(1);
        self.sent.store(sent, RELAXED);
    }

    /// Records that hyper is dropped before it is done.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, RELAXED);
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(RELAXED)
    }

    pub(super) fn input_ended(&self) -> bool {
        self.input.load(RELAXED) & ENDED != 0
    }

    /// Records that our side is closed, and that the I/O object lingers for the peer's end.
    pub(super) fn note_lingering(&self) {
        let input = self.input.load(RELAXED);
        self.input.store(input | LINGERING, RELAXED);
    }

    /// Whether the I/O object is lingering.
    pub(super) fn is_lingering(&self) -> bool {
        self.input.load(RELAXED) & LINGERING != 0
    }

    /// Records that the client was asked to leave, because the server is shutting down.
    pub(super) fn leave(&self) {
        self.leaving.store(true, RELAXED);
    }

    /// Ends the input of a client that has not sent a byte yet.
    pub(super) fn hang_up(&self) {
        self.hung_up.store(true, RELAXED);
    }

    /// Whether [`hang_up`](Self::hang_up) has ended the input.
    pub(super) fn is_hung_up(&self) -> bool {
        self.hung_up.load(RELAXED) && self.input.load(RELAXED) & ANY == 0
    }

    pub(super) fn is_http2(&self) -> bool {
        usize::from(self.preface.load(RELAXED)) == PREFACE.len()
    }

    /// Whether the connection belongs to another protocol after the response.
    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(RELAXED)
    }

    /// Whether HTTP/2 requests are in flight.
    pub(super) fn is_amid_http2(&self) -> bool {
        self.is_http2() && self.shares.load(RELAXED) > 0
    }

    /// The client's protocol, once its first bytes show it.
    pub(super) fn protocol(&self) -> Option<HttpVersion> {
        match self.preface.load(RELAXED) {
            HTTP1 => Some(HttpVersion::Http1),
            _ => self.is_http2().then_some(HttpVersion::Http2),
        }
    }

    /// Begins a request, which lasts until the guard and all guards made from it are dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        let in_flight = InFlight::share(self.clone(), REQUEST);
        self.begun.store(true, RELAXED);
        let input = self.input.load(RELAXED);
        self.input.store(input & !FRESH, RELAXED);
        in_flight
    }

    /// Records that the wait for the next request begins.
    fn note_idle(&self) {
        let since = self.idle_since.lock();
        *since.unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether there was a request.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(RELAXED)
    }

    pub(super) fn waiting(&self) -> WaitingFor {
        let input = self.input.load(RELAXED);
        // Acquire, so that the end time of the last request is visible after this.
        let shares = self.shares.load(Ordering::Acquire);
        if self.blocked.load(RELAXED) || shares >= DATA {
            WaitingFor::Send(self.sent.load(RELAXED))
        } else if shares > 0 {
            WaitingFor::Exchange
        } else if input & ANY == 0 {
            WaitingFor::FirstByte
        } else if input & FRESH != 0 && !self.is_http2() {
            WaitingFor::Head
        } else {
            WaitingFor::Request
        }
    }

    /// When the last request ended.
    pub(super) fn idle_since(&self) -> Instant {
        let since = self.idle_since.lock();
        *since.unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the connection has been idle.
    pub(super) fn idle_for(&self) -> Duration {
        match self.waiting() {
            WaitingFor::Request => self.idle_since().elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Whether responses are the last ones of their connections.
    ///
    /// Checked each time, because the supervisor sees the drain after hyper's turn, in which a first request
    /// may be answered.
    pub(super) fn is_last(&self) -> bool {
        self.info.is_draining()
    }
}

/// A share in a request in flight.
///
/// A request is in flight from its head until its body is read or dropped and the last piece of its response
/// has left hyper. The handler, both bodies and each waiting piece hold a share.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    share: u64,
}

impl InFlight {
    fn share(activity: Arc<Activity>, share: u64) -> Self {
        activity.shares.fetch_add(share, RELAXED);
        Self { activity, share }
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Returns a share for the request body.
    pub(super) fn another(&self) -> Self {
        Self::share(self.activity.clone(), REQUEST)
    }

    /// Returns a share for response data that waits to be sent.
    pub(super) fn data(&self) -> Self {
        Self::share(self.activity.clone(), REQUEST + DATA)
    }

    /// Becomes the share of the last response data.
    pub(super) fn into_data(mut self) -> Self {
        self.activity.shares.fetch_add(DATA, RELAXED);
        self.share += DATA;
        self
    }

    /// Records that the client read some of the data.
    pub(super) fn note_sent(&self) {
        self.activity.note_sent();
    }

    /// Records that the response switches protocols, before hyper sees it.
    pub(super) fn upgrades(&self) {
        // Relaxed, because hyper's channel passes the I/O object on later.
        self.activity.upgraded.store(true, RELAXED);
    }

    /// Returns a share for the tunnel that the request becomes.
    pub(super) fn tunnel(&self) -> Self {
        self.activity.tunnel.store(true, RELAXED);
        self.another()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let activity = &self.activity;
        let mut shares = activity.shares.load(RELAXED);
        while shares != self.share {
            let (left, order) = (shares - self.share, Ordering::Release);
            match activity
                .shares
                .compare_exchange_weak(shares, left, order, RELAXED)
            {
                Ok(_) => return,
                Err(now) => shares = now,
            }
        }
        // The last share; only this one reads the clock.
        activity.note_idle();
        activity.shares.fetch_sub(self.share, Ordering::Release);
    }
}

/// Whether `bytes` are HTTP/2 pings, which only show that the client is alive. hyper sends one every 30
/// seconds.
fn are_pings(bytes: &[u8]) -> bool {
    let frames = bytes.chunks_exact(PING_SIZE);
    frames.remainder().is_empty() && frames.into_iter().all(|frame| frame.starts_with(PING))
}

/// How much of the preface has arrived with `bytes`, after `matched` bytes of it; more than its length for
/// another protocol.
pub(super) fn match_preface(matched: u8, bytes: &[u8]) -> u8 {
    let rest = &PREFACE[usize::from(matched)..];
    let compared = rest.len().min(bytes.len());
    match bytes[..compared] == rest[..compared] {
        true => matched + compared as u8,
        false => HTTP1,
    }
}

const RELAXED: Ordering = Ordering::Relaxed;

/// The values of a share in a request, and of a share of data.
const REQUEST: u64 = 1;
const DATA: u64 = 1 << 32;

/// Flags of `Activity::input`: something was read; something outside of a request; the end; the rest is
/// discarded.
const ANY: u8 = 1;
const FRESH: u8 = 2;
const ENDED: u8 = 4;
const LINGERING: u8 = 8;

/// The first bytes of HTTP/2 (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length and type of a ping frame, and its whole length (RFC 9113, section 6.7).
const PING: &[u8] = b"\0\0\x08\x06";
const PING_SIZE: usize = 17;

/// Not HTTP/2.
const HTTP1: u8 = u8::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::testing::info;

    fn activity() -> Arc<Activity> {
        Activity::new(info())
    }

    #[tokio::test]
    async fn the_preface_is_known_however_it_is_cut() {
        for cut in 1..PREFACE.len() {
            let activity = activity();
            activity.note_read(&PREFACE[..cut]);
            assert!(!activity.is_http2());
            activity.note_read(&PREFACE[cut..]);
            assert!(activity.is_http2());
            activity.note_read(b"frames");
            assert!(activity.is_http2());
        }
    }

    #[tokio::test]
    async fn a_method_that_begins_like_the_preface_is_http1() {
        let activity = activity();
        activity.note_read(b"PR");
        activity.note_read(b"OPFIND / HTTP/1.1\r\n");
        activity.note_read(PREFACE);
        assert!(!activity.is_http2());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_waited_for_follows_bytes_and_requests() {
        let activity = activity();
        assert_eq!(activity.waiting(), WaitingFor::FirstByte);
        activity.note_read(b"GET /");
        assert_eq!(activity.waiting(), WaitingFor::Head);
        let (first, second) = (activity.begin(), activity.begin());
        assert_eq!(activity.waiting(), WaitingFor::Exchange);
        activity.note_read(b"body");
        drop(first);
        assert_eq!(activity.waiting(), WaitingFor::Exchange);
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(second);
        assert_eq!(activity.waiting(), WaitingFor::Request);
        assert_eq!(activity.idle_since(), Instant::now());
        activity.note_read(b"G");
        assert_eq!(activity.waiting(), WaitingFor::Head);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_lasts_until_its_body_and_the_last_data_of_its_response_have_gone() {
        let activity = activity();
        activity.note_read(b"POST /");
        let handler = activity.begin();
        let body = handler.another();
        let piece = handler.data();
        let WaitingFor::Send(before) = activity.waiting() else {
            panic!("data waits to be sent")
        };
        piece.note_sent();
        assert_ne!(activity.waiting(), WaitingFor::Send(before));
        drop(piece);
        assert_eq!(activity.waiting(), WaitingFor::Exchange);
        let last = handler.into_data();
        assert!(matches!(activity.waiting(), WaitingFor::Send(_)));
        drop(last);
        assert_eq!(activity.waiting(), WaitingFor::Exchange);
        tokio::time::advance(Duration::from_secs(3)).await;
        drop(body);
        assert_eq!(activity.waiting(), WaitingFor::Request);
        assert_eq!(activity.idle_since(), Instant::now());
    }

    #[tokio::test]
    async fn what_the_io_does_not_take_is_waited_for() {
        let activity = activity();
        activity.note_write::<()>(&Poll::Pending);
        let blocked = activity.waiting();
        assert!(matches!(blocked, WaitingFor::Send(_)));
        activity.note_write::<()>(&Poll::Pending);
        assert_eq!(activity.waiting(), blocked);
        activity.note_write(&Poll::Ready(()));
        assert_eq!(activity.waiting(), WaitingFor::FirstByte);
        activity.note_write::<()>(&Poll::Pending);
        assert_ne!(activity.waiting(), blocked);
    }
}
