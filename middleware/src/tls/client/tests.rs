//! This crate's client and server, with a root that signed the server's certificate.
//!
//! Each test runs twice, with a buffered and with an unbuffered session.

use super::*;
use crate::{
    BoxError, Connection,
    connection::{ForcedClose, Phase, Socket},
    error::{Elapsed, HandshakeError, TimeoutPhase, find},
    outcome::Outcome,
    tls::{
        TlsIo, TlsLayer, provider,
        rustls::{
            self, ServerConfig,
            pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
            sign::{CertifiedKey, SingleCertAndKey},
            version::{TLS12, TLS13},
        },
    },
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::{
    io,
    mem::size_of,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tower::{Layer, ServiceExt};

/// A root, and a certificate for `localhost` and `127.0.0.1` that it issued, with its key.
struct Pki {
    root: String,
    chain: String,
    key: String,
}

static PKI: LazyLock<Pki> = LazyLock::new(|| Pki::new("our root"));

impl Pki {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &root).unwrap();
        Self {
            root: root.pem(),
            chain: chain.pem(),
            key: key.serialize_pem(),
        }
    }

    fn layer(&self) -> TlsLayer {
        TlsLayer::from_pem(self.chain.as_bytes(), self.key.as_bytes()).unwrap()
    }

    fn connector(&self) -> TlsConnector {
        let connector = TlsConnector::with_roots_pem(self.root.as_bytes()).unwrap();
        match is_unbuffered() {
            true => connector.unbuffered(),
            false => connector,
        }
    }
}

/// Whether these are the tests of unbuffered sessions, which are the same file under another name.
fn is_unbuffered() -> bool {
    module_path!().contains("unbuffered")
}

type Server = Connection<Socket<DuplexStream>>;
type Client = Connection<TlsClientIo<Socket<DuplexStream>>>;

/// The server's end, and the client's.
fn in_memory() -> (Server, Server) {
    let (server, client) = duplex(4096);
    (Connection::accept(server), Connection::accept(client))
}

/// Echoes everything that it receives.
async fn echo(server: Server) -> Result<(), BoxError> {
    let echo = tower::service_fn(|mut connection: Connection<TlsIo<_>>| async move {
        let mut received = Vec::new();
        connection.read_to_end(&mut received).await?;
        connection.write_all(&received).await?;
        connection.close().await
    });
    PKI.layer()
        .with_alpn(["h2"])
        .layer(echo)
        .oneshot(server)
        .await
}

/// The results of a client with `connector` and of an echo server.
async fn meet(
    connector: &TlsConnector,
    name: &str,
) -> (Result<Client, TlsConnectError>, Result<(), BoxError>) {
    let (server, client) = in_memory();
    let talk = async {
        let mut client = connector.connect(name, client).await?;
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        Ok(client)
    };
    tokio::join!(talk, echo(server))
}

