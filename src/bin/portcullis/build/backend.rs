//! Pools of servers.

use super::backend_tls::TlsToServers;
use crate::config::{
    Backend, Balance, Certificate, Check, Health, Problems, ProxyField, SendProxy, Server,
    ServerAddress, WhenNoneHealthy,
};
use portcullis::{
    middleware::{proxy_protocol::ProxyHeaderEncoder, tls::CertStore},
    upstream::{self, HealthCheck, OnDown, Pool, PoolBuilder},
};
use std::{net::SocketAddr, time::Duration};

/// The servers of a backend. No file is watched yet.
pub(super) struct Servers {
    all: Vec<upstream::Server>,
    tls: Option<TlsToServers>,
}

impl Servers {
    /// The certificate that is shown to them.
    pub(super) fn certificate(&self) -> Option<&CertStore> {
        self.tls.as_ref()?.certificate()
    }

    /// The same, with the files of the certificate watched for as long as these servers are used.
    pub(super) fn watched(self) -> Vec<upstream::Server> {
        let Some(tls) = self.tls.as_ref().map(TlsToServers::watched) else {
            return self.all;
        };
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

/// The servers of the file. No file is watched yet.
///
/// `None` if a file cannot be used, which is reported at its place.
pub(super) fn servers(
    backend: &Backend,
    certificates: &[Certificate],
    problems: &mut Problems,
) -> Option<Servers> {
    let tls = match &backend.tls {
        Some(tls) => Some(TlsToServers::new(backend, tls, certificates, problems)?),
        None => None,
    };
    let server_tls = tls.as_ref().map(TlsToServers::unwatched);
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
                .with_recv_buffer_size(backend.buffers.receive)
                .with_send_buffer_size(backend.buffers.send)
                .with_proxy_header(proxy)
                .with_tls(server_tls.clone()),
        )
    };
    let all = backend.servers.iter().map(server).collect::<Option<_>>()?;
    Some(Servers { all, tls })
}

/// The settings of a pool. No file is watched yet.
pub(super) struct Settings {
    /// Without the health check.
    pool: PoolBuilder,
    check: Option<HealthCheck>,
    /// That of the check, instead of the servers'.
    tls: Option<TlsToServers>,
}

impl Settings {
    /// The certificate that checks show.
    pub(super) fn certificate(&self) -> Option<&CertStore> {
        self.tls.as_ref()?.certificate()
    }

    /// Without the health check.
    pub(super) fn without_check(self) -> PoolBuilder {
        self.pool.with_health_check(None)
    }

    /// With the health check, and the files of its certificate watched for as long as it is used.
    pub(super) fn watched(self) -> PoolBuilder {
        let tls = self.tls.as_ref().map(TlsToServers::watched);
        let check = self.check.map(|check| check.with_tls(tls));
        self.pool.with_health_check(check)
    }
}

/// The settings of the file, for a pool or to replace those of a running one, which keeps the DNS that it has.
///
/// `None` if a file cannot be used, which is reported at its place.
pub(super) fn settings(
    backend: &Backend,
    certificates: &[Certificate],
    problems: &mut Problems,
) -> Option<Settings> {
    let tls = match &backend.health.tls {
        Some(tls) => Some(TlsToServers::new(backend, tls, certificates, problems)?),
        None => None,
    };
    let balance = match backend.balance {
        Balance::LeastConnections => upstream::Balance::LeastConnections,
        Balance::RoundRobin => upstream::Balance::RoundRobin,
        Balance::Hash => upstream::Balance::Hash,
        Balance::First => upstream::Balance::First,
    };
    let try_all = backend.when_none_healthy == WhenNoneHealthy::TryAll;
    // One server that hangs leaves time for another, and an attempt that had all its time counts as a failure.
    let timeout = backend.connect_timeout.saturating_mul(2);
    let queue = backend.queue;
    let timeout = timeout.max(queue.timeout.saturating_add(backend.connect_timeout));
    let pool = Pool::builder()
        .with_timeout(timeout.max(CONNECT_TIMEOUT))
        .with_queue(queue.length, queue.timeout)
        .with_name(&backend.name.value)
        .with_balance(balance)
        .with_attempt_timeout(backend.connect_timeout)
        .with_drain_timeout(backend.drain)
        .with_unhealthy_as_last_resort(try_all);
    Some(Settings {
        pool: resolved(pool, backend, problems)?,
        check: health_check(&backend.health),
        tls,
    })
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
        crate::config::chain(&error)
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
        Check::Http { path, host, expect } => {
            let statuses = expect.iter().flat_map(|statuses| statuses.0.clone());
            let check = HealthCheck::http(path).with_statuses(statuses);
            match host {
                Some(host) => check.with_host(host),
                None => check,
            }
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

/// For a connect with all of its attempts, at least.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
