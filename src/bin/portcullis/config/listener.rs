//! `[[listener]]`: where clients arrive, what is asked of them, and where they go.

use super::{
    buffers::Buffers,
    guards::{Guards, Networks, read_name},
    prelude::Prelude,
    problem::{Place, Placed},
    section::{Reader, Section, Value},
    value::{Alpn, ListenAddress, OneOrMore, SocketMode, one_of},
};
use portcullis::middleware::{ip_set::IpSet, peek::Protocol};
use std::path::PathBuf;
use toml::{Spanned, de::DeValue};

#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) name: Placed<String>,
    pub(crate) listen: Vec<Placed<ListenAddress>>,
    /// Of its Unix sockets; by default only the same user may connect.
    pub(crate) socket_mode: Option<SocketMode>,
    pub(crate) buffers: Buffers,
    pub(crate) guards: Guards,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    pub(crate) prelude: Option<Placed<Prelude>>,
    pub(crate) tls: Option<Tls>,
    pub(crate) target: Target,
    /// Closes open connections that would not be admitted now.
    pub(crate) recheck: bool,
}

/// Where the connections of a listener go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Backend(Placed<String>),
    Routes(Vec<Route>),
}

impl Target {
    /// The names of the backends that it can lead to.
    pub(crate) fn backends(&self) -> impl Iterator<Item = &str> {
        let (backend, routes) = match self {
            Self::Backend(backend) => (Some(backend), &[][..]),
            Self::Routes(routes) => (None, &**routes),
        };
        let routed = routes.iter().filter_map(|route| match &route.action {
            Action::Backend(backend) => Some(backend),
            Action::Refuse(_) => None,
        });
        backend.into_iter().chain(routed).map(|name| &*name.value)
    }
}

/// The mode of Unix sockets, of which there has to be one.
pub(super) fn read_mode(
    section: &Section<'_>,
    listen: Option<&[Placed<ListenAddress>]>,
) -> Option<SocketMode> {
    let mode = section.get::<SocketMode>("socket-mode");
    let is_unix = |it: &Placed<ListenAddress>| matches!(it.value, ListenAddress::Unix(_));
    if mode.is_some() && listen.is_some_and(|them| !them.iter().any(is_unix)) {
        section.error_at(
            "socket-mode",
            "it is for sockets with a path; none is in `listen`",
        );
    }
    mode
}

impl Listener {
    /// The TLS that ends here, each with the words of its route.
    pub(crate) fn terminated(&self) -> impl Iterator<Item = (Option<String>, &Tls)> {
        let (own, routes) = match &self.target {
            Target::Backend(_) => (self.tls.as_ref(), &[][..]),
            Target::Routes(routes) => (None, &**routes),
        };
        let routed = routes.iter().filter_map(|route| {
            let tls = route.tls.as_ref()?;
            Some((Some(route_words(route)), tls))
        });
        own.map(|tls| (None, tls)).into_iter().chain(routed)
    }

    pub(crate) fn read(section: &Section<'_>, defaults: &Guards) -> Option<Self> {
        let name = read_name(section);
        let listen = section.require::<OneOrMore<Placed<ListenAddress>>>("listen");
        let socket_mode = read_mode(section, listen.as_ref().map(|it| &*it.value.0));
        let may_be_tcp = |it: &Placed<_>| !matches!(it.value, ListenAddress::Unix(_));
        let has_tcp = listen
            .as_ref()
            .is_none_or(|it| it.value.0.iter().any(may_be_tcp));
        let buffers = Buffers::read(section, has_tcp);
        let guards = Guards::read(section, defaults);
        let proxy_protocol = section
            .section("proxy-protocol")
            .and_then(|section| section.read(ProxyProtocol::read));
        let prelude = section.placed("prelude");
        let tls = section
            .section("tls")
            .and_then(|section| section.read(Tls::read));
        let recheck = section.get("recheck").unwrap_or(false);
        let backend = section.placed("backend");
        let routes = section.sections("route");
        let has_routes = section.has("route");
        let routes: Vec<_> = routes
            .into_iter()
            .filter_map(|section| section.read(Route::read))
            .collect();
        if listen
            .as_ref()
            .is_some_and(|listen| listen.value.0.is_empty())
        {
            section.error_at("listen", "at least one address is needed");
        }
        if has_routes && routes.is_empty() && section.sections("route").is_empty() {
            section.error_at("route", "at least one route is needed");
        }
        let target = match backend {
            Some(_) if has_routes => {
                section.error_at(
                    "backend",
                    format!(
                        "{}: `backend` and `route` exclude each other; a route without `names` is the default",
                        section.words()
                    ),
                );
                return None;
            }
            Some(backend) => Target::Backend(backend),
            None if has_routes => Target::Routes(routes),
            None => {
                section.missing("backend", " (or [[listener.route]], to choose by name)");
                return None;
            }
        };
        if prelude.is_some() && !section.has("tls") && !has_routes {
            let message = format!(
                "{}: `prelude` needs `tls` with certificates here; without it there is nothing to start",
                section.words()
            );
            section.error_at("prelude", message);
        }
        if has_routes && (section.has("tls") || section.has("prelude")) {
            let message = format!(
                "{}: with routes, `tls` belongs to each route that terminates it, and `prelude` is not possible",
                section.words()
            );
            let key = if section.has("tls") { "tls" } else { "prelude" };
            section.error_at(key, message);
        }
        Some(Self {
            name: name?,
            listen: listen?.value.0,
            socket_mode,
            buffers,
            guards,
            proxy_protocol,
            prelude,
            tls,
            target,
            recheck,
        })
    }
}

