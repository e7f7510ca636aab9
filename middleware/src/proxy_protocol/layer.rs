//! The layer, and how it is set up.

use super::{ProxyProtocol, TrustedSources, warnings::Warnings};
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

/// What a trusted source may do.
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

    /// Reads a header from each connection of a `trusted` source, and refuses all others.
    ///
    /// Whether a source is trusted is decided by the other end of the socket alone, never by what
    /// another header or an HTTP request says.
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

    /// Lets trusted sources do without a header; what they send then goes on untouched. By default
    /// they must send one.
    ///
    /// Such a connection is taken for the source's own. So this is only for sources that never pass
    /// on a stranger's first bytes without a header of their own before them: the stranger could
    /// send one, and it would be believed. It does not fit protocols in which the server speaks
    /// first: who waits for it sends nothing that could be told from a header that is late.
    #[must_use]
    pub const fn with_optional_header(mut self) -> Self {
        self.bounds.required = false;
        self
    }

    /// Serves sources that are not trusted, too, as clients of their own; by default they are
    /// refused.
    ///
    /// No header is looked for: one that such a source sends reaches the application as the first
    /// bytes of what it says.
    #[must_use]
    pub const fn with_direct_clients(mut self) -> Self {
        self.serves_untrusted = true;
        self
    }

    /// Bounds the time until a header is complete, counted from the call; 5 s by default.
    ///
    /// The protocol asks for 3 s at least, for the case of a segment sent twice. `None` disables the timeout.
    /// Once the server accepts no more, an incomplete header has half a second.
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.bounds.timeout = timeout.into();
        self
    }

    /// Bounds the size of a header of version 2, in bytes; 4096 by default.
    ///
    /// That has room for the addresses, all common fields and a certificate; the protocol allows
    /// 65 551. A header of version 1 has 107 bytes at most.
    ///
    /// # Panics
    ///
    /// When `max_len` is less than 232, the size of a header with the longest addresses.
    #[must_use]
    pub const fn with_max_len(mut self, max_len: usize) -> Self {
        assert!(
            max_len >= 232,
            "a header with Unix addresses takes 232 bytes"
        );
        self.bounds.max_len = max_len;
        self
    }
}

impl<S> Layer<S> for ProxyProtocolLayer {
    type Service = ProxyProtocol<S>;

    fn layer(&self, inner: S) -> ProxyProtocol<S> {
        ProxyProtocol::new(inner, self.clone())
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const DEFAULT_MAX_LEN: usize = 4096;
