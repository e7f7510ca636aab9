//! Limits of time, bytes and memory for a trusted source.

use super::*;
use crate::{
    connection::ListenerInfo,
    drain::DrainTrigger,
    error::{Elapsed, TimeoutPhase},
    outcome::Outcome,
};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream, ReadBuf},
    time::{Instant, sleep},
};
use tokio_test::io::Builder;

/// Sends these, each after a wait.
fn slow(input: impl IntoIterator<Item = (Duration, &'static [u8])> + Send) -> DuplexStream {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    let input: Vec<_> = input.into_iter().collect();
    tokio::spawn(async move {
        for (wait, bytes) in input {
            sleep(wait).await;
            theirs.write_all(bytes).await?;
        }
        io::Result::Ok(())
    });
    ours
}

/// A header whose last byte arrives after `wait`.
fn late(wait: Duration) -> DuplexStream {
    let (begin, end) = V1.split_at(V1.len() - 1);
    slow([(Duration::ZERO, begin), (wait, end)])
}

#[tokio::test(start_paused = true)]
async fn a_header_may_take_five_seconds_and_no_longer() {
    let in_time = late(Duration::from_millis(4999));
    assert!(serve(layer(), from_proxy(in_time)).await.is_ok());
    let too_late = from_proxy(late(Duration::from_millis(5001)));
    let info = too_late.info().clone();
    let error = serve(layer(), too_late).await.unwrap_err();
    let elapsed = Elapsed::new(TimeoutPhase::PROXY_HEADER, Duration::from_secs(5));
    assert_eq!(find::<Elapsed>(&*error), Some(&elapsed));
    assert_eq!(
        Outcome::of(&info, Some(&*error)),
        Outcome::TimedOut(TimeoutPhase::PROXY_HEADER)
    );
}

#[tokio::test(start_paused = true)]
async fn a_header_has_half_a_second_more_once_the_server_accepts_no_more() {
    let grace = Duration::from_millis(500);
    for wait in [
        grace - Duration::from_millis(1),
        grace + Duration::from_millis(2),
    ] {
        let (drain, signal) = DrainTrigger::pair();
        let origin = Arc::new(ListenerInfo::new().with_drain(signal));
        let info = ConnectionInfo::from_listener(origin, ip("10.1.2.3:5000"), Address::Unknown);
        let connection = Connection::new(late(wait), info.clone());
        drain.close();
        let served = serve(layer(), connection).await;
        if wait < grace {
            assert!(served.is_ok());
        } else {
            let error = served.unwrap_err();
            let elapsed = Elapsed::new(TimeoutPhase::PROXY_HEADER, grace);
            assert_eq!(find::<Elapsed>(&*error), Some(&elapsed));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_is_for_the_whole_header_and_not_for_each_byte() {
    let io = slow(V1.chunks(1).map(|byte| (Duration::from_secs(1), byte)));
    let started = Instant::now();
    let layer = layer().with_timeout(Duration::from_secs(3));
    let error = serve(layer, from_proxy(io)).await;
    assert!(find::<Elapsed>(&*error.unwrap_err()).is_some());
    assert_eq!(started.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn without_a_bound_a_header_may_take_a_day() {
    let io = late(Duration::from_secs(86_400));
    assert!(
        serve(layer().with_timeout(None), from_proxy(io))
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn the_service_inside_has_no_bound() {
    let io = slow([(Duration::ZERO, V1), (Duration::from_secs(3600), b"late")]);
    let observed = serve(layer(), from_proxy(io)).await.unwrap();
    assert_eq!(observed.input, b"late");
}

#[tokio::test(start_paused = true)]
async fn silence_of_an_optional_source_is_bounded_too() {
    let io = slow([(Duration::from_secs(6), V1)]);
    let error = serve(layer().with_optional_header(), from_proxy(io)).await;
    assert!(find::<Elapsed>(&*error.unwrap_err()).is_some());
}

#[tokio::test]
async fn a_header_may_have_4096_bytes_and_no_more() {
    let of = |length: usize| v2_tcp4(&tlv(0x04, &vec![0; length - 31]));
    let fits = [&of(4096)[..], b"said"].concat();
    for piece in [1, 100, 5000] {
        let mut io = Builder::new();
        for piece in fits.chunks(piece) {
            io.read(piece);
        }
        let observed = serve(layer(), from_proxy(io.build())).await.unwrap();
        assert_eq!(observed.input, b"said");
    }
    // The claimed length is enough to reject it; the rest is not read.
    let io = Builder::new().read(&of(4097)[..16]).build();
    let error = serve(layer(), from_proxy(io)).await.unwrap_err();
    assert!(header_error(&error).is_invalid());
    assert!(error.to_string().contains("4097 bytes"), "{error}");
    let io = Builder::new().read(&of(300)).build();
    assert!(
        serve(layer().with_max_len(300), from_proxy(io))
            .await
            .is_ok()
    );
    let io = Builder::new().read(&of(301)[..16]).build();
    assert!(
        serve(layer().with_max_len(300), from_proxy(io))
            .await
            .is_err()
    );
}

#[test]
#[should_panic = "232 bytes"]
fn a_bound_below_the_longest_addresses_is_refused_at_start() {
    let _ = layer().with_max_len(231);
}

/// Claims a long header and then stays silent; records the capacity of its buffer.
struct Claims {
    input: Vec<u8>,
    capacity: Arc<AtomicUsize>,
}

impl AsyncRead for Claims {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.capacity.fetch_max(buf.remaining(), Ordering::Relaxed);
        if self.input.is_empty() {
            return Poll::Pending;
        }
        buf.put_slice(&self.input.split_off(0));
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_taken_for_what_came_and_not_for_what_is_claimed() {
    let capacity = Arc::new(AtomicUsize::new(0));
    let mut input = v2(PROXY, TCP4, &[0; 65535]);
    input.truncate(16);
    let io = Claims {
        input,
        capacity: capacity.clone(),
    };
    let layer = layer().with_max_len(65551);
    assert!(serve(layer, from_proxy(io)).await.is_err());
    assert_eq!(capacity.load(Ordering::Relaxed), 536);
}

#[tokio::test]
async fn an_end_before_the_header_is_a_disconnect() {
    for (input, text) in [
        (&b""[..], "incomplete PROXY header from 10.1.2.3:5000"),
        (
            b"PRO",
            "incomplete PROXY header from 10.1.2.3:5000, it began with \"PRO\"",
        ),
    ] {
        let mut io = Builder::new();
        if !input.is_empty() {
            io.read(input);
        }
        let connection = from_proxy(io.build());
        let info = connection.info().clone();
        let error = serve(layer(), connection).await.unwrap_err();
        assert_eq!(error.to_string(), text);
        assert_eq!(
            header_error(&error).io_error().map(io::Error::kind),
            Some(io::ErrorKind::UnexpectedEof)
        );
        assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Disconnected);
    }
}

#[tokio::test]
async fn an_end_within_a_header_fails_where_headers_are_optional_too() {
    for length in [6, 12, V1.len() - 1] {
        let io = Builder::new().read(&V1[..length]).build();
        let layer = layer().with_optional_header();
        let error = serve(layer, from_proxy(io)).await.unwrap_err();
        assert!(header_error(&error).io_error().is_some());
    }
}

#[tokio::test]
async fn what_the_socket_fails_with_is_the_source() {
    let reset = io::ErrorKind::ConnectionReset;
    let io = Builder::new()
        .read(b"PROXY ")
        .read_error(reset.into())
        .build();
    let error = serve(layer(), from_proxy(io)).await.unwrap_err();
    assert_eq!(header_error(&error).io_error().unwrap().kind(), reset);
    assert_eq!(find::<io::Error>(&*error).unwrap().kind(), reset);
}

#[tokio::test]
async fn a_failure_tells_whose_it_is_and_what_came_on_one_line() {
    let input = b"GET /\r\n\x1B[2J\xFF and so on, and on and on";
    let connection = from_proxy(Builder::new().read(input).build());
    let info = connection.info().clone();
    let error = serve(layer(), connection).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "missing PROXY header from 10.1.2.3:5000, which must send one, \
         it began with \"GET /\\r\\n\\x1b[2J\\xff and so on, and on a\""
    );
    assert!(header_error(&error).is_absent());
    assert_eq!(header_error(&error).peer(), &ip("10.1.2.3:5000"));
    assert_eq!(header_error(&error).began(), &input[..32]);
    assert_eq!(
        Outcome::of(&info, Some(&*error)),
        Outcome::ProxyHeaderFailed
    );

    let io = Builder::new().read(b"PROXY TCP9 1 2 3 4\r\n").build();
    let error = serve(layer(), from_proxy(io)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid PROXY header from 10.1.2.3:5000: the line of version 1 is malformed, \
         it began with \"PROXY TCP9 1 2 3 4\\r\\n\""
    );
}
