//! `[[backend]]`: a pool of servers, and how one is chosen.

use super::{
    address::{no_scope, socket_path},
    buffers::Buffers,
    guards::read_name,
    health::{Check, Health},
    prelude::Prelude,
    problem::{Place, Placed},
    section::{Reader, Section, Value},
    value::{Alpn, OneOrMore, OrOff, Positive, one_of},
};
use portcullis::middleware::tls::rustls::pki_types::ServerName;
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use toml::{Spanned, de::DeValue};

#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) name: Placed<String>,
    pub(crate) balance: Balance,
    pub(crate) servers: Vec<Server>,
    pub(crate) proxy_protocol: Option<SendProxy>,
    pub(crate) tls: Option<BackendTls>,
    pub(crate) health: Health,
    pub(crate) when_none_healthy: WhenNoneHealthy,
    /// For each attempt to connect.
    pub(crate) connect_timeout: Duration,
    pub(crate) queue: Queue,
    pub(crate) buffers: Buffers,
    /// How long connections to removed servers may last.
    pub(crate) drain: Option<Duration>,
}

impl Backend {
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        let name = read_name(section);
        let balance = section.get("balance").unwrap_or(Balance::LeastConnections);
        let listed = section.get::<OneOrMore<Placed<ServerAddress>>>("servers");
        let described = match section.is_table_array("server") {
            true => section.sections("server"),
            false => {
                let message =
                    "write `servers` for addresses; [[backend.server]] has settings for each";
                section.error_at("server", message);
                Vec::new()
            }
        };
        let has_servers = section.has("servers") | section.has("server");
        let described: Vec<_> = described
            .into_iter()
            .filter_map(|section| section.read(Server::read))
            .collect();
        if listed.as_ref().is_some_and(|listed| listed.0.is_empty()) {
            section.error_at("servers", "at least one server is needed");
        }
        let listed = listed.map_or_else(Vec::new, |listed| listed.0);
        let servers: Vec<_> = listed
            .into_iter()
            .map(Server::at)
            .chain(described)
            .collect();
        let proxy_protocol = section
            .section("proxy-protocol")
            .and_then(|section| section.read(SendProxy::read));
        let tls = section
            .section("tls")
            .map(|section| section.read(BackendTls::read));
        let mut health = Health::of(section);
        let when_none_healthy = section
            .get("when-none-healthy")
            .unwrap_or(WhenNoneHealthy::Refuse);
        let connect_timeout = section
            .get("connect-timeout")
            .unwrap_or(Duration::from_secs(3));
        let queue = section.section("queue");
        let queue = queue.map_or_else(Queue::default, |section| section.read(Queue::read));
        let drain = section.get::<OrOff<Duration>>("drain");
        let drain = drain.map_or(Some(DRAIN), OrOff::into_option);
        unique_servers(section, &servers);
        if !has_servers {
            section.missing(
                "servers",
                " (or [[backend.server]], with settings for each)",
            );
        }
        if health.check == Check::Tls && tls.is_none() && !section.has("tls") {
            // TLS is passed through.
            health.tls.get_or_insert_with(|| BackendTls {
                name: None,
                roots: None,
                alpn: Vec::new(),
                certificate: None,
                prelude: None,
                place: section.place_of("health"),
            });
        }
        for (key, tls) in [("tls", &tls), ("health", &health.tls)] {
            if let Some(tls) = tls {
                nameless_servers(section, key, tls, &servers);
            }
        }
        let is_unix = |server: &Server| matches!(server.address.value, ServerAddress::Unix(_));
        let buffers = Buffers::read(section, servers.is_empty() || !servers.iter().all(is_unix));
        if health.port.is_some() && servers.iter().any(is_unix) {
            section.error_at(
                "health",
                "`port` needs servers with an IP address; a Unix socket has no ports",
            );
        }
        if connect_timeout.is_zero() {
            section.error_at("connect-timeout", "a timeout of zero fails every connect");
        }
        Some(Self {
            name: name?,
            balance,
            servers,
            proxy_protocol,
            tls,
            health,
            when_none_healthy,
            connect_timeout,
            queue,
            buffers,
            drain,
        })
    }
}