/// The PROXY header that clients send, or their load balancer.
#[derive(Clone, Debug)]
pub(crate) struct ProxyProtocol {
    pub(crate) trust: IpSet,
    pub(crate) optional: bool,
    pub(crate) untrusted: Untrusted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untrusted {
    Refuse,
    /// They are served as clients without a header.
    Direct,
}

impl Value for Untrusted {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        one_of(
            value,
            reader,
            &[("refuse", Self::Refuse), ("direct", Self::Direct)],
        )
    }
}

/// Whether clients must send a PROXY header or a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Required,
    Optional,
    Off,
}

impl Value for Mode {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let words = [
            ("required", Self::Required),
            ("optional", Self::Optional),
            ("off", Self::Off),
        ];
        one_of(value, reader, &words)
    }
}

impl ProxyProtocol {
    fn read(section: &Section<'_>) -> Option<Self> {
        let mode = section.get("mode").unwrap_or(Mode::Required);
        let has_trust = section.has("trust") | section.has("trust-file");
        let trust = Networks::read(section, "trust", "trust-file").all();
        let untrusted = section.get("untrusted").unwrap_or(Untrusted::Refuse);
        if mode == Mode::Off {
            return None;
        }
        if !has_trust {
            section.missing("trust", "; without it any client could claim any address");
        }
        Some(Self {
            trust: trust?,
            optional: mode == Mode::Optional,
            untrusted,
        })
    }
}

/// TLS that ends here.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) certificates: Vec<Placed<String>>,
    default: Option<Placed<String>>,
    pub(crate) alpn: Vec<String>,
    pub(crate) tls13_only: bool,
    pub(crate) client: Option<ClientCertificates>,
    /// A file with the keys of session tickets.
    pub(crate) ticket_keys: Option<Placed<PathBuf>>,
    pub(crate) place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TlsVersion {
    Tls12,
    Tls13,
}

impl Value for TlsVersion {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        one_of(value, reader, &[("1.2", Self::Tls12), ("1.3", Self::Tls13)])
    }
}

impl Tls {
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let certificates = section.require::<OneOrMore<Placed<String>>>("certificates");
        let default = section.placed::<String>("default");
        let alpn = section.get::<OneOrMore<Alpn>>("alpn");
        let version = section.get("min-version").unwrap_or(TlsVersion::Tls12);
        let client = section
            .section("client")
            .and_then(|section| section.read(ClientCertificates::read));
        if section.get("required") == Some(false) {
            section.error_at(
                "required",
                "clients that go on without TLS cannot be forwarded; write true, or leave it out",
            );
        }
        let tickets = section.section("tickets");
        let ticket_keys =
            tickets.and_then(|section| section.read(|section| section.file("keys-file")));
        if certificates
            .as_ref()
            .is_some_and(|names| names.value.0.is_empty())
        {
            section.error_at(
                "certificates",
                "at least one certificate is needed to terminate TLS",
            );
            return None;
        }
        let certificates = certificates?.value.0;
        let is_listed =
            |name: &Placed<String>| certificates.iter().any(|it| it.value == name.value);
        if let Some(name) = default.as_ref().filter(|name| !is_listed(name)) {
            let name = name.value.escape_debug();
            let message = format!(
                "{}: `certificates` lacks the default \"{name}\"",
                section.words()
            );
            section.error_at("default", message);
        }
        Some(Self {
            certificates,
            default,
            alpn: Alpn::names(alpn),
            tls13_only: version == TlsVersion::Tls13,
            client,
            ticket_keys,
            place: section.place(),
        })
    }
}

