//! Each key of the configuration file: when a change of it takes effect, and what happens to open connections.
//!
//! The column *reload* of `configuration.md`, `portcullis plan` and the warnings of a reload come from this table.

use super::show::{Show, word};
use crate::config::{
    Access as AccessLog, Action, Backend, BackendTls, ByteRate, Certificate, Check, Config, Guards,
    Listener, Matches, NamePattern, ProxyProtocol, Route, SendProxy, Server, Size, SocketMode,
    Statuses, Target, Throughput, Tls, TokenSource, WhenFull, Workers,
};

/// A key of the file.
pub(super) struct Key {
    /// As in `configuration.md`, such as `listener.limits.connections`.
    pub(super) path: &'static str,
    pub(super) when: When,
    /// What happens to open connections, where that needs words.
    pub(super) note: &'static str,
    /// Whether `recheck` judges open connections by it.
    pub(super) is_judged: bool,
    /// Whether its value "off" takes effect at the next start only.
    pub(super) off_at_start: bool,
    pub(super) read: Read,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// For the next connection. Open connections keep what they have.
    Next,
    /// For all connections, immediately.
    All,
    /// When the program is started again.
    Restart,
    /// The key names a part of the file; with another name it is another part.
    Name,
}

impl When {
    /// The word in `configuration.md`.
    #[cfg(test)]
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::All => "all",
            Self::Restart => "restart",
            Self::Name => "",
        }
    }

    pub(super) const fn takes_effect(self) -> &'static str {
        match self {
            Self::Next => "next connection",
            Self::All | Self::Name => "immediately",
            Self::Restart => "restart",
        }
    }

    /// What happens to open connections.
    pub(super) const fn effect(self) -> &'static str {
        match self {
            Self::Next => "open connections keep what they have",
            Self::All => "open connections follow",
            Self::Restart => "nothing changes until the program is started again",
            Self::Name => "",
        }
    }
}

/// The value of a key as text. `None` where it does not apply, such as a key of a table that is absent.
pub(super) type Get<T> = fn(&T) -> Option<String>;

/// Where the value of a key is.
pub(super) enum Read {
    File(Get<Config>),
    Listener(Get<Listener>),
    /// Of a listener, and of each route.
    Tls(Get<Tls>),
    Route(Get<Route>),
    Certificate(Get<Certificate>),
    Backend(Get<Backend>),
    Server(Get<Server>),
    /// Other keys show the change.
    Elsewhere,
}

impl Key {
    const fn new(path: &'static str, when: When, read: Read) -> Self {
        Self {
            path,
            when,
            note: "",
            is_judged: false,
            off_at_start: false,
            read,
        }
    }

    const fn judged(mut self) -> Self {
        self.is_judged = true;
        self
    }

    const fn off_at_start(mut self) -> Self {
        self.off_at_start = true;
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }
}

const fn file(path: &'static str, when: When, get: Get<Config>) -> Key {
    Key::new(path, when, Read::File(get))
}

const fn listener(path: &'static str, when: When, get: Get<Listener>) -> Key {
    Key::new(path, when, Read::Listener(get))
}

const fn tls(path: &'static str, get: Get<Tls>) -> Key {
    Key::new(path, Next, Read::Tls(get))
}

const fn route(path: &'static str, get: Get<Route>) -> Key {
    Key::new(path, Next, Read::Route(get))
}

const fn certificate(path: &'static str, get: Get<Certificate>) -> Key {
    Key::new(path, Next, Read::Certificate(get))
}

const fn backend(path: &'static str, get: Get<Backend>) -> Key {
    Key::new(path, Next, Read::Backend(get))
}

const fn health(path: &'static str, get: Get<Backend>) -> Key {
    Key::new(path, All, Read::Backend(get)).note("servers keep their state until checks change it")
}

const fn server(path: &'static str, get: Get<Server>) -> Key {
    Key::new(path, All, Read::Server(get))
}

const fn elsewhere(path: &'static str, when: When) -> Key {
    Key::new(path, when, Read::Elsewhere)
}

use When::{All, Name, Next, Restart};

fn mode(mode: Option<SocketMode>) -> String {
    mode.map_or("0600".into(), |mode| mode.to_string())
}

fn size(bytes: Option<usize>) -> Option<String> {
    some(&bytes.map(|bytes| Size(bytes as u64)))
}

