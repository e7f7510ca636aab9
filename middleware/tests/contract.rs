//! Every layer of this package keeps tower's contract.

#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use portcullis_middleware::{
    Connection,
    access::{Acl, AclLayer, Verdict},
    handler::CatchPanicLayer,
    handler::OnErrorLayer,
    handler::from_fn,
    limit::{
        Bandwidth, BandwidthLayer, ConnectionLimitLayer, KeyedLimitLayer, Rate, RateLimitLayer,
        Refusal,
    },
    observe::{AlarmKind, AlarmLayer, ByteCounter, CountBytesLayer, TraceLayer},
    peek::PeekLayer,
    peer_addr::PeerAddrLayer,
    prelude::{Postgres, PreludeLayer},
    stream::WriteBufferLayer,
    stream::{BoxIoLayer, map_io, try_map_io},
    testing::{Peer, assert_contract, assert_contract_with},
    timeout::IoTimeoutLayer,
    timeout::{ConnectionTimeoutLayer, HalfClosedTimeoutLayer},
};
use std::{io, ops::ControlFlow, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt, BufStream};
use tower::ServiceBuilder;

#[tokio::test(start_paused = true)]
async fn peer_addr() {
    assert_contract_with(PeerAddrLayer::new(), || Peer::new().io()).await;
}

