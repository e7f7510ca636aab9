//! What preludes answer, and how the layer treats hostile clients.

mod hostile;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod loopback;
mod request;

use super::*;
use crate::{
    BoxError, Connection,
    connection::Socket,
    error::{Elapsed, Refused, TimeoutPhase, find},
    io::PrefixedIo,
    testing::{Peer, PeerIo},
};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tower::{Layer, ServiceExt, service_fn};

/// What the inner service reads, or the reason of the refusal; and what the client received.
async fn serve<P>(layer: PreludeLayer<P>, peer: Peer) -> (Result<Vec<u8>, String>, Vec<u8>)
where
    P: Prelude + Send + Sync + 'static,
{
    let read = |mut connection: Connection<PrefixedIo<Socket<PeerIo>>>| async move {
        let mut input = Vec::new();
        connection.read_to_end(&mut input).await?;
        Ok::<_, BoxError>(input)
    };
    let (connection, seen) = peer.connection();
    let served = layer.layer(service_fn(read)).oneshot(connection).await;
    (served.map_err(reason), seen.written())
}

/// The reason of a refusal, or the text of another error.
fn reason(error: BoxError) -> String {
    match find::<Refused>(&*error) {
        Some(refused) => refused.reason().to_owned(),
        None => error.to_string(),
    }
}

/// Sends each request once the replies before have been received, then `tls`.
fn script(greeting: &str, exchanges: &[(&[u8], &[u8])], tls: &str) -> (Peer, Vec<u8>) {
    let mut peer = match greeting.len() {
        0 => Peer::new(),
        length => Peer::new().waits_for(length),
    };
    let mut expected = greeting.as_bytes().to_vec();
    for &(request, reply) in exchanges {
        peer = peer.sends(request).waits_for(reply.len());
        expected.extend(reply);
    }
    (peer.sends(tls).half_closes(), expected)
}

fn packet(length: u32, code: u32) -> Vec<u8> {
    [length.to_be_bytes(), code.to_be_bytes()].concat()
}

const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;