#[tokio::test]
async fn both_sides_agree_and_know_it() {
    let (server, client) = in_memory();
    let known = client.info().clone();
    let connector = PKI.connector().with_alpn(["http/1.1", "h2"]);
    let talk = async {
        let mut client = connector.connect("localhost", client).await.unwrap();
        assert_eq!(known.phase(), Phase::Serving);
        client.write_all(&[7; 100_000]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert!(received == [7; 100_000]);
        client.close().await.unwrap();
    };
    let ((), served) = tokio::join!(talk, echo(server));
    served.unwrap();
    let tls = known.tls().unwrap();
    assert_eq!(tls.version, Some("TLSv1_3"));
    assert_eq!(tls.cipher_suite, Some("TLS13_AES_256_GCM_SHA384"));
    assert_eq!(tls.alpn_str(), Some("h2"));
    assert_eq!(tls.server_name.as_deref(), Some("localhost"));
    assert_eq!(tls.peer_certificates.len(), 1);
    assert!(!tls.resumed && !known.is_truncated());
}

#[tokio::test]
async fn an_address_is_a_name_that_is_not_asked_for() {
    let (client, served) = meet(&PKI.connector(), "127.0.0.1").await;
    served.unwrap();
    assert_eq!(client.unwrap().tls().unwrap().server_name, None);
}

#[tokio::test]
async fn a_dot_at_the_end_of_a_name_is_not_asked_for() {
    let (client, served) = meet(&PKI.connector(), "localhost.").await;
    served.unwrap();
    let client = client.unwrap();
    assert_eq!(
        client.tls().unwrap().server_name.as_deref(),
        Some("localhost")
    );
}

/// A self-signed certificate, its key, and whether it is one for authorities, as `openssl req -x509` makes it.
fn self_signed(names: &[&str], is_authority: bool, until: i32) -> (String, String) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    if is_authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// The error of a client that trusts `listed`, with a server that shows this certificate.
async fn rejection(listed: &str, (chain, key): &(String, String)) -> Option<TlsConnectError> {
    let layer = TlsLayer::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    rejection_of(listed, layer).await
}

/// The same with this server.
async fn rejection_of(listed: &str, layer: TlsLayer) -> Option<TlsConnectError> {
    let connector = TlsConnector::with_roots_pem(listed.as_bytes()).unwrap();
    let (server, client) = in_memory();
    let serve = tower::service_fn(|mut connection: Connection<TlsIo<_>>| async move {
        connection.read_to_end(&mut Vec::new()).await?;
        connection.close().await
    });
    let talk = async {
        let mut client = connector.connect("localhost", client).await?;
        client.shutdown().await.unwrap();
        client.read_to_end(&mut Vec::new()).await.unwrap();
        Ok(())
    };
    let (talk, _) = tokio::join!(talk, layer.layer(serve).oneshot(server));
    talk.err()
}

#[tokio::test]
async fn a_certificate_that_is_a_root_itself_is_accepted_for_its_names_while_it_is_valid() {
    for is_authority in [true, false] {
        let own = self_signed(&["localhost"], is_authority, 2100);
        let error = rejection(&own.0, &own).await;
        assert!(error.is_none(), "{error:?}");
        let other = self_signed(&["localhost"], is_authority, 2100);
        assert!(
            rejection(&own.0, &other)
                .await
                .unwrap()
                .is_bad_certificate()
        );
        let stranger = self_signed(&["example.org"], is_authority, 2100);
        let error = rejection(&stranger.0, &stranger).await.unwrap();
        assert!(error.is_wrong_name(), "{error}");
        let old = self_signed(&["localhost"], is_authority, 2020);
        let error = rejection(&old.0, &old).await.unwrap();
        assert!(error.to_string().contains("expired"), "{error}");
    }
    // One that an authority has issued is enough as well, without that authority.
    let issued = (PKI.chain.clone(), PKI.key.clone());
    assert!(rejection(&PKI.chain, &issued).await.is_none());
}

#[tokio::test]
async fn a_listed_certificate_is_of_no_use_to_a_server_without_its_key() {
    let [own, other] = [(); 2].map(|()| self_signed(&["localhost"], false, 2100));
    let chain = CertificateDer::from_pem_slice(own.0.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(other.1.as_bytes()).unwrap();
    let key = provider().key_provider.load_private_key(key).unwrap();
    let stolen = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![chain], key)));
    for version in [&TLS12, &TLS13] {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(stolen.clone());
        for listed in [own.0.clone(), own.0.clone() + &PKI.root] {
            let layer = TlsLayer::new(Arc::new(config.clone()));
            let error = rejection_of(&listed, layer).await.unwrap();
            assert!(error.to_string().contains("BadSignature"), "{error}");
        }
    }
}

#[tokio::test]
async fn the_owner_of_a_listed_certificate_issues_no_others() {
    for (rights, is_authority) in [
        (IsCa::Ca(BasicConstraints::Unconstrained), true),
        (IsCa::NoCa, false),
        (IsCa::ExplicitNoCa, false),
    ] {
        let mut params = CertificateParams::new(["owner".to_owned()]).unwrap();
        params.is_ca = rights;
        let owner = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let issued = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let issued = issued.signed_by(&key, &owner).unwrap();
        let issued = (issued.pem(), key.serialize_pem());
        for listed in [owner.pem(), PKI.root.clone() + &owner.pem()] {
            let error = rejection(&listed, &issued).await;
            assert_eq!(error.is_none(), is_authority, "{error:?}");
            assert!(error.is_none_or(|error| error.is_bad_certificate()));
        }
    }
}

