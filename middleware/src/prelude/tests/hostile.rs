//! Clients that pipeline, flood, stall or send nonsense.

use super::*;
use crate::{
    ConnectionInfo,
    connection::{Address, ListenerInfo},
    drain::DrainTrigger,
};
use std::sync::Arc;
use tokio::{
    io::{AsyncWriteExt, duplex},
    time::Instant,
};

/// Each prelude with its request for TLS, and what it sends before.
macro_rules! each_prelude {
    ($check:ident) => {
        $check(Postgres::new(), &packet(8, SSL), b"").await;
        $check(Smtp::new("a"), b"STARTTLS\r\n", b"220 a ESMTP\r\n").await;
        let ready = b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n";
        $check(Imap::new(), b"1 STARTTLS\r\n", ready).await;
        $check(Pop3::new(), b"STLS\r\n", b"+OK ready\r\n").await;
        let request = [STREAM, STARTTLS].concat();
        let chat = Xmpp::new("chat.example");
        $check(chat, request.as_bytes(), FEATURES.as_bytes()).await;
    };
}

async fn split<P: Prelude + Send + Sync + 'static>(prelude: P, request: &[u8], before: &[u8]) {
    for size in 1..=request.len() {
        let dribble = Peer::new().dribbles(request, size, Duration::from_millis(20));
        let peer = dribble
            .waits_for(before.len() + 1)
            .stalls(Duration::from_millis(1));
        let peer = peer.sends("\x16hello").half_closes();
        let (served, received) = serve(PreludeLayer::new(prelude.clone()), peer).await;
        assert_eq!(served.unwrap(), b"\x16hello");
        assert!(received.starts_with(before) && received.len() > before.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_may_be_split_everywhere() {
    each_prelude!(split);
}

async fn pipelined<P: Prelude + Send + Sync + 'static>(prelude: P, request: &[u8], before: &[u8]) {
    for behind in [&b"\x16"[..], b"\r\n", b"MAIL FROM:<a@b>\r\n", request] {
        let peer = Peer::new().sends([request, behind].concat());
        let (served, received) = serve(PreludeLayer::new(prelude.clone()), peer).await;
        assert_eq!(served.unwrap_err(), PreludeLayer::<P>::PIPELINED);
        assert_eq!(received, before, "no reply starts TLS");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_behind_the_request_for_tls_are_refused() {
    each_prelude!(pipelined);
}

async fn plain<P: Prelude + Send + Sync + 'static>(prelude: P, request: &[u8], before: &[u8]) {
    for text in ["MAIL FROM:<a@b>\r\n", "\x15\x03\x01", "\0"] {
        let peer = Peer::new().sends(request).waits_for(before.len() + 1);
        let peer = peer.stalls(Duration::from_millis(1)).sends(text);
        let peer = peer.half_closes();
        let (served, _) = serve(PreludeLayer::new(prelude.clone()), peer).await;
        assert_eq!(served.unwrap_err(), PreludeLayer::<P>::NO_TLS);
    }
    let peer = Peer::new().sends(request).half_closes();
    let (served, _) = serve(PreludeLayer::new(prelude.clone()), peer).await;
    let text = "the client disconnected before TLS began";
    assert_eq!(served.unwrap_err(), text);
    let hour = Duration::from_secs(3600);
    let peer = Peer::new().sends(request).stalls(hour);
    let (served, _) = serve(PreludeLayer::new(prelude), peer).await;
    assert_eq!(served.unwrap_err(), "prelude timed out after 10s");
}

#[tokio::test(start_paused = true)]
async fn after_its_request_a_client_begins_tls_within_the_timeout() {
    each_prelude!(plain);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_lingers_no_longer_than_the_grace_period_of_a_shutdown() {
    for (drains, expected) in [(false, 1_000), (true, 500)] {
        let (trigger, signal) = DrainTrigger::pair();
        let listener = Arc::new(ListenerInfo::new().with_drain(signal));
        let (ours, mut client) = duplex(1 << 10);
        let info = ConnectionInfo::from_listener(listener, Address::Unknown, Address::Unknown);
        let never = service_fn(async |_: Connection<_>| Ok::<_, BoxError>(()));
        let stack = PreludeLayer::new(Smtp::new("a")).layer(never);
        let begun = Instant::now();
        // The client keeps its side open.
        client.write_all(b"QUIT\r\n").await.unwrap();
        if drains {
            trigger.close();
        }
        let result = stack.oneshot(Connection::with_info(ours, info)).await;
        assert_eq!(reason(result.unwrap_err()), step::QUIT);
        assert_eq!(begun.elapsed().as_millis(), expected);
    }
}

async fn silent<P: Prelude + Send + Sync + 'static>(prelude: P, request: &[u8], _: &[u8]) {
    let hour = Duration::from_secs(3600);
    let begun = Peer::new()
        .sends(&request[..request.len() - 1])
        .stalls(hour);
    for peer in [Peer::new().stalls(hour), begun] {
        let (served, _) = serve(PreludeLayer::new(prelude.clone()), peer).await;
        assert_eq!(served.unwrap_err(), "prelude timed out after 10s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_has_the_timeout() {
    each_prelude!(silent);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_holds_however_often_a_client_sends() {
    let peer = Peer::new().dribbles("NOOP\r\n".repeat(10), 1, Duration::from_secs(1));
    let layer = PreludeLayer::new(Smtp::new("a"));
    let (connection, _) = peer.connection();
    let never = service_fn(async |_: Connection<PrefixedIo<Socket<PeerIo>>>| Ok::<_, BoxError>(()));
    let error = layer.layer(never).oneshot(connection).await.unwrap_err();
    let elapsed = Elapsed::new(TimeoutPhase::PRELUDE, Duration::from_secs(10));
    assert_eq!(find::<Elapsed>(&*error), Some(&elapsed));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_has_the_timeout() {
    let peer = Peer::new().stops_reading();
    let (served, received) = serve(PreludeLayer::new(Smtp::new("a")), peer).await;
    assert_eq!(served.unwrap_err(), "prelude timed out after 10s");
    assert_eq!(received, b"");
}

#[tokio::test(start_paused = true)]
async fn so_many_commands_are_answered_and_no_more() {
    for (commands, fits) in [(16, true), (17, false)] {
        let peer = Peer::new().sends("NOOP\r\n".repeat(commands) + "STARTTLS\r\n");
        let peer = peer.stalls(Duration::from_millis(1)).sends("\x16");
        let (served, received) = serve(PreludeLayer::new(Smtp::new("a")), peer.half_closes()).await;
        match fits {
            true => assert_eq!(served.unwrap(), b"\x16"),
            false => assert_eq!(served.unwrap_err(), PreludeLayer::<Smtp>::TOO_MANY),
        }
        assert_eq!(received.matches_of(b"250 OK"), 16);
    }
}

trait Matches {
    fn matches_of(&self, text: &[u8]) -> usize;
}

impl Matches for Vec<u8> {
    fn matches_of(&self, text: &[u8]) -> usize {
        self.windows(text.len())
            .filter(|window| window == &text)
            .count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_and_all_lines_together_have_limits() {
    for (length, fits) in [(512, true), (513, false)] {
        let line = format!("{:x<1$}\r\n", "NOOP ", length - 2);
        let peer = Peer::new().sends(line).sends("STARTTLS\r\n");
        let peer = peer.stalls(Duration::from_millis(1)).sends("\x16");
        let peer = peer.half_closes();
        let (served, _) = serve(PreludeLayer::new(Smtp::new("a")), peer).await;
        match fits {
            true => assert_eq!(served.unwrap(), b"\x16"),
            false => assert_eq!(served.unwrap_err(), lines::LINE_TOO_LONG),
        }
    }
    let line = format!("{:x<1$}\r\n", "NOOP ", 510);
    let layer = PreludeLayer::new(Smtp::new("a"));
    let (served, _) = serve(layer, Peer::new().sends(line.repeat(9))).await;
    assert_eq!(served.unwrap_err(), PreludeLayer::<Smtp>::TOO_LONG);
}

#[tokio::test(start_paused = true)]
async fn lines_that_servers_could_read_in_two_ways_are_refused() {
    for input in [
        &b"STARTTLS\n"[..],
        b"NOOP\rSTARTTLS\r\n",
        b"NOOP\0\r\n",
        b"\xff\r\n",
        b"NOOP\n\r\n",
    ] {
        let (served, received) =
            serve(PreludeLayer::new(Smtp::new("a")), Peer::new().sends(input)).await;
        assert_eq!(
            served.unwrap_err(),
            lines::INVALID_LINE,
            "{}",
            input.escape_ascii()
        );
        assert_eq!(received, b"220 a ESMTP\r\n");
    }
}

#[tokio::test(start_paused = true)]
async fn packets_that_are_none_of_postgres_are_refused_without_an_answer() {
    for input in [
        b"GET / HTTP/1.1\r\n".to_vec(),
        packet(9, SSL),
        packet(8, GSS + 1),
        packet(7, 3 << 16),
        packet(10_001, 3 << 16),
        packet(15, CANCEL),
        packet(8, 2 << 16),
    ] {
        let shown = input.escape_ascii().to_string();
        let (served, received) =
            serve(PreludeLayer::new(Postgres::new()), Peer::new().sends(input)).await;
        assert_eq!(
            (served.unwrap_err().as_str(), received),
            (Postgres::INVALID, vec![]),
            "{shown}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_not_served() {
    for peer in [
        Peer::new().half_closes(),
        Peer::new().sends("STARTTLS").half_closes(),
    ] {
        let (served, _) = serve(PreludeLayer::new(Smtp::new("a")), peer).await;
        assert_eq!(
            served.unwrap_err(),
            "the client disconnected before TLS began"
        );
    }
}
