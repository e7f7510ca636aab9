//! Returning clients with certificates, valid and invalid ones.

use super::*;
use crate::{
    error::{HandshakeError, find},
    tls::load,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::{
    CertificateError,
    pki_types::UnixTime,
    server::{
        ProducesTickets, ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    time_provider::TimeProvider,
    version::{TLS12, TLS13},
};
use std::{
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio_rustls::TlsAcceptor;

/// An authority and a client certificate that it signed; valid in the year 2030 only.
pub(super) struct Clients {
    authority: CertifiedIssuer<'static, KeyPair>,
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

pub(super) static CLIENTS: LazyLock<Clients> = LazyLock::new(Clients::new);
pub(super) static STRANGERS: LazyLock<Clients> = LazyLock::new(Clients::new);

impl Clients {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(42));
        params.not_before = rcgen::date_time_ymd(2030, 1, 1);
        params.not_after = rcgen::date_time_ymd(2031, 1, 1);
        let chain = vec![params.signed_by(&key, &authority).unwrap().der().clone()];
        Self {
            authority,
            chain,
            key,
        }
    }

    pub(super) fn config(&self, provider: &Arc<CryptoProvider>, setup: Setup) -> Arc<ClientConfig> {
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let config = ClientConfig::builder_with_details(provider.clone(), Arc::new(Clock::at(NEW)))
            .with_protocol_versions(&[setup.version])
            .unwrap()
            .with_root_certificates(SERVER.roots())
            .with_client_auth_cert(self.chain.clone(), key)
            .unwrap();
        Arc::new(config)
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>, crls: &[u8]) -> Arc<dyn ClientCertVerifier> {
        let roots = load::roots(self.authority.pem().as_bytes()).unwrap();
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let builder = match crls {
            [] => builder,
            crls => builder.with_crls(load::crls(crls).unwrap()),
        };
        builder.build().unwrap()
    }

    pub(super) fn authority_pem(&self) -> String {
        self.authority.pem()
    }

    /// A revocation list that contains the client's certificate.
    pub(super) fn crl(&self) -> String {
        self.crl_of(vec![Self::revocation()])
    }

    /// The entry of the client's certificate in a list.
    pub(super) fn revocation() -> RevokedCertParams {
        RevokedCertParams {
            serial_number: SerialNumber::from(42),
            revocation_time: rcgen::date_time_ymd(2030, 2, 1),
            reason_code: None,
            invalidity_date: None,
        }
    }

    pub(super) fn empty_crl(&self) -> String {
        self.crl_of(Vec::new())
    }

    /// An empty list that is up to date until this Unix time.
    pub(super) fn crl_until(&self, time: u64) -> String {
        self.crl_issued(2020, |crl| {
            crl.next_update = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(time);
        })
    }

    /// A list that was issued in January of this year, and that a change makes another one.
    pub(super) fn crl_issued(
        &self,
        year: i32,
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> String {
        let mut crl = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(year, 1, 1),
            next_update: rcgen::date_time_ymd(1970, 1, 1)
                + Duration::from_secs(EXPIRED + 31 * 86_400),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut crl);
        crl.signed_by(&self.authority).unwrap().pem().unwrap()
    }

    fn crl_of(&self, revoked_certs: Vec<RevokedCertParams>) -> String {
        self.crl_issued(2020, |crl| crl.revoked_certs = revoked_certs)
    }
}

#[derive(Debug)]
pub(super) struct Clock(AtomicU64);

impl Clock {
    const fn at(time: u64) -> Self {
        Self(AtomicU64::new(time))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let time = Duration::from_secs(self.0.load(Ordering::Relaxed));
        Some(UnixTime::since_unix_epoch(time))
    }
}

/// In the spring of 2030, and one second into 2031.
pub(super) const NEW: u64 = 1_900_000_000;
const EXPIRED: u64 = 1_924_992_001;

/// How sessions are stored and negotiated.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    pub(super) version: &'static SupportedProtocolVersion,
    pub(super) is_stateless: bool,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.version.version, self.is_stateless)
    }
}

/// A server with a clock, sessions and a verifier of the test.
pub(super) struct Server {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) setup: Setup,
    pub(super) clock: Arc<Clock>,
    store: Arc<dyn StoresServerSessions>,
    ticketer: Option<Arc<dyn ProducesTickets>>,
}

impl Server {
    fn new(provider: Provider, setup: Setup) -> Self {
        let (provider, ticketer) = provider;
        Self {
            provider: Arc::new(provider()),
            setup,
            clock: Arc::new(Clock::at(NEW)),
            store: ServerSessionMemoryCache::new(64),
            ticketer: setup.is_stateless.then(|| ticketer().unwrap()),
        }
    }

