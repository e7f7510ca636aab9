//! TLS of servers and clients: one certificate, protocol version and cipher suite, and tickets without state.

use super::{
    Variant,
    serve::{Handler, LIMIT, run},
};
use harness::server::{announce, serve_input};
use portcullis::{
    BoxError, Connection, ServiceBuilderExt,
    middleware::{
        access::{Acl, AclLayer},
        ip_set::IpSet,
        limit::{ClientIp, ConnectionLimitLayer, KeyedLimitLayer, Rate, RateLimitLayer},
        tls::TlsLayer,
    },
    stack::{self, Options},
};
use std::{
    env, io,
    sync::{Arc, LazyLock},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        client::Resumption,
        crypto::{
            CryptoProvider,
            aws_lc_rs::{
                Ticketer, cipher_suite::TLS13_AES_256_GCM_SHA384, default_provider, kx_group,
            },
        },
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        version::TLS13,
    },
};
use tower::{ServiceBuilder, service_fn};

/// Runs a server of TLS.
pub(crate) fn start(
    variant: Variant,
    runtime: &Runtime,
    handler: impl Handler,
) -> Result<(), BoxError> {
    let config = server_config()?;
    if variant == Variant::TlsBare {
        return run_rustls(runtime, config.into(), handler);
    }
    let tls = TlsLayer::new(config);
    if variant == Variant::TlsPortcullis {
        let serve = move |connection: Connection<_>| handler.serve(connection);
        let stack = ServiceBuilder::new().peer_addr().layer(tls);
        return run(runtime, stack.service_fn(serve));
    }
    let mut options = Options::new()
        .with_connection_limit(ConnectionLimitLayer::new(LIMIT))
        .with_tls(tls);
    if variant == Variant::TlsRecommendedPlus {
        let networks = IpSet::new(["10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16"])?;
        options = options
            .with_socket_acl(AclLayer::new(Acl::new().allow(networks.clone())))
            .with_client_acl(AclLayer::new(Acl::new().allow(networks)))
            .with_rate_limit(RateLimitLayer::new(
                ClientIp::default(),
                Rate::per_second(1_000_000),
            ))
            .with_keyed_limit(KeyedLimitLayer::new(ClientIp::default(), LIMIT));
    }
    let serve = move |connection: Connection<_>| handler.serve(connection);
    run(runtime, stack::recommended(options, service_fn(serve)))
}

/// The server that portcullis is compared to.
fn run_rustls(
    runtime: &Runtime,
    acceptor: TlsAcceptor,
    handler: impl Handler,
) -> Result<(), BoxError> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    announce(listener.local_addr()?)?;
    let accept = runtime.spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                handler.serve(acceptor.accept(stream).await?).await
            });
        }
    });
    serve_input();
    accept.abort();
    Ok(())
}

/// The certificate of P-256 and its key, for a server in a child process.
pub(crate) fn environment() -> Vec<(&'static str, String)> {
    vec![
        (CERTIFICATE, IDENTITY.cert.pem()),
        (KEY, IDENTITY.signing_key.serialize_pem()),
    ]
}

/// For every server, from its [`environment`].
pub(crate) fn server_config() -> Result<Arc<ServerConfig>, BoxError> {
    let certificate = CertificateDer::from_pem_slice(env::var(CERTIFICATE)?.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(env::var(KEY)?.as_bytes())?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}

/// The client's side, which remembers tickets where `resumes` is set.
#[derive(Clone)]
pub(crate) struct TlsClient(TlsConnector);

impl TlsClient {
    pub(crate) fn new(resumes: bool) -> Result<Self, BoxError> {
        let mut roots = RootCertStore::empty();
        roots.add(IDENTITY.cert.der().clone())?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Self(Arc::new(config).into()))
    }

    pub(crate) async fn connect(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![kx_group::X25519],
        ..default_provider()
    })
}

static IDENTITY: LazyLock<rcgen::CertifiedKey<rcgen::KeyPair>> = LazyLock::new(|| {
    rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("the name is valid")
});

const NAME: &str = "localhost";
const CERTIFICATE: &str = "PORTCULLIS_BENCH_CERTIFICATE";
const KEY: &str = "PORTCULLIS_BENCH_KEY";
