//! Errors of outgoing connections.

use super::{Attempt, BadTarget, services};
use portcullis_middleware::error::Elapsed;
use std::{
    convert::Infallible,
    error::Error,
    fmt::{self, Write},
    io,
};

/// A connection could not be made; contains the target, the step, the cause and advice.
///
/// The methods tell the kinds apart. An [`io::Error`] made from it keeps its [kind](Self::kind), and
/// [`Elapsed`] is among the sources after a timeout.
///
/// ```
/// use portcullis::connect::connect;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let unused = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
/// let error = connect(unused).await.unwrap_err();
///
/// assert!(error.is_refused());
/// assert_eq!(error.attempts()[0].address(), unused);
/// assert!(error.to_string().contains("nothing listens there"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ConnectError(Box<FailedConnect>);

#[derive(Debug)]
struct FailedConnect {
    target: String,
    cause: ConnectFailure,
    attempts: Vec<Attempt>,
}

#[derive(Debug)]
enum ConnectFailure {
    BadTarget(BadTarget),
    UnknownService(String),
    Services(io::Error),
    Resolve(io::Error),
    /// The attempts contain the errors.
    Connect,
    ElapsedResolving(Elapsed),
    ElapsedConnecting(Elapsed),
}

impl ConnectError {
    fn new(target: impl fmt::Display, cause: ConnectFailure, attempts: Vec<Attempt>) -> Self {
        let target = target.to_string();
        Self(Box::new(FailedConnect {
            target,
            cause,
            attempts,
        }))
    }

    pub(crate) fn bad_target_of(target: impl fmt::Display, bad: BadTarget) -> Self {
        Self::new(target, ConnectFailure::BadTarget(bad), Vec::new())
    }

    pub(super) fn unknown_service(target: impl fmt::Display, service: &str) -> Self {
        let service = service.to_owned();
        Self::new(target, ConnectFailure::UnknownService(service), Vec::new())
    }

    pub(super) fn services(target: impl fmt::Display, error: io::Error) -> Self {
        Self::new(target, ConnectFailure::Services(error), Vec::new())
    }

    pub(super) fn resolve(target: impl fmt::Display, error: io::Error) -> Self {
        Self::new(target, ConnectFailure::Resolve(error), Vec::new())
    }

    pub(super) fn no_address(target: impl fmt::Display) -> Self {
        let none = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        Self::resolve(target, none)
    }

    pub(super) fn connect(target: impl fmt::Display, attempts: Vec<Attempt>) -> Self {
        Self::new(target, ConnectFailure::Connect, attempts)
    }

    pub(super) fn elapsed_resolving(target: impl fmt::Display, elapsed: Elapsed) -> Self {
        Self::new(
            target,
            ConnectFailure::ElapsedResolving(elapsed),
            Vec::new(),
        )
    }

    pub(super) fn elapsed_connecting(
        target: impl fmt::Display,
        elapsed: Elapsed,
        attempts: Vec<Attempt>,
    ) -> Self {
        Self::new(target, ConnectFailure::ElapsedConnecting(elapsed), attempts)
    }

    /// Host and port, as they were given.
    pub fn target(&self) -> &str {
        &self.0.target
    }

