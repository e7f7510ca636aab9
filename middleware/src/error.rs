//! The failures that layers add, each a small type, and how to find one in a [`BoxError`].
//!
//! Layers follow tower: one that adds no failure keeps its inner service's error, one that adds one
//! has [`BoxError`]. Failures keep their type inside it, also below an [`io::Error`]: [`find`] walks
//! the whole chain.
//!
//! ```
//! use portcullis_middleware::error::{Elapsed, TimeoutPhase, find};
//! use std::{io, time::Duration};
//!
//! let elapsed = Elapsed::new(TimeoutPhase::Read, Duration::from_secs(60));
//! let error = io::Error::from(elapsed);
//!
//! assert_eq!(error.kind(), io::ErrorKind::TimedOut);
//! let elapsed = find::<Elapsed>(&error).expect("the source is there");
//! assert_eq!(elapsed.phase(), TimeoutPhase::Read);
//! ```

use std::{
    any::Any,
    error::Error,
    fmt, io,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};
pub use tower::BoxError;

/// Finds an error of type `E` in `error` or among its sources, also inside of [`io::Error`]s.
pub fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // `io::Error::source` skips the error that it wraps.
        let wrapped = error.downcast_ref().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// A bound in time was reached.
///
/// As an [`io::Error`] its kind is [`TimedOut`](io::ErrorKind::TimedOut).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    phase: TimeoutPhase,
    after: Duration,
}

impl Elapsed {
    /// `phase` took longer than `after`.
    pub const fn new(phase: TimeoutPhase, after: Duration) -> Self {
        Self { phase, after }
    }

    /// What took too long.
    pub const fn phase(&self) -> TimeoutPhase {
        self.phase
    }

    /// The bound that was reached.
    pub const fn after(&self) -> Duration {
        self.after
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} timed out after {:?}", self.phase, self.after)
    }
}

impl Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// What a bound in time was set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimeoutPhase {
    /// Waiting for room under a limit.
    Admission,
    /// Waiting for the header of the PROXY protocol.
    ProxyHeader,
    /// The TLS handshake, the wait for its turn to compute included.
    Handshake,
    /// One read.
    Read,
    /// One write, flush or shutdown.
    Write,
    /// Silence on a connection of which one side has ended its direction.
    HalfClosed,
    /// Connecting to an upstream.
    Connect,
    /// Waiting for a connection.
    Accept,
    /// Waiting for the first byte of the first request.
    FirstByte,
    /// The head of a request, from its first byte to its last.
    RequestHead,
    /// The body of a request: too slow while the server waited for it.
    RequestBody,
}

impl TimeoutPhase {
    /// The name for metrics and fields of logs: one word in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::ProxyHeader => "proxy_header",
            Self::Handshake => "handshake",
            Self::Read => "read",
            Self::Write => "write",
            Self::HalfClosed => "half-closed connection",
            Self::Connect => "connect",
            Self::Accept => "accept",
            Self::FirstByte => "first_byte",
            Self::RequestHead => "request_head",
            Self::RequestBody => "request_body",
        }
    }
}

/// As in a sentence: with spaces.
impl fmt::Display for TimeoutPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_words(self.as_str(), f)
    }
}

/// Writes a name in snake case as the words of a sentence.
pub(crate) fn in_words(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, word) in name.split('_').enumerate() {
        if index > 0 {
            f.write_str(" ")?;
        }
        f.write_str(word)?;
    }
    Ok(())
}

/// The connection was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    reason: RefusedReason,
}

impl Refused {
    /// Rejected because of `reason`.
    pub const fn new(reason: RefusedReason) -> Self {
        Self { reason }
    }

    /// Why it was rejected.
    pub const fn reason(&self) -> RefusedReason {
        self.reason
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            RefusedReason::Full => f.write_str("connection refused: limit reached"),
            RefusedReason::TooManyWaiting => {
                f.write_str("connection refused: limit reached and too many wait already")
            }
            RefusedReason::WaitedTooLong => {
                f.write_str("connection refused: limit reached for too long")
            }
            RefusedReason::UntrustedSource => {
                f.write_str("connection refused: its source is not a trusted proxy")
            }
            RefusedReason::TooManyHandshakes => {
                f.write_str("connection refused: too many TLS handshakes are unfinished")
            }
        }
    }
}