#[test]
fn connectors_with_a_root_of_another_date_and_the_same_key_differ() {
    let key = KeyPair::generate().unwrap();
    let [old, new] = [2100, 2101].map(|until| {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        params.self_signed(&key).unwrap().pem()
    });
    let connector = |root: &str| TlsConnector::with_roots_pem(root.as_bytes()).unwrap();
    assert!(connector(&old).is_same(&connector(&old)));
    assert!(!connector(&old).is_same(&connector(&new)));
}

#[tokio::test]
async fn a_second_connection_resumes_the_session_of_the_first() {
    let layer = PKI.layer();
    let connector = PKI.connector();
    for resumed in [false, true] {
        let (server, client) = in_memory();
        let serve = tower::service_fn(|mut connection: Connection<TlsIo<_>>| async move {
            connection.write_all(b"x").await?;
            connection.close().await
        });
        let talk = async {
            let mut client = connector
                .clone()
                .connect("localhost", client)
                .await
                .unwrap();
            client.read_to_end(&mut Vec::new()).await.unwrap();
            client.shutdown().await.unwrap();
            client
        };
        let (client, served) = tokio::join!(talk, layer.layer(serve).oneshot(server));
        served.unwrap();
        assert_eq!(client.tls().unwrap().resumed, resumed);
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_told_apart() {
    for name in ["example.org", "127.0.0.2"] {
        let (client, served) = meet(&PKI.connector(), name).await;
        let error = client.unwrap_err();
        assert!(error.is_wrong_name() && error.is_bad_certificate());
        assert!(!error.is_untrusted() && !error.is_bad_name() && !error.is_timeout());
        assert_eq!(error.server_name(), name);
        assert!(
            error
                .to_string()
                .contains("with a name that its certificate contains"),
            "{error}"
        );
        let server_was_told = served.unwrap_err();
        assert!(matches!(
            find::<rustls::Error>(&*server_was_told),
            Some(rustls::Error::AlertReceived(_))
        ));
    }
}

#[tokio::test]
async fn a_root_that_is_not_trusted_is_told_apart() {
    // The second is a new root with the same name, as happens in test setups.
    for name in ["another root", "our root"] {
        let stranger = Pki::new(name);
        let (client, served) = meet(&stranger.connector(), "localhost").await;
        let error = client.unwrap_err();
        assert!(error.is_untrusted() && error.is_bad_certificate() && !error.is_wrong_name());
        assert!(error.to_string().contains("trust the root"), "{error}");
        assert!(find::<HandshakeError>(&error).is_some());
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidData);
        served.unwrap_err();
    }
}

#[tokio::test]
async fn what_is_no_name_says_nothing_to_the_server() {
    for name in [
        "",
        ".",
        "localhost..",
        "127.0.0.1.",
        "localhost:443",
        "[::1]",
        "a b",
        "a\nb",
    ] {
        let (mut server, client) = in_memory();
        let error = PKI.connector().connect(name, client).await.unwrap_err();
        assert!(error.is_bad_name(), "{name:?}");
        assert!(!error.to_string().contains('\n'));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidInput);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_has_ten_seconds() {
    let (_server, client) = in_memory();
    let known = client.info().clone();
    let begun = Instant::now();
    let error = PKI
        .connector()
        .connect("localhost", client)
        .await
        .unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    assert!(error.is_timeout() && !error.is_bad_certificate());
    let timed_out = Outcome::TimedOut(TimeoutPhase::HANDSHAKE);
    assert_eq!(Outcome::of(&known, Some(&error)), timed_out);
    let error = io::Error::from(error);
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(find::<Elapsed>(&error).is_some());
    assert_eq!(known.phase(), Phase::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_bound_of_the_handshake_is_a_setting() {
    for (bound, slow, agrees) in [
        (Some(3), 3000, true),
        (Some(3), 3001, false),
        (None, 100_000, true),
    ] {
        let (server, client) = in_memory();
        let connector = PKI.connector();
        let connector = connector.with_handshake_timeout(bound.map(Duration::from_secs));
        let late = async {
            tokio::time::sleep(Duration::from_millis(slow)).await;
            echo(server).await
        };
        let talk = async {
            let mut client = connector.connect("localhost", client).await?;
            client.shutdown().await.unwrap();
            Ok::<_, TlsConnectError>(())
        };
        let (agreed, _) = tokio::join!(talk, late);
        assert_eq!(agreed.is_ok(), agrees, "{bound:?} {slow}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_speaks_no_tls_is_no_server() {
    let (mut server, client) = in_memory();
    server.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await.unwrap();
    let begun = Instant::now();
    let error = PKI
        .connector()
        .connect("localhost", client)
        .await
        .unwrap_err();
    // It stays connected after the alert. The server waits for it, but not for long.
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
    assert!(
        error.to_string().contains("speaks TLS on this port"),
        "{error}"
    );
    assert!(!error.is_bad_certificate());
}

#[tokio::test]
async fn a_server_that_leaves_in_the_middle_is_an_error() {
    let (server, client) = in_memory();
    drop(server);
    let error = PKI
        .connector()
        .connect("localhost", client)
        .await
        .unwrap_err();
    let handshake = find::<HandshakeError>(&error).unwrap();
    assert!(matches!(
        handshake.io_error().kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe
    ));
}

#[tokio::test]
async fn a_forced_close_ends_the_handshake_of_a_client() {
    let (_server, client) = in_memory();
    let known = client.info().clone();
    let connector = PKI.connector();
    let force = async { known.force_close() };
    let (agreed, ()) = tokio::join!(connector.connect("localhost", client), force);
    assert!(find::<ForcedClose>(&agreed.unwrap_err()).is_some());
}

/// Both ends of a connection over loopback, after the handshake.
async fn established() -> (
    Connection<TlsIo<Socket<TcpStream>>>,
    Connection<TlsClientIo<Socket<TcpStream>>>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = tokio::join!(client, listener.accept());
    let server = Connection::accept(accepted.unwrap().0);
    let hand_back = tower::service_fn(async |connection| Ok::<_, BoxError>(connection));
    let connector = PKI.connector();
    let client = connector.connect("localhost", Connection::accept(client.unwrap()));
    let (server, client) = tokio::join!(PKI.layer().layer(hand_back).oneshot(server), client);
    (server.unwrap(), client.unwrap())
}

#[tokio::test]
async fn a_close_by_the_client_is_a_clean_end() {
    let (mut server, mut client) = established().await;
    client.write_all(b"complete").await.unwrap();
    let mut received = Vec::new();
    let read = async {
        server.read_to_end(&mut received).await.unwrap();
        server.close().await.unwrap();
    };
    let (closed, ()) = tokio::join!(client.close(), read);
    closed.unwrap();
    assert_eq!(received, b"complete");
}

#[tokio::test]
async fn a_server_that_ends_without_saying_so_is_noted() {
    let (mut server, mut client) = established().await;
    server.write_all(b"half an ans").await.unwrap();
    server.flush().await.unwrap();
    drop(server);
    let mut received = Vec::new();
    let error = client.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(received, b"half an ans");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(client.info().is_truncated());
    let outcome = Outcome::of(client.info(), Some(&error));
    assert_eq!(outcome, Outcome::Truncated);
}

#[tokio::test]
async fn a_server_that_says_nothing_after_our_good_bye_has_cut_nothing_off() {
    let (mut server, mut client) = established().await;
    let known = client.info().clone();
    client.write_all(b"that is all").await.unwrap();
    let leave = async {
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"that is all");
        // Ends TCP only.
        server.get_mut().get_mut().shutdown().await.unwrap();
    };
    let (closed, ()) = tokio::join!(client.close(), leave);
    closed.unwrap();
    assert!(!known.is_truncated());
    assert_eq!(Outcome::of(&known, None), Outcome::Completed);
}

#[tokio::test]
async fn after_a_shutdown_by_the_client_an_end_without_close_notify_is_no_truncation() {
    let (mut server, mut client) = established().await;
    let known = client.info().clone();
    client.shutdown().await.unwrap();
    server.get_mut().get_mut().shutdown().await.unwrap();
    let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert!(!known.is_truncated());
}

#[tokio::test]
async fn vectored_writes_of_a_client_become_one_record() {
    let (_server, mut client) = established().await;
    assert!(client.is_write_vectored());
    let before = client.info().bytes_written();
    let parts = [io::IoSlice::new(b"hello "), io::IoSlice::new(b"world")];
    assert_eq!(client.write_vectored(&parts).await.unwrap(), 11);
    client.flush().await.unwrap();
    let record = client.info().bytes_written() - before;
    assert!(record < 11 + 2 * 22, "one record has 22 bytes of its own");
}

#[tokio::test]
async fn the_io_underneath_and_the_session_of_a_client_are_within_reach() {
    assert!(size_of::<TlsClientIo<Socket<TcpStream>>>() <= 2 * size_of::<usize>());
    let (_server, mut client) = established().await;
    let tls = client.get_mut();
    assert!(tls.get_ref().get_ref().peer_addr().is_ok());
    assert!(tls.get_mut().get_ref().peer_addr().is_ok());
    assert_eq!(tls.session().is_none(), is_unbuffered());
    if let Some(session) = tls.session_mut() {
        session.set_buffer_limit(Some(1024));
        assert!(!session.is_handshaking());
    }
    let (socket, session) = client.detach().into_inner();
    assert_eq!(session.is_none(), is_unbuffered());
    assert!(socket.get_ref().peer_addr().is_ok());
}

#[test]
fn a_bundle_of_roots_may_have_remarks_and_a_byte_order_mark() {
    let bundle = format!("\u{feff}# ours\n{}\nAnother\n=====\n{}", PKI.root, PKI.root);
    TlsConnector::with_roots_pem(bundle.as_bytes()).unwrap();
}

#[test]
fn roots_that_are_none_are_told_apart() {
    let text = |pem: &[u8]| TlsConnector::with_roots_pem(pem).unwrap_err().to_string();
    assert!(text(b"").contains("there is no root certificate"));
    assert!(text(PKI.key.as_bytes()).contains("there is no root certificate"));
    let cut = PKI.root.replace("END CERTIFICATE", "END");
    assert!(text(cut.as_bytes()).contains("not valid PEM"));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(text(garbage.as_bytes()).contains("not usable"));
    let one_is_garbage = format!("{}{garbage}", PKI.root);
    assert!(text(one_is_garbage.as_bytes()).contains("(section 2, "));
    let joined = format!("{}{}", PKI.root.trim_end(), PKI.root);
    assert!(text(joined.as_bytes()).contains("run together"));
    let der = CertificateDer::from_pem_slice(PKI.root.as_bytes()).unwrap();
    assert!(text(&der).contains("is binary"));
}

#[cfg(feature = "native-roots")]
#[test]
fn of_the_roots_of_a_system_one_has_to_be_usable() {
    let garbage = CertificateDer::from(vec![0; 4]);
    let error = TlsConnector::with_found(vec![garbage.clone()], Some("no\nfile".to_owned()));
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("no\\nfile") && text.contains("ca-certificates"),
        "{text}"
    );
    let root = CertificateDer::from_pem_slice(PKI.root.as_bytes()).unwrap();
    assert!(TlsConnector::with_found(vec![garbage, root], None).is_ok());
}

#[test]
fn the_debug_output_holds_no_configuration() {
    let connector = PKI.connector().with_alpn(["h2"]);
    assert_eq!(
        format!("{connector:?}"),
        "TlsConnector { alpn: [\"h2\"], handshake_timeout: Some(10s), .. }"
    );
}

#[tokio::test]
async fn the_facts_of_the_servers_certificate_are_known() {
    let (server, client) = in_memory();
    let tls = PKI.layer();
    let connector = PKI.connector();
    let connect = connector.connect("localhost", client);
    let (server, client) = tokio::join!(tls.accept(server), connect);
    assert!(server.unwrap().info().peer_certificate().is_none());
    let client = client.unwrap();
    let facts = client.info().peer_certificate().unwrap();
    assert!(facts.dns_names().eq(["localhost"]));
    assert_eq!(facts.issuer.as_deref(), Some("our root"));
}