impl Tls {
    /// The certificate for clients that request no name, or one that no certificate has.
    pub(crate) fn default_certificate(&self) -> Option<&str> {
        let default = match &*self.certificates {
            [only] => Some(only),
            _ => self.default.as_ref(),
        };
        default.map(|name| &*name.value)
    }
}

/// The certificates that clients show.
#[derive(Clone, Debug)]
pub(crate) struct ClientCertificates {
    pub(crate) required: bool,
    pub(crate) roots: Placed<PathBuf>,
    pub(crate) crl: Option<Placed<PathBuf>>,
    pub(crate) crl_outdated: OutdatedCrl,
    /// Names, of which the certificate must have one.
    pub(crate) allow: Option<Vec<NamePattern>>,
}

/// What becomes of clients whose authority has no current revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutdatedCrl {
    Refuse,
    Accept,
}

impl Value for OutdatedCrl {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let words = [("refuse", Self::Refuse), ("accept", Self::Accept)];
        one_of(value, reader, &words)
    }
}

impl ClientCertificates {
    fn read(section: &Section<'_>) -> Option<Self> {
        let mode = section.get("auth").unwrap_or(Mode::Required);
        let roots = section.file("roots");
        let crl = section.file("crl");
        let crl_outdated = section.get("crl-outdated").unwrap_or(OutdatedCrl::Refuse);
        let allow = section.get::<OneOrMore<NamePattern>>("allow");
        if mode == Mode::Off {
            return None;
        }
        section.missing(
            "roots",
            "; it names the authorities whose certificates are accepted",
        );
        Some(Self {
            required: mode == Mode::Required,
            roots: roots?,
            crl,
            crl_outdated,
            allow: allow.map(|allow| allow.0),
        })
    }
}

/// A name in a client's certificate, such as `uri:spiffe://mesh/ns/shop/*`. A `*` matches one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamePattern {
    Dns(String),
    Uri(String),
}

impl NamePattern {
    pub(crate) fn matches_dns(&self, name: &str) -> bool {
        match self {
            Self::Dns(pattern) => segments_match(pattern, &name.to_ascii_lowercase(), '.'),
            Self::Uri(_) => false,
        }
    }

    pub(crate) fn matches_uri(&self, name: &str) -> bool {
        match self {
            Self::Uri(pattern) => segments_match(pattern, name, '/'),
            Self::Dns(_) => false,
        }
    }
}

fn segments_match(pattern: &str, name: &str, separator: char) -> bool {
    let (mut patterns, mut names) = (pattern.split(separator), name.split(separator));
    loop {
        match (patterns.next(), names.next()) {
            (None, None) => return true,
            (Some("*"), Some(segment)) if !segment.is_empty() => {}
            (Some(pattern), Some(segment)) if pattern == segment => {}
            _ => return false,
        }
    }
}

fn has_partial_star(name: &str) -> bool {
    let mut segments = name.split(['.', '/']);
    segments.any(|segment| segment.contains('*') && segment != "*")
}

impl Value for NamePattern {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        let text = String::read(value, reader)?;
        let pattern = match text.split_once(':') {
            Some((_, name)) if has_partial_star(name) => {
                let message = "a `*` in the name of a certificate matches a whole segment; write \"*\" between two separators";
                reader.error(value.span(), message);
                return None;
            }
            Some(("dns", name)) if !name.is_empty() => Self::Dns(name.to_ascii_lowercase()),
            Some(("uri", name)) if !name.is_empty() => Self::Uri(name.into()),
            _ => {
                let text = text.escape_debug();
                let message = format!(
                    "\"{text}\" is not a name in a certificate; write \"dns:host.example\" or \"uri:spiffe://…\""
                );
                reader.error(value.span(), message);
                return None;
            }
        };
        Some(pattern)
    }
}

/// `[[listener.route]]`: the connections that it takes, and what happens to them.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) matches: Matches,
    pub(crate) tls: Option<Tls>,
    pub(crate) action: Action,
    pub(crate) place: Place,
}

