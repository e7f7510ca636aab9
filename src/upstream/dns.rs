//! Names that are resolved by DNS, with the time to live of the answers, and SRV records.

use super::resolve::{Answer, Found};
use crate::connect::BadTarget;
use hickory_resolver::{
    Hosts, Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RData, RecordType, rdata::SRV},
    },
    system_conf::read_system_conf,
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
use tokio::{task::JoinSet, time::timeout};

/// Resolves host names and SRV records for [pools](super) by asking name servers.
///
/// Unlike the resolver of the system, it knows how long an answer is valid. A pool asks again [when that time is
/// over](super::PoolBuilder::with_dns), and at most once per second. Clones are cheap and share their sockets.
///
/// It is built on `hickory-resolver`. Answers are not cached, and not validated by DNSSEC.
#[derive(Clone)]
pub struct Dns(Arc<Inner>);

struct Inner {
    /// For absolute names.
    resolver: TokioResolver,
    hosts: Hosts,
    /// The domains of names that are not absolute.
    search: Vec<Name>,
    /// A name with that many dots is tried as it is first.
    dots: usize,
}

impl Dns {
    /// Uses the name servers and the search list of the system (`/etc/resolv.conf`), and its hosts file.
    ///
    /// The files are read once.
    ///
    /// # Errors
    ///
    /// If the configuration cannot be read or contains no name server.
    pub fn system() -> io::Result<Self> {
        let (config, options) = read_system_conf().map_err(io::Error::other)?;
        // A container may have none.
        let hosts = Hosts::from_system().unwrap_or_default();
        Self::new(config, options, hosts)
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
        Self::new(config, ResolverOpts::default(), Hosts::default())
    }

    pub(super) fn new(
        config: ResolverConfig,
        mut options: ResolverOpts,
        hosts: Hosts,
    ) -> io::Result<Self> {
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let search = config.domain().into_iter().chain(config.search());
        let (search, dots) = (search.cloned().collect(), options.ndots);
        let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build();
        Ok(Self(Arc::new(Inner {
            resolver: resolver.map_err(io::Error::other)?,
            hosts,
            search,
            dots,
        })))
    }

    /// The addresses of a host.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> Result<Answer, BoxError> {
        let addresses = self.look_up_ip(host.parse()?).await?;
        let found = addresses.found.into_iter();
        let found = found.map(|ip| SocketAddr::new(ip, port));
        Ok(Answer {
            found: found.map(Found::from).collect(),
            valid_for: Some(addresses.valid_for),
            failure: addresses.failure,
        })
    }

    /// The servers of a service. Those of the lowest priority are primary, the others are backups.
    ///
    /// A host that does not exist is left out. One that fails to resolve is the failure of the answer.
    pub(super) async fn servers(&self, service: &SrvName) -> Result<Answer, BoxError> {
        let lookup = self.0.resolver.lookup(&*service.0, RecordType::SRV).await?;
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
        let mut failure = None;
        while let Some(ended) = lookups.join_next().await {
            let (host, result) = ended?;
            match result {
                Ok(addresses) => {
                    if !addresses.found.is_empty() {
                        valid_for = valid_for.min(addresses.valid_for);
                    }
                    failure = failure.or(addresses.failure);
                    hosts.insert(host, addresses.found);
                }
                Err(error) => failure = Some(error),
            }
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
            failure,
        })
    }

    /// The addresses of the first name that has any, among those that `host` may mean.
    ///
    /// Both kinds are those of one name, because another domain of the search list has another host.
    async fn look_up_ip(&self, host: Name) -> Result<Addresses, BoxError> {
        for name in self.0.candidates(&host) {
            let addresses = self.0.look_up_one(name).await?;
            if !addresses.found.is_empty() {
                return Ok(addresses);
            }
        }
        Ok(Addresses::default())
    }
}

impl Inner {
    /// The absolute names that `host` may mean, in the order of `resolv.conf(5)`.
    fn candidates(&self, host: &Name) -> Vec<Name> {
        let mut absolute = host.clone();
        absolute.set_fqdn(true);
        if host.is_fqdn() {
            return vec![absolute];
        }
        let search = self.search.iter();
        // Those that are too long do not exist.
        let search = search.filter_map(|domain| host.clone().append_domain(domain).ok());
        let mut candidates: Vec<_> = search.collect();
        let is_first = usize::from(host.num_labels()) > self.dots || host.is_localhost();
        let index = if is_first { 0 } else { candidates.len() };
        candidates.insert(index, absolute);
        candidates
    }

    /// Fails if one kind fails and the other has no addresses.
    async fn look_up_one(&self, name: Name) -> Result<Addresses, BoxError> {
        let kinds = [RecordType::A, RecordType::AAAA];
        let known = kinds.map(|kind| {
            let query = Query::query(name.clone(), kind);
            self.hosts.lookup_static_host(&query)
        });
        if known.iter().any(Option::is_some) {
            let mut addresses = Addresses::default();
            known.iter().flatten().for_each(|it| addresses.add(it));
            return Ok(addresses);
        }
        let [v4, v6] = kinds.map(|kind| {
            let lookup = self.resolver.lookup(name.clone(), kind);
            timeout(KIND_TIMEOUT, lookup)
        });
        let (v4, v6) = tokio::join!(v4, v6);
        let mut addresses = Addresses::default();
        for lookup in [v4, v6] {
            match lookup {
                Ok(Ok(lookup)) => addresses.add(&lookup),
                Ok(Err(error)) if is_absent(&error) => {}
                Ok(Err(error)) => addresses.failure = Some(error.into()),
                Err(elapsed) => addresses.failure = Some(elapsed.into()),
            }
        }
        match addresses.failure {
            Some(error) if addresses.found.is_empty() => Err(error),
            _ => Ok(addresses),
        }
    }
}

/// The addresses of a host.
struct Addresses {
    found: Vec<IpAddr>,
    valid_for: Duration,
    /// Why one kind of them is unknown.
    failure: Option<BoxError>,
}

impl Addresses {
    fn add(&mut self, lookup: &Lookup) {
        let records = lookup.answers().iter();
        let ips = records.filter_map(|record| record.data.ip_addr());
        let before = self.found.len();
        self.found.extend(ips);
        if self.found.len() > before {
            self.valid_for = self.valid_for.min(time_to_live(lookup));
        }
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self {
            found: Vec::new(),
            valid_for: Duration::MAX,
            failure: None,
        }
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
/// For one kind of addresses, so that one that is not answered leaves time to use the other.
const KIND_TIMEOUT: Duration = Duration::from_secs(5);
