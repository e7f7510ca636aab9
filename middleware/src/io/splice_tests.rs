//! Tests of [`Passthrough`] over real sockets.

use super::{BoxIo, EitherIo, Passthrough, Pipe, PrefixedIo};
use crate::{
    connection::{AnyStream, Connection, ForcedClose, Socket},
    error::{Elapsed, TimeoutPhase, find},
    observe::{ByteCounter, CountedIo},
    stream::WriteBufferIo,
    testing::over_tcp,
    timeout::{HalfClosedTimeoutIo, TimeoutIo},
};
use std::{future::poll_fn, io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};
use tokio_test::{assert_pending, task};

async fn read(io: &mut impl Passthrough, pipe: &mut Pipe) -> io::Result<usize> {
    poll_fn(|cx| io.poll_read_to_pipe(cx, pipe)).await
}

async fn write(io: &mut impl Passthrough, pipe: &mut Pipe) -> io::Result<usize> {
    poll_fn(|cx| io.poll_write_from_pipe(cx, pipe)).await
}

fn pipe() -> Pipe {
    Pipe::new(64 * 1024).unwrap()
}

/// Sends bytes through `io` and back, until its end.
async fn echoes(io: &mut impl Passthrough, mut client: TcpStream) {
    assert!(io.is_passthrough());
    let mut pipe = pipe();
    for _ in 0..3 {
        client.write_all(b"hello").await.unwrap();
        assert_eq!(read(io, &mut pipe).await.unwrap(), 5);
        assert_eq!(pipe.len(), 5);
        assert_eq!(write(io, &mut pipe).await.unwrap(), 5);
        assert!(pipe.is_empty());
        let mut answer = [0; 5];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"hello");
    }
    client.shutdown().await.unwrap();
    assert_eq!(read(io, &mut pipe).await.unwrap(), 0);
}

#[tokio::test]
async fn bytes_move_through_a_socket_and_are_counted() {
    let (mut connection, client) = over_tcp().await;
    echoes(&mut connection, client).await;
    let info = connection.info();
    assert_eq!((info.bytes_read(), info.bytes_written()), (15, 15));
}

#[tokio::test]
async fn bytes_move_through_wrappers_that_leave_them_unchanged() {
    let (connection, client) = over_tcp().await;
    let total = ByteCounter::new();
    let connection = connection.map_io(|io| CountedIo::new(io, total.clone()));
    let connection = connection.map_io(|io| HalfClosedTimeoutIo::new(TimeoutIo::new(io)));
    let connection = connection.map_io(PrefixedIo::new);
    let mut connection = connection.map_io(EitherIo::<_, BoxIo>::Left);
    echoes(&mut connection, client).await;
    assert_eq!((total.bytes_read(), total.bytes_written()), (15, 15));
}

/// Checks that input which arrives at the socket is seen.
pub(crate) async fn assert_sees_unread(io: &impl Passthrough, client: &mut TcpStream) {
    assert!(!io.has_unread());
    client.write_all(b"hello").await.unwrap();
    let arrives = async {
        while !io.has_unread() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(30), arrives).await.unwrap();
}

#[tokio::test]
async fn unread_input_is_seen_through_wrappers() {
    let (connection, mut client) = over_tcp().await;
    let connection = connection.map_io(|io| CountedIo::new(io, ByteCounter::new()));
    let connection = connection.map_io(|io| HalfClosedTimeoutIo::new(TimeoutIo::new(io)));
    let connection = connection.map_io(|io| BufStream::new(WriteBufferIo::new(io, 1000)));
    let connection = connection.map_io(PrefixedIo::new).map_io(Box::new);
    let connection = connection.map_io(EitherIo::<_, BoxIo>::Left);
    assert_sees_unread(connection.get_ref(), &mut client).await;
}

#[tokio::test]
async fn bytes_move_through_a_unix_socket() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut connection = Connection::accept(AnyStream::from(ours));
    let mut pipe = pipe();
    theirs.write_all(b"hello").await.unwrap();
    assert_eq!(read(&mut connection, &mut pipe).await.unwrap(), 5);
    assert_eq!(write(&mut connection, &mut pipe).await.unwrap(), 5);
    theirs.read_exact(&mut [0; 5]).await.unwrap();
}

