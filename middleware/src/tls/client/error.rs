//! Errors of a client's TLS handshake.

use crate::{
    error::{Elapsed, HandshakeError, find},
    tls::rustls::{self, CertificateError},
};
use std::{error::Error, fmt, io};

/// A TLS handshake with a server failed. The text names the server, the reason and the remedy.
///
/// Its source is [`HandshakeError`] or [`Elapsed`], so outcomes are classified as on the server side.
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

    /// The name that the server's certificate must be valid for.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Whether the server name is invalid. It must be a DNS name or an IP address.
    pub const fn is_bad_name(&self) -> bool {
        matches!(self.problem, ConnectProblem::BadName)
    }

    /// Whether the handshake timed out.
    pub const fn is_timeout(&self) -> bool {
        matches!(self.problem, ConnectProblem::Elapsed(_))
    }

    /// Whether the server's certificate was rejected, for any reason.
    pub fn is_bad_certificate(&self) -> bool {
        self.certificate().is_some()
    }

    /// Whether the certificate's issuer is not trusted.
    pub fn is_untrusted(&self) -> bool {
        // A trusted root with the same name but another key causes a bad signature.
        matches!(
            self.certificate(),
            Some(CertificateError::UnknownIssuer | CertificateError::BadSignature)
        )
    }

    /// Whether the certificate is for another server.
    pub fn is_wrong_name(&self) -> bool {
        matches!(
            self.certificate(),
            Some(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
            )
        )
    }

    /// The reason why the certificate was rejected.
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
            return "trust the root that issued its certificate if this is the intended server";
        }
        if self.is_wrong_name() {
            return "connect with a name that its certificate contains";
        }
        match self.rustls() {
            Some(rustls::Error::InvalidCertificate(_)) => {
                "replace its certificate, or correct the clock of this machine"
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
                "\"{name}\" is not a valid server name; expected a DNS name or an IP address, without \
                 a port and without brackets"
            ),
            ConnectProblem::Elapsed(elapsed) => {
                write!(f, "TLS connection to {name} failed: {elapsed}")
            }
            ConnectProblem::Handshake(error) => {
                write!(f, "TLS connection to {name} failed: {}", error.io_error())?;
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
