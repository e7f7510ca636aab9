//! The bytes of an established connection, however they are split.

use super::*;
use crate::io::Passthrough;
use crate::tls::{
    TlsIo,
    handshake::handshake,
    records::Records,
    scratch::{MAX_FLIGHT, with_scratch},
};
use rustls::{
    AlertDescription, ClientConnection,
    server::UnbufferedServerConnection,
    version::{TLS12, TLS13},
};
use std::{
    future::poll_fn,
    io::{IoSlice, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::ReadBuf;
use tokio_test::{assert_pending, task};

type Server = Connection<TlsIo<Socket<DuplexStream>>>;
type Client = TlsStream<DuplexStream>;

/// Both ends of a connection in memory that buffers up to `capacity` bytes in each direction.
async fn established(
    capacity: usize,
    version: &'static SupportedProtocolVersion,
    configure: impl FnOnce(&mut ServerConfig),
) -> (Server, Client) {
    let mut config = server_config(provider(), &[version]);
    configure(&mut config);
    let layer = with_session(TlsLayer::new(Arc::new(config)));
    let (connection, io) = crate::testing::in_memory(capacity);
    let client = connect(client_config(provider(), &[version]), io);
    let (server, client) = tokio::join!(handshake(layer, connection), client);
    (server.unwrap(), client.unwrap())
}

/// Xorshift, so that a seed that fails fails again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }

    /// Mostly small numbers, and some that exceed a batch.
    fn size(&mut self) -> usize {
        let most = [1, 3, 30, 500, 5_000, 17_000, 100_000][self.below(7)];
        self.below(most) + 1
    }
}

/// The byte at a position of the stream.
fn byte(position: usize) -> u8 {
    (position ^ position >> 8 ^ position >> 16) as u8
}

const TOTAL: usize = 400_000;

/// Sends [`TOTAL`] bytes in random writes, and ends.
async fn send(mut io: impl AsyncWrite + Unpin, mut random: Random) {
    let mut sent = 0;
    while sent < TOTAL {
        let bytes: Vec<u8> = (sent..TOTAL).take(random.size()).map(byte).collect();
        let written = match random.below(3) {
            0 => {
                let (first, second) = bytes.split_at(random.below(bytes.len()));
                let (second, third) = second.split_at(random.below(second.len()));
                let parts = [first, second, &[], third].map(IoSlice::new);
                io.write_vectored(&parts).await.unwrap()
            }
            _ => io.write(&bytes).await.unwrap(),
        };
        assert!(written > 0 && written <= bytes.len());
        sent += written;
        match random.below(4) {
            0 => io.flush().await.unwrap(),
            1 => tokio::task::yield_now().await,
            _ => {}
        }
    }
    io.shutdown().await.unwrap();
}

/// Receives the same bytes in random reads, and the end.
async fn receive(mut io: impl AsyncRead + Unpin, mut random: Random) {
    let mut received = 0;
    loop {
        let mut buffer = vec![0; random.size()];
        let bytes = io.read(&mut buffer).await.unwrap();
        for byte_read in &buffer[..bytes] {
            assert_eq!(*byte_read, byte(received), "at {received}");
            received += 1;
        }
        if bytes == 0 {
            assert_eq!(received, TOTAL);
            return;
        }
        if random.below(4) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn random_operations_move_the_same_bytes_in_both_directions() {
    for seed in 1..25 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let capacity = [700, 3_000, 16_406, 70_000, 1_000_000][random.below(5)];
        let version = [&TLS12, &TLS13][random.below(2)];
        let fragment = [None, Some(32), Some(1_000)][random.below(3)];
        let (server, client) = established(capacity, version, |config| {
            config.max_fragment_size = fragment;
        })
        .await;
        let (server_input, server_output) = tokio::io::split(server);
        let (client_input, client_output) = tokio::io::split(client);
        let mut next = || Random(random.below(usize::MAX >> 1) as u64 | 1);
        tokio::join!(
            send(server_output, next()),
            receive(client_input, next()),
            send(client_output, next()),
            receive(server_input, next()),
        );
    }
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer_unless_its_session_does() {
    for version in [&TLS12, &TLS13] {
        let (mut server, mut client) = established(1_000_000, version, |_| {}).await;
        client.write_all(&[7; 100_000]).await.unwrap();
        server.read_exact(&mut [0; 100_000]).await.unwrap();
        server.write_all(&[7; 100_000]).await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut [0; 100_000]).await.unwrap();
        let mut buffer = [0; 10];
        let mut reading = task::spawn(server.read(&mut buffer));
        assert_pending!(reading.poll());
        drop(reading);
        let expected = is_unbuffered().then_some(0);
        assert_eq!(server.get_ref().held_bytes(), expected);
    }
}

#[tokio::test]
async fn what_follows_the_last_flight_at_once_is_not_lost() {
    for version in [&TLS12, &TLS13] {
        let layer = with_session(TlsLayer::new(Arc::new(server_config(
            provider(),
            &[version],
        ))));
        let (connection, mut io) = crate::testing::in_memory(100_000);
        let served = handshake(layer, connection);
        let client = async {
            let config = client_config(provider(), &[version]);
            let name = ServerName::try_from("localhost").unwrap();
            let mut session = ClientConnection::new(config.into(), name).unwrap();
            // It is sent with the first flight that may carry it.
            session.writer().write_all(b"early question").unwrap();
            while session.is_handshaking() {
                let mut flight = Vec::new();
                while session.wants_write() {
                    session.write_tls(&mut flight).unwrap();
                }
                io.write_all(&flight).await.unwrap();
                let mut input = vec![0; 50_000];
                let bytes = io.read(&mut input).await.unwrap();
                let mut input = &input[..bytes];
                while !input.is_empty() {
                    session.read_tls(&mut input).unwrap();
                    session.process_new_packets().unwrap();
                }
            }
            let mut flight = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut flight).unwrap();
            }
            io.write_all(&flight).await.unwrap();
            (session, io)
        };
        let (server, (mut session, mut io)) = tokio::join!(served, client);
        let mut server = server.unwrap();
        let mut question = [0; 14];
        server.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"early question");
        server.write_all(b"answer").await.unwrap();
        server.flush().await.unwrap();
        let mut input = vec![0; 10_000];
        let bytes = io.read(&mut input).await.unwrap();
        session.read_tls(&mut &input[..bytes]).unwrap();
        session.process_new_packets().unwrap();
        let mut answer = [0; 6];
        session.reader().read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }
}

