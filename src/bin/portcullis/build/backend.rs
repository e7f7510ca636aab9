//! Pools of servers.

use super::tls;
use crate::config::{
    Backend, BackendTls, Balance, Certificate, Check, Health, Prelude, Problems, ProxyField,
    SendProxy, Server, ServerAddress, WhenNoneHealthy, chain,
};
use portcullis::{
    middleware::{
        internal::read_file,
        proxy_protocol::ProxyHeaderEncoder,
        tls::{CertStore, TlsConnector},
    },
    upstream::{self, HealthCheck, OnDown, Pool, PoolBuilder, ServerPrelude, ServerTls},
};
use std::{net::SocketAddr, time::Duration};

/// The servers of a backend.
pub(super) struct Servers {
    all: Vec<upstream::Server>,
    /// The certificate that is shown to them.
    pub(super) certificate: Option<CertStore>,
    tls: Option<(TlsConnector, BackendTls)>,
}

impl Servers {
    /// The same, with the files of the certificate watched for as long as these servers are used.
    pub(super) fn watched(self) -> Vec<upstream::Server> {
        let Some((store, (connector, tls))) = self.certificate.zip(self.tls) else {
            return self.all;
        };
        let connector = connector.with_client_certificate(&store, store.watch());
        let tls = server_tls(connector, &tls);
        let servers = self.all.into_iter();
        servers.map(|it| it.with_tls(tls.clone())).collect()
    }

    /// Those of `backend` whose addresses are known without a resolver.
    pub(super) fn with_addresses(self, backend: &Backend) -> Vec<upstream::Server> {
        let addresses = backend.servers.iter().map(|server| &server.address.value);
        let known = addresses.map(|address| match address {
            ServerAddress::Tcp(address) => address.parse::<SocketAddr>().is_ok(),
            ServerAddress::Unix(_) => true,
        });
        let servers = self.all.into_iter().zip(known);
        servers
            .filter_map(|(server, is_known)| is_known.then_some(server))
            .collect()
    }
}

/// The servers of the file. Nothing is watched yet. `None` if a file cannot be used, which is reported at its place.
pub(super) fn servers(
    backend: &Backend,
    certificates: &[Certificate],
    problems: &mut Problems,
) -> Option<Servers> {
    let (tls, certificate) = match &backend.tls {
        Some(tls) => {
            let (connector, certificate) = connector(backend, tls, certificates, problems)?;
            (Some((connector, tls.clone())), certificate)
        }
        None => (None, None),
    };
    let server_tls = tls
        .as_ref()
        .map(|(connector, tls)| server_tls(connector.clone(), tls));
    let proxy = backend.proxy_protocol.as_ref().map(encoder);
    let server = |server: &Server| {
        let described = match &server.address.value {
            ServerAddress::Tcp(address) => address.parse().ok()?,
            #[cfg(unix)]
            ServerAddress::Unix(path) => upstream::Server::unix(path),
            #[cfg(not(unix))]
            ServerAddress::Unix(_) => unreachable!("it is rejected when it is read"),
        };
        Some(
            described
                .with_weight(server.weight)
                .with_backup(server.backup)
                .with_max_connections(server.max_connections)
                .with_proxy_header(proxy)
                .with_tls(server_tls.clone()),
        )
    };
    let all = backend.servers.iter().map(server).collect::<Option<_>>()?;
    Some(Servers {
        all,
        certificate,
        tls,
    })
}

/// The settings of the file, for a new pool or to replace those of a running one, which keeps the DNS that it has.
pub(super) fn settings(backend: &Backend, problems: &mut Problems) -> Option<PoolBuilder> {
    let mut check = health_check(&backend.health);
    if let Some(tls) = &backend.health.tls {
        // Without a certificate that checks would show.
        let (connector, _) = connector(backend, tls, &[], problems)?;
        check = check.map(|check| check.with_tls(server_tls(connector, tls)));
    }
    let balance = match backend.balance {
        Balance::LeastConnections => upstream::Balance::LeastConnections,
        Balance::RoundRobin => upstream::Balance::RoundRobin,
        Balance::Hash => upstream::Balance::Hash,
        Balance::First => upstream::Balance::First,
    };
    let try_all = backend.when_none_healthy == WhenNoneHealthy::TryAll;
    let pool = Pool::builder();
    // One server that hangs leaves time for another, and an attempt that had all its time counts as a failure.
    let timeout = backend.connect_timeout.saturating_mul(2);
    let settings = pool
        .with_timeout(timeout.max(CONNECT_TIMEOUT))
        .with_name(&backend.name.value)
        .with_balance(balance)
        .with_attempt_timeout(backend.connect_timeout)
        .with_drain_timeout(backend.drain)
        .with_health_check(check)
        .with_unhealthy_as_last_resort(try_all);
    resolved(settings, backend, problems)
}

