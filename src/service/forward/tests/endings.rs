//! How forwarded connections end.

use super::support::{Forwards, in_memory, over_tcp, until};
use portcullis_middleware::{
    Connection,
    connection::{EndedBy, ForcedClose, Socket},
    error::{Elapsed, TimeoutPhase, find},
    io::{BoxIo, Passthrough},
    outcome::Outcome,
    testing,
};
use socket2::SockRef;
use std::{
    io::{self, ErrorKind},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

const SECOND: Duration = Duration::from_secs(1);

async fn read_all(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut received = Vec::new();
    io.read_to_end(&mut received).await.unwrap();
    received
}

/// What a read returns after everything that was sent.
async fn end_of(io: &mut TcpStream) -> io::Result<usize> {
    let mut buffer = vec![0; 65536];
    loop {
        match io.read(&mut buffer).await {
            Ok(0) => return Ok(0),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
}

fn reset(io: TcpStream) {
    io.set_zero_linger().unwrap();
    drop(io);
}

#[tokio::test(start_paused = true)]
async fn a_half_close_is_passed_on_and_the_other_direction_goes_on() {
    let (forwards, mut client, mut server) = in_memory(64);
    client.write_all(b"request").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut server).await, b"request");
    for _ in 0..3 {
        sleep(Duration::from_secs(59)).await;
        server.write_all(b"answer ").await.unwrap();
    }
    server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"answer answer answer ");
    let info = forwards.info.clone();
    let forwarded = forwards.result().await.unwrap();
    assert_eq!((forwarded.to_backend, forwarded.to_client), (7, 21));
    assert_eq!(forwarded.ended_by, EndedBy::Client);
    assert_eq!(info.ended_by(), Some(EndedBy::Client));
    assert_eq!(forwarded.first_byte_of_client, Some(Duration::ZERO));
    assert_eq!(forwarded.first_byte_of_backend, Some(59 * SECOND));
    assert_eq!(Outcome::of(&info, None), Outcome::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_connection_may_be_silent_for_a_minute_and_no_longer() {
    let (forwards, client, mut server) = in_memory(64);
    sleep(Duration::from_secs(3600)).await;
    server.shutdown().await.unwrap();
    let begun = Instant::now();
    let info = forwards.info.clone();
    let error = forwards.result().await.unwrap_err();
    assert_eq!(begun.elapsed(), 60 * SECOND);
    let elapsed = find::<Elapsed>(&*error).unwrap();
    assert_eq!(elapsed.phase(), TimeoutPhase::HALF_CLOSED);
    assert_eq!(info.ended_by(), Some(EndedBy::Backend));
    let text =
        "waiting for either side failed after 0 bytes to the backend and 0 bytes to the client";
    assert_eq!(error.to_string(), text);
    drop(client);
}

#[tokio::test]
async fn a_reset_by_either_side_is_passed_on_as_a_reset() {
    let (forwards, client, mut server) = over_tcp().await;
    reset(client);
    let end = end_of(&mut server).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    let info = forwards.info.clone();
    let error = forwards.error().await;
    assert_eq!(error.kind, ErrorKind::ConnectionReset);
    assert!(
        error
            .text
            .starts_with("reading from the client failed after 0"),
        "{}",
        error.text
    );
    assert_eq!(info.ended_by(), Some(EndedBy::Client));

    let (forwards, mut client, mut server) = over_tcp().await;
    client.write_all(b"request").await.unwrap();
    server.read_exact(&mut [0; 7]).await.unwrap();
    reset(server);
    let end = end_of(&mut client).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    let error = forwards.error().await;
    assert_eq!(error.forwarded.to_backend, 7);
    assert_eq!(error.forwarded.ended_by, EndedBy::Backend);
}

#[tokio::test]
async fn a_client_may_reset_after_the_end_of_the_backend_and_not_before() {
    for has_ended in [true, false] {
        let (forwards, mut client, mut server) = over_tcp().await;
        client.write_all(b"request").await.unwrap();
        server.read_exact(&mut [0; 7]).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        client.read_exact(&mut [0; 6]).await.unwrap();
        if has_ended {
            server.shutdown().await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        }
        reset(client);
        let info = forwards.info.clone();
        let result = forwards.result().await;
        let outcome = match &result {
            Ok(forwarded) => {
                assert_eq!((forwarded.to_backend, forwarded.to_client), (7, 6));
                Outcome::of(&info, None)
            }
            Err(error) => Outcome::of(&info, Some(&**error)),
        };
        let (expected, by) = match has_ended {
            true => (Outcome::Completed, EndedBy::Backend),
            false => (Outcome::Disconnected, EndedBy::Client),
        };
        assert_eq!((outcome, info.ended_by()), (expected, Some(by)));
        // It did not end its stream in order.
        let end = end_of(&mut server).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_bulk_transfer_is_passed_on() {
    for from_backend in [false, true] {
        let (forwards, client, server) = over_tcp().await;
        let (mut sender, mut receiver) = if from_backend {
            (server, client)
        } else {
            (client, server)
        };
        let sending = tokio::spawn(async move {
            for _ in 0..64 {
                sender.write_all(&[7; 100_000]).await.unwrap();
            }
            reset(sender);
        });
        let end = end_of(&mut receiver).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        sending.await.unwrap();
        forwards.result().await.unwrap_err();

        // The side that receives gives up.
        let (forwards, client, server) = over_tcp().await;
        let (mut sender, mut receiver) = if from_backend {
            (server, client)
        } else {
            (client, server)
        };
        let sending =
            tokio::spawn(async move { while sender.write_all(&[7; 100_000]).await.is_ok() {} });
        receiver.read_exact(&mut [0; 500_000]).await.unwrap();
        reset(receiver);
        sending.await.unwrap();
        let error = forwards.error().await;
        let by = if from_backend {
            EndedBy::Client
        } else {
            EndedBy::Backend
        };
        assert_eq!(error.forwarded.ended_by, by, "{}", error.text);
    }
}

#[tokio::test]
async fn an_answer_arrives_although_the_backend_did_not_read_everything() {
    for length in [5, 100_000] {
        let (forwards, mut client, mut server) = over_tcp().await;
        client.write_all(&[7; 50_000]).await.unwrap();
        server.read_exact(&mut [0; 100]).await.unwrap();
        server.write_all(&vec![b'n'; length]).await.unwrap();
        server.shutdown().await.unwrap();
        until(|| forwards.info.bytes_written() >= length as u64).await;
        // Leaves input unread, so its system resets the connection.
        drop(server);
        let sending = async {
            let mut sent = 0;
            while sent < 100 && client.write_all(&[7; 10_000]).await.is_ok() {
                sent += 1;
                sleep(Duration::from_millis(1)).await;
            }
            read_all(&mut client).await
        };
        let received = timeout(20 * SECOND, sending).await.unwrap();
        assert_eq!(received.len(), length);
        drop(client);
        let error = forwards.error().await;
        assert_eq!(error.forwarded.to_client, length as u64);
        assert_eq!(error.forwarded.ended_by, EndedBy::Backend, "{}", error.text);
    }
}

#[tokio::test]
async fn a_forced_close_ends_both_sides_also_in_the_middle_of_a_bulk_transfer() {
    for reset in [false, true] {
        let (forwards, mut client, server) = over_tcp().await;
        let sending =
            tokio::spawn(async move { while client.write_all(&[7; 100_000]).await.is_ok() {} });
        while forwards.info.bytes_read() < 2_000_000 {
            // Reads slowly, so that bytes are in transit.
            let mut buffer = vec![0; 300_000];
            server.readable().await.unwrap();
            let _ = server.try_read(&mut buffer);
        }
        sleep(Duration::from_millis(20)).await;
        match reset {
            true => forwards.info.force_reset(),
            false => forwards.info.force_close(),
        }
        let info = forwards.info.clone();
        let error = forwards.result().await.unwrap_err();
        assert!(find::<ForcedClose>(&*error).is_some());
        assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Forced);
        assert_eq!(info.ended_by(), Some(EndedBy::Gate));
        sending.await.unwrap();
        let mut server = server;
        let end = end_of(&mut server).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_drop_with_bytes_in_transit_resets_both_sides_and_otherwise_closes_them() {
    let (forwards, mut client, mut server) = over_tcp().await;
    let info = forwards.info.clone();
    client.write_all(b"request").await.unwrap();
    server.read_exact(&mut [0; 7]).await.unwrap();
    forwards.task.abort();
    assert_eq!(end_of(&mut server).await.unwrap(), 0);
    assert_eq!(end_of(&mut client).await.unwrap(), 0);
    assert_eq!(info.ended_by(), Some(EndedBy::Gate));

    let (forwards, mut client, mut server) = over_tcp().await;
    let piece = vec![7; 65_536];
    while timeout(Duration::from_millis(200), client.write(&piece))
        .await
        .is_ok()
    {}
    forwards.task.abort();
    let end = end_of(&mut server).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    let end = end_of(&mut client).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

/// A connection that reads and writes what `script` says.
fn scripted(script: &mut tokio_test::io::Builder) -> Connection<BoxIo> {
    let (connection, _) = testing::in_memory(64);
    connection.map_io(|_| BoxIo::new(script.build()))
}

#[tokio::test(start_paused = true)]
async fn the_truncation_of_an_answer_is_noticed_also_if_it_arrives_with_it() {
    let backend = scripted(
        tokio_test::io::Builder::new()
            .wait(SECOND)
            .read(b"half")
            .read_error(ErrorKind::UnexpectedEof.into()),
    );
    let (client, mut theirs) = testing::in_memory(64);
    theirs.shutdown().await.unwrap();
    let forwards = Forwards::start(client, backend, |s| s);
    assert_eq!(read_all(&mut theirs).await, b"half");
    assert_eq!(forwards.error().await.kind, ErrorKind::UnexpectedEof);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_a_failed_read_is_delivered() {
    let reset = || io::Error::from(ErrorKind::ConnectionReset);
    let elapsed = || io::Error::from(Elapsed::new(TimeoutPhase::HALF_CLOSED, SECOND));
    for (error, by) in [(reset(), EndedBy::Backend), (elapsed(), EndedBy::Gate)] {
        let kind = error.kind();
        let backend = scripted(
            tokio_test::io::Builder::new()
                .read(b"answer")
                .read_error(error),
        );
        let (client, mut theirs) = testing::in_memory(64);
        let forwards = Forwards::start(client, backend, |s| s);
        assert_eq!(read_all(&mut theirs).await, b"answer");
        let info = forwards.info.clone();
        let error = forwards.error().await;
        assert_eq!((error.kind, error.forwarded.to_client), (kind, 6));
        assert!(error.text.starts_with("reading from the backend"));
        assert_eq!(info.ended_by(), Some(by));
    }
}

#[tokio::test]
async fn a_write_that_times_out_resets_both_sides_also_midway() {
    for first in [None, Some(b"req")] {
        let elapsed = Elapsed::new(TimeoutPhase::HALF_CLOSED, SECOND);
        let mut script = tokio_test::io::Builder::new();
        if let Some(first) = first {
            script.write(first);
        }
        script.write_error(elapsed.into());
        let backend = scripted(&mut script);
        drop(script);
        let (client, mut theirs) = testing::over_tcp().await;
        theirs.write_all(b"request").await.unwrap();
        let forwards = Forwards::start(client, backend, |s| s);
        let end = end_of(&mut theirs).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        let moved = forwards.error().await.forwarded.to_backend;
        assert_eq!(moved, first.map_or(0, |first| first.len() as u64));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_was_written_is_sent_before_a_reset_is_passed_on() {
    let (forwards, mut client, mut server) = over_tcp().await;
    SockRef::from(&server).set_recv_buffer_size(65_536).unwrap();
    client.write_all(&[7; 1_000_000]).await.unwrap();
    until(|| forwards.info.bytes_read() >= 1_000_000).await;
    reset(client);
    sleep(Duration::from_millis(100)).await;
    let mut received = Vec::new();
    let end = server.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    assert_eq!(received.len(), 1_000_000);
    assert_eq!(forwards.error().await.forwarded.to_backend, 1_000_000);
}

#[tokio::test]
async fn a_reset_waits_for_a_side_that_does_not_read_only_as_long_as_half_closed_ones_do() {
    let limit = Duration::from_millis(200);
    let (client, mut theirs) = testing::over_tcp().await;
    let (backend, mut server) = testing::over_tcp().await;
    let forwards = Forwards::start(client, backend, |s| s.with_half_closed_timeout(limit));
    SockRef::from(&server).set_recv_buffer_size(65_536).unwrap();
    theirs.write_all(&[7; 1_000_000]).await.unwrap();
    until(|| forwards.info.bytes_read() >= 1_000_000).await;
    reset(theirs);
    let info = forwards.info.clone();
    let error = forwards.result().await.unwrap_err();
    assert!(find::<Elapsed>(&*error).is_some());
    assert_eq!(info.ended_by(), Some(EndedBy::Client));
    let end = end_of(&mut server).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_backend_that_sends_to_a_client_that_has_closed_still_gets_everything() {
    const TOTAL: usize = 1_000_000;
    let (forwards, mut client, mut server) = over_tcp().await;
    SockRef::from(&server).set_recv_buffer_size(65_536).unwrap();
    client.write_all(&[7; TOTAL]).await.unwrap();
    drop(client);
    let mut received = 0;
    loop {
        let read = server.read(&mut [0; 16_384]).await.unwrap();
        if read == 0 {
            break;
        }
        received += read;
        if forwards.info.bytes_read() == TOTAL as u64 {
            // The second one fails.
            server.write_all(b".").await.unwrap();
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(received, TOTAL);
    drop(server);
    let error = forwards.error().await;
    assert_eq!(error.forwarded.to_backend, TOTAL as u64);
    assert_eq!(error.forwarded.ended_by, EndedBy::Client);
}

/// A stream whose end cannot be sent.
struct Unclosable(Socket<DuplexStream>);

impl Passthrough for Unclosable {}

impl AsyncRead for Unclosable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Unclosable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(ErrorKind::BrokenPipe.into()))
    }
}

#[tokio::test(start_paused = true)]
async fn input_that_was_discarded_is_no_first_byte_unless_there_was_some() {
    let (client, mut theirs) = testing::in_memory(64);
    let (backend, server) = testing::in_memory(64);
    let forwards = Forwards::start(client, backend.map_io(Unclosable), |s| s);
    theirs.shutdown().await.unwrap();
    sleep(SECOND).await;
    drop(server);
    let error = forwards.error().await;
    assert_eq!(error.forwarded.first_byte_of_client, None);
    assert_eq!(error.forwarded.first_byte_of_backend, None);
}

#[tokio::test]
async fn a_backend_that_streams_to_a_client_that_has_closed_is_not_read_for_long() {
    let (forwards, mut client, mut server) = over_tcp().await;
    // So that much of what the client sends is still to be delivered when it closes.
    let piece = [7; 65_536];
    while let Ok(written) = timeout(SECOND, client.write(&piece)).await {
        written.unwrap();
    }
    drop(client);
    let mut sent = 0;
    while let Ok(written) = timeout(SECOND, server.write(&piece)).await {
        sent += written.unwrap();
        assert!(sent < 200_000_000, "{sent} bytes were accepted");
    }
    assert!(sent > 1_000_000);
    let end = timeout(20 * SECOND, end_of(&mut server)).await.unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let error = forwards.error().await;
    assert_eq!(error.forwarded.ended_by, EndedBy::Client);
}

#[tokio::test]
async fn a_backend_may_send_a_mib_to_a_client_that_has_closed_and_is_then_reset() {
    for (bytes, fails) in [(900_000, false), (50_000_000, true)] {
        let (forwards, mut client, mut server) = over_tcp().await;
        client.write_all(&[7; 100]).await.unwrap();
        drop(client);
        server.read_exact(&mut [0; 100]).await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        let sending = async {
            server.write_all(&vec![7; bytes]).await?;
            server.shutdown().await
        };
        let sent = timeout(20 * SECOND, sending).await.unwrap();
        assert_eq!(sent.is_err(), fails);
        forwards.result().await.unwrap_err();
    }
}

#[tokio::test]
async fn a_client_whose_server_connection_was_force_closed_has_its_reason() {
    let (client, mut theirs) = testing::in_memory(64);
    let (backend, _server) = testing::in_memory(64);
    let of_server = backend.info().clone();
    let forwards = Forwards::start(client, backend, |service| service);
    theirs.write_all(b"hello").await.unwrap();
    of_server.force_close_because("its server was removed");
    let info = forwards.info.clone();
    let error = forwards.result().await.unwrap_err();
    assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Forced);
    assert_eq!(info.forced_because(), Some("its server was removed"));
}

/// A server answers and closes without reading the request; its client reads only once it has sent everything.
#[tokio::test(start_paused = true)]
async fn input_is_discarded_as_soon_as_the_output_has_failed() {
    let (_forwards, client, mut server) = in_memory(64);
    server.write_all(&[1; 192]).await.unwrap();
    let mut client = client;
    let answered = tokio::spawn(async move {
        client.write_all(&[2; 1000]).await?;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await
    });
    // After the timers of the first moments, which would poll the forwarder.
    sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    drop(server);
    assert_eq!(answered.await.unwrap().unwrap(), 192);
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_forced_close_does_not_make_a_stream_look_complete_of_which_the_system_holds_a_part() {
    let (ours, mut client) = testing::over_tcp().await;
    let (backend, mut server) = testing::over_tcp().await;
    let received = SockRef::from(ours.get_ref().get_ref()).try_clone().unwrap();
    let forwards = Forwards::start(ours, backend, |s| s);
    client.write_all(b"part one").await.unwrap();
    server.read_exact(&mut [0; 8]).await.unwrap();
    client.write_all(b"part two").await.unwrap();
    // The forwarder is not polled in between. Loopback may deliver late on a busy machine.
    while received.peek(&mut [MaybeUninit::uninit()]).is_err() {
        std::thread::yield_now();
    }
    forwards.info.force_close();
    server.read_to_end(&mut Vec::new()).await.unwrap_err();
    let error = forwards.error().await;
    assert_eq!(error.forwarded.ended_by, EndedBy::Gate);
}

#[tokio::test]
async fn a_forced_close_of_a_silent_connection_ends_both_sides_in_order() {
    let (forwards, mut client, mut server) = over_tcp().await;
    client.write_all(b"all").await.unwrap();
    server.read_exact(&mut [0; 3]).await.unwrap();
    forwards.info.force_close();
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    forwards.error().await;
}
