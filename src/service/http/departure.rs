//! Ends the input of idle clients that would delay a graceful shutdown.
//!
//! axum and tonic drive connections themselves, and hyper's graceful shutdown waits for the client. It waits
//! for the rest of the HTTP/2 preface, and for the answer to the ping that accompanies its `GOAWAY`. A silent
//! client would delay it until the server's deadline. The state of such a connection is visible only in its
//! bytes, so this module follows the HTTP/2 frames (RFC 9113, section 4.1) in both directions.

use super::activity::{PREFACE, match_preface};
use portcullis_middleware::{ConnectionInfo, drain::DrainStage, internal::IDLE_GRACE_PERIOD};
use std::{
    collections::BTreeMap,
    fmt,
    future::pending,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{task::unconstrained, time::sleep};

/// Watches one connection and decides when its input ends.
///
/// - A client has half a second after the server stops accepting to send its first byte of HTTP/1, or the
///   whole HTTP/2 preface.
/// - An HTTP/2 client without an open stream has two seconds from the `GOAWAY`, and again from each of its
///   frames. While it opens windows or sends pings it may still be reading the last response.
///
/// The server that drives the connection handles everything else.
pub(crate) struct Departure {
    info: ConnectionInfo,
    protocol: ObservedProtocol,
    /// The wait after which the input ends, if one has begun.
    wait: Option<(InputEnd, InputEndTimer)>,
    gone: bool,
}

enum ObservedProtocol {
    /// The number of bytes of the HTTP/2 preface that have arrived.
    Unknown(u8),
    Http1,
    Http2(Box<Streams>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputEnd {
    Silent,
    GoneAway,
}

type InputEndTimer = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl Departure {
    pub(crate) const fn new(info: ConnectionInfo) -> Self {
        Self {
            info,
            protocol: ObservedProtocol::Unknown(0),
            wait: None,
            gone: false,
        }
    }

    /// Called when a read is pending; ready when the input ends instead.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.gone {
            return Poll::Ready(());
        }
        let Some(cause) = self.cause() else {
            self.wait = None;
            return Poll::Pending;
        };
        if self.wait.as_ref().is_none_or(|(since, _)| *since != cause) {
            self.wait = Some((cause, wait(cause, &self.info)));
        }
        let Some((_, wait)) = &mut self.wait else {
            return Poll::Pending;
        };
        // Unconstrained, because a timer that is polled without budget is not registered.
        let waited = Pin::new(&mut unconstrained(wait)).poll(cx);
        self.gone = waited.is_ready();
        waited
    }

    /// Records what the client sent.
    pub(crate) fn note_read(&mut self, mut bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let ObservedProtocol::Unknown(matched) = self.protocol {
            let now = match_preface(matched, bytes);
            if usize::from(now) > PREFACE.len() {
                self.protocol = ObservedProtocol::Http1;
            } else if usize::from(now) < PREFACE.len() {
                self.protocol = ObservedProtocol::Unknown(now);
            } else {
                bytes = &bytes[usize::from(now - matched)..];
                self.protocol = ObservedProtocol::Http2(Box::default());
            }
        }
        if let ObservedProtocol::Http2(streams) = &mut self.protocol {
            streams.note_read(bytes);
            // The client is active, so the wait starts again.
            self.wait = None;
        }
    }

    /// Records which of `bytes` were written; the task is woken if the input then ends.
    pub(crate) fn note_written(
        &mut self,
        written: &Poll<io::Result<usize>>,
        bytes: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) {
        let (ObservedProtocol::Http2(streams), Poll::Ready(Ok(count))) =
            (&mut self.protocol, written)
        else {
            return;
        };
        let mut left = *count;
        for bytes in bytes {
            let taken = left.min(bytes.len());
            streams.note_written(&bytes[..taken]);
            left -= taken;
        }
        // A pending read may not be polled again, so register its waker with this wait too.
        if self.cause() == Some(InputEnd::GoneAway) && self.poll_gone(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn cause(&self) -> Option<InputEnd> {
        match &self.protocol {
            ObservedProtocol::Unknown(_) => Some(InputEnd::Silent),
            ObservedProtocol::Http2(streams) => streams.are_over().then_some(InputEnd::GoneAway),
            ObservedProtocol::Http1 => None,
        }
    }
}

fn wait(cause: InputEnd, info: &ConnectionInfo) -> InputEndTimer {
    if cause == InputEnd::GoneAway {
        return Box::pin(sleep(LEAVE));
    }
    match info.drain_signal().cloned() {
        Some(signal) => Box::pin(async move {
            signal.reached(DrainStage::Closing).await;
            sleep(IDLE_GRACE_PERIOD).await;
        }),
        None => Box::pin(pending()),
    }
}

impl fmt::Debug for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Departure")
            .field("cause", &self.cause())
            .field("gone", &self.gone)
            .finish_non_exhaustive()
    }
}

/// The open streams of an HTTP/2 connection.
#[derive(Debug, Default)]
struct Streams {
    input: Frames,
    output: Frames,
    /// Which sides have ended, for each stream with an open side. hyper resets streams above its limit.
    open: BTreeMap<u32, u8>,
    last: u32,
    goes_away: bool,
}

impl Streams {
    fn note_read(&mut self, bytes: &[u8]) {
        let (open, last) = (&mut self.open, &mut self.last);
        self.input.feed(bytes, |frame| {
            if frame.kind == HEADERS && frame.stream > *last {
                *last = frame.stream;
                open.insert(frame.stream, 0);
            }
            note_end(open, frame, CLIENT_ENDED);
        });
    }

    fn note_written(&mut self, bytes: &[u8]) {
        let (open, goes_away) = (&mut self.open, &mut self.goes_away);
        self.output.feed(bytes, |frame| {
            *goes_away |= frame.kind == GOAWAY;
            note_end(open, frame, SERVER_ENDED);
        });
    }

    /// Whether a `GOAWAY` was sent and all streams have ended.
    fn are_over(&self) -> bool {
        self.goes_away && self.open.is_empty()
    }
}

fn note_end(open: &mut BTreeMap<u32, u8>, frame: Frame, side: u8) {
    let ends = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
    let ended = match open.get_mut(&frame.stream) {
        Some(ended) if ends => {
            *ended |= side;
            *ended == CLIENT_ENDED | SERVER_ENDED
        }
        _ => frame.kind == RST_STREAM,
    };
    if ended {
        open.remove(&frame.stream);
    }
}

/// The fields of a frame header.
#[derive(Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Finds frames in bytes, however these are split.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; 9],
    /// How many bytes of the header have arrived.
    filled: usize,
    /// How many bytes of the payload are missing.
    payload: usize,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        loop {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(self.head.len() - self.filled);
            if taken == 0 {
                return;
            }
            self.head[self.filled..][..taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == self.head.len() {
                self.filled = 0;
                found(self.frame());
            }
        }
    }

    /// Decodes the complete header; its payload follows.
    fn frame(&mut self) -> Frame {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
        self.payload = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & !RESERVED,
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
#[cfg(test)]
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
/// The reserved bit of a stream number.
const RESERVED: u32 = 1 << 31;

const CLIENT_ENDED: u8 = 1;
const SERVER_ENDED: u8 = 2;

/// How long a client may be silent after a `GOAWAY`.
const LEAVE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::{
        connection::{Address, ListenerInfo},
        drain::DrainTrigger,
    };
    use std::{future::poll_fn, sync::Arc};
    use tokio::time::advance;
    use tokio_test::{assert_pending, assert_ready, task};

    fn departure() -> (DrainTrigger, Departure) {
        let (drain, signal) = DrainTrigger::pair();
        let origin = Arc::new(ListenerInfo::new().with_drain(signal));
        let info = ConnectionInfo::from_listener(origin, Address::Unknown, Address::Unknown);
        (drain, Departure::new(info))
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// Records that all of `bytes` was written, in two parts.
    fn write(departure: &mut Departure, bytes: &[u8]) {
        let mut task = task::spawn(());
        let half = bytes.len() / 2;
        let parts = [IoSlice::new(&bytes[..half]), IoSlice::new(&bytes[half..])];
        let written = Poll::Ready(Ok(bytes.len()));
        task.enter(|cx, _| departure.note_written(&written, &parts, cx));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_not_sent_the_preface_has_half_a_second_once_the_server_closes() {
        for sent in 0..PREFACE.len() {
            let (drain, mut departure) = departure();
            departure.note_read(&PREFACE[..sent]);
            let mut gone = task::spawn(poll_fn(|cx| departure.poll_gone(cx)));
            assert_pending!(gone.poll());
            drain.notify();
            advance(Duration::from_secs(3600)).await;
            assert_pending!(gone.poll());
            drain.close();
            assert!(gone.is_woken());
            assert_pending!(gone.poll());
            advance(IDLE_GRACE_PERIOD - Duration::from_millis(1)).await;
            assert_pending!(gone.poll());
            advance(Duration::from_millis(2)).await;
            assert!(gone.is_woken());
            assert_ready!(gone.poll());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_begun_is_left_to_its_server() {
        for begun in [&b"G"[..], b"POST", b"PRI /", PREFACE] {
            let (drain, mut departure) = departure();
            departure.note_read(begun);
            drain.close();
            let mut gone = task::spawn(poll_fn(|cx| departure.poll_gone(cx)));
            assert_pending!(gone.poll());
            advance(Duration::from_secs(3600)).await;
            assert_pending!(gone.poll());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_sent_away_has_two_seconds_from_its_last_stream_on() {
        let goaway = frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        let (_drain, mut departure) = departure();
        departure.note_read(PREFACE);
        departure.note_read(&frame(HEADERS, 0, 1, b"block"));
        departure.note_read(&frame(HEADERS, END_STREAM, 3, b"block"));
        write(&mut departure, &goaway);
        let over = |departure: &mut Departure| {
            let mut gone = task::spawn(poll_fn(|cx| departure.poll_gone(cx)));
            gone.poll().is_ready()
        };
        // The first stream ends on the server's side alone; the other is reset.
        write(&mut departure, &frame(HEADERS, 0, 1, b"head"));
        write(&mut departure, &frame(DATA, END_STREAM, 1, b"body"));
        departure.note_read(&frame(RST_STREAM, 0, 3, &[0; 4]));
        advance(Duration::from_secs(60)).await;
        assert!(!over(&mut departure));
        assert!(departure.cause().is_none());
        // Trailers.
        departure.note_read(&frame(HEADERS, END_STREAM, 1, b"block"));
        assert!(!over(&mut departure));
        advance(LEAVE / 2).await;
        // Another stream begins meanwhile.
        departure.note_read(&frame(HEADERS, END_STREAM, 5, b"block"));
        assert!(!over(&mut departure));
        advance(LEAVE).await;
        write(&mut departure, &frame(HEADERS, END_STREAM, 5, b"head"));
        advance(LEAVE - Duration::from_millis(1)).await;
        assert!(!over(&mut departure));
        advance(Duration::from_millis(2)).await;
        assert!(over(&mut departure));
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_its_last_response_slowly_is_waited_for_while_it_opens_windows() {
        let (_drain, mut departure) = departure();
        departure.note_read(PREFACE);
        departure.note_read(&frame(HEADERS, END_STREAM, 1, b"block"));
        write(&mut departure, &frame(DATA, END_STREAM, 1, b"body"));
        write(&mut departure, &frame(GOAWAY, 0, 0, &[0; 8]));
        let over = |departure: &mut Departure| {
            let mut gone = task::spawn(poll_fn(|cx| departure.poll_gone(cx)));
            gone.poll().is_ready()
        };
        for _ in 0..9 {
            assert!(!over(&mut departure));
            advance(LEAVE - Duration::from_millis(1)).await;
            assert!(!over(&mut departure));
            departure.note_read(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 9, 0]));
        }
        assert!(!over(&mut departure));
        advance(LEAVE + Duration::from_millis(1)).await;
        assert!(over(&mut departure));
    }

    #[tokio::test]
    async fn frames_are_found_however_they_are_cut() {
        let bytes = [
            frame(4, 0, 0, &[0; 6]),
            frame(HEADERS, END_STREAM, 7, b"xyz"),
            frame(DATA, 0, RESERVED | 7, &[]),
            frame(GOAWAY, 0, 0, &[0; 20]),
        ]
        .concat();
        for piece in 1..=bytes.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(piece) {
                frames.feed(piece, |frame| found.push((frame.kind, frame.stream)));
            }
            let expected = [(4, 0), (HEADERS, 7), (DATA, 7), (GOAWAY, 0)];
            assert_eq!(found, expected, "{piece}");
        }
    }
}
