//! The layer and its settings.

use super::{ProxyProtocol, TrustedSources, warnings::Warnings};
use crate::connection::Address;
use std::{sync::Arc, time::Duration};
use tower::Layer;

/// Layer for [`ProxyProtocol`]; see the [module docs](super).
#[derive(Clone, Debug)]
pub struct ProxyProtocolLayer {
    pub(super) trusted: TrustedSources,
    pub(super) serves_untrusted: bool,
    pub(super) bounds: Bounds,
    /// Shared by all clones.
    pub(super) warnings: Arc<Warnings>,
}

/// Limits for trusted sources.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) required: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) max_len: usize,
}

impl ProxyProtocolLayer {
    /// The reason of a [`Refused`](crate::error::Refused) whose source is not a trusted proxy.
    pub const UNTRUSTED_SOURCE: &'static str = "its source is not a trusted proxy";
    pub(super) const NAME: &'static str = "proxy_protocol";

    /// Reads a header from each connection of a `trusted` source and rejects all others.
    ///
    /// Only the socket's peer decides whether a source is trusted. Other headers and HTTP requests are
    /// ignored.
    pub fn new(trusted: TrustedSources) -> Self {
        Self {
            trusted,
            serves_untrusted: false,
            bounds: Bounds {
                required: true,
                timeout: Some(DEFAULT_TIMEOUT),
                max_len: DEFAULT_MAX_LEN,
            },
            warnings: Arc::default(),
        }
    }

    /// Makes the header optional for trusted sources; by default it is required.
    ///
    /// A connection without a header counts as the source's own. Use this only for sources that always put
    /// their own header before a client's bytes. Otherwise a client could send a header through them, and it
    /// would be trusted.
    ///
    /// Do not use this with server-first protocols such as SMTP. A client waiting for the greeting looks the
    /// same as a proxy whose header is late.
    #[must_use]
    pub const fn with_optional_header(mut self) -> Self {
        self.bounds.required = false;
        self
    }

    /// Serves untrusted sources as direct clients; by default they are rejected.
    ///
    /// Their bytes are not searched for a header, so one that they send reaches the application as data.
    #[must_use]
    pub const fn with_direct_clients(mut self) -> Self {
        self.serves_untrusted = true;
        self
    }

    /// Sets the timeout of the header, counted from the call; 5 s by default.
    ///
    /// The protocol requires at least 3 s, to allow for a retransmitted segment. `None` disables the timeout.
    /// Once the server has stopped accepting, an incomplete header has half a second.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.bounds.timeout = timeout.into();
        self
    }

    /// Limits the size of a version 2 header, in bytes; 4096 by default.
    ///
    /// That fits the addresses, all common fields and a certificate; the protocol allows 65 551. A header of
    /// version 1 has 107 bytes at most.
    ///
    /// # Panics
    ///
    /// If `max_len` is less than 232, the size of a header with the longest addresses.
    #[must_use]
    pub const fn with_max_len(mut self, max_len: usize) -> Self {
        assert!(
            max_len >= 232,
            "a header with Unix addresses takes 232 bytes"
        );
        self.bounds.max_len = max_len;
        self
    }

    /// How a connection from this peer of the socket is treated.
    pub fn source(&self, socket_peer: &Address) -> Source {
        if self.trusted.contains(socket_peer) {
            Source::Proxy
        } else if self.serves_untrusted {
            Source::Client
        } else {
            Source::Untrusted
        }
    }

    /// Whether trusted proxies must send a header.
    pub const fn requires_header(&self) -> bool {
        self.bounds.required
    }
}

/// What a connection's socket makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A trusted proxy, whose header is read.
    Proxy,
    /// A client that is served without a header.
    Client,
    /// It is rejected.
    Untrusted,
}

impl<S> Layer<S> for ProxyProtocolLayer {
    type Service = ProxyProtocol<S>;

    fn layer(&self, inner: S) -> ProxyProtocol<S> {
        ProxyProtocol::new(inner, self.clone())
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_MAX_LEN: usize = 4096;
