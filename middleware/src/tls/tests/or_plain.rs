//! TLS and plain text on one port.

use super::*;
use crate::{
    error::{Elapsed, HandshakeError, Refused},
    io::PrefixedIo,
    limit::connection_limit::ConnectionLimitLayer,
    tls::{CertStore, TlsOrPlainLayer, TlsProfile},
};
use std::time::Duration;

async fn serve_either<Io: Transport>(
    layer: TlsOrPlainLayer,
    connection: Connection<Socket<Io>>,
) -> Result<(), BoxError> {
    let echo = tower::service_fn(async |connection: Connection<_>| echo(connection).await);
    layer.layer(echo).oneshot(connection).await
}

#[tokio::test]
async fn the_first_byte_decides() {
    let layer = TlsOrPlainLayer::new(tls_layer());
    let (connection, io) = over_tcp().await;
    let known = info(&connection);
    let talk_tls = async { talk(connect(client(), io).await?, b"hello").await };
    let (served, received) = tokio::join!(serve_either(layer.clone(), connection), talk_tls);
    served.unwrap();
    assert_eq!(received.unwrap(), b"hello");
    assert!(known.tls().is_some());

    for request in [&b"h"[..], &[b'x'; 2000], b"", b"\x15", b"\x17\x03"] {
        let (connection, mut io) = over_tcp().await;
        let known = info(&connection);
        let talk = async {
            io.write_all(request).await?;
            io.shutdown().await?;
            let (received, end) = read_all(io).await;
            end.map(|_| received)
        };
        let (served, received) = tokio::join!(serve_either(layer.clone(), connection), talk);
        served.unwrap();
        assert_eq!(received.unwrap(), request);
        assert!(known.tls().is_none());
    }
}

#[tokio::test]
async fn a_first_byte_of_tls_commits_to_tls() {
    let (connection, mut io) = over_tcp().await;
    io.write_all(b"\x16GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let served = serve_either(TlsOrPlainLayer::new(tls_layer()), connection);
    let (served, (received, _)) = tokio::join!(served, read_all(io));
    assert!(served.unwrap_err().is::<HandshakeError>());
    assert_eq!(received.first(), Some(&21), "an alert");
}

/// A ClientHello that arrives in two parts.
#[tokio::test]
async fn a_client_hello_is_answered_wherever_it_is_cut() {
    let store = CertStore::builder()
        .pem(SERVER.chain_pem().as_bytes(), SERVER.key_pem().as_bytes())
        .build()
        .unwrap();
    // The first layer has a fixed configuration, and the second one reads the ClientHello to choose.
    for tls in [tls_layer(), TlsProfile::new(&store).build().unwrap()] {
        let layer = TlsOrPlainLayer::new(tls);
        let hello = client_hello();
        for cut in 1..hello.len() {
            let (connection, mut io) = in_memory();
            let client = async {
                io.write_all(&hello[..cut]).await.unwrap();
                tokio::task::yield_now().await;
                io.write_all(&hello[cut..]).await.unwrap();
                io.read_u8().await.unwrap()
            };
            let served = serve_either(layer.clone(), connection);
            tokio::select! {
                served = served => panic!("{served:?}, cut at {cut}"),
                first = client => assert_eq!(first, 22, "no answer, cut at {cut}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_times_out_and_can_be_displaced() {
    let layer = TlsOrPlainLayer::new(tls_layer().with_max_handshakes(1));
    let (connection, _silent) = in_memory();
    let error = serve_either(layer.clone(), connection).await.unwrap_err();
    let elapsed = error.downcast_ref::<Elapsed>().unwrap();
    assert_eq!(elapsed.after(), Duration::from_secs(5));
    assert_eq!(elapsed.phase().as_str(), "first-byte");

    let (connection, _silent) = in_memory();
    let silent = serve_either(layer.clone(), connection);
    let (connection, io) = in_memory();
    let good = async {
        tokio::task::yield_now().await;
        let talk = async { talk(connect(client(), io).await?, b"hello").await };
        let served = serve_either(layer.clone(), connection);
        let (served, received) = tokio::join!(served, talk);
        served.unwrap();
        assert_eq!(received.unwrap(), b"hello");
    };
    let (silent, ()) = tokio::join!(silent, good);
    assert!(silent.unwrap_err().is::<Refused>());
    assert_eq!(layer_count(&layer), 0);
}

fn layer_count(layer: &TlsOrPlainLayer) -> usize {
    layer.tls().handshakes_in_flight()
}

async fn serve_limited<IO>(
    limit: ConnectionLimitLayer,
    connection: Connection<IO>,
) -> Result<(), BoxError>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let echo = tower::service_fn(async |connection: Connection<_>| echo(connection).await);
    let layer = TlsOrPlainLayer::new(tls_layer());
    layer.layer(limit.layer(echo)).oneshot(connection).await
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_inside_is_noticed() {
    for (is_tls, is_behind_prefix) in [(true, false), (true, true), (false, false), (false, true)] {
        let (limit, counts) = ConnectionLimitLayer::pair(0);
        let limit = limit.wait_up_to(Duration::from_secs(60), 1);
        let waiting = async || {
            while counts.waiting() == 0 {
                tokio::task::yield_now().await;
            }
        };
        let (connection, mut io) = over_tcp().await;
        let client = async {
            if is_tls {
                let client = connect(client(), io).await.unwrap();
                waiting().await;
                return drop(client);
            }
            io.write_all(b"hello").await.unwrap();
            waiting().await;
            // A plain client that half-closes may wait for an answer, so it resets.
            io.set_zero_linger().unwrap();
            drop(io);
        };
        let served = async {
            match is_behind_prefix {
                true => serve_limited(limit, connection.map_io(PrefixedIo::new)).await,
                false => serve_limited(limit, connection).await,
            }
        };
        let both = async { tokio::join!(served, client).0 };
        let served = tokio::time::timeout(Duration::from_secs(20), both).await;
        served.expect("it is noticed").unwrap_err();
    }
}