    /// The failed step: `target`, `service`, `resolve` or `connect`.
    pub const fn step(&self) -> &'static str {
        match self.0.cause {
            ConnectFailure::BadTarget(_) => "target",
            ConnectFailure::UnknownService(_) | ConnectFailure::Services(_) => "service",
            ConnectFailure::Resolve(_) | ConnectFailure::ElapsedResolving(_) => "resolve",
            ConnectFailure::Connect | ConnectFailure::ElapsedConnecting(_) => "connect",
        }
    }

    /// The addresses that were tried, with the error of each.
    ///
    /// They are in the order of their failures. Attempts that were still running at the timeout come last,
    /// with a timeout error; addresses that were not tried are left out.
    pub fn attempts(&self) -> &[Attempt] {
        &self.0.attempts
    }

    /// The kind of the failure.
    ///
    /// If addresses failed in different ways, refusals take precedence over timeouts of the system, and both over other
    /// failures.
    pub fn kind(&self) -> io::ErrorKind {
        match &self.0.cause {
            ConnectFailure::BadTarget(_) => io::ErrorKind::InvalidInput,
            ConnectFailure::UnknownService(_) => io::ErrorKind::NotFound,
            ConnectFailure::Services(error) | ConnectFailure::Resolve(error) => error.kind(),
            ConnectFailure::Connect => self
                .chief()
                .map_or(io::ErrorKind::NotFound, io::Error::kind),
            ConnectFailure::ElapsedResolving(_) | ConnectFailure::ElapsedConnecting(_) => {
                io::ErrorKind::TimedOut
            }
        }
    }

    /// Whether the [timeout](super::Connector::with_timeout) or one of the system's expired.
    pub fn is_timeout(&self) -> bool {
        self.kind() == io::ErrorKind::TimedOut
    }

    /// Whether a host was reached but refused the connection.
    pub fn is_refused(&self) -> bool {
        self.kind() == io::ErrorKind::ConnectionRefused
    }

    /// Whether the host name has no address.
    ///
    /// Most systems do not distinguish an unknown name from a name server that does not answer. A [custom
    /// resolver](super::Connector::with_resolver) can, by its error.
    pub fn is_unknown_host(&self) -> bool {
        matches!(&self.0.cause, ConnectFailure::Resolve(error) if is_unknown(error))
    }

    /// Whether the port is a service name that the system does not know.
    pub const fn is_unknown_service(&self) -> bool {
        matches!(self.0.cause, ConnectFailure::UnknownService(_))
    }

    /// Why the target is invalid, if that is the failure.
    pub const fn bad_target(&self) -> Option<BadTarget> {
        match self.0.cause {
            ConnectFailure::BadTarget(bad) => Some(bad),
            _ => None,
        }
    }

    /// The most informative failure.
    fn chief(&self) -> Option<&io::Error> {
        let errors = || self.0.attempts.iter().map(Attempt::error);
        let first = |kind| errors().find(|error| error.kind() == kind);
        first(io::ErrorKind::ConnectionRefused)
            .or_else(|| first(io::ErrorKind::TimedOut))
            .or_else(|| errors().next())
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy may take the target from its client, so the text must stay on one line.
        write!(f, "cannot connect to {}: ", self.target().escape_debug())?;
        match &self.0.cause {
            ConnectFailure::BadTarget(bad) => bad.fmt(f),
            ConnectFailure::UnknownService(service) => {
                let path = services::path();
                write!(
                    f,
                    "service {service:?} is not in {path:?}; give the port as a number"
                )
            }
            ConnectFailure::Services(error) => {
                let path = services::path();
                write!(
                    f,
                    "{path:?} cannot be read: {error}; give the port as a number"
                )
            }
            ConnectFailure::Resolve(error) => {
                let suspect = if is_unknown(error) {
                    "name"
                } else {
                    "resolver"
                };
                write!(
                    f,
                    "resolve failed: {error}; check the {suspect}, or give an IP address"
                )
            }
            ConnectFailure::ElapsedResolving(elapsed) => write!(
                f,
                "{elapsed} while the name was looked up; check the name servers, or give an IP \
                 address"
            ),
            ConnectFailure::ElapsedConnecting(elapsed) => {
                write!(f, "{elapsed}")?;
                self.fmt_attempts(f)?;
                write!(f, "; {NO_ANSWER}")
            }
            ConnectFailure::Connect => {
                f.write_str("connect failed")?;
                self.fmt_attempts(f)?;
                let advice = advice(self.kind());
                if !advice.is_empty() {
                    write!(f, "; {advice}")?;
                }
                Ok(())
            }
        }
    }
}

impl ConnectError {
    fn fmt_attempts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = self.attempts();
        for (index, attempt) in attempts.iter().take(SHOWN).enumerate() {
            f.write_char(if index == 0 { ':' } else { ',' })?;
            write!(f, " {}: {}", attempt.address(), attempt.error())?;
        }
        if attempts.len() > SHOWN {
            write!(f, " and {} more", attempts.len() - SHOWN)?;
        }
        Ok(())
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.cause {
            ConnectFailure::BadTarget(bad) => Some(bad),
            ConnectFailure::UnknownService(_) => None,
            ConnectFailure::Services(error) | ConnectFailure::Resolve(error) => Some(error),
            ConnectFailure::Connect => self.chief().map(|error| error as _),
            ConnectFailure::ElapsedResolving(elapsed)
            | ConnectFailure::ElapsedConnecting(elapsed) => Some(elapsed),
        }
    }
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Whether a resolver's error means an unknown name, and not a missing file.
fn is_unknown(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && error.raw_os_error().is_none()
}

/// For targets whose type is always valid, such as a [`SocketAddr`](std::net::SocketAddr).
impl From<Infallible> for ConnectError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

const fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there: check the port, and that the server runs"
        }
        io::ErrorKind::TimedOut => NO_ANSWER,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "it is unreachable from this machine: check the address and the network"
        }
        io::ErrorKind::AddrNotAvailable => {
            "check the local address, or whether this machine has run out of local ports"
        }
        io::ErrorKind::PermissionDenied => "the system's policy forbids it",
        _ => "",
    }
}

