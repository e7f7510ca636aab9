//! Effects of reads, failures, shutdowns and drops on buffered data.

use super::*;
use crate::{
    Connection,
    testing::{assert_transparent, connection},
};
use std::{io::ErrorKind, task::Poll};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok};
use tower::{Layer, Service, ServiceExt, service_fn};

static_assertions::assert_impl_all!(WriteBufferIo<TcpStream>: Send, Sync, Unpin);
static_assertions::assert_impl_all!(WriteBuffer<()>: Clone, std::fmt::Debug, Send, Sync);

#[tokio::test]
async fn a_read_that_has_to_wait_sends_and_flushes() {
    let wire = Wire::open();
    let mut io = buffered(&wire);
    io.write_all(b"question").await.unwrap();
    assert_pending!(read(&mut io).poll());
    assert_eq!(wire.steps(), [Step::Sent("question".into()), Step::Flushed]);
    assert_pending!(read(&mut io).poll());
    assert_eq!(wire.steps(), [], "there is nothing more to do");
}

#[tokio::test]
async fn a_read_that_is_ready_sends_nothing() {
    let wire = Wire::open();
    let mut io = buffered(&wire);
    wire.receive(b"pipelined");
    io.write_all(b"answer").await.unwrap();
    assert_eq!(assert_ready_ok!(read(&mut io).poll()), b"pipeline");
    assert_eq!(wire.steps(), []);
}

#[tokio::test]
async fn a_large_write_is_flushed_by_a_read_that_waits() {
    let wire = Wire::open();
    let mut io = buffered(&wire);
    io.write_all(b"more than sixteen bytes").await.unwrap();
    wire.steps();
    assert_pending!(read(&mut io).poll());
    assert_eq!(wire.steps(), [Step::Flushed]);
}

#[tokio::test]
async fn a_read_waits_for_room_to_send_and_for_input_at_once() {
    let wire = Wire::with_room(3);
    let mut io = buffered(&wire);
    io.write_all(b"question").await.unwrap();
    let mut reading = read(&mut io);
    assert_pending!(reading.poll());
    assert_eq!(wire.sent(), "que");
    wire.make_room(9);
    assert!(reading.is_woken());
    assert_pending!(reading.poll());
    assert_eq!(wire.sent(), "stion");
    wire.receive(b"answer");
    assert!(reading.is_woken());
    assert_eq!(assert_ready_ok!(reading.poll()), b"answer");
}

#[tokio::test]
async fn input_ends_the_wait_while_output_is_stuck() {
    let wire = Wire::with_room(0);
    let mut io = buffered(&wire);
    io.write_all(b"stuck").await.unwrap();
    let mut reading = read(&mut io);
    assert_pending!(reading.poll());
    wire.receive(b"input");
    assert!(reading.is_woken());
    assert_eq!(assert_ready_ok!(reading.poll()), b"input");
    drop(reading);
    assert_eq!(io.unsent(), b"stuck");
}

/// Answers each line without a flush.
async fn forgetful<IO>(mut io: IO, size: usize) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut line = vec![0; size];
    while io.read_exact(&mut line).await.is_ok() {
        io.write_all(b"you said ").await?;
        io.write_all(&line).await?;
    }
    io.shutdown().await
}

