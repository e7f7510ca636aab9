//! Problems of a store.

use crate::log_text::{Causes, Escaped};
use crate::tls::{TlsConfigError, rustls::server::VerifierBuilderError};
use std::{
    error, fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Certificates, trusted roots, revocation lists or ticket keys are unusable.
///
/// It contains all [problems](Self::problems) that were found, and at least one.
#[derive(Debug)]
pub struct CertStoreError(Vec<CertStoreProblem>);

impl CertStoreError {
    pub(in crate::tls) fn of(problems: Vec<CertStoreProblem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        Err(Self(problems))
    }

    /// The problems, each with its file.
    pub fn problems(&self) -> &[CertStoreProblem] {
        &self.0
    }

    /// When the first of the certificates that are not valid yet becomes valid.
    pub(super) fn valid_from(&self) -> Option<SystemTime> {
        let problems = self.0.iter();
        problems
            .filter_map(|problem| match problem.fault {
                Fault::NotYetValid { from, .. } => Some(from),
                _ => None,
            })
            .min()
    }

    /// Whether another attempt may succeed, because a file may be incomplete or newer than its partner.
    pub(super) fn may_pass(&self) -> bool {
        self.0.iter().any(|problem| match &problem.fault {
            Fault::Config(error) => error.path().is_some(),
            Fault::Read(_) | Fault::Staple | Fault::Tickets(_) => true,
            _ => false,
        })
    }
}

impl fmt::Display for CertStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let before = if index == 0 { "" } else { "; " };
            write!(f, "{before}{problem}")?;
        }
        Ok(())
    }
}

impl error::Error for CertStoreError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.first()?.source()
    }
}

/// One problem. Its text names the file, the reason and the remedy, and leaves out keys.
#[derive(Debug)]
pub struct CertStoreProblem {
    path: Option<PathBuf>,
    number: usize,
    fault: Fault,
}

#[derive(Debug)]
pub(in crate::tls) enum Fault {
    Config(Box<TlsConfigError>),
    Read(io::Error),
    Expired(Duration),
    NotYetValid {
        from: SystemTime,
        wait: Duration,
    },
    Claimed {
        name: String,
        by: Option<PathBuf>,
        number: usize,
    },
    Nameless,
    Empty,
    /// The file is no OCSP response.
    Staple,
    /// The file contains no ticket keys, for this reason.
    Tickets(&'static str),
    /// The roots contain none, and there are revocation lists.
    NoAuthority,
    Verifier(VerifierBuilderError),
    Rustls(crate::tls::rustls::Error),
}

impl From<TlsConfigError> for Fault {
    fn from(error: TlsConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}

impl CertStoreProblem {
    /// A problem with the file at `path`, or with certificate `number` of the store, from zero.
    pub(in crate::tls) fn new(path: Option<&Path>, number: usize, fault: Fault) -> Self {
        Self {
            path: path.map(Into::into),
            number,
            fault,
        }
    }

    /// The file, if it was read from a file.
    pub fn path(&self) -> Option<&Path> {
        match &self.fault {
            Fault::Config(error) => error.path(),
            _ => self.path.as_deref(),
        }
    }

    /// The problem of a certificate, key, root or revocation list that cannot be used.
    pub fn config_error(&self) -> Option<&TlsConfigError> {
        match &self.fault {
            Fault::Config(error) => Some(error),
            _ => None,
        }
    }

    /// Whether a certificate has expired.
    pub const fn is_expired(&self) -> bool {
        matches!(self.fault, Fault::Expired(_))
    }

    /// Whether a certificate is not valid yet.
    pub const fn is_not_yet_valid(&self) -> bool {
        matches!(self.fault, Fault::NotYetValid { .. })
    }

    /// Whether two certificates contain the same name, for keys of the same type.
    pub const fn is_claimed_twice(&self) -> bool {
        matches!(self.fault, Fault::Claimed { .. })
    }

    /// The problem with its causes, for reports of what stays in use.
    pub(in crate::tls) fn text(&self) -> Arc<str> {
        Escaped(Causes(self)).to_string().into()
    }

    /// The numbers of the certificates that it concerns.
    pub(super) fn certificates(&self) -> impl Iterator<Item = usize> {
        let other = match self.fault {
            Fault::Claimed { number, .. } => Some(number),
            _ => None,
        };
        std::iter::once(self.number).chain(other)
    }

    fn file(&self) -> Place<'_> {
        Place(self.path.as_deref(), self.number)
    }
}

impl fmt::Display for CertStoreProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file();
        match &self.fault {
            Fault::Config(error) => error.fmt(f),
            Fault::Read(_) => write!(
                f,
                "{file} cannot be read: check that the file exists and that this user may read it"
            ),
            Fault::Expired(since) => {
                write!(f, "certificate in {file} expired {} ago: renew it", Span(*since))
            }
            Fault::NotYetValid { wait, .. } => write!(
                f,
                "certificate in {file} is valid only in {}: correct the clock of this machine, or wait",
                Span(*wait)
            ),
            Fault::Claimed { name, by, number } => write!(
                f,
                "certificate in {file} contains the name \"{}\", which the certificate in {} contains \
                 too, for a key of the same type: remove one of them",
                name.escape_debug(),
                Place(by.as_deref(), *number)
            ),
            Fault::Nameless => write!(
                f,
                "certificate in {file} contains no DNS name, so no client can request it: make it the \
                 default, or issue it for a name"
            ),
            Fault::Empty => f.write_str("the store is empty: add a certificate"),
            Fault::Staple => write!(
                f,
                "{file} is not a successful OCSP response in DER: write it with `openssl ocsp -respout`"
            ),
            Fault::Tickets(reason) => write!(
                f,
                "{file} is not usable for ticket keys, because {reason}: write it with `openssl rand 48`"
            ),
            Fault::NoAuthority => {
                f.write_str("bundle of root certificates")?;
                if let Some(path) = &self.path {
                    write!(f, " in {path:?}")?;
                }
                f.write_str(
                    " contains no certificate of an authority, so no revocation list fits: add an authority \
                     (`CA:TRUE`), or remove the lists",
                )
            }
            Fault::Verifier(_) => f.write_str(
                "the trusted roots and revocation lists for clients do not fit together: check that each \
                 list is one of a trusted authority and is complete",
            ),
            Fault::Rustls(_) => {
                f.write_str("the crypto provider does not support the versions of TLS that are enabled")
            }
        }
    }
}

impl error::Error for CertStoreProblem {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.fault {
            Fault::Config(error) => error.source(),
            Fault::Read(error) => Some(error),
            Fault::Verifier(error) => Some(error),
            Fault::Rustls(error) => Some(error),
            _ => None,
        }
    }
}

/// A file, or the position of a certificate in its store.
struct Place<'a>(Option<&'a Path>, usize);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, "{path:?}"),
            None => write!(f, "position {} of the store", self.1 + 1),
        }
    }
}

/// A time span in its largest unit.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..=119 => write!(f, "{seconds} seconds"),
            seconds @ 120..=7_199 => write!(f, "{} minutes", seconds / 60),
            seconds @ 7_200..=172_799 => write!(f, "{} hours", seconds / 3_600),
            seconds => write!(f, "{} days", seconds / 86_400),
        }
    }
}
