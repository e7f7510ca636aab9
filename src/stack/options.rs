//! What the recommended stack is built from.

#[cfg(feature = "metrics")]
use portcullis_middleware::observe::MetricsLayer;
#[cfg(feature = "proxy-protocol")]
use portcullis_middleware::proxy_protocol::ProxyProtocolLayer;
#[cfg(feature = "tls")]
use portcullis_middleware::tls::TlsLayer;
use portcullis_middleware::{
    access::AclLayer,
    limit::{BandwidthLayer, ConnectionLimitLayer, KeyedLimitLayer, RateLimitLayer},
    observe::TraceLayer,
    peek::PeekLayer,
    timeout::{ConnectionTimeoutLayer, IoTimeoutLayer},
};
use std::time::Duration;

/// The layers of the [recommended stack](super).
///
/// Each option is a layer with its own settings and, where it has one, its handle. Take the handle from the layer
/// before it becomes an option. `None` leaves an optional layer out.
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) trace: TraceLayer,
    #[cfg(feature = "metrics")]
    pub(super) metrics: Option<MetricsLayer>,
    pub(super) connection_limit: ConnectionLimitLayer,
    pub(super) socket_acl: Option<AclLayer>,
    #[cfg(feature = "proxy-protocol")]
    pub(super) proxy_protocol: Option<ProxyProtocolLayer>,
    pub(super) client_acl: Option<AclLayer>,
    pub(super) rate_limit: Option<RateLimitLayer>,
    pub(super) keyed_limit: Option<KeyedLimitLayer>,
    pub(super) connection_timeout: ConnectionTimeoutLayer,
    pub(super) peek: Option<PeekLayer>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<TlsLayer>,
    #[cfg(feature = "tls")]
    pub(super) certificate_acl: Option<AclLayer>,
    pub(super) io_timeout: IoTimeoutLayer,
    pub(super) bandwidth: Option<BandwidthLayer>,
}

impl Options {
    /// A trace, at most 10,000 connections, five minutes of silence per connection, and 60 seconds per write.
    pub fn new() -> Self {
        Self {
            trace: TraceLayer::new(),
            #[cfg(feature = "metrics")]
            metrics: None,
            connection_limit: ConnectionLimitLayer::new(CONNECTIONS),
            socket_acl: None,
            #[cfg(feature = "proxy-protocol")]
            proxy_protocol: None,
            client_acl: None,
            rate_limit: None,
            keyed_limit: None,
            connection_timeout: ConnectionTimeoutLayer::new().with_idle_timeout(IDLE),
            peek: None,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "tls")]
            certificate_acl: None,
            io_timeout: IoTimeoutLayer::new().without_read_timeout(),
            bandwidth: None,
        }
    }

    /// Sets the trace; by default it uses the name of the listener.
    #[must_use]
    pub fn with_trace(mut self, layer: TraceLayer) -> Self {
        self.trace = layer;
        self
    }

    /// Counts connections for Prometheus and others; by default they are not counted.
    #[cfg(feature = "metrics")]
    #[must_use]
    pub fn with_metrics(mut self, layer: impl Into<Option<MetricsLayer>>) -> Self {
        self.metrics = layer.into();
        self
    }

    /// Sets the limit of concurrent connections; by default 10,000, and further ones wait in the accept queue.
    ///
    /// Keep it below the process's limit of open files (`ulimit -n`).
    #[must_use]
    pub fn with_connection_limit(mut self, layer: ConnectionLimitLayer) -> Self {
        self.connection_limit = layer;
        self
    }

    /// Admits connections by the address of the socket's peer, before a PROXY header is read; by default all.
    #[must_use]
    pub fn with_socket_acl(mut self, layer: impl Into<Option<AclLayer>>) -> Self {
        self.socket_acl = layer.into();
        self
    }

    /// Takes the client's address from a load balancer's PROXY header; by default none is read.
    #[cfg(feature = "proxy-protocol")]
    #[must_use]
    pub fn with_proxy_protocol(mut self, layer: impl Into<Option<ProxyProtocolLayer>>) -> Self {
        self.proxy_protocol = layer.into();
        self
    }

    /// Admits connections by the client's address, which may come from a PROXY header; by default all.
    #[must_use]
    pub fn with_client_acl(mut self, layer: impl Into<Option<AclLayer>>) -> Self {
        self.client_acl = layer.into();
        self
    }

    /// Limits how often each client may connect; by default there is no such limit.
    #[must_use]
    pub fn with_rate_limit(mut self, layer: impl Into<Option<RateLimitLayer>>) -> Self {
        self.rate_limit = layer.into();
        self
    }

    /// Limits the concurrent connections of each client; by default only [all together](Self::with_connection_limit)
    /// are limited.
    ///
    /// Behind a load balancer it needs a [PROXY header](Self::with_proxy_protocol), because all clients share the
    /// load balancer's address otherwise.
    #[must_use]
    pub fn with_keyed_limit(mut self, layer: impl Into<Option<KeyedLimitLayer>>) -> Self {
        self.keyed_limit = layer.into();
        self
    }

    /// Sets the timeouts of whole connections; by default they end after five minutes without a byte.
    #[must_use]
    pub fn with_connection_timeout(mut self, layer: ConnectionTimeoutLayer) -> Self {
        self.connection_timeout = layer;
        self
    }

    /// Detects the protocol and the server name by the first bytes, for a
    /// [`Router`](portcullis_middleware::route::Router) as service; by default they are not examined.
    #[must_use]
    pub fn with_peek(mut self, layer: impl Into<Option<PeekLayer>>) -> Self {
        self.peek = layer.into();
        self
    }

    /// Terminates TLS; by default the service gets the bytes as they arrive.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, layer: impl Into<Option<TlsLayer>>) -> Self {
        self.tls = layer.into();
        self
    }

    /// Admits connections by what the TLS handshake has shown, such as the client's certificate; by default all.
    ///
    /// Use an [`AclLayer::predicate`] on [`ConnectionInfo::tls`](crate::ConnectionInfo::tls).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_certificate_acl(mut self, layer: impl Into<Option<AclLayer>>) -> Self {
        self.certificate_acl = layer.into();
        self
    }

    /// Sets the timeouts of single reads and writes; by default a write may take 60 seconds.
    ///
    /// There is no read timeout by default, because `HttpService` has its own ones and other protocols have
    /// clients that wait. The [connection's timeouts](Self::with_connection_timeout) limit these.
    #[must_use]
    pub const fn with_io_timeout(mut self, layer: IoTimeoutLayer) -> Self {
        self.io_timeout = layer;
        self
    }

    /// Limits the bytes per second; by default there is no such limit.
    #[must_use]
    pub fn with_bandwidth(mut self, layer: impl Into<Option<BandwidthLayer>>) -> Self {
        self.bandwidth = layer.into();
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

const CONNECTIONS: usize = 10_000;
const IDLE: Duration = Duration::from_secs(300);
