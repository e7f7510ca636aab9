//! The target of a URI, and the errors of an invalid one.

use crate::connect::Target;
use http::{Uri, uri::Scheme};
use portcullis_middleware::BoxError;
use std::{error::Error, fmt, io};

/// Whether `uri` has the scheme `https`.
pub(super) fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&Scheme::HTTPS)
}

/// The host of `uri`, an IPv6 address without its brackets.
pub(super) fn host(uri: &Uri) -> Option<&str> {
    let host = uri.host().filter(|host| !host.is_empty())?;
    let in_brackets = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    Some(in_brackets.unwrap_or(host))
}

/// Host and port of `uri`, the port by its scheme if it names none.
pub(super) fn target(uri: &Uri) -> Result<Target, BoxError> {
    let bad = |problem| UriError::new(uri, problem);
    let by_scheme = match uri.scheme() {
        None => return Err(bad(BadUri::NoScheme).into()),
        Some(scheme) if *scheme == Scheme::HTTP => 80,
        Some(scheme) if *scheme == Scheme::HTTPS => 443,
        Some(_) => return Err(bad(BadUri::UnknownScheme).into()),
    };
    let host = host(uri).ok_or_else(|| bad(BadUri::NoHost))?;
    let port = match uri.port_u16() {
        Some(port) => port,
        None if has_port(uri) => return Err(bad(BadUri::BadPort).into()),
        None => by_scheme,
    };
    Ok(Target::try_from((host, port))?)
}

/// Whether the authority has a port; an empty one counts as absent (RFC 3986, 3.2.3).
fn has_port(uri: &Uri) -> bool {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let host_and_port = authority.rsplit(['@', ']']).next().unwrap_or_default();
    host_and_port
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty())
}

/// A URI has no usable target; contains the problem and advice.
///
/// As an [`io::Error`] its kind is [`InvalidInput`](io::ErrorKind::InvalidInput).
#[derive(Clone, Debug)]
pub struct UriError {
    uri: String,
    problem: BadUri,
}

impl UriError {
    pub(super) fn new(uri: &Uri, problem: BadUri) -> Self {
        // Only the relevant parts, because a path, a query or user information may hold a secret.
        let scheme = uri.scheme_str().map(|scheme| format!("{scheme}://"));
        let host = uri.host().unwrap_or_default();
        let uri = scheme.unwrap_or_default() + host;
        Self { uri, problem }
    }

    /// Returns the problem.
    pub const fn problem(&self) -> BadUri {
        self.problem
    }
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.uri.escape_debug();
        write!(f, "cannot connect to \"{uri}\": {}", self.problem)
    }
}

impl Error for UriError {}

impl From<UriError> for io::Error {
    fn from(error: UriError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// The problem with a URI to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BadUri {
    /// It has no scheme.
    NoScheme,
    /// Its scheme is not `http` or `https`.
    UnknownScheme,
    /// It has no host.
    NoHost,
    /// Its port is not a number up to 65535.
    BadPort,
    /// Its scheme is `https`, but the connector has no TLS.
    NoTls,
}

impl fmt::Display for BadUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoScheme => "it has no scheme; begin it with http:// or https://",
            Self::UnknownScheme => "its scheme is not http or https",
            Self::NoHost => "it has no host",
            Self::BadPort => "its port is not a number up to 65535",
            Self::NoTls => "its scheme is https, and this connector has no TLS; add it with `tls`",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_middleware::error::find;

    fn leads_to(uri: &str) -> String {
        target(&uri.parse().unwrap()).unwrap().to_string()
    }

    fn problem(uri: &str) -> BadUri {
        let error = target(&uri.parse().unwrap()).unwrap_err();
        find::<UriError>(&*error).unwrap().problem()
    }

    #[test]
    fn the_port_is_that_of_the_scheme_unless_it_is_named() {
        assert_eq!(leads_to("http://example.org/a?b:c"), "example.org:80");
        assert_eq!(leads_to("https://example.org"), "example.org:443");
        assert_eq!(leads_to("HTTPS://example.org"), "example.org:443");
        assert_eq!(leads_to("https://example.org:8443/"), "example.org:8443");
        assert_eq!(leads_to("https://example.org:/"), "example.org:443");
        assert_eq!(leads_to("http://user:1234@example.org/"), "example.org:80");
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        assert_eq!(leads_to("http://[::1]/"), "[::1]:80");
        assert_eq!(leads_to("https://[2001:db8::1]:8443"), "[2001:db8::1]:8443");
        let uri = "https://[::1]:8443".parse().unwrap();
        assert_eq!(host(&uri), Some("::1"));
    }

    #[test]
    fn what_leads_nowhere_is_told_apart() {
        assert_eq!(problem("/path"), BadUri::NoScheme);
        assert_eq!(problem("example.org:80"), BadUri::NoScheme);
        assert_eq!(problem("ftp://example.org/"), BadUri::UnknownScheme);
        assert_eq!(problem("http://:80/"), BadUri::NoHost);
    }

    #[test]
    fn a_port_that_is_none_is_not_taken_for_the_default() {
        for uri in [
            "http://example.org:99999/",
            "http://[::1]:99999/",
            "http://example.org:a/",
        ] {
            if let Ok(uri) = uri.parse() {
                let error = target(&uri).unwrap_err();
                assert_eq!(
                    find::<UriError>(&*error).unwrap().problem(),
                    BadUri::BadPort
                );
            }
        }
        assert_eq!(problem("http://example.org:65536/"), BadUri::BadPort);
    }

    #[test]
    fn the_text_is_one_line_without_secrets() {
        let uri = "ftp://user:secret@example.org/secret?secret"
            .parse()
            .unwrap();
        assert_eq!(
            UriError::new(&uri, BadUri::UnknownScheme).to_string(),
            "cannot connect to \"ftp://example.org\": its scheme is not http or https"
        );
    }
}