    fn config(&self, verifier: Arc<dyn ClientCertVerifier>) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_details(self.provider.clone(), self.clock.clone())
            .with_protocol_versions(&[self.setup.version])
            .unwrap();
        let mut config = builder
            .with_client_cert_verifier(verifier)
            .with_single_cert(SERVER.chain(), SERVER.key())
            .unwrap();
        config.session_storage = self.store.clone();
        if let Some(ticketer) = &self.ticketer {
            config.ticketer = ticketer.clone();
        }
        Arc::new(config)
    }

    /// Moves the clock behind the validity of the clients' certificates.
    pub(super) fn expire(&self) {
        self.clock.0.store(EXPIRED, Ordering::Relaxed);
    }

    /// A layer with the verifier of its configuration.
    fn verifying(&self, verifier: Arc<dyn ClientCertVerifier>) -> TlsLayer {
        TlsLayer::new(self.config(verifier.clone())).with_client_verifier(verifier)
    }
}

type Provider = (
    fn() -> CryptoProvider,
    fn() -> Result<Arc<dyn ProducesTickets>, rustls::Error>,
);

/// Runs `test` with all providers, versions and session stores.
pub(super) async fn everywhere(test: impl AsyncFn(Server)) {
    let providers: &[Provider] = &[
        #[cfg(feature = "aws-lc-rs")]
        {
            use rustls::crypto::aws_lc_rs;
            (aws_lc_rs::default_provider, aws_lc_rs::Ticketer::new)
        },
        #[cfg(feature = "ring")]
        {
            use rustls::crypto::ring;
            (ring::default_provider, ring::Ticketer::new)
        },
    ];
    for &provider in providers {
        for version in [&TLS12, &TLS13] {
            for is_stateless in [false, true] {
                let setup = Setup {
                    version,
                    is_stateless,
                };
                test(Server::new(provider, setup)).await;
            }
        }
    }
}

/// Whether the client was served, and whether by resumption.
async fn visit(layer: &TlsLayer, client: &Arc<ClientConfig>) -> Result<bool, BoxError> {
    let (connection, io) = in_memory();
    let known = info(&connection);
    let served = serve(layer.clone(), connection, echo);
    let talk = async { talk(connect(client.clone(), io).await?, b"hello").await };
    let (served, received) = tokio::join!(served, talk);
    served?;
    assert_eq!(received.unwrap(), b"hello");
    let tls = known.tls().unwrap();
    assert_eq!(tls.peer_certificates.len(), 1, "it is known who that is");
    Ok(tls.resumed)
}