/// The clients that wait while each server has as many connections as allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) timeout: Duration,
    /// How many may wait.
    pub(crate) length: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            length: 1_024,
        }
    }
}

impl Queue {
    fn read(section: &Section<'_>) -> Self {
        let default = Self::default();
        Self {
            timeout: section.get("timeout").unwrap_or(default.timeout),
            length: section.get("length").unwrap_or(default.length),
        }
    }
}

const DRAIN: Duration = Duration::from_secs(5 * 60);

/// Reports servers whose certificates probably have no name that could be verified.
fn nameless_servers(
    section: &Section<'_>,
    key: &'static str,
    tls: &BackendTls,
    servers: &[Server],
) {
    if tls.name.is_some() {
        return;
    }
    let path = if key == "tls" { "tls" } else { "health.tls" };
    let words = section.words();
    for server in servers {
        match &server.address.value {
            ServerAddress::Unix(_) => section.error_at(
                key,
                format!(
                    "{words}: a Unix socket has no host that a certificate could be for; write `{path}.name`"
                ),
            ),
            ServerAddress::Tcp(address) => {
                if let Ok(address) = address.parse::<SocketAddr>()
                    && tls.roots.is_none()
                {
                    let message = format!(
                        "{words}: the certificate has to be for the address {}; write `{path}.name` if it is for a name",
                        address.ip()
                    );
                    section.note_at(key, message);
                }
            }
        }
    }
}

fn unique_servers(section: &Section<'_>, servers: &[Server]) {
    for (index, server) in servers.iter().enumerate() {
        let address = &server.address;
        let mut before = servers[..index].iter().map(|server| &server.address);
        if let Some(first) = before.find(|first| first.value == address.value) {
            let (words, server) = (section.words(), &address.value);
            let mut message = format!("{words}: server {server} is listed twice");
            // A command line has no lines.
            if !address.place.file.as_os_str().is_empty() {
                let first = address.place.of_other(&first.place);
                message += &format!("; the other one is in {first}");
            }
            section.reader().error_in(&address.place, message);
        }
    }
}

/// How a server is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Balance {
    LeastConnections,
    RoundRobin,
    Hash,
    First,
}

impl Balance {
    /// As in the file.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::LeastConnections => "least-connections",
            Self::RoundRobin => "round-robin",
            Self::Hash => "hash",
            Self::First => "first",
        }
    }
}

impl Value for Balance {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let words = [
            ("least-connections", Self::LeastConnections),
            ("round-robin", Self::RoundRobin),
            ("hash", Self::Hash),
            ("first", Self::First),
        ];
        one_of(value, reader, &words)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenNoneHealthy {
    Refuse,
    TryAll,
}

impl Value for WhenNoneHealthy {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        one_of(
            value,
            reader,
            &[("refuse", Self::Refuse), ("try-all", Self::TryAll)],
        )
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: Placed<ServerAddress>,
    pub(crate) weight: u16,
    pub(crate) backup: bool,
    pub(crate) max_connections: Option<usize>,
}

impl Server {
    fn at(address: Placed<ServerAddress>) -> Self {
        Self {
            address,
            weight: 100,
            backup: false,
            max_connections: None,
        }
    }

    fn read(section: &Section<'_>) -> Option<Self> {
        let address = section.require("address");
        let weight = section.get("weight").unwrap_or(100);
        let backup = section.get("backup").unwrap_or(false);
        let max_connections = section.get::<OrOff<Positive>>("max-connections");
        if !(1..=1_000).contains(&weight) {
            section.error_at(
                "weight",
                "a weight is a number from 1 to 1000; 100 is the default",
            );
        }
        Some(Self {
            weight,
            backup,
            max_connections: max_connections
                .and_then(OrOff::into_option)
                .map(|max| max.0),
            ..Self::at(address?)
        })
    }
}

/// `host:port`, `srv:` with a name, or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerAddress {
    Tcp(String),
    Unix(PathBuf),
}