#[tokio::test]
async fn a_prefix_is_read_before_bytes_may_pass() {
    let (connection, mut client) = over_tcp().await;
    let mut connection = connection.map_io(|io| PrefixedIo::with_prefix(io, b"peeked".to_vec()));
    assert!(!connection.is_passthrough());
    client.write_all(b"rest").await.unwrap();
    let refused = read(&mut connection, &mut pipe()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
    connection.read_exact(&mut [0; 6]).await.unwrap();
    assert!(connection.is_passthrough());
    assert_eq!(read(&mut connection, &mut pipe()).await.unwrap(), 4);
}

#[tokio::test]
async fn a_box_and_a_stream_in_memory_are_copied() {
    let (connection, _client) = over_tcp().await;
    assert!(!connection.box_io().is_passthrough());
    let (mut connection, _client) = crate::testing::in_memory(64);
    assert!(!connection.is_passthrough());
    let refused = read(&mut connection, &mut pipe()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_forced_close_wakes_a_pending_move() {
    let (mut connection, _client) = over_tcp().await;
    let info = connection.info().clone();
    let mut pipe = pipe();
    let mut reading = task::spawn(read(connection.get_mut(), &mut pipe));
    assert_pending!(reading.poll());
    assert_pending!(reading.poll());
    info.force_close();
    assert!(reading.is_woken());
    let error = reading.await.unwrap_err();
    assert!(find::<ForcedClose>(&error).is_some());
}

/// Fills the socket's send buffer through `pipe` until a write is pending.
async fn fill(io: &mut Socket<TcpStream>, pipe: &mut Pipe) {
    let (mut source, mut feed) = over_tcp().await;
    let feeding = tokio::spawn(async move { while feed.write_all(&[7; 4096]).await.is_ok() {} });
    loop {
        if pipe.is_empty() {
            read(&mut source, pipe).await.unwrap();
        }
        let mut writing = task::spawn(write(io, pipe));
        if writing.poll().is_pending() {
            break;
        }
    }
    feeding.abort();
}

#[tokio::test]
async fn a_write_that_waits_too_long_times_out_and_progress_starts_it_again() {
    let (connection, mut client) = over_tcp().await;
    let (mut socket, _parts) = connection.into_parts();
    let mut pipe = pipe();
    fill(&mut socket, &mut pipe).await;
    let timeout = Duration::from_millis(200);
    let mut io = TimeoutIo::new(socket).with_write_timeout(timeout);
    let begun = tokio::time::Instant::now();
    let error = write(&mut io, &mut pipe).await.unwrap_err();
    assert!(begun.elapsed() >= timeout);
    let elapsed = find::<Elapsed>(&error).unwrap();
    assert_eq!(elapsed.phase(), TimeoutPhase::WRITE);
    // The client reads again.
    tokio::spawn(async move { while client.read(&mut [0; 65536]).await.is_ok_and(|n| n > 0) {} });
    assert!(write(&mut io, &mut pipe).await.unwrap() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_stream_that_moves_nothing_times_out() {
    let (connection, mut client) = over_tcp().await;
    let mut connection = connection.map_io(HalfClosedTimeoutIo::new);
    let mut pipe = pipe();
    client.write_all(b"x").await.unwrap();
    assert_eq!(read(&mut connection, &mut pipe).await.unwrap(), 1);
    connection.shutdown().await.unwrap();
    pipe = Pipe::new(4096).unwrap();
    let error = read(&mut connection, &mut pipe).await.unwrap_err();
    assert_eq!(
        find::<Elapsed>(&error).unwrap().phase(),
        TimeoutPhase::HALF_CLOSED
    );
}

#[tokio::test]
async fn everything_is_sent_before_a_reset_also_through_wrappers() {
    let (connection, mut client) = over_tcp().await;
    socket2::SockRef::from(&client)
        .set_recv_buffer_size(65_536)
        .unwrap();
    let total = ByteCounter::new();
    let connection = connection.map_io(|io| CountedIo::new(io, total));
    let connection = connection.map_io(|io| HalfClosedTimeoutIo::new(TimeoutIo::new(io)));
    let connection = connection.map_io(|io| WriteBufferIo::new(io, 1000));
    let connection = connection.map_io(PrefixedIo::new).map_io(Box::new);
    let mut connection = connection.map_io(EitherIo::<_, BoxIo>::Left);
    connection.write_all(&[7; 500_000]).await.unwrap();
    connection.flush().await.unwrap();
    assert_pending!(task::spawn(poll_fn(|cx| connection.poll_sent(cx))).poll());
    let receiving = tokio::spawn(async move {
        let mut received = Vec::new();
        let end = client.read_to_end(&mut received).await.unwrap_err();
        (received.len(), end.kind())
    });
    poll_fn(|cx| connection.poll_sent(cx)).await.unwrap();
    connection.abort();
    let reset = io::ErrorKind::ConnectionReset;
    assert_eq!(receiving.await.unwrap(), (500_000, reset));
}

#[tokio::test]
async fn before_urgent_data_a_pipe_is_refused_and_a_read_goes_on() {
    let (mut connection, mut client) = over_tcp().await;
    let mut pipe = pipe();
    for _ in 0..2 {
        socket2::SockRef::from(&client)
            .send_out_of_band(b"!")
            .unwrap();
        client.write_all(b"hello").await.unwrap();
        let error = read(&mut connection, &mut pipe).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let mut received = [0; 5];
        connection.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"hello");
        client.write_all(b"hello").await.unwrap();
        assert_eq!(read(&mut connection, &mut pipe).await.unwrap(), 5);
        write(&mut connection, &mut pipe).await.unwrap();
        client.read_exact(&mut received).await.unwrap();
    }
    client.shutdown().await.unwrap();
    assert_eq!(read(&mut connection, &mut pipe).await.unwrap(), 0);
}
