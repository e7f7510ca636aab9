//! The span of a connection and its two events.

use super::{Closed, layer::TraceSettings};
use crate::{
    connection::{Address, ConnectionInfo, TlsInfo},
    log_text::{Causes, Escaped},
    telemetry::TARGET,
};
use std::fmt;
use tracing::{
    Level, Span,
    field::{DisplayValue, Empty, display},
};

/// Levels are part of the static metadata of spans and events, so there is one call site per level.
macro_rules! at_level {
    ($level:expr, $report:ident!($($arguments:tt)*)) => {
        match $level {
            Level::ERROR => tracing::$report!(target: TARGET, Level::ERROR, $($arguments)*),
            Level::WARN => tracing::$report!(target: TARGET, Level::WARN, $($arguments)*),
            Level::INFO => tracing::$report!(target: TARGET, Level::INFO, $($arguments)*),
            Level::DEBUG => tracing::$report!(target: TARGET, Level::DEBUG, $($arguments)*),
            Level::TRACE => tracing::$report!(target: TARGET, Level::TRACE, $($arguments)*),
        }
    };
}

pub(super) fn span(info: &ConnectionInfo, settings: &TraceSettings) -> Span {
    let (peer, local) = (info.socket_peer(), info.socket_local());
    at_level!(
        settings.level,
        span!(
            "connection",
            connection.id = info.id().get(),
            server.name = name(info, settings),
            network.transport = transport(peer, local),
            network.type = ip_version(peer).or(ip_version(local)),
            network.peer.address = host(peer),
            network.peer.port = port(peer),
            network.local.address = host(local),
            network.local.port = port(local),
            client.address = Empty,
            client.port = Empty,
            tls.protocol.version = Empty,
            tls.cipher = Empty,
            tls.next_protocol = Empty,
            server.address = Empty,
        )
    )
}

/// Whether the two events are enabled.
pub(super) fn is_written(settings: &TraceSettings) -> bool {
    at_level!(settings.level, event_enabled!())
}

pub(super) fn opened(info: &ConnectionInfo, settings: &TraceSettings, suppressed: u64) {
    at_level!(
        settings.level,
        event!(
            peer = %info.peer(),
            suppressed = (suppressed > 0).then_some(suppressed),
            "{}opened from {}",
            NamePrefix(name(info, settings)),
            info.peer(),
        )
    );
}

pub(super) fn closed(closed: &Closed<'_>, settings: &TraceSettings) {
    let info = closed.info();
    let error = closed.error().map(|error| Escaped(Causes(error)));
    let observed = info.notes().next().map(|_| Observed(info));
    at_level!(
        settings.level,
        event!(
            peer = %info.peer(),
            outcome = closed.outcome().as_str(),
            duration = closed.duration().as_secs_f64(),
            bytes_in = info.bytes_read(),
            bytes_out = info.bytes_written(),
            observed = observed.as_ref().map(display),
            error = error.as_ref().map(display),
            "{}closed: {} after {:.3} s, {} bytes in, {} bytes out{}{}",
            NamePrefix(name(info, settings)),
            closed.outcome(),
            closed.duration().as_secs_f64(),
            info.bytes_read(),
            info.bytes_written(),
            ErrorSuffix(error.as_ref()),
            ObservedSuffix(observed.as_ref()),
        )
    );
}

/// Records the client behind a proxy.
pub(super) fn client(span: &Span, client: &Address) {
    span.record("client.address", host(client));
    span.record("client.port", port(client));
}

/// Records the negotiated TLS parameters.
pub(super) fn tls(span: &Span, tls: &TlsInfo) {
    span.record("tls.protocol.version", tls.version.map(tls_version));
    span.record("tls.cipher", tls.cipher_suite.map(Cipher).map(display));
    let alpn = tls.alpn.as_deref().map(<[u8]>::escape_ascii);
    span.record("tls.next_protocol", alpn.map(display));
    let server_name = tls.server_name.as_deref();
    span.record("server.address", server_name.map(Escaped).map(display));
}

fn name<'a>(info: &'a ConnectionInfo, settings: &'a TraceSettings) -> Option<&'a str> {
    settings.name.as_deref().or_else(|| info.listener())
}

/// Sockets have at least a local address, so a stream without addresses is in memory.
const fn transport(peer: &Address, local: &Address) -> &'static str {
    match (peer, local) {
        (Address::Ip(_), _) | (_, Address::Ip(_)) => "tcp",
        (Address::Unix(_), _) | (_, Address::Unix(_)) => "unix",
        (Address::Unknown, Address::Unknown) => "pipe",
    }
}

fn ip_version(address: &Address) -> Option<&'static str> {
    let version = |ip: std::net::SocketAddr| if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    address.ip().map(version)
}

fn host(address: &Address) -> Option<DisplayValue<Host<'_>>> {
    let known = match address {
        Address::Ip(_) => true,
        Address::Unix(unix) => unix.as_pathname().is_some(),
        Address::Unknown => false,
    };
    known.then(|| display(Host(address)))
}

fn port(address: &Address) -> Option<u16> {
    address.ip().map(|ip| ip.port())
}

/// The bare version number, following the semantic conventions.
fn tls_version(version: &'static str) -> &'static str {
    match version {
        "TLSv1_2" => "1.2",
        "TLSv1_3" => "1.3",
        other => other,
    }
}

/// An address without its port.
struct Host<'a>(&'a Address);

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Address::Ip(ip) => ip.ip().fmt(f),
            Address::Unix(unix) => match unix.as_pathname() {
                Some(path) => Escaped(path.display()).fmt(f),
                None => Ok(()),
            },
            Address::Unknown => Ok(()),
        }
    }
}

/// The registered name of a cipher suite; rustls writes `TLS13_…` for the suites of TLS 1.3.
struct Cipher(&'static str);

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.strip_prefix("TLS13_") {
            Some(suite) => write!(f, "TLS_{suite}"),
            None => f.write_str(self.0),
        }
    }
}

struct NamePrefix<'a>(Option<&'a str>);

impl fmt::Display for NamePrefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |name| write!(f, "{name}: "))
    }
}

struct ErrorSuffix<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for ErrorSuffix<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))
    }
}

/// What guards that only observe would have done.
struct Observed<'a>(&'a ConnectionInfo);

impl fmt::Display for Observed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, note) in self.0.notes().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{note}")?;
        }
        Ok(())
    }
}

struct ObservedSuffix<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for ObservedSuffix<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let observed = self.0.as_ref();
        observed.map_or(Ok(()), |text| write!(f, " (observed {text})"))
    }
}
