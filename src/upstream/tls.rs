//! TLS to servers.

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use super::{Pool, Server};
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
use portcullis_middleware::tls::store::StoredCertificate;
use portcullis_middleware::{
    BoxError, Connection,
    connection::Address,
    internal::is_same_connector,
    prelude::TlsRequest,
    tls::{TlsConnector, rustls::pki_types::ServerName},
};
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncWrite};

/// TLS to a [`Server`](super::Server).
///
/// The [`TlsConnector`] has the roots, the [client certificate](TlsConnector::with_client_certificate), the
/// application protocols and the session cache, which servers with clones of it share.
#[derive(Clone, Debug)]
pub struct ServerTls {
    connector: TlsConnector,
    name: Option<String>,
    prelude: Option<ServerPrelude>,
}

impl ServerTls {
    /// The server's certificate must be valid for the host of its address.
    pub const fn new(connector: TlsConnector) -> Self {
        Self {
            connector,
            name: None,
            prelude: None,
        }
    }

    /// Sets the name that the server's certificate must be valid for, which is also sent to the server (SNI).
    ///
    /// A server on a Unix domain socket needs a name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Requests TLS in the plain text of a protocol first; off by default.
    #[must_use]
    pub fn with_prelude(mut self, prelude: impl Into<Option<ServerPrelude>>) -> Self {
        self.prelude = prelude.into();
        self
    }

    /// Whether both have the same settings.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.prelude == other.prelude
            && is_same_connector(&self.connector, &other.connector)
    }

    /// The same, for checks, which verify the certificate each time.
    pub(super) fn without_resumption(mut self) -> Self {
        self.connector = self.connector.without_resumption();
        self
    }

    pub(super) const fn connector(&self) -> &TlsConnector {
        &self.connector
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) const fn prelude(&self) -> Option<ServerPrelude> {
        self.prelude
    }
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
impl Pool {
    /// The certificates that are presented to the servers now, also by health checks, those of
    /// [`TlsConnector::with_client_certificate`].
    pub fn client_certificates(&self) -> Vec<StoredCertificate> {
        let mut found: Vec<StoredCertificate> = Vec::new();
        let servers = self.0.configured_servers();
        let settings = self.0.settings();
        let of_checks = settings
            .health
            .as_ref()
            .and_then(|check| check.tls.as_ref());
        let of_servers = servers.iter().filter_map(Server::tls);
        for tls in of_servers.chain(of_checks) {
            let presented = tls.connector.client_certificate();
            let serial = |it: &StoredCertificate| (it.source.clone(), it.facts.serial.clone());
            let is_new =
                |it: &StoredCertificate| found.iter().all(|known| serial(known) != serial(it));
            found.extend(presented.filter(is_new));
        }
        found
    }
}

impl From<TlsConnector> for ServerTls {
    fn from(connector: TlsConnector) -> Self {
        Self::new(connector)
    }
}

/// The plain text in which a client requests TLS from a server; the counterpart of the layer
/// [`prelude`](portcullis_middleware::prelude).
///
/// A mail server greets before TLS and not again under TLS. Its greeting is the first that is read from the connection, as
/// of a server whose TLS begins immediately, also by health checks. It is unauthenticated, like all that precedes TLS; of
/// IMAP only `* OK ready` is left. Where the
/// clients were greeted already, [`SkipGreeting`](super::SkipGreeting) discards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerPrelude {
    /// The `SSLRequest` of PostgreSQL.
    Postgres,
    /// `STARTTLS` of SMTP, after an `EHLO` with the local address.
    Smtp,
    /// `STARTTLS` of IMAP.
    Imap,
    /// `STLS` of POP3.
    Pop3,
    /// `<starttls/>` of XMPP, in a stream of a client to the name that is verified.
    Xmpp,
}

impl ServerPrelude {
    /// Requests TLS, and returns the greeting of the server.
    pub(super) async fn request<IO>(
        self,
        name: &str,
        connection: &mut Connection<IO>,
    ) -> Result<Vec<u8>, BoxError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let request = match self {
            Self::Postgres => TlsRequest::postgres(),
            Self::Smtp => TlsRequest::smtp(address_literal(connection.info().socket_local())),
            Self::Imap => TlsRequest::imap(),
            Self::Pop3 => TlsRequest::pop3(),
            // The connector would report it as well, but after the request.
            Self::Xmpp if ServerName::try_from(name).is_err() => {
                return Err(format!("{name:?} is not the name of a server").into());
            }
            Self::Xmpp => TlsRequest::xmpp(name),
        };
        Ok(request.perform(connection).await?)
    }
}

/// How an SMTP client without a host name introduces itself (RFC 5321, section 4.1.3).
fn address_literal(local: &Address) -> String {
    match local.ip().map(|local| local.ip().to_canonical()) {
        Some(IpAddr::V4(ip)) => format!("[{ip}]"),
        Some(IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
        None => "localhost".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_without_a_name_introduces_itself_by_its_address() {
        for (local, literal) in [
            ("192.0.2.7:25", "[192.0.2.7]"),
            ("[2001:db8::7]:25", "[IPv6:2001:db8::7]"),
            ("[::ffff:192.0.2.7]:25", "[192.0.2.7]"),
        ] {
            let local = Address::Ip(local.parse().unwrap());
            assert_eq!(address_literal(&local), literal);
        }
        assert_eq!(address_literal(&Address::Unknown), "localhost");
    }
}
