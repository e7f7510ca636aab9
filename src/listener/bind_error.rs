//! Why a listener could not be bound, and what to do about it.

use std::{error::Error, fmt, io};

/// A listener could not be bound: where, at which step, why, and what to do.
///
/// ```
/// use portcullis::listener::TcpListener;
///
/// let taken = TcpListener::bind("127.0.0.1:0")?;
/// let error = TcpListener::bind(taken.local_addr()?).unwrap_err();
///
/// assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
/// assert!(error.to_string().contains("another socket has this port"));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct BindError {
    address: String,
    step: &'static str,
    /// Empty where the cause itself says all there is to say.
    advice: &'static str,
    source: io::Error,
}

impl BindError {
    pub(super) fn new(
        address: impl fmt::Display,
        step: &'static str,
        advice: &'static str,
        source: io::Error,
    ) -> Self {
        let address = address.to_string();
        Self {
            address,
            step,
            advice,
            source,
        }
    }

    /// The address: resolved, or as it was given if that failed.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The step or the option that failed: `resolve`, `bind`, `listen`, `adopt`, `keepalive`…
    pub const fn step(&self) -> &'static str {
        self.step
    }

    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether a socket was [adopted](super::TcpOptions::adopt) that does not listen: it is unbound,
    /// only bound, or connected.
    ///
    /// macOS and Windows cannot be asked; there the first accept fails.
    pub fn is_not_listening(&self) -> bool {
        let source = self.source.get_ref();
        source.is_some_and(|source| source.is::<NotListening>())
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            step,
            advice,
            source,
        } = self;
        write!(f, "cannot listen on {address}: {step} failed: {source}")?;
        if !advice.is_empty() {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

impl Error for BindError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// An adopted socket does not listen.
#[derive(Debug)]
pub(super) struct NotListening;

impl fmt::Display for NotListening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the socket does not listen")
    }
}

impl Error for NotListening {}

/// The step that failed, where the address is not at hand.
#[derive(Debug)]
pub(super) struct Failed {
    step: &'static str,
    source: io::Error,
}

impl Failed {
    pub(super) const fn step(&self) -> &'static str {
        self.step
    }

    pub(super) fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    pub(super) fn at(self, address: impl fmt::Display, advice: &'static str) -> BindError {
        BindError::new(address, self.step, advice, self.source)
    }
}

/// Says which step an error comes from.
pub(super) trait OrFail<T> {
    fn or_fail(self, step: &'static str) -> Result<T, Failed>;
}

impl<T> OrFail<T> for io::Result<T> {
    fn or_fail(self, step: &'static str) -> Result<T, Failed> {
        self.map_err(|source| Failed { step, source })
    }
}
