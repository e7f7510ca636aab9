//! Classifies accept errors: continue, pause, or stop.
//!
//! Most accept errors leave the listener usable. Some concern one connection that failed before it was
//! accepted. Others report a temporary lack of file descriptors or memory. Stopping the server for those is
//! an outage, and retrying immediately burns a core. [`AcceptErrorPolicy`] tells them apart by three sets of
//! error numbers, which follow the Linux manual page `accept(2)`:
//!
//! - [`CONNECTION_ERRORS`]: one connection is lost; accept the next immediately.
//! - [`RESOURCE_ERRORS`]: pause until one of the server's own connections ends, for at most 50 ms.
//! - [`FATAL_ERRORS`], and every error outside of the sets: stop the listener and log an error.
//!
//! An error without a number, from a custom listener, is classified by its [`io::ErrorKind`].
//!
//! This module only classifies. The acceptor logs, pauses and stops.
//!
//! ```
//! use portcullis::listener::accept_error::{AcceptErrorKind, AcceptErrorPolicy};
//! use std::io;
//!
//! let policy = AcceptErrorPolicy::new();
//! let aborted = io::Error::from(io::ErrorKind::ConnectionAborted);
//! assert_eq!(policy.classify(&aborted), AcceptErrorKind::Connection);
//!
//! let patient = policy.with_classifier(|error| match AcceptErrorPolicy::new().classify(error) {
//!     AcceptErrorKind::Fatal => AcceptErrorKind::Resource,
//!     kind => kind,
//! });
//! let unknown = io::Error::other("the tunnel is down");
//! assert_eq!(patient.classify(&unknown), AcceptErrorKind::Resource);
//! ```

use std::{fmt, io, sync::Arc, time::Duration};

/// How the acceptor reacts to an accept error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AcceptErrorKind {
    /// One connection is lost; accept the next immediately.
    Connection,
    /// The system is short of a resource; pause, then continue.
    Resource,
    /// The listener is broken; stop it and log an error.
    Fatal,
}

/// How an acceptor treats accept errors.
#[derive(Clone)]
pub struct AcceptErrorPolicy {
    pause: Duration,
    /// `None` uses [`classify`].
    classifier: Option<Arc<Classifier>>,
}

type Classifier = dyn Fn(&io::Error) -> AcceptErrorKind + Send + Sync;

impl AcceptErrorPolicy {
    /// Uses [`classify`], and pauses for at most 50 ms.
    pub const fn new() -> Self {
        Self {
            pause: Duration::from_millis(50),
            classifier: None,
        }
    }

    /// Sets the longest pause when the system is short of a resource.
    ///
    /// Zero retries immediately, which burns a core while the shortage lasts.
    #[must_use]
    pub const fn with_pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Classifies with `classifier` instead of [`classify`].
    ///
    /// The acceptor calls it once for each error, sometimes twice. It must not block.
    #[must_use]
    pub fn with_classifier(
        mut self,
        classifier: impl Fn(&io::Error) -> AcceptErrorKind + Send + Sync + 'static,
    ) -> Self {
        self.classifier = Some(Arc::new(classifier));
        self
    }

    /// Returns the longest pause after a [`Resource`](AcceptErrorKind::Resource) error.
    pub const fn pause(&self) -> Duration {
        self.pause
    }

    /// Classifies `error`.
    pub fn classify(&self, error: &io::Error) -> AcceptErrorKind {
        match &self.classifier {
            Some(classifier) => classifier(error),
            None => classify(error),
        }
    }
}

impl fmt::Debug for AcceptErrorPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptErrorPolicy")
            .field("pause", &self.pause)
            .finish_non_exhaustive()
    }
}

impl Default for AcceptErrorPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// Classifies by the three sets of error numbers, or by kind without a number.
pub fn classify(error: &io::Error) -> AcceptErrorKind {
    let Some(code) = error.raw_os_error() else {
        return classify_kind(error.kind());
    };
    if CONNECTION_ERRORS.contains(&code) {
        AcceptErrorKind::Connection
    } else if RESOURCE_ERRORS.contains(&code) {
        AcceptErrorKind::Resource
    } else {
        AcceptErrorKind::Fatal
    }
}