async fn talk<IO>(mut io: IO) -> io::Result<()>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    for line in ["one__", "two__", "three"] {
        io.write_all(line.as_bytes()).await?;
        let mut answer = [0; 14];
        io.read_exact(&mut answer).await?;
        assert_eq!(answer, format!("you said {line}").as_bytes());
    }
    io.shutdown().await?;
    assert_eq!(io.read(&mut [0; 8]).await?, 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_forgets_to_flush_does_not_wait_for_ever() {
    for capacity in [1, 3, 64] {
        let (ours, theirs) = duplex(capacity);
        let io = WriteBufferIo::new(ours, SIZE);
        in_time(async { tokio::try_join!(forgetful(io, 5), talk(theirs)) })
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn over_tcp_answers_arrive_without_a_flush() {
    let stack =
        WriteBufferLayer::default().layer(service_fn(|io: Connection<WriteBufferIo<_>>| async {
            forgetful(io, 5).await
        }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::try_join!(client, listener.accept()).unwrap();
    let connection = Connection::accept(accepted.0);
    in_time(async { tokio::try_join!(stack.oneshot(connection), talk(client)) })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_failure_to_send_is_told_by_whatever_comes_next() {
    let wire = Wire::open();
    let mut io = buffered(&wire);
    io.write_all(b"kept").await.unwrap();
    let mut next = |what| {
        wire.fail(ErrorKind::ConnectionReset);
        let io = Pin::new(&mut io);
        match what {
            "write" => io
                .poll_write(&mut quietly(), b"more than sixteen")
                .map_ok(|_| ()),
            "read" => io.poll_read(&mut quietly(), &mut ReadBuf::new(&mut [0; 8])),
            "flush" => io.poll_flush(&mut quietly()),
            _ => io.poll_shutdown(&mut quietly()),
        }
    };
    for what in ["write", "read", "flush", "shutdown"] {
        let error = assert_ready_err!(next(what));
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{what}");
    }
    io.flush().await.unwrap();
    assert_eq!(wire.sent(), "kept", "a failure throws nothing away");
}

#[tokio::test]
async fn an_io_that_takes_nothing_is_an_error_and_no_endless_loop() {
    let mut io = WriteBufferIo::new(TakesNothing, SIZE);
    io.write_all(b"small").await.unwrap();
    assert_eq!(io.flush().await.unwrap_err().kind(), ErrorKind::WriteZero);
    let large = io.write_all(b"more than sixteen bytes").await;
    assert_eq!(large.unwrap_err().kind(), ErrorKind::WriteZero);
}

struct TakesNothing;

impl AsyncWrite for TakesNothing {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(0))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_shutdown_sends_all_before() {
    let wire = Wire::with_room(2);
    let mut io = buffered(&wire);
    io.write_all(b"last words").await.unwrap();
    let mut shutdown = task::spawn(io.shutdown());
    assert_pending!(shutdown.poll());
    wire.make_room(100);
    assert!(shutdown.is_woken());
    assert_ready_ok!(shutdown.poll());
    let sent = |text: &str| Step::Sent(text.into());
    assert_eq!(wire.steps(), [sent("la"), sent("st words"), Step::ShutDown]);
}

#[tokio::test(start_paused = true)]
async fn close_sends_what_is_buffered_and_a_drop_loses_it() {
    for (close, expected) in [(true, "buffered"), (false, "")] {
        let (ours, mut theirs) = duplex(64);
        let stack =
            WriteBufferLayer::new(SIZE).layer(service_fn(|mut io: Connection<_>| async move {
                io.write_all(b"buffered").await?;
                if close {
                    io.close().await?;
                }
                io::Result::Ok(())
            }));
        let client = async {
            let mut received = String::new();
            theirs.read_to_string(&mut received).await.unwrap();
            assert_eq!(received, expected);
            drop(theirs);
        };
        let served = stack.oneshot(Connection::accept(ours));
        let (served, ()) = in_time(async { tokio::join!(served, client) }).await;
        served.unwrap();
    }
}

#[tokio::test]
async fn a_write_that_waits_takes_nothing() {
    let wire = Wire::with_room(0);
    let mut io = buffered(&wire);
    io.write_all(b"first part ok.").await.unwrap();
    let mut dropped = task::spawn(io.write(b"given up"));
    assert_pending!(dropped.poll());
    drop(dropped);
    wire.make_room(100);
    io.write_all(b"instead").await.unwrap();
    io.flush().await.unwrap();
    assert_eq!(wire.sent(), "first part ok.instead");
}

#[tokio::test]
async fn an_idle_connection_has_no_buffer() {
    let wire = Wire::open();
    let mut io = WriteBufferIo::new(wire.clone(), 8192);
    assert_eq!(io.buffer_capacity(), 0);
    io.write_all(b"x").await.unwrap();
    assert_eq!(io.buffer_capacity(), 8192);
    io.flush().await.unwrap();
    assert_eq!(io.buffer_capacity(), 8192, "it may write on");
    assert_pending!(read(&mut io).poll());
    assert_eq!(io.buffer_capacity(), 0);
}

#[tokio::test]
async fn the_inner_io_comes_back() {
    let wire = Wire::open();
    let mut io = buffered(&wire);
    io.write_all(b"lost").await.unwrap();
    io.get_mut().write_all(b"overtakes").await.unwrap();
    io.into_inner().write_all(b" all").await.unwrap();
    assert_eq!(wire.sent(), "overtakes all");
}

#[test]
fn a_buffer_of_no_size_is_transparent() {
    assert_transparent(|io| WriteBufferIo::new(io, 0));
}

#[test]
fn the_layer_passes_readiness_on() {
    let (inner, mut handle) = tower_test::mock::pair::<Connection<WriteBufferIo<()>>, ()>();
    let mut service = task::spawn(WriteBufferLayer::default().layer(inner));
    handle.allow(0);
    assert_pending!(service.enter(|cx, mut service| service.poll_ready(cx)));
    handle.allow(1);
    assert_ready!(service.enter(|cx, mut service| service.poll_ready(cx))).unwrap();
    drop(Service::call(&mut *service, connection(())));
}

#[test]
fn the_wrapper_is_small_and_shows_no_bytes() {
    assert!(
        size_of::<WriteBufferIo<()>>() <= 96,
        "{}",
        size_of::<WriteBufferIo<()>>()
    );
    let mut io = WriteBufferIo::new(Vec::new(), SIZE);
    assert_ready_ok!(Pin::new(&mut io).poll_write(&mut quietly(), b"secret"));
    let printed = format!("{io:?}");
    assert!(
        printed.contains("unsent: 6") && !printed.contains("115"),
        "{printed}"
    );
}