impl Error for Refused {}

/// Why a connection was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedReason {
    /// The limit was reached.
    Full,
    /// The limit was reached, and as many as may wait did so already.
    TooManyWaiting,
    /// It waited as long as it may, and there was no room.
    WaitedTooLong,
    /// Only trusted proxies may connect, and it does not come from one.
    UntrustedSource,
    /// Too many TLS handshakes were unfinished, and this one had waited for its client the longest.
    TooManyHandshakes,
}

/// The TLS handshake failed: a peer that speaks no TLS, no common version, a bad certificate.
#[derive(Debug)]
pub struct HandshakeError {
    source: io::Error,
}

impl HandshakeError {
    /// Failed because of `source`.
    pub const fn new(source: io::Error) -> Self {
        Self { source }
    }

    /// The cause, as an IO error.
    pub const fn io_error(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TLS handshake failed")
    }
}

impl Error for HandshakeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// A service panicked; the panic was caught.
#[derive(Clone, Debug)]
pub struct Panicked {
    message: String,
}

impl Panicked {
    /// Runs `run`, code of others, and catches its panic.
    ///
    /// What `run` leaves broken is up to the caller, who must drop it or say so. Where
    /// [`catch_unwind`] gives back what was thrown, whose drop may panic in turn, this has dropped it.
    ///
    /// # Errors
    ///
    /// What the panic said.
    pub fn catch<T>(run: impl FnOnce() -> T) -> Result<T, Self> {
        catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
            let panicked = Self::of(&*payload);
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                // It has shown what it does in a drop: better leaked.
                let _leaked = ManuallyDrop::new(again);
            }
            panicked
        })
    }

    fn of(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("no message").to_owned();
        Self { message }
    }

    /// What the panic said.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped: a panic message may quote what the peer sent.
        write!(f, "service panicked: {}", self.message.escape_debug())
    }
}

impl Error for Panicked {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;

    #[derive(Debug)]
    struct Wrapper(io::Error);

    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapper")
        }
    }

    impl Error for Wrapper {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_is_found_below_wrappers_and_io_errors() {
        let refused = Refused::new(RefusedReason::Full);
        let nested = io::Error::other(io::Error::other(Wrapper(io::Error::other(refused))));
        let error: BoxError = Box::new(nested);
        assert_eq!(find::<Refused>(&*error), Some(&refused));
        assert!(find::<Wrapper>(&*error).is_some());
        assert!(find::<Elapsed>(&*error).is_none());
    }

    #[test]
    fn panics_tell_their_message_whatever_it_was_made_of() {
        let owned: Box<dyn Any + Send> = Box::new(String::from("owned"));
        let borrowed: Box<dyn Any + Send> = Box::new("line\nbreak");
        let other: Box<dyn Any + Send> = Box::new(7);
        assert_eq!(Panicked::of(&*owned).message(), "owned");
        assert_eq!(
            Panicked::of(&*borrowed).to_string(),
            "service panicked: line\\nbreak"
        );
        assert_eq!(Panicked::of(&*other).message(), "no message");
    }

    /// Throws another one of itself when it is dropped.
    struct Hydra;

    impl Drop for Hydra {
        fn drop(&mut self) {
            panic_any(Self);
        }
    }

    #[test]
    fn a_panic_is_caught_whatever_becomes_of_what_it_threw() {
        assert_eq!(Panicked::catch(|| 7).unwrap(), 7);
        let panicked = Panicked::catch(|| panic!("once")).unwrap_err();
        assert_eq!(panicked.message(), "once");
        let panicked = Panicked::catch(|| panic_any(Hydra)).unwrap_err();
        assert_eq!(panicked.message(), "no message");
    }
}
