//! The HTTP versions that a client may use.

use hyper_util::server::conn::auto;
use portcullis_middleware::ConnectionInfo;

/// An HTTP version, as detected from the first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpVersion {
    Http1,
    Http2,
}

/// The versions that ALPN (RFC 7301, section 3.2) and hyper's settings allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    http1: bool,
    http2: bool,
}

impl Allowed {
    pub(super) fn of<E>(info: &ConnectionInfo, hyper: &auto::Builder<E>) -> Self {
        let alpn = info.tls().and_then(|tls| tls.alpn.as_deref());
        let (http1, http2) = match alpn {
            Some(b"h2") => (false, true),
            Some(b"http/1.1" | b"http/1.0") => (true, false),
            // Without TLS or ALPN, or with a custom protocol name, the first bytes decide.
            _ => (true, true),
        };
        Self {
            http1: http1 && hyper.is_http1_available(),
            http2: http2 && hyper.is_http2_available(),
        }
    }

    /// Whether every version is allowed, so that the first bytes need no check.
    pub(super) const fn is_any(self) -> bool {
        self.http1 && self.http2
    }

    /// Returns the response to a client with a disallowed version, or `None`.
    pub(super) const fn refusal(self, version: HttpVersion) -> Option<&'static [u8]> {
        match version {
            HttpVersion::Http1 if !self.http1 => Some(GO_AWAY),
            HttpVersion::Http2 if !self.http2 => Some(BAD_REQUEST),
            HttpVersion::Http1 | HttpVersion::Http2 => None,
        }
    }
}

/// Empty settings, which must come first, and a `GOAWAY` with `PROTOCOL_ERROR` (RFC 9113, section 3.4).
const GO_AWAY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";

const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use hyper_util::rt::TokioExecutor;
    use portcullis_middleware::{Connection, connection::TlsInfo, testing};

    fn allowed(alpn: Option<&[u8]>, hyper: &auto::Builder<TokioExecutor>) -> (bool, bool) {
        let info = testing::info();
        let mut tls = TlsInfo::new();
        tls.alpn = alpn.map(<[u8]>::to_vec);
        Connection::new((), info.clone()).set_tls(tls);
        let Allowed { http1, http2 } = Allowed::of(&info, hyper);
        (http1, http2)
    }

    #[test]
    fn what_alpn_agreed_on_binds_and_so_do_the_settings_of_hyper() {
        let any = auto::Builder::new(TokioExecutor::new());
        let one = any.clone().http1_only();
        let two = any.clone().http2_only();
        for (alpn, expected) in [
            (None, [(true, true), (true, false), (false, true)]),
            (
                Some(&b"acme-tls/1"[..]),
                [(true, true), (true, false), (false, true)],
            ),
            (Some(b"h2"), [(false, true), (false, false), (false, true)]),
            (
                Some(b"http/1.1"),
                [(true, false), (true, false), (false, false)],
            ),
            (
                Some(b"http/1.0"),
                [(true, false), (true, false), (false, false)],
            ),
        ] {
            let found = [&any, &one, &two].map(|hyper| allowed(alpn, hyper));
            assert_eq!(found, expected, "{alpn:?}");
        }
    }
}
