//! Why a client and a server did not agree on TLS.

use crate::{
    error::{Elapsed, HandshakeError, find},
    tls::rustls::{self, CertificateError},
};
use std::{error::Error, fmt, io};

/// A client could not agree on TLS with a server: with which, why, and what to do.
///
/// [`HandshakeError`] or [`Elapsed`] is its source, so an outcome is told from it as on the server's
/// side.
#[derive(Debug)]
pub struct TlsConnectError {
    server_name: String,
    problem: ConnectProblem,
}

#[derive(Debug)]
enum ConnectProblem {
    BadName,
    Elapsed(Elapsed),
    Handshake(HandshakeError),
}

impl TlsConnectError {
    pub(super) fn bad_name(server_name: &str) -> Self {
        Self::new(server_name, ConnectProblem::BadName)
    }

    pub(super) fn elapsed(server_name: &str, elapsed: Elapsed) -> Self {
        Self::new(server_name, ConnectProblem::Elapsed(elapsed))
    }

    pub(super) fn handshake(server_name: &str, error: io::Error) -> Self {
        let error = HandshakeError::new(error);
        Self::new(server_name, ConnectProblem::Handshake(error))
    }

    fn new(server_name: &str, problem: ConnectProblem) -> Self {
        let server_name = server_name.to_owned();
        Self {
            server_name,
            problem,
        }
    }

    /// The name that the server's certificate must have.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Whether the name of the server is neither a DNS name nor an IP address.
    pub const fn is_bad_name(&self) -> bool {
        matches!(self.problem, ConnectProblem::BadName)
    }

    /// Whether the handshake took too long.
    pub const fn is_timeout(&self) -> bool {
        matches!(self.problem, ConnectProblem::Elapsed(_))
    }

    /// Whether the server's certificate was not accepted, for whatever reason.
    pub fn is_bad_certificate(&self) -> bool {
        self.certificate().is_some()
    }

    /// Whether the certificate's issuer is not trusted.
    pub fn is_untrusted(&self) -> bool {
        // A bad signature is what a root of the same name with another key leads to.
        matches!(
            self.certificate(),
            Some(CertificateError::UnknownIssuer | CertificateError::BadSignature)
        )
    }

    /// Whether the certificate is that of another server.
    pub fn is_wrong_name(&self) -> bool {
        matches!(
            self.certificate(),
            Some(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            )
        )
    }

    /// What is wrong with the certificate.
    fn certificate(&self) -> Option<&CertificateError> {
        match self.rustls()? {
            rustls::Error::InvalidCertificate(problem) => Some(problem),
            _ => None,
        }
    }

    fn rustls(&self) -> Option<&rustls::Error> {
        match &self.problem {
            ConnectProblem::Handshake(error) => find(error),
            ConnectProblem::BadName | ConnectProblem::Elapsed(_) => None,
        }
    }

    fn kind(&self) -> io::ErrorKind {
        match &self.problem {
            ConnectProblem::BadName => io::ErrorKind::InvalidInput,
            ConnectProblem::Elapsed(_) => io::ErrorKind::TimedOut,
            ConnectProblem::Handshake(error) => error.io_error().kind(),
        }
    }

    fn advice(&self) -> &'static str {
        if self.is_untrusted() {
            return "trust the root that issued its certificate, if that is the server you mean";
        }
        if self.is_wrong_name() {
            return "connect by a name that is in its certificate";
        }
        match self.rustls() {
            Some(rustls::Error::InvalidCertificate(_)) => {
                "its certificate has to be replaced, or the clock of this machine is wrong"
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                "check that the server speaks TLS on this port"
            }
            _ => "",
        }
    }
}

impl fmt::Display for TlsConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.server_name.escape_debug();
        match &self.problem {
            ConnectProblem::BadName => write!(
                f,
                "no TLS with \"{name}\": a DNS name or an IP address is needed, without a port and \
                 without brackets"
            ),
            ConnectProblem::Elapsed(elapsed) => write!(f, "no TLS with {name}: {elapsed}"),
            ConnectProblem::Handshake(error) => {
                write!(f, "no TLS with {name}: {}", error.io_error())?;
                let advice = self.advice();
                if !advice.is_empty() {
                    write!(f, "; {advice}")?;
                }
                Ok(())
            }
        }
    }
}

impl Error for TlsConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            ConnectProblem::BadName => None,
            ConnectProblem::Elapsed(elapsed) => Some(elapsed),
            ConnectProblem::Handshake(error) => Some(error),
        }
    }
}

impl From<TlsConnectError> for io::Error {
    fn from(error: TlsConnectError) -> Self {
        Self::new(error.kind(), error)
    }
}