/// In the order of `configuration.md`.
pub(super) static KEYS: &[Key] = &[
    elsewhere("version", Name),
    elsewhere("include", Name).note("each key in these files as described here"),
    elsewhere("process", Restart),
    elsewhere("drain", All),
    elsewhere("log", All),
    elsewhere("admin", All)
        .note("an added one counts the connections and shows the endings from then on"),
    elsewhere("defaults", Next),
    elsewhere("listener", Name)
        .note("added ones listen immediately; removed ones drain by `drain.deadline`"),
    elsewhere("backend", Name),
    elsewhere("certificate", Name),
    file("process.workers", Restart, |it| {
        Some(match it.process.workers {
            Workers::Shared => "shared".into(),
            Workers::Threads(threads) => threads.to_string(),
            Workers::PerCore => "per-core".into(),
        })
    }),
    file("process.watch", Restart, |it| Some(it.process.watch.show())),
    file("process.upgrade-socket", Restart, |it| {
        some(&it.process.upgrade_socket)
    }),
    file("drain.announce", All, |it| some(&it.drain.announce)),
    file("drain.deadline", All, |it| some(&it.drain.deadline)),
    file("log.level", All, |it| {
        Some(it.log.level.0.as_str().to_ascii_lowercase())
    }),
    file("log.format", All, |it| Some(word(it.log.format))),
    file("log.access", All, |it| {
        Some(match &it.log.access {
            AccessLog::Off => "off".into(),
            AccessLog::Stdout => "stdout".into(),
            AccessLog::File(path) => path.show(),
        })
    }),
    file("admin.listen", All, |it| {
        let admin = it.admin.as_ref()?;
        Some(admin.listen.value.to_string())
    })
    .note("the new socket first; then open connections end after their request; an address that a listener had keeps its socket"),
    file("admin.socket-mode", Restart, |it| {
        Some(mode(it.admin.as_ref()?.socket_mode))
    }),
    file("admin.token-file", All, |it| {
        let token = it.admin.as_ref()?.token.as_ref();
        Some(match token.map(|token| &token.value) {
            Some(TokenSource::File(path)) => path.show(),
            _ => "none".into(),
        })
    }),
    file("admin.token", All, |it| {
        let token = it.admin.as_ref()?.token.as_ref();
        Some(match token.map(|token| &token.value) {
            Some(TokenSource::Environment(name)) => format!("env:{name}"),
            _ => "none".into(),
        })
    }),
    file("admin.protect", All, |it| {
        it.admin.as_ref().map(|it| word(it.protect))
    }),
    file("admin.hosts", All, |it| {
        it.admin.as_ref().map(|it| it.hosts.show())
    }),
    elsewhere("admin.tls", Next).note("the files are watched"),
    file("admin.endings", All, |it| {
        it.admin.as_ref().map(|it| it.endings.show())
    })
    .note("the newest are kept"),
    elsewhere("certificate.name", Name),
    certificate("certificate.chain", |it| some(&it.chain)),
    certificate("certificate.key", |it| some(&it.key)),
    certificate("certificate.ocsp", |it| some(&it.ocsp)),
    elsewhere("listener.name", Name),
    listener("listener.listen", All, |it| {
        let addresses = it.listen.iter().map(|it| it.value.to_string());
        Some(addresses.collect::<Vec<_>>().join(", "))
    })
    .note(
        "the new socket first, then the old one drains; an address that moves to another listener, as when one is renamed, keeps its socket",
    ),
    listener("listener.socket-mode", Restart, |it| {
        Some(mode(it.socket_mode))
    }),
    listener("listener.receive-buffer", Next, |it| size(it.buffers.receive)).off_at_start(),
    listener("listener.send-buffer", Next, |it| size(it.buffers.send)).off_at_start(),
    listener("listener.backend", Next, |it| match &it.target {
        Target::Backend(backend) => some(backend),
        Target::Routes(_) => Some("by route".into()),
    }),
    listener("listener.prelude", Next, |it| {
        let prelude = it.prelude.as_ref();
        Some(prelude.map_or("none".into(), |prelude| word(prelude.value)))
    }),
    listener("listener.recheck", All, |it| some(&it.recheck)).judged(),
    listener("listener.limits.connections", All, |it| {
        some(&it.guards.limits.connections)
    })
    .note("the ones beyond a smaller limit stay"),
    listener("listener.limits.when-full", Next, |it| {
        Some(match it.guards.limits.when_full {
            WhenFull::WaitUpTo(..) => "wait up to a time".into(),
            word_of => word(word_of),
        })
    }),
    listener("when-full.wait", Next, |it| {
        match it.guards.limits.when_full {
            WhenFull::WaitUpTo(wait, _) => some(&wait),
            WhenFull::Wait | WhenFull::Refuse => None,
        }
    }),
    listener("when-full.at-most", Next, |it| {
        match it.guards.limits.when_full {
            WhenFull::WaitUpTo(_, at_most) => some(&at_most),
            WhenFull::Wait | WhenFull::Refuse => None,
        }
    }),
    listener("listener.limits.handshakes", Next, |it| {
        some(&it.guards.limits.handshakes())
    }),
    listener("listener.per-client.connections", All, |it| {
        some(&it.guards.per_client.connections)
    })
    .note("the ones beyond a smaller limit stay"),
    listener("listener.per-client.rate", All, |it| {
        some(&it.guards.per_client.rate)
    }),
    listener("listener.per-client.burst", All, |it| {
        let burst = it.guards.per_client.burst;
        Some(burst.map_or("the number in `rate`".into(), |burst| burst.show()))
    }),
    listener("listener.per-client.ipv6-prefix", Next, |it| {
        some(&it.guards.per_client.ipv6_prefix)
    })
    .note("counting begins anew"),
    listener("listener.per-client.refuse", Next, |it| {
        Some(word(it.guards.per_client.refuse))
    }),
    listener("listener.per-client.observe", Next, |it| {
        some(&it.guards.per_client.observe)
    }),
    listener("listener.bandwidth.per-connection", Next, |it| {
        some(&it.guards.bandwidth.per_connection)
    }),
    listener("listener.bandwidth.total", Next, |it| {
        some(&it.guards.bandwidth.total)
    }),
    listener("listener.bandwidth.burst", Next, |it| {
        let burst = it.guards.bandwidth.burst;
        Some(burst.map_or("one second of the rate".into(), |burst| burst.show()))
    }),
    listener("listener.access.allow", Next, |it| {
        let allow = it.guards.access.allow.all();
        Some(allow.map_or("all".into(), |allow| allow.show()))
    })
    .judged(),
    elsewhere("listener.access.allow-file", Next),
    listener("listener.access.deny", Next, |it| {
        let deny = it.guards.access.deny.all();
        Some(deny.map_or("none".into(), |deny| deny.show()))
    })
    .judged(),
    elsewhere("listener.access.deny-file", Next),
    listener("listener.access.refuse", Next, |it| {
        let refuse = it.guards.access.refuse;
        Some(refuse.map_or("close".into(), word))
    }),
    listener("listener.access.observe", Next, |it| {
        some(&it.guards.access.observe)
    })
    .judged(),
    listener("listener.timeouts.proxy-header", Next, |it| {
        some(&it.guards.timeouts.proxy_header)
    }),
    listener("listener.timeouts.client-hello", Next, |it| {
        some(&it.guards.timeouts.client_hello)
    }),
    listener("listener.timeouts.prelude", Next, |it| {
        some(&it.guards.timeouts.prelude)
    }),
    listener("listener.timeouts.handshake", Next, |it| {
        some(&it.guards.timeouts.handshake)
    }),
    listener("listener.timeouts.first-byte", Next, |it| {
        some(&it.guards.timeouts.first_byte)
    }),
    listener("listener.timeouts.idle", Next, |it| {
        some(&it.guards.timeouts.idle)
    }),
    listener("listener.timeouts.write", Next, |it| {
        some(&it.guards.timeouts.write)
    }),
    listener("listener.timeouts.half-closed", Next, |it| {
        some(&it.guards.timeouts.half_closed)
    }),
    listener("listener.timeouts.drain-idle", Next, |it| {
        some(&it.guards.timeouts.drain_idle)
    }),
    listener("listener.timeouts.lifetime", Next, |it| {
        some(&it.guards.timeouts.lifetime)
    }),
    listener("listener.timeouts.lifetime-jitter", Next, |it| {
        Some(format!("{}%", it.guards.timeouts.lifetime_jitter))
    }),
    listener("listener.throughput.min", Next, |it| {
        let min = throughput(&it.guards).map(|it| ByteRate(it.bytes_per_second));
        some(&min)
    }),
    listener("listener.throughput.direction", Next, |it| {
        throughput(&it.guards).map(|it| word(it.direction))
    }),
    listener("listener.throughput.over", Next, |it| {
        throughput(&it.guards).map(|it| it.over.show())
    }),
    listener("listener.throughput.observe", Next, |it| {
        throughput(&it.guards).map(|it| it.observe.show())
    }),
    listener("listener.proxy-protocol.mode", Next, |it| {
        Some(match proxy(it) {
            None => "off".into(),
            Some(proxy) if proxy.optional => "optional".into(),
            Some(_) => "required".into(),
        })
    }),
    listener("listener.proxy-protocol.trust", Next, |it| {
        proxy(it).map(|proxy| proxy.trust.show())
    }),
    elsewhere("listener.proxy-protocol.trust-file", Next),
    listener("listener.proxy-protocol.untrusted", Next, |it| {
        proxy(it).map(|proxy| word(proxy.untrusted))
    }),
    tls("listener.tls.certificates", |it| some(&*it.certificates)),
    tls("listener.tls.default", |it| {
        Some(it.default_certificate().unwrap_or("none").into())
    }),
    tls("listener.tls.alpn", |it| some(&*it.alpn)),
    elsewhere("listener.tls.required", Next),
    tls("listener.tls.min-version", |it| {
        Some(if it.tls13_only { "1.3" } else { "1.2" }.into())
    }),
    tls("listener.tls.client.auth", |it| {
        Some(match &it.client {
            None => "off".into(),
            Some(client) if client.required => "required".into(),
            Some(_) => "optional".into(),
        })
    })
    .judged(),
    tls("listener.tls.client.roots", |it| {
        it.client.as_ref().map(|client| client.roots.show())
    })
    .note("the file is watched")
    .judged(),
    tls("listener.tls.client.crl", |it| {
        it.client.as_ref().map(|client| client.crl.show())
    })
    .note("the file is watched")
    .judged(),
    tls("listener.tls.client.crl-outdated", |it| {
        it.client.as_ref().map(|client| word(client.crl_outdated))
    })
    .judged(),
    tls("listener.tls.client.allow", |it| {
        let allow = it.client.as_ref()?.allow.as_ref();
        Some(allow.map_or("all".into(), |allow| allow.show()))
    })
    .judged(),
    tls("listener.tls.tickets.keys-file", |it| some(&it.ticket_keys)).note("the file is watched"),
    elsewhere("listener.route.names", Next)
        .note("TLS sessions of a route with other names begin anew"),
    elsewhere("listener.route.protocol", Next),
    route("listener.route.pass", |it| match it.matches {
        Matches::Names(_) => some(&it.tls.is_none()),
        Matches::Protocol(_) | Matches::Rest => None,
    }),
    route("listener.route.backend", |it| {
        Some(match &it.action {
            Action::Backend(backend) => backend.show(),
            Action::Refuse(_) => "none".into(),
        })
    }),
    route("listener.route.refuse", |it| {
        Some(match &it.action {
            Action::Backend(_) => "no".into(),
            Action::Refuse(refuse) => word(refuse),
        })
    }),
    elsewhere("backend.name", Name),
    elsewhere("backend.servers", All)
        .note("connections to removed servers are force-closed after `backend.drain`"),
    backend("backend.balance", |it| Some(word(it.balance))),
    backend("backend.connect-timeout", |it| some(&it.connect_timeout)),
    backend("backend.queue.timeout", |it| some(&it.queue.timeout)),
    backend("backend.queue.length", |it| some(&it.queue.length)),
    backend("backend.receive-buffer", |it| size(it.buffers.receive)),
    backend("backend.send-buffer", |it| size(it.buffers.send)),
    backend("backend.drain", |it| some(&it.drain))
        .note("for servers that are removed by this reload or later"),
    backend("backend.when-none-healthy", |it| {
        Some(word(it.when_none_healthy))
    }),
    elsewhere("backend.server.address", All),
    server("backend.server.weight", |it| some(&it.weight)).note("open connections stay"),
    server("backend.server.backup", |it| some(&it.backup)).note("open connections stay"),
    server("backend.server.max-connections", |it| {
        some(&it.max_connections)
    })
    .note("the ones beyond a smaller limit stay"),
    backend("backend.proxy-protocol.version", |it| {
        Some(send_proxy(it).map_or("none".into(), |it| it.version.show()))
    }),
    backend("backend.proxy-protocol.send", |it| {
        let fields = send_proxy(it)?.fields.iter().map(word);
        Some(fields.collect::<Vec<_>>().show())
    }),
    backend("backend.tls.name", |it| {
        Some(match backend_tls(it) {
            None => "no TLS".into(),
            Some(BackendTls { name: None, .. }) => "the host of the address".into(),
            Some(BackendTls {
                name: Some(name), ..
            }) => name.show(),
        })
    }),
    backend("backend.tls.roots", |it| {
        let roots = backend_tls(it)?.roots.as_ref();
        Some(roots.map_or("the system's".into(), Show::show))
    }),
    backend("backend.tls.alpn", |it| some(&*backend_tls(it)?.alpn)),
    backend("backend.tls.certificate", |it| {
        let certificate = backend_tls(it)?.certificate.as_ref();
        Some(certificate.map_or("none".into(), Show::show))
    })
    .note("the files are watched"),
    backend("backend.tls.prelude", |it| {
        let prelude = backend_tls(it)?.prelude.as_ref();
        Some(prelude.map_or("none".into(), |prelude| word(prelude.value)))
    }),
    health("backend.health", |it| {
        Some(match &it.health.check {
            Check::Off => "off".into(),
            Check::Tcp => "tcp".into(),
            Check::Tls => "tls".into(),
            Check::Http { .. } => "http".into(),
            Check::Bytes { .. } => "send".into(),
        })
    })
    .note(
        "servers keep their state until checks change it; if checks begin, all are unknown; if they end, all are used",
    ),
    health("backend.health.http", |it| match &it.health.check {
        Check::Http { path, .. } => some(path),
        _ => None,
    }),
    health("backend.health.host", |it| match &it.health.check {
        Check::Http { host, .. } => {
            Some(host.clone().unwrap_or_else(|| "that of the server".into()))
        }
        _ => None,
    }),
    health("backend.health.tls", |it| {
        let own = it.health.tls.is_some();
        Some(if own { "its own" } else { "that of the backend" }.into())
    }),
    health("backend.health.tls.name", |it| {
        let name = it.health.tls.as_ref()?.name.as_ref();
        Some(name.map_or("the host of the address".into(), Show::show))
    }),
    health("backend.health.tls.roots", |it| {
        let roots = it.health.tls.as_ref()?.roots.as_ref();
        Some(roots.map_or("the system's".into(), Show::show))
    }),
    health("backend.health.tls.alpn", |it| {
        some(&*it.health.tls.as_ref()?.alpn)
    }),
    health("backend.health.tls.certificate", |it| {
        let certificate = it.health.tls.as_ref()?.certificate.as_ref();
        Some(certificate.map_or("none".into(), Show::show))
    })
    .note("servers keep their state until checks change it; the files are watched"),
    health("backend.health.tls.prelude", |it| {
        let prelude = it.health.tls.as_ref()?.prelude.as_ref();
        Some(prelude.map_or("none".into(), |prelude| word(prelude.value)))
    }),
    health("backend.health.send", |it| match &it.health.check {
        Check::Bytes { send, .. } if !send.is_empty() => Some(send.escape_debug().to_string()),
        _ => None,
    }),
    health("backend.health.expect", |it| match &it.health.check {
        Check::Http { expect, .. } => some(&**expect),
        Check::Bytes { expect, .. } => {
            let texts = expect.iter().map(|text| text.escape_debug().to_string());
            some(&*texts.collect::<Vec<_>>())
        }
        _ => None,
    }),
    health("backend.health.port", |it| {
        let port = it.health.port;
        Some(port.map_or("that of the server".into(), |port| port.show()))
    }),
    health("backend.health.interval", |it| some(&it.health.interval)),
    health("backend.health.timeout", |it| some(&it.health.timeout)),
    health("backend.health.fall", |it| some(&it.health.fall)),
    health("backend.health.rise", |it| some(&it.health.rise)),
    health("backend.health.on-down", |it| {
        let closes = it.health.close_on_down;
        Some(if closes { "close" } else { "keep" }.into())
    })
    .note("also for servers that are down already"),
];

fn some(value: &(impl Show + ?Sized)) -> Option<String> {
    Some(value.show())
}

fn throughput(guards: &Guards) -> Option<&Throughput> {
    guards.throughput.as_ref()
}

fn proxy(listener: &Listener) -> Option<&ProxyProtocol> {
    listener.proxy_protocol.as_ref()
}

fn send_proxy(backend: &Backend) -> Option<&SendProxy> {
    backend.proxy_protocol.as_ref()
}

fn backend_tls(backend: &Backend) -> Option<&BackendTls> {
    backend.tls.as_ref()
}

impl Show for Statuses {
    fn show(&self) -> String {
        let (first, last) = (self.0.start(), self.0.end());
        match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        }
    }
}

impl Show for NamePattern {
    fn show(&self) -> String {
        match self {
            Self::Dns(name) => format!("dns:{name}"),
            Self::Uri(name) => format!("uri:{name}"),
        }
    }
}