#[derive(Clone, Debug)]
pub(crate) enum Matches {
    Names(Vec<Placed<String>>),
    Protocol(Protocol),
    /// What no other route takes.
    Rest,
}

/// What a route takes, which identifies it within its listener.
pub(crate) fn route_words(route: &Route) -> String {
    match &route.matches {
        Matches::Names(names) => {
            let names: Vec<_> = names.iter().map(|name| &*name.value).collect();
            format!("route {}", names.join(", "))
        }
        Matches::Protocol(protocol) => format!("route {}", protocol_word(*protocol)),
        Matches::Rest => "default route".into(),
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    Backend(Placed<String>),
    Refuse(Refuse),
}

use super::guards::Refuse;

struct ProtocolName(Protocol);

impl Value for ProtocolName {
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self> {
        one_of(value, reader, &PROTOCOLS).map(Self)
    }
}

/// The protocols that routes can be chosen by.
pub(crate) const PROTOCOLS: [(&str, Protocol); 5] = [
    ("tls", Protocol::Tls),
    ("http", Protocol::Http1),
    ("h2c", Protocol::Http2),
    ("ssh", Protocol::Ssh),
    ("postgres", Protocol::Postgres),
];

/// The protocol as the file names it.
fn protocol_word(protocol: Protocol) -> &'static str {
    let known = PROTOCOLS.iter().find(|(_, known)| *known == protocol);
    known.map_or("unknown", |(word, _)| word)
}

impl Route {
    fn read(section: &Section<'_>) -> Option<Self> {
        let names = section.get::<OneOrMore<Placed<String>>>("names");
        let protocol = section.get::<ProtocolName>("protocol");
        let tls = section
            .section("tls")
            .and_then(|section| section.read(Tls::read));
        let pass = section.get("pass").unwrap_or(false);
        let backend = section.placed("backend");
        let refuse = section.get("refuse");
        let words = section.words();
        let matches = match (names, protocol) {
            (Some(_), Some(_)) => {
                section.error_at(
                    "protocol",
                    format!("{words}: `names` and `protocol` exclude each other; a name needs TLS"),
                );
                return None;
            }
            (Some(names), None) if names.0.is_empty() => {
                section.error_at("names", format!("{words}: at least one name is needed"));
                return None;
            }
            (Some(names), None) => Matches::Names(names.0),
            (None, Some(protocol)) => Matches::Protocol(protocol.0),
            (None, None) if section.has("names") | section.has("protocol") => return None,
            (None, None) => Matches::Rest,
        };
        if section.has("tls") && pass {
            let message =
                format!("{words}: `tls` terminates here and `pass` does not; keep one of them");
            section.error_at("pass", message);
        }
        if matches!(matches, Matches::Names(_)) && !section.has("tls") && !pass && backend.is_some()
        {
            section.error(format!(
                "{words}: write `tls` to terminate TLS here, or `pass = true` to leave it to the backend"
            ));
        }
        if (section.has("tls") || pass) && backend.is_none() && refuse.is_some() {
            let message =
                format!("{words}: a refused client has no handshake; remove `tls` and `pass`");
            section.error_at("refuse", message);
        }
        let action = match (backend, refuse) {
            (Some(backend), None) => Action::Backend(backend),
            (None, Some(refuse)) => Action::Refuse(refuse),
            (Some(_), Some(_)) => {
                section.error_at(
                    "refuse",
                    format!("{words}: `backend` and `refuse` exclude each other"),
                );
                return None;
            }
            (None, None) => {
                if !section.has("refuse") {
                    section.missing("backend", " (or `refuse = \"close\"`)");
                }
                return None;
            }
        };
        Some(Self {
            matches,
            tls,
            action,
            place: section.place(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_exactly_one_segment() {
        let pattern = NamePattern::Uri("spiffe://mesh/ns/shop/*".into());
        assert!(pattern.matches_uri("spiffe://mesh/ns/shop/cart"));
        assert!(!pattern.matches_uri("spiffe://mesh/ns/shop"));
        assert!(!pattern.matches_uri("spiffe://mesh/ns/shop/"));
        assert!(!pattern.matches_uri("spiffe://mesh/ns/shop/cart/more"));
        assert!(!pattern.matches_dns("spiffe://mesh/ns/shop/cart"));
        let pattern = NamePattern::Dns("*.mesh".into());
        assert!(pattern.matches_dns("Batch.mesh"));
        assert!(!pattern.matches_dns("a.batch.mesh"));
    }
}
