//! The servers that are compared.

use portcullis::BoxError;
use std::fmt;

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// The reference: tokio's accept loop, one task per connection, TCP_NODELAY.
    Bare,
    /// The reference, in a program that has a timer running, like most programs.
    BareTimer,
    /// The reference as a careful user writes it: `tokio::time::timeout` around each read and each write, and a
    /// semaphore as connection limit.
    BareTimeouts,
    /// `Server` with `PeerAddrLayer`.
    PortcullisBare,
    /// The layers that a public server should have.
    Stack,
    /// The same, and its bytes counted.
    StackPlus,
    /// One layer on top of `PortcullisBare`.
    Limit,
    Timeouts,
    Trace,
    CatchPanic,
    CountBytes,
    Acl,
    KeyedLimit,
    RateLimit,
    ConnectionTimeout,
    /// The reference for TLS: tokio-rustls in tokio's accept loop.
    TlsBare,
    /// `Server` with `PeerAddrLayer` and `TlsLayer`.
    TlsPortcullis,
    /// The recommended stack with TLS, and otherwise its defaults.
    TlsRecommended,
    /// The same with guards: two lists of networks, a rate and a limit per client.
    TlsRecommendedPlus,
    /// The reference for HTTP: hyper-util in tokio's accept loop.
    HttpHyper,
    /// The same as a careful user sets it up: hyper's timeouts, a semaphore as connection limit, and the peer's
    /// address in each request.
    HttpHyperPlus,
    /// `axum::serve`.
    HttpAxum,
    /// `Server` with `PeerAddrLayer` and `HttpService`.
    HttpPortcullis,
    /// The layers that a public HTTP server should have.
    HttpStack,
    /// The same, and two values in the extensions of each connection, for the handlers of its requests.
    HttpValues,
    /// The reference for forwarding: tokio's `copy_bidirectional` in its accept loop.
    ForwardBare,
    /// `Server` with `PeerAddrLayer` and `ForwardService`.
    Forward,
    /// The layers that a public server should have.
    ForwardStack,
    /// The program, without an admin interface.
    Program,
    /// The same with an admin interface.
    ProgramAdmin,
}

/// The protocol of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Echo,
    /// The same over TLS 1.3.
    Tls,
    /// An axum router that answers a request with "Hello, world!".
    Http,
    /// Any, to a backend in the measuring process.
    Forward,
    /// The same, forwarded by the program `portcullis`.
    Program,
}

impl Variant {
    pub(crate) const ALL: [Self; 30] = [
        Self::Bare,
        Self::BareTimer,
        Self::BareTimeouts,
        Self::PortcullisBare,
        Self::Stack,
        Self::StackPlus,
        Self::Limit,
        Self::Timeouts,
        Self::Trace,
        Self::CatchPanic,
        Self::CountBytes,
        Self::Acl,
        Self::KeyedLimit,
        Self::RateLimit,
        Self::ConnectionTimeout,
        Self::TlsBare,
        Self::TlsPortcullis,
        Self::TlsRecommended,
        Self::TlsRecommendedPlus,
        Self::HttpHyper,
        Self::HttpHyperPlus,
        Self::HttpAxum,
        Self::HttpPortcullis,
        Self::HttpStack,
        Self::HttpValues,
        Self::ForwardBare,
        Self::Forward,
        Self::ForwardStack,
        Self::Program,
        Self::ProgramAdmin,
    ];

    pub(crate) fn parse(name: &str) -> Result<Self, BoxError> {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no variant {name}, only: {names}").into()
        })
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::BareTimer => "bare+timer",
            Self::BareTimeouts => "bare+timeouts",
            Self::PortcullisBare => "portcullis-bare",
            Self::Stack => "portcullis-stack",
            Self::StackPlus => "portcullis-stack+",
            Self::Limit => "+limit",
            Self::Timeouts => "+timeouts",
            Self::Trace => "+trace",
            Self::CatchPanic => "+catch-panic",
            Self::CountBytes => "+count-bytes",
            Self::Acl => "+acl",
            Self::KeyedLimit => "+keyed-limit",
            Self::RateLimit => "+rate-limit",
            Self::ConnectionTimeout => "+connection-timeout",
            Self::TlsBare => "tls-rustls",
            Self::TlsPortcullis => "tls-portcullis",
            Self::TlsRecommended => "tls-recommended",
            Self::TlsRecommendedPlus => "tls-recommended+",
            Self::HttpHyper => "http-hyper",
            Self::HttpHyperPlus => "http-hyper+",
            Self::HttpAxum => "http-axum-serve",
            Self::HttpPortcullis => "http-portcullis",
            Self::HttpStack => "http-stack",
            Self::HttpValues => "http-stack+values",
            Self::ForwardBare => "forward-bare",
            Self::Forward => "forward-portcullis",
            Self::ForwardStack => "forward-stack",
            Self::Program => "program",
            Self::ProgramAdmin => "program+admin",
        }
    }

    pub(crate) const fn protocol(self) -> Protocol {
        match self {
            Self::HttpHyper
            | Self::HttpHyperPlus
            | Self::HttpAxum
            | Self::HttpPortcullis
            | Self::HttpStack
            | Self::HttpValues => Protocol::Http,
            Self::ForwardBare | Self::Forward | Self::ForwardStack => Protocol::Forward,
            Self::Program | Self::ProgramAdmin => Protocol::Program,
            Self::TlsBare
            | Self::TlsPortcullis
            | Self::TlsRecommended
            | Self::TlsRecommendedPlus => Protocol::Tls,
            _ => Protocol::Echo,
        }
    }

    /// The variant that it is compared to.
    pub(crate) const fn reference(self) -> Self {
        match self.protocol() {
            Protocol::Echo => Self::Bare,
            Protocol::Tls => Self::TlsBare,
            Protocol::Http => Self::HttpHyper,
            Protocol::Forward => Self::ForwardBare,
            Protocol::Program => Self::Program,
        }
    }

    /// Whether it forwards to a backend.
    pub(crate) const fn forwards(self) -> bool {
        matches!(self.protocol(), Protocol::Forward | Protocol::Program)
    }

    /// Whether it measures one layer.
    pub(crate) fn is_single_layer(self) -> bool {
        self.name().starts_with('+')
    }

    /// Whether `--check` measures it. These are the references, and the smallest and the largest of ours.
    ///
    /// Those over TLS are not, because a handshake takes so long that its system calls vary by one, and each variant
    /// takes minutes. The program is not, because it takes minutes to compile.
    pub(crate) const fn is_checked(self) -> bool {
        matches!(
            self,
            Self::Bare
                | Self::PortcullisBare
                | Self::StackPlus
                | Self::HttpHyper
                | Self::HttpStack
                | Self::ForwardBare
                | Self::ForwardStack
        )
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
