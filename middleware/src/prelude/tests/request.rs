//! Requests for TLS to scripted servers, and their greetings.

use super::*;
use tokio::io::AsyncWriteExt;

const EHLO: &[u8] = b"EHLO [192.0.2.7]\r\n";
const STARTTLS: &[u8] = b"STARTTLS\r\n";
const OFFER: &str = "250-mail.example\r\n250-SIZE 1000\r\n250 starttls\r\n";
const STREAM: &str = "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>";
const FEATURES: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
                        <mechanisms><mechanism>PLAIN</mechanism></mechanisms></stream:features>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// What a server of a protocol says, and what it gets in between.
struct Script {
    request: TlsRequest,
    replies: Vec<String>,
    requests: Vec<Vec<u8>>,
    /// What a client of the gate gets in the end.
    greeting: &'static str,
}

fn smtp(replies: [&str; 3]) -> Script {
    Script {
        request: TlsRequest::smtp("[192.0.2.7]"),
        replies: replies.map(str::to_owned).into(),
        requests: vec![EHLO.into(), STARTTLS.into()],
        greeting: "220-mail.example\r\n220 ESMTP\r\n",
    }
}

fn scripts() -> Vec<Script> {
    let xmpp = TlsRequest::xmpp("chat.example");
    vec![
        smtp([
            "220-mail.example\r\n220 ESMTP\r\n",
            OFFER,
            "220 2.0.0 Ready\r\n",
        ]),
        Script {
            request: TlsRequest::imap(),
            replies: vec![
                "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] Dovecot ready.\r\n".into(),
                "* OK still here\r\na OK Begin TLS negotiation now.\r\n".into(),
            ],
            requests: vec![b"a STARTTLS\r\n".into()],
            greeting: "* OK ready\r\n",
        },
        Script {
            request: TlsRequest::pop3(),
            replies: vec!["+OK ready <1896.697@a>\r\n".into(), "+OK\r\n".into()],
            requests: vec![b"STLS\r\n".into()],
            greeting: "+OK ready <1896.697@a>\r\n",
        },
        Script {
            requests: vec![xmpp.first().to_vec(), xmpp::REQUEST.to_vec()],
            request: xmpp,
            replies: vec![
                String::new(),
                format!("<?xml version='1.0'?>{STREAM}{FEATURES}"),
                PROCEED.into(),
            ],
            greeting: "",
        },
        Script {
            request: TlsRequest::postgres(),
            replies: vec![String::new(), "S".into()],
            requests: vec![packet(8, SSL)],
            greeting: "",
        },
    ]
}

/// The greeting or the error, and what the server received.
async fn perform(request: TlsRequest, peer: Peer) -> (Result<String, String>, Vec<u8>) {
    let (mut connection, seen) = peer.connection();
    let performed = request.perform(&mut connection).await;
    let greeting = performed.map(|greeting| String::from_utf8(greeting).unwrap());
    (greeting.map_err(|error| error.to_string()), seen.written())
}

/// Sends each reply once the request before it was received.
fn peer(script: &Script, send: impl Fn(Peer, usize, &str) -> Peer) -> Peer {
    let mut peer = Peer::new();
    for (number, reply) in script.replies.iter().enumerate() {
        if number > 0 {
            peer = peer.waits_for(script.requests[number - 1].len());
        }
        if !reply.is_empty() {
            peer = send(peer, number, reply);
        }
    }
    peer
}