#[tokio::test(start_paused = true)]
async fn postgres_starts_tls_on_request_also_after_gss() {
    let (ssl, gss) = (packet(8, SSL), packet(8, GSS));
    for exchanges in [&[(&ssl[..], &b"S"[..])][..], &[(&gss, b"N"), (&ssl, b"S")]] {
        let (peer, expected) = script("", exchanges, "\x16hello");
        let (served, received) = serve(PreludeLayer::new(Postgres::new()), peer).await;
        assert_eq!(
            (served.unwrap(), received),
            (b"\x16hello".to_vec(), expected)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn postgres_clients_may_begin_with_tls() {
    for peer in [
        Peer::new().sends(b"\x16\x03\x01hello").half_closes(),
        Peer::new()
            .dribbles(b"\x16\x03\x01hello", 1, Duration::from_secs(1))
            .half_closes(),
    ] {
        let (served, received) = serve(PreludeLayer::new(Postgres::new()), peer).await;
        assert_eq!(served.unwrap(), b"\x16\x03\x01hello");
        assert_eq!(received, b"");
    }
}

#[tokio::test(start_paused = true)]
async fn postgres_clients_without_tls_get_an_error() {
    let startup = [packet(22, 3 << 16), b"user\0postgres\0\0".to_vec()].concat();
    let (served, received) = serve(
        PreludeLayer::new(Postgres::new()),
        Peer::new().sends(startup),
    )
    .await;
    assert_eq!(served.unwrap_err(), Postgres::NO_TLS);
    let length = u32::from_be_bytes(received[1..5].try_into().unwrap());
    assert_eq!((received[0], length as usize), (b'E', received.len() - 1));
    assert!(received.ends_with(b"C28000\0MTLS is required here\0\0"));
    let cancel = [packet(16, CANCEL), vec![0; 8]].concat();
    let (served, received) = serve(
        PreludeLayer::new(Postgres::new()),
        Peer::new().sends(cancel),
    )
    .await;
    assert_eq!(
        (served.unwrap_err().as_str(), received),
        (Postgres::NO_TLS, vec![])
    );
}

#[tokio::test(start_paused = true)]
async fn smtp_starts_tls_on_request() {
    let (peer, expected) = script(
        "220 mail.example ESMTP\r\n",
        &[
            (
                b"EHLO client.example\r\n",
                b"250-mail.example\r\n250 STARTTLS\r\n",
            ),
            (
                b"mail from:<a@b>\r\n",
                b"530 Must issue a STARTTLS command first\r\n",
            ),
            (b"STARTTLS now\r\n", b"501 No parameters allowed\r\n"),
            (b"noop\r\n", b"250 OK\r\n"),
            (b"HELO client.example\r\n", b"250 mail.example\r\n"),
            (b"starttls\r\n", b"220 Ready to start TLS\r\n"),
        ],
        "\x16hello",
    );
    let (served, received) = serve(PreludeLayer::new(Smtp::new("mail.example")), peer).await;
    assert_eq!(
        (served.unwrap(), received),
        (b"\x16hello".to_vec(), expected)
    );
}

#[tokio::test(start_paused = true)]
async fn imap_starts_tls_on_request() {
    let (peer, expected) = script(
        "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n",
        &[
            (
                b"a1 capability\r\n",
                b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\na1 OK done\r\n",
            ),
            (
                b"a2 LOGIN me secret\r\n",
                b"a2 NO [PRIVACYREQUIRED] start TLS first\r\n",
            ),
            (b"a3 SELECT inbox\r\n", b"a3 BAD start TLS first\r\n"),
            (b"a* NOOP\r\n", b"* BAD invalid tag\r\n"),
            (b"a4 STARTTLS\r\n", b"a4 OK begin TLS\r\n"),
        ],
        "\x16hello",
    );
    let (served, received) = serve(PreludeLayer::new(Imap::new()), peer).await;
    assert_eq!(
        (served.unwrap(), received),
        (b"\x16hello".to_vec(), expected)
    );
}

#[tokio::test(start_paused = true)]
async fn pop3_starts_tls_on_request() {
    let (peer, expected) = script(
        "+OK ready\r\n",
        &[
            (b"CAPA\r\n", b"+OK\r\nSTLS\r\n.\r\n"),
            (b"USER me\r\n", b"-ERR start TLS first\r\n"),
            (b"stls\r\n", b"+OK begin TLS\r\n"),
        ],
        "\x16hello",
    );
    let (served, received) = serve(PreludeLayer::new(Pop3::new()), peer).await;
    assert_eq!(
        (served.unwrap(), received),
        (b"\x16hello".to_vec(), expected)
    );
}

/// The stream and the request of an XMPP client.
const STREAM: &str =
    "<?xml version='1.0'?>\n<stream:stream to='a>b' xmlns='jabber:client' version=\"1.0\">";
const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
/// The answer to the first.
const FEATURES: &str = "<?xml version='1.0'?><stream:stream from='chat.example' id='tls' version='1.0' \
     xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><stream:features><starttls \
     xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";

#[tokio::test(start_paused = true)]
async fn xmpp_starts_tls_on_request() {
    let server_features = FEATURES.replace("jabber:client", "jabber:server");
    let proceed = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
    for (open, features, request) in [
        (STREAM, FEATURES, STARTTLS),
        (
            " <stream xmlns='jabber:server'>",
            &server_features,
            "\n<starttls\n xmlns=\"urn:ietf:params:xml:ns:xmpp-tls\" ></starttls >",
        ),
    ] {
        let exchanges = [
            (open.as_bytes(), features.as_bytes()),
            (request.as_bytes(), &proceed[..]),
        ];
        let (peer, expected) = script("", &exchanges, "\x16hello");
        let (served, received) = serve(PreludeLayer::new(Xmpp::new("chat.example")), peer).await;
        assert_eq!(
            (served.unwrap(), received),
            (b"\x16hello".to_vec(), expected)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn xmpp_clients_that_request_anything_else_are_rejected() {
    let violation = "<stream:error><policy-violation \
         xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    for (request, reason, reply) in [
        (
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
            Xmpp::NO_TLS,
            violation,
        ),
        ("<starttls/>", Xmpp::NO_TLS, violation),
        (&STARTTLS.replace("/>", "><a/>"), Xmpp::NO_TLS, violation),
        ("</stream:stream>", step::QUIT, "</stream:stream>"),
        ("text", "a line is invalid", ""),
        ("<a\0>", "a line is invalid", ""),
        (&format!("<{}>", "a".repeat(1022)), Xmpp::NO_TLS, violation),
        (
            &format!("<{}>", "a".repeat(1023)),
            "a line exceeds the limit",
            "",
        ),
    ] {
        let layer = PreludeLayer::new(Xmpp::new("chat.example"));
        let peer = Peer::new().sends(format!("{STREAM}{request}"));
        let (served, received) = serve(layer, peer).await;
        assert_eq!(served.unwrap_err(), reason, "{request}");
        assert_eq!(received, format!("{FEATURES}{reply}").into_bytes());
    }
    for open in ["<!DOCTYPE a>", "<iq>", "GET / HTTP/1.1\r\n", "\x16\x03\x01"] {
        let layer = PreludeLayer::new(Xmpp::new("chat.example"));
        let (served, received) = serve(layer, Peer::new().sends(open)).await;
        assert_eq!(served.unwrap_err(), "a line is invalid");
        assert_eq!(received, b"");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_quits_gets_its_answer_and_is_not_served() {
    let (served, received) = serve(
        PreludeLayer::new(Smtp::new("a")),
        Peer::new().sends("QUIT\r\n"),
    )
    .await;
    assert_eq!(served.unwrap_err(), step::QUIT);
    assert_eq!(received, b"220 a ESMTP\r\n221 Bye\r\n");
    let (served, received) = serve(
        PreludeLayer::new(Imap::new()),
        Peer::new().sends("1 LOGOUT\r\n"),
    )
    .await;
    assert_eq!(served.unwrap_err(), step::QUIT);
    assert!(received.ends_with(b"* BYE\r\n1 OK done\r\n"));
}

#[test]
#[should_panic(expected = "a host name or an address")]
fn the_name_of_a_server_is_checked() {
    let _ = Smtp::new("a\r\nb");
}