impl Value for ServerAddress {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let text = String::read(value, reader)?;
        if let Some(path) = text.strip_prefix("unix:") {
            if !cfg!(unix) {
                reader.error(value.span(), "this system has no Unix sockets");
                return None;
            }
            return socket_path(path, value, reader).map(Self::Unix);
        }
        if let Some(advice) = no_scope(&text) {
            reader.error(value.span(), advice);
            return None;
        }
        match text.parse::<portcullis::upstream::Server>() {
            Ok(_) if text.ends_with(":0") => {
                reader.error(value.span(), "a server has a port from 1 to 65535");
                None
            }
            Ok(_) => Some(Self::Tcp(text)),
            Err(error) if text.starts_with("srv:") => {
                reader.error(value.span(), error.to_string());
                None
            }
            Err(error) => {
                let hint = "write \"host:port\" or \"unix:/path\"";
                reader.error(value.span(), format!("{error}; {hint}"));
                None
            }
        }
    }
}

#[cfg(feature = "dns")]
impl ServerAddress {
    /// Whether SRV records contain the servers.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.starts_with("srv:"))
    }
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The PROXY header that servers get.
#[derive(Clone, Debug)]
pub(crate) struct SendProxy {
    pub(crate) version: u8,
    pub(crate) fields: Vec<ProxyField>,
}

/// A field of a PROXY header of version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyField {
    Authority,
    Alpn,
    Tls,
    UniqueId,
    Crc32c,
}

impl Value for ProxyField {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let words = [
            ("authority", Self::Authority),
            ("alpn", Self::Alpn),
            ("tls", Self::Tls),
            ("unique-id", Self::UniqueId),
            ("crc32c", Self::Crc32c),
        ];
        one_of(value, reader, &words)
    }
}

impl SendProxy {
    fn read(section: &Section<'_>) -> Option<Self> {
        let version = section.get("version").unwrap_or(2);
        let fields = section.get::<OneOrMore<ProxyField>>("send");
        let fields = fields.map_or_else(Vec::new, |fields| fields.0);
        if !matches!(version, 1 | 2) {
            section.error_at("version", "the PROXY protocol has the versions 1 and 2");
        }
        if version == 1 && !fields.is_empty() {
            section.error_at("send", "only version 2 of the PROXY protocol has fields");
        }
        Some(Self { version, fields })
    }
}

/// TLS to the servers, or that of their health checks. Their certificates are always verified.
#[derive(Clone, Debug)]
pub(crate) struct BackendTls {
    /// The name in the server's certificate; the host of its address by default.
    pub(crate) name: Option<Placed<String>>,
    /// The system's roots by default.
    pub(crate) roots: Option<Placed<PathBuf>>,
    pub(crate) alpn: Vec<String>,
    /// The name of the certificate that is shown to servers.
    pub(crate) certificate: Option<Placed<String>>,
    /// The plain text in which TLS is requested.
    pub(crate) prelude: Option<Placed<Prelude>>,
    pub(crate) place: Place,
}

impl BackendTls {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let name = section.placed::<String>("name");
        if let Some(name) = &name
            && ServerName::try_from(&*name.value).is_err()
        {
            let name = name.value.escape_debug();
            let message = format!(
                "\"{name}\" is neither a host name nor an address, so no certificate has it"
            );
            section.error_at("name", message);
        }
        Self {
            name,
            roots: section.file("roots"),
            alpn: Alpn::names(section.get::<OneOrMore<Alpn>>("alpn")),
            certificate: section.placed("certificate"),
            prelude: section.placed("prelude"),
            place: section.place(),
        }
    }
}