#[tokio::test(start_paused = true)]
async fn tls_is_requested_and_the_greeting_kept_however_replies_are_split() {
    for script in scripts() {
        let whole = script.replies.concat().len();
        for size in [1, 2, 3, 7, whole] {
            let split =
                |peer: Peer, _, reply: &str| peer.dribbles(reply, size, Duration::from_millis(1));
            let peer = peer(&script, split);
            let (greeting, received) = perform(script.request.clone(), peer).await;
            assert_eq!(greeting.unwrap(), script.greeting);
            assert_eq!(received, script.requests.concat());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_behind_a_reply_are_refused_wherever_they_come() {
    for script in scripts() {
        for position in 0..script.replies.len() {
            if script.replies[position].is_empty() {
                continue;
            }
            for behind in ["\x16", "\r\n", "250 ok\r\n", "<a/>"] {
                let inject = |peer: Peer, number, reply: &str| {
                    let behind = if number == position { behind } else { "" };
                    peer.sends(format!("{reply}{behind}"))
                };
                let peer = peer(&script, inject).half_closes();
                let (greeting, received) = perform(script.request.clone(), peer).await;
                let error = greeting.unwrap_err();
                assert_eq!(error, "bytes follow a reply of the server before TLS");
                assert_eq!(received, script.requests[..position].concat());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_is_quoted() {
    let refusals = [
        (
            smtp(["554 5.7.1 go away\r\n", "", ""]),
            "the server refuses the connection: 554 5.7.1 go away",
        ),
        (
            smtp(["220 a\r\n", "502 no such command\r\n", ""]),
            "the server refuses EHLO: 502 no such command",
        ),
        (
            smtp(["220 a\r\n", "250-STARTTLS\r\n250 SIZE 1000\r\n", ""]),
            "the server does not offer STARTTLS",
        ),
        (
            smtp(["220 a\r\n", OFFER, "454 TLS not available\r\n"]),
            "the server refuses TLS: 454 TLS not available",
        ),
    ];
    for (mut script, expected) in refusals {
        script.replies.retain(|reply| !reply.is_empty());
        let peer = peer(&script, |peer, _, reply| peer.sends(reply));
        let (greeting, _) = perform(script.request, peer).await;
        assert_eq!(greeting.unwrap_err(), expected);
    }
    for (request, sent, expected) in [
        (
            TlsRequest::imap(),
            "* PREAUTH hello\r\n",
            "the server refuses the connection: * PREAUTH hello",
        ),
        (
            TlsRequest::imap(),
            "* BYE busy\r\n",
            "the server refuses the connection: * BYE busy",
        ),
        (
            TlsRequest::pop3(),
            "-ERR busy\r\n",
            "the server refuses the connection: -ERR busy",
        ),
        (
            TlsRequest::postgres(),
            "N",
            "the server does not support TLS",
        ),
        (
            TlsRequest::postgres(),
            "E",
            "the server replies with an error",
        ),
    ] {
        let (greeting, _) = perform(request, Peer::new().sends(sent)).await;
        assert_eq!(greeting.unwrap_err(), expected);
    }
    for (greeting, request, sent, expected) in [
        (
            "* OK\r\n",
            TlsRequest::imap(),
            "a BAD unknown\r\n",
            "the server refuses TLS: a BAD unknown",
        ),
        (
            "+OK\r\n",
            TlsRequest::pop3(),
            "-ERR no\r\n",
            "the server refuses TLS: -ERR no",
        ),
    ] {
        let peer = Peer::new().sends(greeting).waits_for(1).sends(sent);
        let (greeting, _) = perform(request, peer).await;
        assert_eq!(greeting.unwrap_err(), expected);
    }
    let script = &scripts()[3];
    for (offer, consent, expected) in [
        (
            format!("{STREAM}<stream:features/><stream:features></stream:features>"),
            "",
            "the server does not offer STARTTLS",
        ),
        (
            // Not even a later offer helps.
            format!("{STREAM}<stream:features/>"),
            "nothing else is awaited",
            "the server does not offer STARTTLS",
        ),
        (
            format!("{STREAM}<stream:error>\r\n <host-unknown/>\x1b</stream:error>"),
            "",
            r"the server refuses the stream: <stream:error>\r\n <host-unknown/>\u{1b}</stream:error>",
        ),
        (
            format!("{STREAM}{FEATURES}"),
            "<failure/>",
            "the server refuses TLS: <failure/>",
        ),
        (
            format!("{STREAM}{FEATURES}"),
            "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'><starttls/>",
            "the server refuses TLS: <proceed",
        ),
    ] {
        let opened = script.requests[0].len();
        let peer = Peer::new().waits_for(opened).sends(offer);
        let peer = match consent {
            "" => peer.half_closes(),
            consent => peer.waits_for(1).sends(consent),
        };
        let (greeting, _) = perform(script.request.clone(), peer).await;
        let error = greeting.unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn replies_that_clients_could_read_in_two_ways_are_refused() {
    for sent in [
        "220 a\n",
        "220 a\r220 b\r\n",
        "220 a\0\r\n",
        "220 \x1b[2J\r\n",
        "220-a\r\n250 b\r\n",
        "22\r\n",
        "220:a\r\n",
        "2x0 a\r\n",
    ] {
        let (greeting, received) = perform(TlsRequest::smtp("a"), Peer::new().sends(sent)).await;
        let error = greeting.unwrap_err();
        assert_eq!(error, "a reply of the server is invalid", "{sent:?}");
        assert_eq!(received, b"");
    }
    let peer = Peer::new().sends("220\r\n").half_closes();
    let (greeting, received) = perform(TlsRequest::smtp("a"), peer).await;
    assert_eq!(
        greeting.unwrap_err(),
        "the server closed the connection before TLS"
    );
    assert_eq!(received, b"EHLO a\r\n", "a code may stand alone");
}

#[tokio::test(start_paused = true)]
async fn a_greeting_and_all_replies_together_have_limits() {
    for (length, fits) in [(Greeting::MAX_LEN, true), (Greeting::MAX_LEN + 1, false)] {
        let greeting = format!("220 {}\r\n", "x".repeat(length - 6));
        let peer = Peer::new().sends(&*greeting).half_closes();
        let (mut connection, _) = peer.connection();
        let skipped = Greeting::Smtp.skip(&mut connection).await;
        assert_eq!(skipped.is_ok(), fits, "{length}");
    }
    let line = format!("250-{}\r\n", "x".repeat(1000));
    let peer = Peer::new().sends("220 a\r\n").waits_for(1);
    let (greeting, _) = perform(TlsRequest::smtp("a"), peer.sends(line.repeat(20))).await;
    assert_eq!(
        greeting.unwrap_err(),
        "a reply of the server exceeds the limit"
    );
}

#[tokio::test(start_paused = true)]
async fn the_bytes_behind_a_skipped_greeting_are_kept() {
    for (greeting, sent) in [
        (Greeting::Smtp, "220-a\r\n220 b\r\nrest"),
        (Greeting::Imap, "* OK [CAPABILITY IMAP4rev1] a\r\nrest"),
        (Greeting::Pop3, "+OK <1@a>\r\nrest"),
    ] {
        for size in [1, sent.len()] {
            let peer = Peer::new().dribbles(sent, size, Duration::from_millis(1));
            let (mut connection, _) = peer.half_closes().connection();
            let mut rest = greeting.skip(&mut connection).await.unwrap();
            connection.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"rest");
        }
        let mut closed = &b""[..];
        let error = greeting.skip(&mut closed).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "the server closed the connection before its greeting"
        );
    }
}

#[test]
fn a_replayed_greeting_has_nothing_of_imap_from_before_tls() {
    for received in [
        "* OK [CAPABILITY IMAP4rev1 STARTTLS] a\r\n",
        "* OK  [CAPABILITY IMAP4rev1] two spaces\r\n",
        "* OK [ALERT] [REFERRAL imap://evil.example/] two codes\r\n",
        "* OK\r\n",
    ] {
        let shown = Greeting::Imap.under_tls(received.as_bytes());
        assert_eq!(shown, b"* OK ready\r\n");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_is_no_missing_reply() {
    let (mut ours, theirs) = tokio::io::duplex(16);
    drop(theirs);
    let error = TlsRequest::postgres().perform(&mut ours).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the server does not take the request for TLS"
    );
    assert!(std::error::Error::source(&error).is_some());
}

/// The two sides of each protocol understand each other.
async fn meets<P: Prelude + Send + Sync + 'static>(prelude: P, request: TlsRequest) {
    let (ours, theirs) = tokio::io::duplex(1 << 10);
    let inner = service_fn(|mut connection: Connection<_>| async move {
        let mut first = [0; 6];
        connection.read_exact(&mut first).await?;
        Ok::<_, BoxError>(first)
    });
    let server = PreludeLayer::new(prelude)
        .layer(inner)
        .oneshot(Connection::accept(ours));
    let client = async {
        let mut connection = Connection::accept(theirs);
        request.perform(&mut connection).await?;
        connection.write_all(b"\x16hello").await?;
        Ok::<_, BoxError>(())
    };
    let (served, requested) = tokio::join!(server, client);
    requested.unwrap();
    assert_eq!(&served.unwrap(), b"\x16hello");
}

#[tokio::test(start_paused = true)]
async fn the_preludes_of_both_sides_fit() {
    meets(Postgres::new(), TlsRequest::postgres()).await;
    meets(Smtp::new("a"), TlsRequest::smtp("b")).await;
    meets(Imap::new(), TlsRequest::imap()).await;
    meets(Pop3::new(), TlsRequest::pop3()).await;
    meets(Xmpp::new("chat.example"), TlsRequest::xmpp("chat.example")).await;
}
