//! Errors of binding a listener.

use std::{error::Error, fmt, io};

/// A listener could not be bound; contains the address, the step, the cause and advice.
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
    /// Empty if the cause explains itself.
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

    /// The resolved address, or the given one if resolving it failed.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The step or option that failed, such as `resolve`, `bind`, `listen`, `adopt` or `keepalive`.
    pub const fn step(&self) -> &'static str {
        self.step
    }

    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether an [adopted](super::TcpOptions::adopt) socket is unbound, only bound, or connected.
    ///
    /// Detection is unavailable on macOS and Windows; there the first accept fails.
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

/// A failed step, before its address is known.
#[derive(Debug)]
pub(super) struct FailedStep {
    step: &'static str,
    source: io::Error,
}

impl FailedStep {
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

/// Adds the failed step to an error.
pub(super) trait OrFail<T> {
    fn or_fail(self, step: &'static str) -> Result<T, FailedStep>;
}

impl<T> OrFail<T> for io::Result<T> {
    fn or_fail(self, step: &'static str) -> Result<T, FailedStep> {
        self.map_err(|source| FailedStep { step, source })
    }
}