/// With the feature, names are followed by DNS, unless the system has no name servers and there are no SRV records.
#[cfg(feature = "dns")]
fn resolved(pool: PoolBuilder, backend: &Backend, problems: &mut Problems) -> Option<PoolBuilder> {
    let error = match upstream::Dns::system() {
        Ok(dns) => return Some(pool.with_dns(dns)),
        Err(error) => error,
    };
    let is_service = |server: &&Server| server.address.value.is_service();
    let Some(service) = backend.servers.iter().find(is_service) else {
        return Some(pool);
    };
    let message = format!(
        "the name servers of the system are unknown: {}",
        chain(&error)
    );
    problems.error(service.address.place.clone(), message);
    None
}

#[cfg(not(feature = "dns"))]
const fn resolved(pool: PoolBuilder, _: &Backend, _: &mut Problems) -> Option<PoolBuilder> {
    Some(pool)
}

fn health_check(health: &Health) -> Option<HealthCheck> {
    let check = match &health.check {
        Check::Off => return None,
        Check::Tcp => HealthCheck::tcp(),
        Check::Tls => HealthCheck::tls(),
        Check::Http { path, expect } => {
            let statuses = expect.iter().flat_map(|statuses| statuses.0.clone());
            HealthCheck::http(path).with_statuses(statuses)
        }
        Check::Bytes { send, expect } => {
            let (first, others) = expect.split_first()?;
            let check = HealthCheck::exchange(send, first);
            others.iter().fold(check, HealthCheck::or_expect)
        }
    };
    let on_down = if health.close_on_down {
        OnDown::Close
    } else {
        OnDown::Keep
    };
    let check = check
        .with_interval(health.interval)
        .with_timeout(health.timeout)
        .with_fall(health.fall)
        .with_rise(health.rise)
        .with_on_down(on_down);
    Some(match health.port {
        Some(port) => check.with_port(port),
        None => check,
    })
}

fn encoder(proxy: &SendProxy) -> ProxyHeaderEncoder {
    if proxy.version == 1 {
        return ProxyHeaderEncoder::v1();
    }
    let has = |field| proxy.fields.contains(&field);
    ProxyHeaderEncoder::v2()
        .with_authority(has(ProxyField::Authority))
        .with_alpn(has(ProxyField::Alpn))
        .with_ssl(has(ProxyField::Tls))
        .with_unique_id(has(ProxyField::UniqueId))
        .with_crc32c(has(ProxyField::Crc32c))
}

/// Connects with the certificate that is shown to servers, if there is one.
fn connector(
    backend: &Backend,
    tls: &BackendTls,
    certificates: &[Certificate],
    problems: &mut Problems,
) -> Option<(TlsConnector, Option<CertStore>)> {
    let words = format!("backend \"{}\"", backend.name.value);
    let connector = match &tls.roots {
        None => TlsConnector::with_native_roots().map_err(|error| (chain(&error), &tls.place)),
        Some(roots) => match read_file(&roots.value) {
            Ok(pem) => {
                TlsConnector::with_roots_pem(&pem).map_err(|error| (chain(&error), &roots.place))
            }
            Err(error) => Err((
                format!("{} cannot be read: {error}", roots.value.display()),
                &roots.place,
            )),
        },
    };
    let connector = match connector {
        Ok(connector) => connector,
        Err((reason, place)) => {
            problems.error(place.clone(), format!("{words}: {reason}"));
            return None;
        }
    };
    let connector = connector.with_alpn(tls.alpn.iter().cloned()).unbuffered();
    let Some(name) = &tls.certificate else {
        return Some((connector, None));
    };
    let mut certificates = certificates.iter();
    // An unknown name was reported with the references.
    let certificate = certificates.find(|it| it.name.value == name.value)?;
    let store = tls::store(&[certificate], Some(&name.value), &name.place, problems)?;
    let connector = connector.with_client_certificate(&store, None);
    Some((connector, Some(store)))
}

fn server_tls(connector: TlsConnector, tls: &BackendTls) -> ServerTls {
    let mut tls_of_server = ServerTls::new(connector);
    if let Some(name) = &tls.name {
        tls_of_server = tls_of_server.with_name(&name.value);
    }
    let prelude = tls.prelude.as_ref().map(|prelude| match prelude.value {
        Prelude::Postgres => ServerPrelude::Postgres,
        Prelude::Smtp => ServerPrelude::Smtp,
        Prelude::Imap => ServerPrelude::Imap,
        Prelude::Pop3 => ServerPrelude::Pop3,
        Prelude::Xmpp => ServerPrelude::Xmpp,
    });
    tls_of_server.with_prelude(prelude)
}

/// For a connect with all of its attempts, at least.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
