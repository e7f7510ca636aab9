//! What can be wrong with a certificate and its key.

use super::rustls;
use std::{
    error, fmt, io,
    path::{Path, PathBuf},
};

/// A certificate chain or a private key cannot be used.
///
/// The text says what is wrong, where, and what to do. Nothing of the key is in it.
#[derive(Debug)]
pub struct TlsConfigError {
    part: Part,
    problem: Problem,
    path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Chain,
    Key,
}

#[derive(Debug)]
pub(super) enum Problem {
    Read(io::Error),
    Missing,
    Malformed,
    Mismatch,
    Rejected(rustls::Error),
}

impl TlsConfigError {
    pub(super) const fn new(part: Part, problem: Problem) -> Self {
        Self {
            part,
            problem,
            path: None,
        }
    }

    pub(super) fn in_file(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    pub(super) fn in_files(self, chain: &Path, key: &Path) -> Self {
        match self.part {
            Part::Chain => self.in_file(chain),
            Part::Key => self.in_file(key),
        }
    }
}

impl TlsConfigError {
    /// The file that is at fault, where it came from a file.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether the file could not be read.
    pub const fn is_read(&self) -> bool {
        matches!(self.problem, Problem::Read(_))
    }

    /// Whether the private key is at fault, else the certificate chain.
    pub const fn is_key(&self) -> bool {
        matches!(self.part, Part::Key)
    }

    /// Whether the private key is not that of the certificate.
    pub const fn is_mismatch(&self) -> bool {
        matches!(self.problem, Problem::Mismatch)
    }
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.part {
            Part::Chain => "certificate chain",
            Part::Key => "private key",
        })?;
        if let Some(path) = &self.path {
            write!(f, " in {path:?}")?;
        }
        f.write_str(match (&self.problem, self.part) {
            (Problem::Read(_), _) => {
                " cannot be read: check that the file exists and that this user may read it"
            }
            (Problem::Missing, Part::Chain) => {
                " has no certificate: PEM with a section BEGIN CERTIFICATE is needed"
            }
            (Problem::Missing, Part::Key) => {
                " has no usable key: PEM with a section BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY or \
                 BEGIN RSA PRIVATE KEY is needed; decrypt an encrypted key first"
            }
            (Problem::Malformed, _) => {
                " is not valid PEM: check that the BEGIN and END lines stand on lines of their own \
                 and that nothing between them is missing"
            }
            (Problem::Mismatch, _) => {
                " does not belong to the certificate: the first certificate of the chain must be \
                 the server's own, and the key must be the one that it was issued for"
            }
            (Problem::Rejected(_), Part::Chain) => {
                " is not usable: the first certificate must be a well-formed X.509 certificate"
            }
            (Problem::Rejected(_), Part::Key) => {
                " is not usable: an ECDSA (P-256, P-384), Ed25519 or RSA key (2048 bits or more) \
                 is needed"
            }
        })
    }
}

impl error::Error for TlsConfigError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.problem {
            Problem::Read(error) => Some(error),
            Problem::Rejected(error) => Some(error),
            Problem::Missing | Problem::Malformed | Problem::Mismatch => None,
        }
    }
}
