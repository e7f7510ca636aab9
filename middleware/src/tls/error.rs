//! Errors of certificates, keys, roots and revocation lists.

use super::{
    pem::{PemFault, PemPlace},
    rustls,
};
use std::{
    error, fmt, io,
    path::{Path, PathBuf},
};

/// Certificates, a private key or revocation lists are unusable.
///
/// The text names the problem, its position and the remedy, and leaves out the key.
#[derive(Debug)]
pub struct TlsConfigError {
    part: Part,
    problem: ConfigProblem,
    path: Option<PathBuf>,
    at: Option<At>,
}

/// The position of the problem.
#[derive(Clone, Copy, Debug)]
enum At {
    Pem(PemPlace),
    /// A certificate of a chain in DER, counted from one.
    Certificate(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Chain,
    Key,
    Roots,
    Crls,
}

#[derive(Debug)]
pub(super) enum ConfigProblem {
    Read(io::Error),
    Missing,
    Malformed(PemFault),
    /// DER or PKCS #12 where PEM is expected.
    Binary,
    /// An unusable kind of section, by its label.
    OtherKind(String),
    /// A certificate with OpenSSL's trust settings appended.
    Trusted,
    Encrypted,
    OpenSsh,
    /// More than one key.
    Several,
    Mismatch,
    Rejected(Option<rustls::Error>),
    #[cfg(feature = "native-roots")]
    NoNative(Option<String>),
}

impl TlsConfigError {
    pub(super) const fn new(part: Part, problem: ConfigProblem) -> Self {
        Self {
            part,
            problem,
            path: None,
            at: None,
        }
    }

    pub(super) fn in_file(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    pub(super) const fn at_place(mut self, place: PemPlace) -> Self {
        self.at = Some(At::Pem(place));
        self
    }

    pub(super) const fn of_certificate(mut self, number: usize) -> Self {
        self.at = Some(At::Certificate(number));
        self
    }
}

impl TlsConfigError {
    /// Adds the path of the faulty file.
    ///
    /// Call it if the chain and the key were read from these files.
    #[must_use]
    pub fn in_files(self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        match self.part {
            Part::Key => self.in_file(key.as_ref()),
            Part::Chain | Part::Roots | Part::Crls => self.in_file(chain.as_ref()),
        }
    }

    /// The faulty file, if a file was read.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The faulty section of PEM, counted from one.
    pub fn section(&self) -> Option<usize> {
        self.place().map(|place| place.section)
    }

    /// The faulty line of PEM, counted from one.
    ///
    /// It is the first line of its section, or the line itself.
    pub fn line(&self) -> Option<usize> {
        self.place().map(|place| place.line)
    }

    const fn place(&self) -> Option<PemPlace> {
        match self.at {
            Some(At::Pem(place)) => Some(place),
            _ => None,
        }
    }

    /// Whether the file could not be read.
    pub const fn is_read(&self) -> bool {
        matches!(self.problem, ConfigProblem::Read(_))
    }

    /// Whether the private key is the problem.
    pub const fn is_key(&self) -> bool {
        matches!(self.part, Part::Key)
    }

    /// Whether the private key does not match the certificate.
    pub const fn is_mismatch(&self) -> bool {
        matches!(self.problem, ConfigProblem::Mismatch)
    }