#[tokio::test]
async fn keys_are_updated_while_data_flows() {
    // With the small fragments, a batch of an unbuffered session is too large at first.
    for fragment in [None, Some(32)] {
        let (mut server, mut client) = established(1_000_000, &TLS13, |config| {
            config.max_fragment_size = fragment;
        })
        .await;
        for round in 0..5 {
            client.get_mut().1.refresh_traffic_keys().unwrap();
            client.write_all(&[round; 60_000]).await.unwrap();
            client.flush().await.unwrap();
            let mut received = vec![0; 60_000];
            server.read_exact(&mut received).await.unwrap();
            assert!(received == [round; 60_000]);
            // The update of our keys that the client has requested precedes this.
            server.write_all(&received).await.unwrap();
            server.flush().await.unwrap();
            received.fill(!round);
            client.read_exact(&mut received).await.unwrap();
            assert!(received == [round; 60_000]);
        }
    }
}

/// Writes until the client has to read. Returns the number of bytes.
fn fill(server: &mut Server) -> usize {
    let mut accepted = 0;
    loop {
        let mut writing = task::spawn(server.write(&[7; 100_000]));
        match writing.poll() {
            Poll::Ready(written) => accepted += written.unwrap(),
            Poll::Pending => return accepted,
        }
    }
}

/// Requests other keys of the server and sends "more", which the server reads.
async fn update_keys(server: &mut Server, client: &mut Client) {
    client.get_mut().1.refresh_traffic_keys().unwrap();
    client.write_all(b"more").await.unwrap();
    client.flush().await.unwrap();
    let mut received = [0; 4];
    server.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"more");
}

