//! What the parts of one HTTP connection know of its requests: the IO sees bytes, the service sees
//! requests, and the supervisor judges by both.

use super::protocol::Protocol;
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

/// The requests of one connection.
///
/// Only the task of the connection moves bytes and begins requests. Requests of HTTP/2 may end in tasks of
/// their own.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) info: ConnectionInfo,
    began: Instant,
    /// How many hold a share in a request, and how many of these are data that waits to be sent; see
    /// [`InFlight`].
    shares: AtomicU64,
    /// When the last request ended, or HTTP/2 began.
    idle_since: Mutex<Instant>,
    /// See [`ANY`] and its neighbours.
    input: AtomicU8,
    /// How much of HTTP/2's preface has come, or [`HTTP1`].
    preface: AtomicU8,
    /// The IO below did not take what it was given.
    blocked: AtomicBool,
    /// Changes whenever the client took some of what waits to be sent.
    sent: AtomicU64,
    begun: AtomicBool,
    /// Nothing is waited for any more: the input ends unless it begins at once.
    hung_up: AtomicBool,
    /// hyper gives the IO away: a response of HTTP/1 switched protocols.
    upgraded: AtomicBool,
    /// An HTTP/2 stream became a tunnel. It may be read from after the end of what has a share for it.
    tunnel: AtomicBool,
    /// The server ends, and asked the client to go: while this sends something, it may still be reading.
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
    /// The client, to take what is ready for it. The number changes whenever it takes some.
    Send(u64),
    /// Its own service, or the peer as part of a request.
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
            tunnel: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
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
                // It may have come late.
                self.note_idle();
            }
        }
    }

    /// Notes whether the IO took what it was given, or has to be waited for.
    #[inline]
    pub(super) fn note_write<T>(&self, result: &Poll<T>) {
        if result.is_pending() != self.blocked.load(RELAXED) {
            self.blocked.store(result.is_pending(), RELAXED);
            self.note_sent();
        }
    }

    /// Notes that the client took something.
    fn note_sent(&self) {
        // Only the task of the connection sends.
        let sent = self.sent.load(RELAXED).wrapping_add(1);
        self.sent.store(sent, RELAXED);
    }

    pub(super) fn input_ended(&self) -> bool {
        self.input.load(RELAXED) & ENDED != 0
    }

    /// Notes that our side has ended, and that the IO waits, for a bounded time, until the peer's does.
    pub(super) fn note_lingering(&self) {
        let input = self.input.load(RELAXED);
        self.input.store(input | LINGERING, RELAXED);
    }

    /// Whether the IO sees to its end itself.
    pub(super) fn is_lingering(&self) -> bool {
        self.input.load(RELAXED) & LINGERING != 0
    }

    /// Notes that the client was asked to go, because the server ends.
    pub(super) fn leave(&self) {
        self.leaving.store(true, RELAXED);
    }

    /// Has the input of a client that has said nothing end.
    pub(super) fn hang_up(&self) {
        self.hung_up.store(true, RELAXED);
    }

    /// Whether the input has ended on our behalf.
    pub(super) fn is_hung_up(&self) -> bool {
        self.hung_up.load(RELAXED) && self.input.load(RELAXED) & ANY == 0
    }

    pub(super) fn is_http2(&self) -> bool {
        usize::from(self.preface.load(RELAXED)) == PREFACE.len()
    }

    /// Whether the IO belongs to another protocol from the response on.
    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(RELAXED)
    }

    /// Whether requests of HTTP/2 are in flight.
    pub(super) fn is_amid_http2(&self) -> bool {
        self.is_http2() && self.shares.load(RELAXED) > 0
    }

    /// What the client speaks, once its first bytes show it.
    pub(super) fn protocol(&self) -> Option<Protocol> {
        match self.preface.load(RELAXED) {
            HTTP1 => Some(Protocol::Http1),
            _ => self.is_http2().then_some(Protocol::Http2),
        }
    }

    /// Begins a request, which lasts until the guard is dropped, and those made of it.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        let in_flight = InFlight::share(self.clone(), REQUEST);
        self.begun.store(true, RELAXED);
        let input = self.input.load(RELAXED);
        self.input.store(input & !FRESH, RELAXED);
        in_flight
    }

    /// Notes that the wait for the next request begins.
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
        // When the last request ended is known after this.
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

    /// How long there has been no request.
    pub(super) fn idle_for(&self) -> Duration {
        match self.waiting() {
            WaitingFor::Request => self.idle_since().elapsed(),
            _ => Duration::ZERO,
        }
    }

    /// Whether responses are to be the last ones of their connections.
    ///
    /// Asked anew each time: the supervisor sees the drain after hyper's turn, in which a first request may
    /// be answered.
    pub(super) fn is_last(&self) -> bool {
        self.info.is_draining()
    }
}

/// A share in a request in flight.
///
/// A request is in flight from its head until its body is read or dropped, and the last piece of its
/// response has left hyper. So the handler, both bodies and each piece on its way have one.
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

    /// One for the body of the request.
    pub(super) fn another(&self) -> Self {
        Self::share(self.activity.clone(), REQUEST)
    }

    /// One for data of the response that waits to be sent.
    pub(super) fn data(&self) -> Self {
        Self::share(self.activity.clone(), REQUEST + DATA)
    }

    /// Becomes the one of the last data of the response.
    pub(super) fn into_data(mut self) -> Self {
        self.activity.shares.fetch_add(DATA, RELAXED);
        self.share += DATA;
        self
    }

    /// Notes that the client took some of the data.
    pub(super) fn note_sent(&self) {
        self.activity.note_sent();
    }

    /// Notes that the response switches protocols, before hyper knows of it.
    pub(super) fn upgrades(&self) {
        // Relaxed: hyper's channel passes the IO on later.
        self.activity.upgraded.store(true, RELAXED);
    }

    /// One for the tunnel that the request becomes.
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
        // The last one, which alone looks at the clock.
        activity.note_idle();
        activity.shares.fetch_sub(self.share, Ordering::Release);
    }
}

/// Whether `bytes` are frames of HTTP/2 that say nothing but that the client is alive: hyper asks each 30 seconds.
fn are_pings(bytes: &[u8]) -> bool {
    let frames = bytes.chunks_exact(PING_SIZE);
    frames.remainder().is_empty() && frames.into_iter().all(|frame| frame.starts_with(PING))
}

/// How much of the preface has come with `bytes`, after `matched` bytes of it; more than all of it for another protocol.
pub(super) fn match_preface(matched: u8, bytes: &[u8]) -> u8 {
    let rest = &PREFACE[usize::from(matched)..];
    let seen = rest.len().min(bytes.len());
    match bytes[..seen] == rest[..seen] {
        true => matched + seen as u8,
        false => HTTP1,
    }
}

const RELAXED: Ordering = Ordering::Relaxed;

/// A share in a request, and a piece of data that has one.
const REQUEST: u64 = 1;
const DATA: u64 = 1 << 32;

/// Flags of `Activity::input`: something was read; something that belongs to no request yet; the end;
/// the rest is thrown away.
const ANY: u8 = 1;
const FRESH: u8 = 2;
const ENDED: u8 = 4;
const LINGERING: u8 = 8;

/// The first bytes of HTTP/2 (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length and the type of a ping, and all of it (RFC 9113, section 6.7).
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
