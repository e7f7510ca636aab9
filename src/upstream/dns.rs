//! Names that are resolved by DNS, with the time to live of the answers, and SRV records.

use super::resolve::{Answer, Found};
use crate::connect::BadTarget;
use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType, rdata::SRV},
};
use portcullis_middleware::BoxError;
use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinSet;

/// Resolves host names and SRV records for [pools](super) by asking name servers.
///
/// Unlike the resolver of the system, it knows how long an answer is valid. A pool asks again [when that time is
/// over](super::PoolBuilder::with_dns), and at most once per second. Clones are cheap and share their sockets.
///
/// It is built on `hickory-resolver`. Answers are not cached, and not validated by DNSSEC.
#[derive(Clone)]
pub struct Dns(Arc<TokioResolver>);

impl Dns {
    /// Uses the name servers and the search list of the system (`/etc/resolv.conf`), and its hosts file.
    ///
    /// The files are read once.
    ///
    /// # Errors
    ///
    /// If the configuration cannot be read or contains no name server.
    pub fn system() -> io::Result<Self> {
        let mut builder = TokioResolver::builder_tokio().map_err(io::Error::other)?;
        builder.options_mut().cache_size = 0;
        let resolver = builder.build().map_err(io::Error::other)?;
        Ok(Self(Arc::new(resolver)))
    }

    /// Uses these name servers alone, over UDP, and over TCP if an answer is too large.
    ///
    /// # Errors
    ///
    /// If the list is empty.
    pub fn with_name_servers(servers: impl IntoIterator<Item = SocketAddr>) -> io::Result<Self> {
        let server = |address: SocketAddr| {
            let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
            for connection in &mut connections {
                connection.port = address.port();
            }
            NameServerConfig::new(address.ip(), true, connections.to_vec())
        };
        let servers: Vec<_> = servers.into_iter().map(server).collect();
        if servers.is_empty() {
            let message = "at least one name server is needed";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let resolver = builder.build().map_err(io::Error::other)?;
        Ok(Self(Arc::new(resolver)))
    }

    /// The addresses of a host.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Result<Answer, BoxError> {
        let (addresses, time_to_live) = self.look_up_ip(host.parse()?).await?;
        let found = addresses.into_iter().map(|ip| SocketAddr::new(ip, port));
        Ok(Answer {
            found: found.map(Found::from).collect(),
            valid_for: Some(time_to_live),
        })
    }

    /// The servers of a service. Those of the lowest priority are primary, the others are backups.
    ///
    /// The answer fails if a single host fails to resolve, so that its server is not taken for removed. A host that does
    /// not exist is left out.
    pub(super) async fn servers(&self, service: &SrvName) -> Result<Answer, BoxError> {
        let lookup = self.0.lookup(&*service.0, RecordType::SRV).await?;
        let mut valid_for = time_to_live(&lookup);
        let mut records: Vec<SRV> = Vec::new();
        for record in lookup.answers() {
            // The root says that there is no such service (RFC 2782).
            if let RData::SRV(srv) = &record.data
                && !srv.target.is_root()
            {
                records.push(srv.clone());
            }
        }
        records.sort_by_key(|srv| (srv.priority, u16::MAX - srv.weight));
        records.truncate(MAX_RECORDS);
        let mut hosts: BTreeMap<Name, Vec<IpAddr>> = BTreeMap::new();
        let mut lookups = JoinSet::new();
        for srv in &records {
            if hosts.insert(srv.target.clone(), Vec::new()).is_none() {
                let (dns, host) = (self.clone(), srv.target.clone());
                lookups.spawn(async move { (host.clone(), dns.look_up_ip(host).await) });
            }
        }
        while let Some(ended) = lookups.join_next().await {
            let (host, result) = ended?;
            let (addresses, time_to_live) = result?;
            if !addresses.is_empty() {
                valid_for = valid_for.min(time_to_live);
            }
            hosts.insert(host, addresses);
        }
        let primary = records.first().map_or(0, |srv| srv.priority);
        let has_weights = records.iter().any(|srv| srv.weight > 0);
        let at_each = |srv: &SRV| {
            let (port, is_backup) = (srv.port, srv.priority > primary);
            // A server of weight zero still gets a few connections (RFC 2782).
            let weight = has_weights.then_some(srv.weight.max(1));
            let addresses = hosts[&srv.target].clone();
            addresses.into_iter().map(move |ip| Found {
                address: SocketAddr::new(ip, port),
                weight,
                is_backup,
            })
        };
        Ok(Answer {
            found: records.iter().flat_map(at_each).collect(),
            valid_for: Some(valid_for),
        })
    }

    /// Fails unless both kinds of addresses are known, so that no server is taken for removed.
    async fn look_up_ip(&self, host: Name) -> Result<(Vec<IpAddr>, Duration), BoxError> {
        let (v4, v6) = tokio::join!(
            self.0.lookup(host.clone(), RecordType::A),
            self.0.lookup(host, RecordType::AAAA),
        );
        let (mut addresses, mut valid_for) = (Vec::new(), Duration::MAX);
        for lookup in [v4, v6] {
            let lookup = match lookup {
                Ok(lookup) => lookup,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            let ips = lookup
                .answers()
                .iter()
                .filter_map(|record| match record.data {
                    RData::A(ip) => Some(IpAddr::V4(ip.0)),
                    RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
                    _ => None,
                });
            addresses.extend(ips);
            valid_for = valid_for.min(time_to_live(&lookup));
        }
        Ok((addresses, valid_for))
    }
}

/// Whether the answer says that there are no such records.
fn is_absent(error: &NetError) -> bool {
    error.is_no_records_found()
}

/// The shortest time to live of the records.
fn time_to_live(lookup: &Lookup) -> Duration {
    let seconds = lookup.answers().iter().map(|record| record.ttl).min();
    Duration::from_secs(seconds.unwrap_or(0).into())
}

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

/// The name of a service in DNS, such as `_postgresql._tcp.internal` (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SrvName(Arc<str>);

impl SrvName {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain below the service and its protocol.
    pub(super) fn domain(&self) -> &str {
        let domain = self.0.splitn(3, '.').nth(2).unwrap_or_default();
        domain.trim_end_matches('.')
    }
}

/// Parses `_service._protocol.domain`.
impl FromStr for SrvName {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let mut labels = text.splitn(3, '.');
        let mut is_label = || {
            labels
                .next()
                .is_some_and(|label| label.len() > 1 && label.starts_with('_'))
        };
        let is_service = is_label() && is_label();
        let has_domain = labels.next().is_some_and(|domain| !domain.is_empty());
        if !is_service || !has_domain || Name::from_str(text).is_err() {
            return Err(BadTarget::BadSrvName);
        }
        Ok(Self(text.into()))
    }
}

/// More records than that are ignored, those of the highest priority numbers and the lowest weights first.
const MAX_RECORDS: usize = 256;
