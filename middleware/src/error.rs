//! The errors that layers add, each a small type, and how to find one in a [`BoxError`].
//!
//! Layers follow tower. A layer that adds no error keeps the error type of its inner service. A layer that adds
//! one has [`BoxError`] as its error type. Errors keep their type inside it, also below an [`io::Error`], and
//! [`find`] walks the whole chain.
//!
//! A custom layer reuses these types. It rejects with [`Refused`], times out with [`Elapsed`], and wraps any
//! other error in [`WithOutcome`] to choose the outcome of the connection.
//!
//! ```
//! use portcullis_middleware::error::{Elapsed, TimeoutPhase, find};
//! use std::{io, time::Duration};
//!
//! let elapsed = Elapsed::new(TimeoutPhase::READ, Duration::from_secs(60));
//! let error = io::Error::from(elapsed);
//!
//! assert_eq!(error.kind(), io::ErrorKind::TimedOut);
//! let elapsed = find::<Elapsed>(&error).expect("the source is kept");
//! assert_eq!(elapsed.phase(), TimeoutPhase::READ);
//! ```

use crate::outcome::Outcome;
use std::{
    any::Any,
    error::Error,
    fmt, io,
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
pub use tower::BoxError;

/// Finds an error of type `E` in `error` or among its sources.
///
/// It also looks inside of [`io::Error`] and [`WithOutcome`].
pub fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The sources of these two skip the error that they wrap.
        let in_io = error.downcast_ref().and_then(io::Error::get_ref);
        let wrapped = in_io.or_else(|| error.downcast_ref().map(WithOutcome::get_ref));
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

/// An operation timed out.
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

    /// The phase that timed out.
    pub const fn phase(&self) -> TimeoutPhase {
        self.phase
    }

    /// The timeout that elapsed.
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

/// The phase of a connection that timed out.
///
/// The constants are the phases of the layers in this package. Other code names its own:
///
/// ```
/// use portcullis_middleware::error::TimeoutPhase;
///
/// const LOGIN: TimeoutPhase = TimeoutPhase::new("login");
/// assert_eq!(LOGIN.as_str(), "login");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeoutPhase(&'static str);

impl TimeoutPhase {
    /// Waiting for the header of the PROXY protocol.
    pub const PROXY_HEADER: Self = Self("proxy_header");
    /// Waiting for the first bytes by which a protocol is detected, such as a ClientHello.
    pub const CLIENT_HELLO: Self = Self("client_hello");
    /// Waiting for the first byte of the client.
    pub const FIRST_BYTE: Self = Self("first_byte");
    /// Waiting for any byte, in either direction.
    pub const IDLE: Self = Self("idle");
    /// The time that a connection may be open.
    pub const LIFETIME: Self = Self("lifetime");
    /// The time in which a connection must have moved a number of bytes.
    pub const THROUGHPUT: Self = Self("throughput");
    /// The plain text before TLS, such as the commands before STARTTLS.
    pub const PRELUDE: Self = Self("prelude");
    /// The TLS handshake, including the wait for a turn to compute.
    pub const HANDSHAKE: Self = Self("handshake");
    /// One read.
    pub const READ: Self = Self("read");
    /// One write, flush or shutdown.
    pub const WRITE: Self = Self("write");
    /// Silence on a half-closed connection.
    pub const HALF_CLOSED: Self = Self("half_closed_connection");

    /// A phase with this name, in snake case. Phases of the same name are equal.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The name for metrics and log fields.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// Writes the name with spaces, for use in a sentence.
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

/// A layer rejected the connection.
///
/// Each layer names itself and its reasons, so a new layer needs no change here:
///
/// ```
/// use portcullis_middleware::error::Refused;
///
/// let refused = Refused::new("blocklist", "address is blocked");
/// assert_eq!((refused.by(), refused.reason()), ("blocklist", "address is blocked"));
/// assert_eq!(refused.to_string(), "connection refused: address is blocked");
/// ```
#[derive(Debug)]
pub struct Refused {
    by: &'static str,
    reason: &'static str,
    source: Option<BoxError>,
}

impl Refused {
    /// The layer `by` (in snake case) rejected the connection because of `reason` (in words).
    pub const fn new(by: &'static str, reason: &'static str) -> Self {
        Self {
            by,
            reason,
            source: None,
        }
    }

    /// Adds the cause, such as a failed lookup.
    #[must_use]
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        let source = Some(source.into());
        Self { source, ..self }
    }

    /// The name of the layer that rejected the connection.
    pub const fn by(&self) -> &'static str {
        self.by
    }

    /// The reason, one of the layer's own.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection refused: {}", self.reason)
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// No backend could be connected to, so the connection was not forwarded.
///
/// ```
/// use portcullis_middleware::error::Unreachable;
///
/// let unreachable = Unreachable::new().with_backend("shop");
/// assert_eq!(unreachable.to_string(), "no connection to backend \"shop\"");
/// ```
#[derive(Debug, Default)]
pub struct Unreachable {
    backend: Option<Arc<str>>,
    source: Option<BoxError>,
}

impl Unreachable {
    /// Without the name of a backend and a cause.
    pub const fn new() -> Self {
        Self {
            backend: None,
            source: None,
        }
    }

    /// Names the backend, such as a pool of servers.
    #[must_use]
    pub fn with_backend(mut self, backend: impl Into<Arc<str>>) -> Self {
        self.backend = Some(backend.into());
        self
    }

    /// Adds the cause, such as the failure of the last attempt.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The name of the backend, if it has one.
    pub fn backend(&self) -> Option<&str> {
        self.backend.as_deref()
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.backend {
            Some(backend) => write!(f, "no connection to backend {backend:?}"),
            None => f.write_str("no connection to the backend"),
        }
    }
}

impl Error for Unreachable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An error that determines the [`Outcome`] of its connection.
///
/// It also does so for an error that has an outcome of its own, such as [`Elapsed`]. Only a panic, a [`Refused`] and a
/// forced close take precedence. It is transparent. Its text and its source are those of the wrapped error, and [`find`] finds the wrapped
/// error.
///
/// ```
/// use portcullis_middleware::{error::WithOutcome, outcome::Outcome};
///
/// let error = WithOutcome::new(Outcome::Disconnected, "the load balancer closed its session");
/// assert_eq!(error.outcome(), Outcome::Disconnected);
/// assert_eq!(error.to_string(), "the load balancer closed its session");
/// ```
#[derive(Debug)]
pub struct WithOutcome {
    outcome: Outcome,
    error: BoxError,
}

impl WithOutcome {
    /// `error` ends its connection with `outcome`.
    pub fn new(outcome: Outcome, error: impl Into<BoxError>) -> Self {
        let error = error.into();
        Self { outcome, error }
    }

    /// The outcome of the connection.
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The wrapped error.
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.error
    }

    /// Returns the wrapped error.
    pub fn into_inner(self) -> BoxError {
        self.error
    }
}