fn classify_kind(kind: io::ErrorKind) -> AcceptErrorKind {
    match kind {
        io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::Interrupted
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NotConnected
        | io::ErrorKind::TimedOut
        | io::ErrorKind::UnexpectedEof => AcceptErrorKind::Connection,
        io::ErrorKind::OutOfMemory | io::ErrorKind::QuotaExceeded => AcceptErrorKind::Resource,
        _ => AcceptErrorKind::Fatal,
    }
}

/// Errors of one connection.
///
/// From `accept(2)`: the connection was aborted, the call was interrupted, a firewall forbids it (`EPERM`),
/// and errors that were pending on the new socket, which Linux passes on ("Error handling" and the last
/// paragraph of "ERRORS"). The BSDs and POSIX add a reset.
#[cfg(unix)]
pub const CONNECTION_ERRORS: &[i32] = &[
    libc::ECONNABORTED,
    libc::ECONNRESET,
    libc::EINTR,
    libc::EPERM,
    libc::EPROTO,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::ENOPROTOOPT,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
    libc::EOPNOTSUPP,
    libc::ETIMEDOUT,
    libc::EPROTONOSUPPORT,
    #[cfg(any(target_os = "android", target_os = "linux"))]
    libc::ENONET,
    #[cfg(any(target_os = "android", target_os = "linux"))]
    libc::ESOCKTNOSUPPORT,
];

/// Errors of a system that is short of file descriptors or memory.
///
/// From `accept(2)`. `ENOSPC` is from `epoll_ctl(2)`, with which the runtime registers the new socket, and
/// means that the limit `fs.epoll.max_user_watches` is reached.
#[cfg(unix)]
pub const RESOURCE_ERRORS: &[i32] = &[
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOBUFS,
    libc::ENOMEM,
    libc::ENOSPC,
    #[cfg(any(target_os = "android", target_os = "linux"))]
    libc::ENOSR,
];

/// Errors of a listener that has failed permanently, as named in `accept(2)`.
///
/// They are listed for reference; an error outside of the sets is fatal too.
#[cfg(unix)]
pub const FATAL_ERRORS: &[i32] = &[libc::EBADF, libc::EFAULT, libc::EINVAL, libc::ENOTSOCK];

/// Errors of one connection.
///
/// From "Windows Sockets Error Codes" and the page on `accept`: `WSAEINTR`, `WSAEOPNOTSUPP`, `WSAENETDOWN`,
/// `WSAENETUNREACH`, `WSAENETRESET`, `WSAECONNABORTED`, `WSAECONNRESET`, `WSAETIMEDOUT`, `WSAEHOSTDOWN`,
/// `WSAEHOSTUNREACH`.
#[cfg(windows)]
pub const CONNECTION_ERRORS: &[i32] = &[
    10004, 10045, 10050, 10051, 10052, 10053, 10054, 10060, 10064, 10065,
];

/// Errors of a system that is short of sockets or memory.
///
/// From "Windows Sockets Error Codes": `WSA_NOT_ENOUGH_MEMORY`, `WSAEMFILE`, `WSAENOBUFS`.
#[cfg(windows)]
pub const RESOURCE_ERRORS: &[i32] = &[8, 10024, 10055];

/// Errors of a listener that has failed permanently.
///
/// From the page on `accept`: `WSAEFAULT`, `WSAEINVAL`, `WSAENOTSOCK`, `WSANOTINITIALISED`. They are listed
/// for reference; an error outside of the sets is fatal too.
#[cfg(windows)]
pub const FATAL_ERRORS: &[i32] = &[10014, 10022, 10038, 10093];

/// Errors of one connection; the numbers of this system are unknown.
#[cfg(not(any(unix, windows)))]
pub const CONNECTION_ERRORS: &[i32] = &[];

/// Errors of a system that is short of a resource; the numbers of this system are unknown.
#[cfg(not(any(unix, windows)))]
pub const RESOURCE_ERRORS: &[i32] = &[];