/// The problem of the certificate that made the handshake fail.
fn fault(refused: Result<bool, BoxError>) -> CertificateError {
    let error = refused.expect_err("the client is refused");
    assert!(error.is::<HandshakeError>(), "{error}");
    match find::<rustls::Error>(&*error) {
        Some(rustls::Error::InvalidCertificate(fault)) => fault.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_resumes_until_its_certificate_expires() {
    everywhere(async |server| {
        let layer = server.verifying(CLIENTS.verifier(&server.provider, b""));
        let client = CLIENTS.config(&server.provider, server.setup);
        assert!(!visit(&layer, &client).await.unwrap());
        assert!(visit(&layer, &client).await.unwrap(), "{:?}", server.setup);
        server.clock.0.store(EXPIRED, Ordering::Relaxed);
        for _ in 0..2 {
            let fault = fault(visit(&layer, &client).await);
            assert!(
                matches!(fault, CertificateError::ExpiredContext { .. }),
                "{fault:?}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_was_revoked_meanwhile_is_not_resumed() {
    everywhere(async |server| {
        let client = CLIENTS.config(&server.provider, server.setup);
        let before = server.verifying(CLIENTS.verifier(&server.provider, b""));
        let crl = CLIENTS.crl();
        let after = server.verifying(CLIENTS.verifier(&server.provider, crl.as_bytes()));
        assert!(!visit(&before, &client).await.unwrap());
        assert_eq!(
            fault(visit(&after, &client).await),
            CertificateError::Revoked
        );
    })
    .await;
}

#[tokio::test]
async fn a_client_whose_root_is_trusted_no_more_is_not_resumed() {
    everywhere(async |server| {
        let client = CLIENTS.config(&server.provider, server.setup);
        let before = server.verifying(CLIENTS.verifier(&server.provider, b""));
        let after = server.verifying(STRANGERS.verifier(&server.provider, b""));
        assert!(!visit(&before, &client).await.unwrap());
        visit(&after, &client).await.unwrap_err();
    })
    .await;
}

#[tokio::test]
async fn without_a_verifier_no_client_with_a_certificate_is_resumed() {
    everywhere(async |server| {
        let verifier = CLIENTS.verifier(&server.provider, b"");
        let layer = TlsLayer::new(server.config(verifier.clone()));
        let client = CLIENTS.config(&server.provider, server.setup);
        for _ in 0..3 {
            assert!(!visit(&layer, &client).await.unwrap());
        }
        // Nor are those of other servers with the same store or ticket key.
        let other = server.verifying(verifier);
        assert!(!visit(&other, &client).await.unwrap());
        assert!(!visit(&layer, &client).await.unwrap());
        server.clock.0.store(EXPIRED, Ordering::Relaxed);
        fault(visit(&layer, &client).await);
    })
    .await;
}

#[tokio::test]
async fn a_session_without_certificate_does_not_get_past_a_server_that_demands_one() {
    everywhere(async |server| {
        let roots = load::roots(CLIENTS.authority.pem().as_bytes()).unwrap();
        let asks =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), server.provider.clone());
        let asks = server.verifying(asks.allow_unauthenticated().build().unwrap());
        let demands = server.verifying(CLIENTS.verifier(&server.provider, b""));
        let anonymous = Arc::new(client_config(
            server.provider.clone(),
            &[server.setup.version],
        ));
        for (layer, resumed) in [(&asks, Some(false)), (&asks, Some(true)), (&demands, None)] {
            let (connection, io) = in_memory();
            let known = info(&connection);
            let served = serve(layer.clone(), connection, echo);
            let talk = async { talk(connect(anonymous.clone(), io).await?, b"hello").await };
            let (served, _) = tokio::join!(served, talk);
            assert_eq!(served.is_ok(), resumed.is_some(), "{:?}", server.setup);
            assert_eq!(known.tls().map(|tls| tls.resumed), resumed);
        }
    })
    .await;
}

/// A client with early data, which returns the echo and whether early data was accepted.
async fn talk_early(
    client: Arc<ClientConfig>,
    io: DuplexStream,
    data: &[u8],
    may_send_early: bool,
) -> io::Result<(Vec<u8>, bool)> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut sent_early = false;
    let connector = TlsConnector::from(client);
    let connecting = connector.connect_with(name, io, |session| {
        let early = session.early_data();
        sent_early = early.is_some_and(|mut early| early.write_all(data).is_ok());
    });
    let mut client = connecting.await?;
    assert_eq!(sent_early, may_send_early);
    let is_accepted = client.get_ref().1.is_early_data_accepted();
    client.write_all(data).await?;
    client.shutdown().await?;
    let mut received = Vec::new();
    client.read_to_end(&mut received).await?;
    Ok((received, is_accepted))
}

#[tokio::test]
async fn early_data_is_rejected_and_sent_again_after_the_handshake() {
    // rustls accepts 16,384 bytes of rejected early data, and counts them again with each flight.
    for length in [1, 1_000, 6_000] {
        let data = vec![7; length];
        let mut config = server_config(provider(), &[&TLS13]);
        config.max_early_data_size = 8_000;
        let config = Arc::new(config);
        let layer = TlsLayer::new(config.clone());
        assert_eq!(config.max_early_data_size, 8_000, "it is the caller's");
        let mut client = client_config(provider(), &[&TLS13]);
        client.enable_early_data = true;
        let client = Arc::new(client);
        let visit = async |resumed, may_send_early| {
            let (connection, io) = crate::testing::in_memory(100_000);
            let known = info(&connection);
            let served = serve(layer.clone(), connection, echo);
            let talk = talk_early(client.clone(), io, &data, may_send_early);
            let (served, received) = tokio::join!(served, talk);
            served.unwrap();
            assert_eq!(received.unwrap(), (data.clone(), false));
            assert_eq!(known.tls().unwrap().resumed, resumed);
        };
        visit(false, false).await;
        // A ticket of the layer allows no early data. One of a server without the layer does.
        visit(true, false).await;
        let (server, io) = duplex(100_000);
        let served = async {
            let stream = TlsAcceptor::from(config.clone()).accept(server).await?;
            let (mut input, mut output) = tokio::io::split(stream);
            tokio::io::copy(&mut input, &mut output).await?;
            output.shutdown().await
        };
        let talk = talk_early(client.clone(), io, &data, false);
        let (served, received) = tokio::join!(served, talk);
        served.unwrap();
        assert_eq!(received.unwrap(), (data.clone(), false));
        visit(true, true).await;
    }
}

#[tokio::test]
async fn the_facts_of_a_client_are_known_after_full_and_resumed_handshakes() {
    everywhere(async |server| {
        let layer = server.verifying(CLIENTS.verifier(&server.provider, b""));
        let client = CLIENTS.config(&server.provider, server.setup);
        for resumed in [false, true] {
            let (connection, io) = in_memory();
            let known = info(&connection);
            let served = serve(layer.clone(), connection, echo);
            let talk = async { talk(connect(client.clone(), io).await?, b"hello").await };
            let (served, _) = tokio::join!(served, talk);
            served.unwrap();
            assert_eq!(known.tls().unwrap().resumed, resumed);
            let facts = known.peer_certificate().unwrap();
            assert!(facts.dns_names().eq(["client"]));
            assert_eq!(facts.issuer.as_deref(), Some("authority"));
            assert_eq!(facts.serial, "2a");
            assert!(facts.spki_sha256.is_some());
        }
    })
    .await;
}
