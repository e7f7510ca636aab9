//! Clients that are slow, silent, endless or invalid.

use super::*;
use crate::{observe::trace::tests::log::Log, outcome::Outcome, testing::Peer};
use tracing::Level;

const SECOND: Duration = Duration::from_secs(1);

fn reason(error: &BoxError) -> &'static str {
    find::<Refused>(&**error).expect("it was refused").reason()
}

#[tokio::test(start_paused = true)]
async fn a_hello_may_take_the_timeout_and_no_longer() {
    for (pause, in_time) in [(5_000, true), (5_001, false)] {
        let [first, rest] = [&hello()[..40], &hello()[40..]].map(<[u8]>::to_vec);
        let peer = Peer::new()
            .sends(first)
            .stalls(Duration::from_millis(pause));
        let (connection, seen) = peer.sends(rest).half_closes().connection();
        let served = serve_connection(PeekLayer::new(), connection).await;
        match served {
            Ok((protocol, _)) => assert!(in_time && matches!(protocol, Some(Protocol::Tls))),
            Err(error) => {
                let elapsed = find::<Elapsed>(&*error).unwrap();
                assert_eq!(
                    elapsed,
                    &Elapsed::new(TimeoutPhase::CLIENT_HELLO, 5 * SECOND)
                );
                assert!(!in_time && seen.is_reset());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pieces_do_not_extend_the_timeout() {
    let peer = Peer::new().dribbles(hello(), 5, SECOND);
    let error = serve_connection(PeekLayer::new(), peer.connection().0).await;
    let error = error.unwrap_err();
    assert!(find::<Elapsed>(&*error).is_some(), "{error}");
    let peer = Peer::new().dribbles(hello(), 5, SECOND).half_closes();
    let layer = PeekLayer::new().with_timeout(None);
    let served = serve_connection(layer, peer.connection().0).await;
    assert_eq!(served.unwrap().1, hello());
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_closed_and_the_next_layer_not_called() {
    let peer = Peer::new().stalls(3600 * SECOND);
    let (connection, seen) = peer.connection();
    let info = connection.info().clone();
    let called = service_fn(async |_: Connection<_>| -> io::Result<()> { panic!("called") });
    let error = PeekLayer::new().layer(called).oneshot(connection).await;
    let error = error.unwrap_err();
    let outcome = Outcome::of(&info, Some(&*error));
    assert_eq!(outcome, Outcome::TimedOut(TimeoutPhase::CLIENT_HELLO));
    assert!(seen.is_dropped());
}

#[tokio::test]
async fn the_limit_of_the_layer_is_that_of_the_hello() {
    let bytes = hello();
    for (limit, fits) in [
        (bytes.len() + 1, true),
        (bytes.len(), true),
        (bytes.len() - 1, false),
    ] {
        let layer = PeekLayer::new().with_max_len(limit);
        match serve(layer, io::Cursor::new(bytes.clone())).await {
            Ok((_, input)) => assert!(fits && input == bytes),
            Err(error) => assert!(!fits && reason(&error) == PeekLayer::TOO_LONG),
        }
    }
}

#[tokio::test]
async fn a_hello_of_64_kib_is_refused_and_one_of_15_kib_is_not() {
    let padded = |length| {
        let mut hello = TestHello::to("shop.example");
        hello.extensions.push((21, vec![0; length]));
        io::Cursor::new(hello.records(1 << 14))
    };
    let error = serve(PeekLayer::new(), padded(64_000)).await.unwrap_err();
    assert_eq!(reason(&error), PeekLayer::TOO_LONG);
    let served = serve(PeekLayer::new(), padded(15 << 10)).await.unwrap();
    assert_eq!(served.1, padded(15 << 10).into_inner());
    let large = PeekLayer::new().with_max_len(64 << 10);
    assert!(serve(large, padded(64_000)).await.is_ok());
}

#[tokio::test]
async fn an_invalid_hello_is_refused_with_its_problem() {
    let mut bytes = hello();
    bytes[5] = 2;
    let (connection, seen) = Peer::new().sends(bytes).connection();
    let error = serve_connection(PeekLayer::new(), connection)
        .await
        .unwrap_err();
    assert_eq!(reason(&error), PeekLayer::INVALID);
    assert!(
        find::<ClientHelloError>(&*error)
            .unwrap()
            .is_not_client_hello()
    );
    assert!(seen.is_reset());
}

#[tokio::test]
async fn a_client_that_leaves_has_disconnected() {
    let left_after = |bytes: &[u8]| match bytes {
        [] => Peer::new().half_closes(),
        bytes => Peer::new().sends(bytes).half_closes(),
    };
    for bytes in [&b""[..], b"GE", &hello()[..100]] {
        let (connection, seen) = left_after(bytes).connection();
        let info = connection.info().clone();
        let error = serve_connection(PeekLayer::new(), connection)
            .await
            .unwrap_err();
        assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Disconnected);
        assert!(!seen.is_reset());
    }
    let (connection, _) = Peer::new().sends("GE").resets().connection();
    let error = serve_connection(PeekLayer::new(), connection)
        .await
        .unwrap_err();
    let error = error.downcast::<io::Error>().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn observed_clients_are_served_and_logged() {
    let log = Log::of_lines(Level::INFO);
    let layer = PeekLayer::new().with_observe(true).with_max_len(100);
    let invalid = b"\x16\x03\x01\0\x01\x02".to_vec();
    for bytes in [invalid, hello(), b"GE".to_vec()] {
        let served = serve(layer.clone(), io::Cursor::new(bytes.clone())).await;
        assert_eq!(served.unwrap(), (None, bytes));
    }
    let peer = Peer::new()
        .sends("GE")
        .stalls(6 * SECOND)
        .sends("T")
        .half_closes();
    let served = serve_connection(layer, peer.connection().0).await.unwrap();
    assert_eq!(served, (None, b"GET".to_vec()));
    let lines = log.lines();
    let errors: Vec<_> = lines.iter().map(|line| &*line.fields["error"]).collect();
    assert_eq!(
        errors,
        [
            "connection refused: its first bytes are invalid: invalid ClientHello: handshake message of type 2, \
             expected 1",
            "connection refused: its first bytes exceed the limit",
            "the client disconnected before its protocol was detected",
            "client hello timed out after 5s",
        ]
    );
}

#[test]
#[should_panic(expected = "1 to 65536")]
fn the_limit_itself_is_limited() {
    let _ = PeekLayer::new().with_max_len((64 << 10) + 1);
}