impl fmt::Display for WithOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for WithOutcome {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// The TLS handshake failed, because of plain text, an unsupported version or a bad certificate for example.
#[derive(Debug)]
pub struct HandshakeError {
    source: io::Error,
}

impl HandshakeError {
    /// Failed because of `source`.
    pub const fn new(source: io::Error) -> Self {
        Self { source }
    }

    /// The cause, as an I/O error.
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
    /// Runs `run`, which is code outside of this package, and catches its panic.
    ///
    /// A panic may leave the values that `run` uses in an inconsistent state, so the caller should drop them.
    /// Unlike [`catch_unwind`], this also drops the panic payload, whose drop may panic in turn.
    ///
    /// # Errors
    ///
    /// The message of the panic.
    pub fn catch<T>(run: impl FnOnce() -> T) -> Result<T, Self> {
        catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
            let panicked = Self::of(&*payload);
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                // Its drop panics, so leak it.
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

    /// The message of the panic.
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
        let elapsed = Elapsed::new(TimeoutPhase::READ, Duration::from_secs(1));
        let nested = io::Error::other(io::Error::other(Wrapper(io::Error::other(elapsed))));
        let error: BoxError = Box::new(nested);
        assert_eq!(find::<Elapsed>(&*error), Some(&elapsed));
        assert!(find::<Wrapper>(&*error).is_some());
        assert!(find::<Refused>(&*error).is_none());
    }

    #[test]
    fn an_error_with_an_outcome_keeps_the_text_the_source_and_the_type_of_what_it_wraps() {
        let inner = Wrapper(io::Error::other("the cause"));
        let error = WithOutcome::new(Outcome::Disconnected, inner);
        assert_eq!(error.to_string(), "wrapper");
        assert_eq!(error.source().unwrap().to_string(), "the cause");
        let error = io::Error::other(error);
        assert!(find::<Wrapper>(&error).is_some());
        let found = find::<WithOutcome>(&error).unwrap();
        assert_eq!(found.outcome(), Outcome::Disconnected);
    }

    #[test]
    fn a_refusal_names_its_layer_its_reason_and_its_cause() {
        let refused = Refused::new("geo_ip", "country is blocked");
        assert_eq!(
            (refused.by(), refused.reason()),
            ("geo_ip", "country is blocked")
        );
        assert!(refused.source().is_none());
        let refused = refused.with_source(io::Error::other("no database"));
        assert_eq!(
            refused.to_string(),
            "connection refused: country is blocked"
        );
        assert_eq!(refused.source().unwrap().to_string(), "no database");
    }

    #[test]
    fn the_phases_of_this_package_have_names_in_snake_case() {
        for phase in [
            TimeoutPhase::PROXY_HEADER,
            TimeoutPhase::CLIENT_HELLO,
            TimeoutPhase::FIRST_BYTE,
            TimeoutPhase::IDLE,
            TimeoutPhase::LIFETIME,
            TimeoutPhase::THROUGHPUT,
            TimeoutPhase::PRELUDE,
            TimeoutPhase::HANDSHAKE,
            TimeoutPhase::READ,
            TimeoutPhase::WRITE,
            TimeoutPhase::HALF_CLOSED,
        ] {
            let is_snake_case = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(phase.as_str().chars().all(is_snake_case), "{phase:?}");
        }
    }

    #[test]
    fn phases_of_one_name_are_one_phase() {
        let read = TimeoutPhase::new("read");
        assert_eq!(read, TimeoutPhase::READ);
        assert_ne!(TimeoutPhase::new("login_prompt"), TimeoutPhase::READ);
        assert_eq!(
            TimeoutPhase::new("login_prompt").to_string(),
            "login prompt"
        );
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

    /// Panics with another one of itself when it is dropped.
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