    /// Whether the private key is encrypted.
    pub const fn is_encrypted(&self) -> bool {
        matches!(self.problem, ConfigProblem::Encrypted)
    }
}

impl fmt::Display for TlsConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.part {
            Part::Chain => "certificate chain",
            Part::Key => "private key",
            Part::Roots => "bundle of root certificates",
            Part::Crls => "revocation list",
        })?;
        if let Some(path) = &self.path {
            write!(f, " in {path:?}")?;
        }
        match self.at {
            Some(At::Pem(PemPlace { section, line })) => {
                write!(f, " (section {section}, line {line})")?;
            }
            Some(At::Certificate(number)) => write!(f, " (certificate {number})")?,
            None => {}
        }
        match &self.problem {
            ConfigProblem::Malformed(fault) => write!(f, " is not valid PEM: {fault}"),
            ConfigProblem::OtherKind(label) => write!(
                f,
                " is a section BEGIN {label}, which cannot be used here: convert or remove it"
            ),
            #[cfg(feature = "native-roots")]
            ConfigProblem::NoNative(error) => {
                f.write_str(
                    " cannot be found: this system has no root certificate that can be used",
                )?;
                if let Some(error) = error {
                    write!(f, ": {}", error.escape_debug())?;
                }
                f.write_str(
                    "; install its CA certificates (often the package ca-certificates), or set \
                     SSL_CERT_FILE",
                )
            }
            problem => f.write_str(self.part.advice(problem)),
        }
    }
}

impl Part {
    /// The problem and its remedy, for problems without details.
    const fn advice(self, problem: &ConfigProblem) -> &'static str {
        match (problem, self) {
            (ConfigProblem::Read(_), _) => {
                " cannot be read: check that the file exists and that this user may read it"
            }
            (ConfigProblem::Missing, Self::Chain) => {
                " has no certificate: PEM with a section BEGIN CERTIFICATE is needed"
            }
            (ConfigProblem::Missing, Self::Key) => {
                " has no usable key: PEM with a section BEGIN PRIVATE KEY, BEGIN EC PRIVATE KEY or \
                 BEGIN RSA PRIVATE KEY is needed"
            }
            (ConfigProblem::Missing, Self::Roots) => {
                " is empty: there is no root certificate; PEM with a section BEGIN CERTIFICATE is \
                 needed"
            }
            (ConfigProblem::Missing, Self::Crls) => {
                " is missing: PEM with a section BEGIN X509 CRL is needed"
            }
            (ConfigProblem::Binary, Self::Key) => {
                " is binary (DER or PKCS #12), and PEM is needed: convert it with `openssl pkey \
                 -inform DER` or `openssl pkcs12 -nocerts -noenc`"
            }
            (ConfigProblem::Binary, Self::Chain | Self::Roots) => {
                " is binary (DER or PKCS #12), and PEM is needed: convert it with `openssl x509 \
                 -inform DER` or `openssl pkcs12 -nokeys`"
            }
            (ConfigProblem::Binary, Self::Crls) => {
                " is binary (DER), and PEM is needed: convert it with `openssl crl -inform DER`"
            }
            (ConfigProblem::Trusted, _) => {
                " is a section BEGIN TRUSTED CERTIFICATE, which holds more than a certificate: \
                 convert it with `openssl x509`"
            }
            (ConfigProblem::Encrypted, _) => {
                " is encrypted, which is not supported: decrypt an encrypted key first, with \
                 `openssl pkey`"
            }
            (ConfigProblem::OpenSsh, _) => {
                " is in the format of OpenSSH: convert it with `ssh-keygen -p -m PKCS8`, or make a \
                 key with `openssl genpkey`"
            }
            (ConfigProblem::Several, _) => {
                " is the second key in its text: keep only the key of the certificate"
            }
            (ConfigProblem::Mismatch, _) => {
                " does not belong to the certificate: the first certificate of the chain must be \
                 the server's own, and the key must be the one that it was issued for"
            }
            (_, Self::Key) => {
                " is not usable: an ECDSA (P-256, P-384), Ed25519 or RSA key (2048 bits or more) \
                 is needed"
            }
            (_, Self::Crls) => " is not usable: a well-formed X.509 revocation list is needed",
            (_, Self::Chain | Self::Roots) => {
                " is not usable: a well-formed X.509 certificate is needed"
            }
        }
    }
}

impl error::Error for TlsConfigError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.problem {
            ConfigProblem::Read(error) => Some(error),
            ConfigProblem::Rejected(Some(error)) => Some(error),
            _ => None,
        }
    }
}