#[tokio::test(start_paused = true)]
async fn trace() {
    assert_contract(TraceLayer::new()).await;
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn metrics() {
    assert_contract(portcullis_middleware::observe::MetricsLayer::new("web")).await;
}

#[tokio::test(start_paused = true)]
async fn alarm() {
    let layer = AlarmLayer::new("web").with_threshold(AlarmKind::Active, 1);
    assert_contract(layer.with_threshold(AlarmKind::Opened, 2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_waits_before_accepting() {
    for limit in 1..=9 {
        assert_contract(ConnectionLimitLayer::new(limit)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_waits_up_to_a_bound() {
    for bound in [Duration::from_millis(1), Duration::from_secs(9)] {
        for max_waiting in [0, 1, 9] {
            let layer = ConnectionLimitLayer::new(2).wait_up_to(bound, max_waiting);
            assert_contract(layer).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_refuses() {
    for refusal in [Refusal::Close, Refusal::Reset, Refusal::answer("full")] {
        let layer = ConnectionLimitLayer::new(2).refuse();
        assert_contract(layer.with_refusal(refusal)).await;
    }
    assert_contract(ConnectionLimitLayer::new(2).with_observe(true)).await;
}

#[tokio::test(start_paused = true)]
async fn access() {
    assert_contract(AclLayer::new(Acl::new())).await;
    let denied = AclLayer::predicate(|_| Verdict::Deny("closed"));
    assert_contract(denied.with_observe(true)).await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_per_key() {
    for limit in 1..=9 {
        assert_contract(KeyedLimitLayer::new((), limit)).await;
    }
    let tarpit = Refusal::Tarpit {
        hold: Duration::from_millis(1),
        at_most: 1,
    };
    assert_contract(KeyedLimitLayer::new((), 2).with_refusal(tarpit)).await;
    assert_contract(KeyedLimitLayer::new((), 2).with_observe(true)).await;
}

#[tokio::test(start_paused = true)]
async fn a_rate() {
    assert_contract(RateLimitLayer::new((), Rate::per_second(u32::MAX))).await;
    let observed = RateLimitLayer::new((), Rate::per_second(1)).with_observe(true);
    assert_contract(observed).await;
}

#[tokio::test(start_paused = true)]
async fn io_timeout() {
    assert_contract(IoTimeoutLayer::new()).await;
}

#[tokio::test(start_paused = true)]
async fn bandwidth() {
    assert_contract(BandwidthLayer::new()).await;
    let limit = Bandwidth::per_second(1 << 20);
    let limits = BandwidthLayer::new().with_read(limit).with_write(limit);
    assert_contract(limits.clone()).await;
    assert_contract(limits.with_observe(true)).await;
}

#[tokio::test(start_paused = true)]
async fn connection_timeout() {
    let day = Duration::from_secs(86_400);
    assert_contract(ConnectionTimeoutLayer::new()).await;
    let limits = ConnectionTimeoutLayer::new()
        .with_idle_timeout(day)
        .with_max_lifetime(day)
        .with_lifetime_grace(day);
    assert_contract(limits.clone()).await;
    assert_contract(limits.with_observe(true)).await;
}

#[tokio::test(start_paused = true)]
async fn half_closed_timeout() {
    assert_contract(HalfClosedTimeoutLayer::new()).await;
}

#[tokio::test(start_paused = true)]
async fn peek() {
    let from = |bytes: &str| {
        let peer = Peer::new().dribbles(bytes, 3, Duration::from_millis(100));
        peer.connection().0
    };
    assert_contract_with(PeekLayer::new(), || from("GET / HTTP/1.1\r\n")).await;
}

#[tokio::test(start_paused = true)]
async fn prelude() {
    let request = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    assert_contract_with(PreludeLayer::new(Postgres::new()), || {
        let peer = Peer::new().dribbles(request, 3, Duration::from_millis(100));
        let peer = peer.waits_for(1).sends([22]);
        peer.connection().0
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn on_error() {
    assert_contract(OnErrorLayer::new(|error, _| async move { Err(error) })).await;
    let handled = OnErrorLayer::new(|error, connection: Option<Connection<_>>| async move {
        drop(connection.ok_or(error)?);
        Ok(())
    });
    assert_contract(handled).await;
    let again = OnErrorLayer::with_retry(|error, connection| async move {
        Ok(ControlFlow::Continue(connection.ok_or(error)?))
    });
    assert_contract(again).await;
}

#[tokio::test(start_paused = true)]
async fn catch_panic() {
    assert_contract(CatchPanicLayer::new()).await;
}

#[tokio::test(start_paused = true)]
async fn count_bytes() {
    assert_contract(CountBytesLayer::new(ByteCounter::new())).await;
}

#[tokio::test(start_paused = true)]
async fn buffer() {
    assert_contract(WriteBufferLayer::default()).await;
}

#[tokio::test(start_paused = true)]
async fn functions() {
    assert_contract(from_fn(|connection, next| async move {
        next.run(connection).await
    }))
    .await;
    assert_contract(from_fn(|connection, next| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        next.run(connection).await
    }))
    .await;
}

/// Reads a byte first.
async fn first_byte<IO: AsyncRead + Unpin>(mut io: IO) -> io::Result<IO> {
    io.read_u8().await?;
    Ok(io)
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_io() {
    assert_contract(map_io(BufStream::new)).await;
    assert_contract(BoxIoLayer::new()).await;
    assert_contract_with(try_map_io(first_byte), || {
        let script = Peer::new().stalls(Duration::from_millis(1)).sends("x");
        script.connection().0
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_whole_stack() {
    let stack = ServiceBuilder::new()
        .layer(PeerAddrLayer::new())
        .layer(TraceLayer::new())
        .layer(ConnectionLimitLayer::new(3))
        .layer(CatchPanicLayer::new())
        .layer(IoTimeoutLayer::new())
        .layer(HalfClosedTimeoutLayer::new())
        .layer(BoxIoLayer::new())
        .layer(WriteBufferLayer::default())
        .into_inner();
    assert_contract_with(stack, || Peer::new().io()).await;
}

#[cfg(feature = "transcode")]
#[tokio::test(start_paused = true)]
async fn transcode() {
    use portcullis_middleware::stream::TranscodeLayer;
    assert_contract(TranscodeLayer::for_label("latin1").unwrap()).await;
}

#[cfg(feature = "proxy-protocol")]
#[tokio::test(start_paused = true)]
async fn proxy_protocol() {
    use portcullis_middleware::proxy_protocol::{ProxyProtocolLayer, SendProxyHeaderLayer};
    let header = "PROXY TCP4 198.51.100.7 192.0.2.1 40000 443\r\n";
    let from = |ip: [u8; 4]| {
        let script = Peer::new().dribbles(header, 40, Duration::from_millis(100));
        let script = script.with_peer_address(std::net::SocketAddr::from((ip, 50_000)));
        script.connection().0
    };
    let layer = ProxyProtocolLayer::new("192.0.2.1".parse().unwrap());
    assert_contract_with(layer.clone(), || from([192, 0, 2, 1])).await;
    let layer_out = SendProxyHeaderLayer::new(header.as_bytes());
    assert_contract_with(layer_out, || Peer::new().connection().0).await;
    // Untrusted sources take another path.
    assert_contract_with(layer.with_direct_clients(), || from([192, 0, 2, 2])).await;
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
#[tokio::test(start_paused = true)]
async fn tls() {
    use portcullis_middleware::tls::{TlsConnector, TlsLayer, TlsOrPlainLayer};
    let names = vec!["localhost".to_owned()];
    let identity = rcgen::generate_simple_self_signed(names).unwrap();
    let (chain, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let layer = TlsLayer::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let connector = TlsConnector::with_roots_pem(chain.as_bytes()).unwrap();
    // With one permit for handshakes, losing it is detected.
    let layer = layer.with_max_computing(1);
    let either = TlsOrPlainLayer::new(layer.clone());
    assert_contract_with(either.clone(), || {
        let script = Peer::new().stalls(Duration::from_millis(1)).sends("x");
        script.connection().0
    })
    .await;
    let client = || {
        let (ours, theirs) = tokio::io::duplex(4096);
        let connector = connector.clone();
        tokio::spawn(async move {
            let client = Connection::accept(theirs);
            // The client ends when our side does, even without a handshake.
            if let Ok(mut client) = connector.connect("localhost", client).await {
                let _ = client.read(&mut [0; 1]).await;
            }
        });
        Connection::accept(ours)
    };
    assert_contract_with(layer, client).await;
    assert_contract_with(either, client).await;
}
