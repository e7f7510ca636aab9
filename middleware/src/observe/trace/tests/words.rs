//! Tests of the texts and fields.

use super::{
    log::{self, Fields, Log},
    *,
};
use crate::{
    connection::{ListenerInfo, TlsInfo, UnixAddress},
    error::HandshakeError,
};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::service_fn;
use tracing::Level;

async fn finish(connection: Conn) -> io::Result<()> {
    drop(connection);
    Ok(())
}

/// The fields of the span of a connection with `info`, without its number.
async fn attributes(layer: TraceLayer, info: ConnectionInfo) -> Fields {
    let log = Log::start(Level::INFO);
    let (connection, _peer) = connection(&info);
    layer
        .layer(service_fn(finish))
        .call(connection)
        .await
        .unwrap();
    let mut fields = log.span().fields;
    assert_eq!(
        fields.remove("connection.id"),
        Some(info.id().get().to_string())
    );
    fields
}

fn fields<const N: usize>(fields: [(&'static str, &str); N]) -> Fields {
    fields.map(|(name, value)| (name, value.to_owned())).into()
}

#[tokio::test]
async fn the_span_has_the_names_of_the_conventions() {
    let peer: SocketAddr = "[2001:db8::1]:4242".parse().unwrap();
    let local: SocketAddr = "[::1]:80".parse().unwrap();
    let origin = Arc::new(ListenerInfo::new().with_name("web"));
    let info = ConnectionInfo::from_listener(origin, peer, local);
    let expected = fields([
        ("server.name", "web"),
        ("network.transport", "tcp"),
        ("network.type", "ipv6"),
        ("network.peer.address", "2001:db8::1"),
        ("network.peer.port", "4242"),
        ("network.local.address", "::1"),
        ("network.local.port", "80"),
    ]);
    assert_eq!(attributes(TraceLayer::new(), info).await, expected);
}

#[tokio::test]
async fn what_is_not_known_is_left_out() {
    let local: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let reset_before_accept = ConnectionInfo::new(Address::Unknown, local);
    let expected = fields([
        ("network.transport", "tcp"),
        ("network.type", "ipv4"),
        ("network.local.address", "127.0.0.1"),
        ("network.local.port", "80"),
    ]);
    let known = attributes(TraceLayer::new(), reset_before_accept).await;
    assert_eq!(known, expected);

    let unnamed = Address::Unix(UnixAddress::default());
    let path = Address::Unix(UnixAddress::new("/run/a\nb"));
    let expected = fields([
        ("network.transport", "unix"),
        ("network.local.address", "/run/a\\nb"),
    ]);
    let known = attributes(TraceLayer::new(), ConnectionInfo::new(unnamed, path)).await;
    assert_eq!(known, expected);

    let in_memory = ConnectionInfo::new(Address::Unknown, Address::Unknown);
    let expected = fields([("network.transport", "pipe")]);
    assert_eq!(attributes(TraceLayer::new(), in_memory).await, expected);
}

#[tokio::test]
async fn the_name_of_the_layer_goes_before_that_of_the_listener() {
    let origin = Arc::new(ListenerInfo::new().with_name("listener"));
    let info = ConnectionInfo::from_listener(origin, Address::Unknown, Address::Unknown);
    let layer = TraceLayer::new().with_name("layer");
    assert_eq!(attributes(layer, info).await["server.name"], "layer");
}

#[tokio::test]
async fn what_is_learned_later_is_recorded_later_and_escaped() {
    let log = Log::start(Level::INFO);
    let service = service_fn(|connection: Conn| async move {
        let mut tls = TlsInfo::new();
        tls.version = Some("TLSv1_3");
        tls.cipher_suite = Some("TLS13_AES_256_GCM_SHA384");
        tls.alpn = Some(b"h2\n\xff".to_vec());
        tls.server_name = Some("a\nb".to_owned());
        connection.info().set_tls(tls);
        let client: SocketAddr = "198.51.100.7:9".parse().unwrap();
        connection
            .info()
            .set_effective(client.into(), Address::Unknown);
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        Ok::<_, BoxError>(connection)
    });
    let (connection, _peer) = connection(&info());
    let future = TraceLayer::new().layer(service).call(connection);
    let mut future = tokio_test::task::spawn(future);
    assert!(future.poll().is_pending());
    assert!(!log.span().fields.contains_key("tls.cipher"));
    assert!(future.poll().is_pending());
    let mut learned = log.span().fields;
    learned.retain(|name, _| !name.starts_with("network") && *name != "connection.id");
    let expected = fields([
        ("client.address", "198.51.100.7"),
        ("client.port", "9"),
        ("tls.protocol.version", "1.3"),
        ("tls.cipher", "TLS_AES_256_GCM_SHA384"),
        ("tls.next_protocol", "h2\\n\\xff"),
        ("server.address", "a\\nb"),
    ]);
    assert_eq!(learned, expected);
    assert!(future.poll().is_ready());
    assert_eq!(log.last().fields["peer"], "198.51.100.7:9");
}

#[tokio::test]
async fn what_is_learned_in_the_last_poll_is_recorded_at_the_end() {
    let log = Log::start(Level::INFO);
    let service = service_fn(|connection: Conn| async move {
        let mut tls = TlsInfo::new();
        tls.version = Some("TLSv1_2");
        connection.info().set_tls(tls);
        Ok::<_, BoxError>(())
    });
    let (connection, _peer) = connection(&info());
    TraceLayer::new()
        .layer(service)
        .call(connection)
        .await
        .unwrap();
    assert_eq!(log.span().fields["tls.protocol.version"], "1.2");
    assert!(!log.span().fields.contains_key("tls.cipher"));
}

#[tokio::test(start_paused = true)]
async fn a_line_is_written_at_the_beginning_and_one_at_the_end() {
    let log = Log::start(Level::INFO);
    let service = service_fn(|mut connection: Conn| async move {
        let mut data = [0; 3];
        connection.read_exact(&mut data).await?;
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        connection.write_all(b"hello").await
    });
    let (connection, mut peer) = connection(&info());
    peer.write_all(b"abc").await.unwrap();
    let layer = TraceLayer::new().with_name("echo");
    layer.layer(service).call(connection).await.unwrap();

    let [opened, closed] = log.lines().try_into().ok().expect("two lines");
    assert_eq!(opened.text, "echo: opened from 192.0.2.1:4242");
    assert_eq!(opened.fields, fields([("peer", "192.0.2.1:4242")]));
    assert_eq!(
        closed.text,
        "echo: closed: completed after 1.200 s, 3 bytes in, 5 bytes out"
    );
    let expected = fields([
        ("peer", "192.0.2.1:4242"),
        ("outcome", "completed"),
        ("duration", "1.2"),
        ("bytes_in", "3"),
        ("bytes_out", "5"),
    ]);
    assert_eq!(closed.fields, expected);
    for line in [opened, closed] {
        assert_eq!(line.target, "portcullis::connection");
        assert_eq!((line.level, line.span), (Level::INFO, Some("connection")));
    }
    assert!(log.span().is_closed);
}

#[tokio::test(start_paused = true)]
async fn lines_are_limited_by_connections_and_callbacks_are_not() {
    let log = Log::start(Level::INFO);
    let notes = Notes::default();
    let layer = notes.layer().with_rate_limit(2);
    let serve = async || {
        let mut service = layer.layer(service_fn(finish));
        service.call(connection(&info()).0).await.unwrap();
    };
    for _ in 0..600 {
        serve().await;
    }
    let outlines = |log: &Log| {
        let lines = log.lines().into_iter();
        let first = |line: log::Line| line.text.split([' ', ':']).next().unwrap().to_owned();
        lines.map(first).collect::<Vec<_>>()
    };
    assert_eq!(outlines(&log), ["opened", "closed", "opened", "closed"]);
    assert_eq!((notes.all().len(), log.spans().len()), (1_200, 600));

    tokio::time::advance(Duration::from_secs(1)).await;
    serve().await;
    let lines = log.lines();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[4].fields["suppressed"], "598");
    assert!(!lines[2].fields.contains_key("suppressed"));
}

#[tokio::test(start_paused = true)]
async fn the_last_line_tells_the_error_with_its_causes_escaped() {
    let log = Log::start(Level::INFO);
    let service = service_fn(|_: Conn| async {
        let cause = io::Error::new(io::ErrorKind::InvalidData, "not TLS: \"GET\r\n\"");
        Err::<(), _>(HandshakeError::new(cause))
    });
    let (connection, _peer) = connection(&info());
    let result = TraceLayer::new().layer(service).call(connection).await;
    assert!(result.unwrap_err().is::<HandshakeError>());
    let error = r#"TLS handshake failed: not TLS: "GET\r\n""#;
    assert_eq!(
        log.last().text,
        format!("closed: handshake failed after 0.000 s, 0 bytes in, 0 bytes out: {error}")
    );
    assert_eq!(log.last().fields["error"], error);
    assert_eq!(log.last().fields["outcome"], "handshake_failed");
}

#[tokio::test]
async fn the_level_is_that_of_the_span_and_of_both_lines() {
    for level in [
        Level::ERROR,
        Level::WARN,
        Level::INFO,
        Level::DEBUG,
        Level::TRACE,
    ] {
        let log = Log::start(level);
        let (connection, _peer) = connection(&info());
        let layer = TraceLayer::new().with_level(level);
        layer
            .layer(service_fn(finish))
            .call(connection)
            .await
            .unwrap();
        assert_eq!(log.span().level, level);
        let levels: Vec<_> = log.lines().iter().map(|line| line.level).collect();
        assert_eq!(levels, [level, level]);
    }
}

#[tokio::test]
async fn a_level_that_is_filtered_out_writes_nothing() {
    let log = Log::start(Level::INFO);
    let (connection, _peer) = connection(&info());
    let layer = TraceLayer::new().with_level(Level::DEBUG);
    layer
        .layer(service_fn(finish))
        .call(connection)
        .await
        .unwrap();
    assert!(log.spans().is_empty() && log.lines().is_empty());
}

#[tokio::test]
async fn both_lines_are_written_where_nobody_wants_the_span() {
    let log = Log::of_lines(Level::INFO);
    let (connection, _peer) = connection(&info());
    TraceLayer::new()
        .layer(service_fn(finish))
        .call(connection)
        .await
        .unwrap();
    let lines: Vec<_> = log.lines().iter().map(|line| line.span).collect();
    assert_eq!(lines, [None, None]);
    assert!(log.spans().is_empty());
}

#[tokio::test]
async fn a_subscriber_is_told_of_the_connections_that_open_after_it_came() {
    log::settle_interest();
    let (early, _peer) = connection(&info());
    let (late, _peer) = connection(&info());
    let mut service = TraceLayer::new().layer(service_fn(finish));
    let early = service.call(early);
    let log = Log::start(Level::INFO);
    early.await.unwrap();
    assert!(log.spans().is_empty() && log.lines().is_empty());
    service.call(late).await.unwrap();
    assert_eq!((log.spans().len(), log.lines().len()), (1, 2));
}

struct SaysGoodbye;

impl Drop for SaysGoodbye {
    fn drop(&mut self) {
        tracing::info!("dropped");
    }
}

#[tokio::test]
async fn the_service_runs_in_the_span_at_each_poll_and_when_it_is_dropped() {
    let log = Log::start(Level::INFO);
    let service = service_fn(|connection: Conn| {
        tracing::info!("called");
        let goodbye = SaysGoodbye;
        async move {
            let _held = (connection, goodbye);
            loop {
                tracing::info!("polled");
                tokio::task::yield_now().await;
            }
            #[expect(unreachable_code)]
            Ok::<_, BoxError>(())
        }
    });
    let notes = Notes::default();
    let layer = notes.layer().on_close(|_| tracing::info!("on_close"));
    let layer = layer.on_open(|_| tracing::info!("on_open"));
    let (connection, _peer) = connection(&info());
    let mut future = tokio_test::task::spawn(layer.layer(service).call(connection));
    assert!(future.poll().is_pending());
    tracing::info!("between");
    assert!(future.poll().is_pending());
    drop(future);
    let logged: Vec<_> = log
        .lines()
        .into_iter()
        .map(|line| (line.span.is_some(), line.text))
        .collect();
    let logged: Vec<_> = logged.iter().map(|(span, text)| (*span, &**text)).collect();
    let [opened, .., closed] = &logged[..] else {
        panic!("many lines")
    };
    assert!(opened.0 && opened.1.starts_with("opened from"));
    assert!(closed.0 && closed.1.starts_with("closed: cancelled"));
    let expected = [
        (true, "on_open"),
        (true, "called"),
        (true, "polled"),
        (false, "between"),
        (true, "polled"),
        (true, "dropped"),
        (true, "on_close"),
    ];
    assert_eq!(logged[1..logged.len() - 1], expected);
}

#[tokio::test]
async fn the_closing_shows_what_guards_that_only_observe_would_have_done() {
    for (reasons, observed, suffix) in [
        (&[][..], None, "out"),
        (&["shut"], Some("gate: shut"), "out (observed gate: shut)"),
        (
            &["shut", "full"],
            Some("gate: shut, gate: full"),
            "out (observed gate: shut, gate: full)",
        ),
    ] {
        let log = Log::of_lines(Level::INFO);
        let (connection, _peer) = connection(&crate::testing::info());
        let mut service = TraceLayer::new().layer(service_fn(move |connection: Conn| async move {
            for reason in reasons {
                connection
                    .info()
                    .add_note(crate::connection::Note::new("gate", reason));
            }
            finish(connection).await
        }));
        service.call(connection).await.unwrap();
        let line = log.last();
        assert_eq!(line.fields.get("observed").map(|text| &**text), observed);
        assert!(line.text.ends_with(suffix), "{}", line.text);
    }
}