/// Errors of a broken listener; the numbers of this system are unknown.
#[cfg(not(any(unix, windows)))]
pub const FATAL_ERRORS: &[i32] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_all(codes: &[i32], kind: AcceptErrorKind) {
        for &code in codes {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(classify(&error), kind, "{error}");
        }
    }

    /// Repeated here so that the test notices a number that leaves its set.
    #[cfg(target_os = "linux")]
    #[test]
    fn each_error_of_the_manual_page_is_where_it_belongs() {
        use libc::*;
        let connection = [
            ECONNABORTED,
            EPROTO,
            EINTR,
            EPERM,
            ENETDOWN,
            ENOPROTOOPT,
            EHOSTDOWN,
            ENONET,
            EHOSTUNREACH,
            EOPNOTSUPP,
            ENETUNREACH,
            ETIMEDOUT,
            ECONNRESET,
            ESOCKTNOSUPPORT,
            EPROTONOSUPPORT,
        ];
        assert_all(&connection, AcceptErrorKind::Connection);
        let resource = [EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSR, ENOSPC];
        assert_all(&resource, AcceptErrorKind::Resource);
        let fatal = [EBADF, EFAULT, EINVAL, ENOTSOCK, EIO, EAGAIN];
        assert_all(&fatal, AcceptErrorKind::Fatal);
        assert_eq!(CONNECTION_ERRORS.len(), connection.len());
        assert_eq!(RESOURCE_ERRORS.len(), resource.len());
    }

    #[test]
    fn the_sets_do_not_overlap() {
        assert_all(CONNECTION_ERRORS, AcceptErrorKind::Connection);
        assert_all(RESOURCE_ERRORS, AcceptErrorKind::Resource);
        assert_all(FATAL_ERRORS, AcceptErrorKind::Fatal);
    }

    #[test]
    fn an_error_without_a_number_goes_by_its_kind() {
        let kind = |kind| classify(&io::Error::new(kind, "hand-made"));
        let reset = kind(io::ErrorKind::ConnectionReset);
        assert_eq!(reset, AcceptErrorKind::Connection);
        let memory = kind(io::ErrorKind::OutOfMemory);
        assert_eq!(memory, AcceptErrorKind::Resource);
        // A loop that never waits would poll such a listener indefinitely.
        let broken = kind(io::ErrorKind::WouldBlock);
        assert_eq!(broken, AcceptErrorKind::Fatal);
        assert_eq!(kind(io::ErrorKind::Other), AcceptErrorKind::Fatal);
    }

    #[test]
    fn a_policy_pauses_and_classifies_as_it_was_told() {
        let policy = AcceptErrorPolicy::default();
        assert_eq!(policy.pause(), Duration::from_millis(50));
        let broken = io::Error::other("broken");
        assert_eq!(policy.classify(&broken), AcceptErrorKind::Fatal);

        let policy = policy
            .with_pause(Duration::from_secs(1))
            .with_classifier(|_| AcceptErrorKind::Connection);
        assert_eq!(policy.pause(), Duration::from_secs(1));
        assert_eq!(policy.classify(&broken), AcceptErrorKind::Connection);
    }

    #[test]
    fn a_classifier_may_look_at_what_it_holds_and_is_not_printed() {
        let fatal = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let switch = fatal.clone();
        let policy = AcceptErrorPolicy::new().with_classifier(move |_| {
            match switch.load(std::sync::atomic::Ordering::Relaxed) {
                true => AcceptErrorKind::Fatal,
                false => AcceptErrorKind::Resource,
            }
        });
        let error = io::Error::other("down");
        assert_eq!(policy.classify(&error), AcceptErrorKind::Resource);
        fatal.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(policy.clone().classify(&error), AcceptErrorKind::Fatal);
        // The address of a function would reveal the memory layout of the program.
        assert_eq!(
            format!("{policy:?}"),
            "AcceptErrorPolicy { pause: 50ms, .. }"
        );
    }
}
