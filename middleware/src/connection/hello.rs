//! What a TLS client requests and offers, without types of a TLS library.

use std::{fmt, sync::Arc};

/// The parts of a ClientHello by which connections are routed.
///
/// The client chose all of them, and nothing is authenticated yet. Escape them in logs. A clone is cheap and
/// shares the values.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello(Arc<HelloParts>);

#[derive(PartialEq, Eq)]
struct HelloParts {
    server_name: Option<Box<str>>,
    /// As on the wire, each name behind a byte with its length.
    alpn: Box<[u8]>,
    ja4: Option<Box<str>>,
}

impl Hello {
    /// `alpn` is a valid list without its length.
    pub(crate) fn new(server_name: Option<&str>, alpn: &[u8], ja4: Option<String>) -> Self {
        let alpn = &alpn[..whole_names(alpn)];
        let server_name = server_name.map(|name| name.to_ascii_lowercase().into());
        Self(Arc::new(HelloParts {
            server_name,
            alpn: alpn.into(),
            ja4: ja4.map(Into::into),
        }))
    }

    /// The requested host name (SNI) in lower case, without a trailing dot.
    ///
    /// `None` if it is absent, and for an IP address, which TLS does not allow here.
    pub fn server_name(&self) -> Option<&str> {
        self.0.server_name.as_deref()
    }

    /// The application protocols that the client offers (ALPN, RFC 7301), its preferred one first.
    ///
    /// Only those in the first KiB of the list are kept, because they stay in memory as long as the connection.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0.alpn;
        std::iter::from_fn(move || {
            let (&length, names) = rest.split_first()?;
            let (name, behind) = names.split_at_checked(length.into())?;
            rest = behind;
            Some(name)
        })
    }

    /// The client's fingerprint, if it was requested with
    /// [`ProtocolDetector::with_ja4`](crate::peek::ProtocolDetector::with_ja4).
    pub fn ja4(&self) -> Option<&str> {
        self.0.ja4.as_deref()
    }
}

/// The length of the names that are kept.
fn whole_names(alpn: &[u8]) -> usize {
    let mut end = 0;
    while let Some(&length) = alpn.get(end) {
        let next = end + 1 + usize::from(length);
        if next > LONGEST_ALPN {
            break;
        }
        end = next;
    }
    end.min(alpn.len())
}

/// In bytes. Browsers send some 20.
const LONGEST_ALPN: usize = 1024;

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alpn: Vec<_> = self.alpn().map(String::from_utf8_lossy).collect();
        f.debug_struct("Hello")
            .field("server_name", &self.server_name())
            .field("alpn", &alpn)
            .field("ja4", &self.ja4())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_in_the_first_kib_are_kept() {
        for (name, kept) in [(1, 512), (127, 8), (255, 4)] {
            let mut alpn = Vec::new();
            for _ in 0..1000 {
                alpn.push(name);
                alpn.extend(vec![b'x'; name.into()]);
            }
            let hello = Hello::new(None, &alpn, None);
            assert_eq!(hello.alpn().count(), kept);
            assert!(hello.alpn().all(|kept| kept.len() == usize::from(name)));
        }
        assert_eq!(Hello::new(None, b"\x02h2", None).alpn().count(), 1);
        assert_eq!(Hello::new(None, b"", None).alpn().count(), 0);
    }
}