const NO_ANSWER: &str = "no answer: check the address, and whether a firewall drops the packets";

/// The number of addresses in the text, because a name may have hundreds.
const SHOWN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::phase;
    use portcullis_middleware::error::find;
    use std::{net::SocketAddr, time::Duration};

    fn failed(kinds: &[io::ErrorKind]) -> ConnectError {
        let address = |index: u16| SocketAddr::from(([192, 0, 2, 1], 80 + index));
        let attempts = (0..)
            .map(address)
            .zip(kinds)
            .map(|(address, &kind)| Attempt::new(address, kind.into()));
        ConnectError::connect("example.org:http", attempts.collect())
    }

    fn elapsed() -> Elapsed {
        Elapsed::new(phase::CONNECT, Duration::from_secs(10))
    }

    #[test]
    fn the_kind_is_that_of_the_failure_that_says_most() {
        use io::ErrorKind::*;
        assert_eq!(failed(&[NetworkUnreachable]).kind(), NetworkUnreachable);
        let mixed = failed(&[NetworkUnreachable, HostUnreachable]);
        assert_eq!(mixed.kind(), NetworkUnreachable);
        let late = failed(&[NetworkUnreachable, TimedOut]);
        assert_eq!((late.kind(), late.is_timeout()), (TimedOut, true));
        let refused = failed(&[NetworkUnreachable, TimedOut, ConnectionRefused]);
        assert!(refused.is_refused() && !refused.is_timeout());
        let source = refused.source().unwrap().downcast_ref::<io::Error>();
        assert_eq!(source.unwrap().kind(), ConnectionRefused);
    }

    #[test]
    fn a_refusal_by_one_does_not_hide_that_the_time_is_over() {
        let attempts = failed(&[io::ErrorKind::ConnectionRefused]).0.attempts;
        let error = ConnectError::elapsed_connecting("example.org:80", elapsed(), attempts);
        assert!(error.is_timeout() && !error.is_refused());
        assert_eq!((error.step(), error.attempts().len()), ("connect", 1));
    }

    #[test]
    fn as_io_errors_they_keep_kind_and_cause() {
        let error = ConnectError::elapsed_resolving("example.org:80", elapsed());
        assert_eq!((error.step(), error.is_unknown_host()), ("resolve", false));
        let error = io::Error::from(error);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(find::<Elapsed>(&error), Some(&elapsed()));
        assert!(find::<ConnectError>(&error).is_some());

        let unknown = ConnectError::no_address("example.org:80");
        assert!(unknown.is_unknown_host());
        assert_eq!(io::Error::from(unknown).kind(), io::ErrorKind::NotFound);
        let bad = ConnectError::bad_target_of("", BadTarget::NoHost);
        assert_eq!(io::Error::from(bad).kind(), io::ErrorKind::InvalidInput);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let unreadable = ConnectError::services("example.org:http", denied);
        assert_eq!(unreadable.kind(), io::ErrorKind::PermissionDenied);
        assert!(!unreadable.is_unknown_service());
    }

    #[test]
    fn a_system_that_cannot_look_up_knows_nothing_of_the_name() {
        let broken = io::Error::from_raw_os_error(24);
        let error = ConnectError::resolve("example.org:80", broken);
        assert!(!error.is_unknown_host());
    }

    #[test]
    fn the_text_says_where_why_and_what_to_do() {
        use io::ErrorKind::{ConnectionRefused, NetworkUnreachable};
        assert_eq!(
            failed(&[NetworkUnreachable, ConnectionRefused]).to_string(),
            "cannot connect to example.org:http: connect failed: \
             192.0.2.1:80: network unreachable, 192.0.2.1:81: connection refused; \
             nothing listens there: check the port, and that the server runs"
        );
        assert_eq!(
            ConnectError::elapsed_connecting("a:80", elapsed(), Vec::new()).to_string(),
            format!("cannot connect to a:80: connect timed out after 10s; {NO_ANSWER}")
        );
        let bad = ConnectError::bad_target_of("127.0.0.1:99999", BadTarget::PortOutOfRange);
        assert_eq!(
            bad.to_string(),
            "cannot connect to 127.0.0.1:99999: the port is out of range; the highest is 65535"
        );
    }

    #[test]
    fn the_text_is_one_line_of_a_bounded_length() {
        let error = failed(&[io::ErrorKind::ConnectionRefused; 100]);
        let text = error.to_string();
        assert!(
            text.contains("192.0.2.1:83: connection refused and 96 more;"),
            "{text}"
        );
        let bad = ConnectError::bad_target_of("a\nb", BadTarget::NoPort).to_string();
        assert!(bad.starts_with("cannot connect to a\\nb: "), "{bad}");
    }
}