#[tokio::test]
async fn keys_are_updated_while_the_client_does_not_read() {
    let (mut server, mut client) = established(1_000, &TLS13, |_| {}).await;
    let accepted = fill(&mut server);
    for _ in 0..2 {
        update_keys(&mut server, &mut client).await;
    }
    let send = async {
        server.write_all(&[7; 10_000]).await.unwrap();
        server.shutdown().await.unwrap();
    };
    let ((), (received, end)) = tokio::join!(send, read_all(&mut client));
    end.unwrap();
    assert!(received == vec![7; accepted + 10_000]);
}

#[tokio::test]
async fn keys_are_updated_before_an_end() {
    let (mut server, mut client) = established(10_000, &TLS13, |_| {}).await;
    server.write_all(b"all").await.unwrap();
    update_keys(&mut server, &mut client).await;
    server.shutdown().await.unwrap();
    let (received, end) = read_all(&mut client).await;
    assert_eq!((received.as_slice(), end.is_ok()), (&b"all"[..], true));
}

#[tokio::test]
async fn what_is_read_ahead_to_detect_an_end_is_not_lost() {
    for version in [&TLS12, &TLS13] {
        let (mut server, mut client) = established(100_000, version, |_| {}).await;
        let is_gone = |server: &mut Server| {
            let mut departure = task::spawn(poll_fn(|cx| server.get_mut().poll_departure(cx)));
            departure.poll().is_ready()
        };
        assert!(!is_gone(&mut server));
        client.write_all(&[7; 40_000]).await.unwrap();
        client.flush().await.unwrap();
        assert!(!is_gone(&mut server));
        assert!(!is_gone(&mut server));
        let mut received = vec![0; 40_000];
        server.read_exact(&mut received[..5]).await.unwrap();
        server.read_exact(&mut received[5..]).await.unwrap();
        assert!(received == [7; 40_000]);
        assert!(!is_gone(&mut server));
        client.shutdown().await.unwrap();
        assert!(is_gone(&mut server));
        assert_eq!(server.read(&mut received).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_vectored_write_that_waits_or_fails_copies_nothing() {
    let (mut server, _client) = established(1_000, &TLS13, |_| {}).await;
    fill(&mut server);
    with_scratch(|scratch| scratch.fill(0));
    let parts = [IoSlice::new(&[7; 100]), IoSlice::new(&[7; 100])];
    assert_pending!(task::spawn(server.write_vectored(&parts)).poll());
    assert_pending!(task::spawn(server.shutdown()).poll());
    if is_unbuffered() {
        with_scratch(|scratch| assert!(scratch.iter().all(|byte| *byte == 0)));
        let error = server.write_vectored(&parts).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

/// Flips a bit of what the client sends, once it is set.
struct Tampering(DuplexStream, bool);

impl AsyncRead for Tampering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tampering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = bytes.to_vec();
        if let (true, Some(last)) = (self.1, bytes.last_mut()) {
            *last ^= 1;
        }
        Pin::new(&mut self.0).poll_write(cx, &bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_damaged_record_is_a_failure_that_both_sides_see() {
    let (connection, io) = crate::testing::in_memory(100_000);
    let client = connect(client(), Tampering(io, false));
    let (server, client) = tokio::join!(handshake(tls_layer(), connection), client);
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    client.write_all(b"whole").await.unwrap();
    client.get_mut().0.1 = true;
    client.write_all(b"damaged").await.unwrap();
    client.flush().await.unwrap();
    let (received, end) = read_all(&mut server).await;
    assert!(received == b"whole" || !is_unbuffered(), "{received:?}");
    let error = end.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    if is_unbuffered() {
        // It stays that way, in both directions.
        let error = server.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = server.write(b"answer").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
    let error = read_all(&mut client).await.1.unwrap_err();
    let alert = rustls::Error::AlertReceived(AlertDescription::BadRecordMac);
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    assert_eq!(cause, Some(&alert));
}

#[tokio::test]
async fn one_write_takes_eight_full_records_of_an_unbuffered_session() {
    let (mut server, mut client) = established(1_000_000, &TLS13, |_| {}).await;
    let taken = server.write(&[7; 200_000]).await.unwrap();
    if is_unbuffered() {
        assert_eq!(taken, 8 * 16_384);
    }
    server.shutdown().await.unwrap();
    let (received, end) = read_all(&mut client).await;
    end.unwrap();
    assert!(received == vec![7; taken]);
}

#[tokio::test]
async fn an_alert_on_a_full_socket_follows_what_was_written_before() {
    let (connection, io) = crate::testing::in_memory(1_000);
    let client = connect(client(), Tampering(io, false));
    let (server, client) = tokio::join!(handshake(tls_layer(), connection), client);
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    let accepted = fill(&mut server);
    client.get_mut().0.1 = true;
    client.write_all(b"damaged").await.unwrap();
    client.flush().await.unwrap();
    // The read does not wait until the alert can be sent.
    let mut buffer = [0; 10];
    let mut reading = task::spawn(server.read(&mut buffer));
    let Poll::Ready(Err(error)) = reading.poll() else {
        panic!("a damaged record is a failure");
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    drop(reading);
    // A shutdown does.
    assert_pending!(task::spawn(server.shutdown()).poll());
    let (ended, (received, end)) = tokio::join!(server.shutdown(), read_all(&mut client));
    ended.unwrap();
    // This client loses the record that it reads together with the alert.
    let lost = accepted - received.len();
    assert!(lost <= 16_384, "{lost} of {accepted}");
    assert!(received.iter().all(|byte| *byte == 7));
    let error = end.unwrap_err();
    let alert = rustls::Error::AlertReceived(AlertDescription::BadRecordMac);
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    assert_eq!(cause, Some(&alert));
}

#[tokio::test]
async fn a_client_that_reads_nothing_stops_the_server_within_a_bound() {
    let (mut server, mut client) = established(1_000, &TLS13, |_| {}).await;
    let accepted = fill(&mut server);
    assert!(accepted <= 200_000, "{accepted}");
    let receive = async {
        let mut received = vec![0; accepted];
        client.read_exact(&mut received).await.unwrap();
        assert!(received.iter().all(|byte| *byte == 7));
    };
    let (flushed, ()) = tokio::join!(server.flush(), receive);
    flushed.unwrap();
}

#[tokio::test]
async fn after_its_end_a_side_can_send_nothing_more() {
    let (mut server, client) = established(100_000, &TLS13, |_| {}).await;
    server.write_all(b"all").await.unwrap();
    server.shutdown().await.unwrap();
    if is_unbuffered() {
        let error = server.write(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
    server.shutdown().await.unwrap();
    let (received, end) = read_all(client).await;
    assert_eq!((received.as_slice(), end.is_ok()), (&b"all"[..], true));
}

#[test]
fn a_handshake_message_in_tiny_records_is_bounded() {
    let config = server_config(provider(), &[&TLS12]);
    let session = UnbufferedServerConnection::new(config.into()).unwrap();
    let mut records = Records::new(session);
    let config = client_config(provider(), &[&TLS12]);
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(config.into(), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    records.handshake(&hello).unwrap();
    // A ClientKeyExchange of 65,535 bytes, one byte to a record.
    let message = [16, 0, 0xff, 0xff]
        .into_iter()
        .chain([7].into_iter().cycle());
    let mut accepted = message.map(|byte| records.handshake(&[22, 3, 3, 0, 1, byte]));
    let accepted_records = accepted
        .by_ref()
        .position(|result| result.is_err())
        .unwrap();
    assert!(
        (5_000..MAX_FLIGHT / 6 + 1).contains(&accepted_records),
        "{accepted_records}"
    );
    // It stays a failure, and the client gets an alert.
    assert!(records.check().is_err());
    let alert = records.output().rest();
    assert!(alert.ends_with(&[21, 3, 3, 0, 2, 2, 50]), "{alert:?}");
    assert!(records.take_input().is_empty());
}
