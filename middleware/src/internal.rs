//! Items that the package `portcullis` and the fuzz targets need beyond the public API. They may change at any time.

#[cfg(feature = "tls")]
use crate::tls::TlsConnector;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
pub use crate::tls::internal::{certificate_facts, ticketer};
use crate::{
    ConnectionInfo,
    connection::{CertificateFacts, Hello, TlsInfo, control::IoDirection},
    file,
};
pub use crate::{
    connection::{
        deadline::{WakeUp, begin_watch, end_watch, expire},
        guards::{Slot, Slots},
        late_options::{LateOptions, postpone_late_options, request_late_options},
    },
    log_text::{Causes, Escaped},
    meter::{Counter, Gauge, Histogram},
    when_ready::take_ready,
};
use std::{
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    task::Waker,
    time::{Duration, SystemTime},
};

/// How long idle connections stay open after the server stops accepting.
///
/// It is long enough for a client's first bytes, and short for a shutdown.
pub const IDLE_GRACE_PERIOD: Duration = Duration::from_millis(500);

/// Makes a forced close of the connection wake the task of `waker`, which polls the connection's stream.
///
/// An operation of the stream does this when it is pending. A task that has no operation pending, as the stream
/// has ended or another one is waited for, calls this before it checks [`ConnectionInfo::is_forced`].
pub fn wake_when_forced(info: &ConnectionInfo, waker: &Waker) {
    info.control().watch(waker);
}

/// Whether a pending read of the connection's socket has made a forced close wake its task.
#[inline]
pub fn is_woken_when_forced(info: &ConnectionInfo) -> bool {
    info.control().is_left(IoDirection::Read)
}

/// Records that `info` ends because `other`, to which it belongs, was force-closed.
pub fn share_forced_because(info: &ConnectionInfo, other: &ConnectionInfo) {
    if let Some(reason) = other.forced_because() {
        info.set_forced_because(reason.to_owned().into());
    }
}

/// Describes a connection that does not exist, to ask layers what they would decide.
pub fn describe(info: &ConnectionInfo, hello: Option<Hello>, tls: Option<TlsInfo>) {
    if let Some(hello) = hello {
        info.set_hello(hello);
    }
    if let Some(tls) = tls {
        info.set_tls(tls);
    }
}

/// Reads a regular file, unless it is too large.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    file::read(path)
}

/// Like [`read_file`], for text.
pub fn read_text_file(path: &Path) -> io::Result<String> {
    file::read_text(path)
}

/// Reads all text of `file`, unless it is too long.
pub fn read_text_of(file: impl io::Read) -> io::Result<String> {
    file::read_text_of(file)
}

/// Whether two connectors have the same settings. Configurations of rustls that are not shared count as different ones.
#[cfg(feature = "tls")]
pub fn is_same_connector(one: &TlsConnector, other: &TlsConnector) -> bool {
    one.is_same(other)
}

/// How long a certificate is still valid, if that is short enough for a warning.
pub fn expires_soon(facts: &CertificateFacts, now: SystemTime) -> Option<Duration> {
    facts.expires_soon(now)
}

/// Whether a connection of this process has armed a timer of its runtime.
///
/// A server keeps a short timer armed from then on, which makes the others cheaper. Without them it would only cost.
pub fn uses_timers() -> bool {
    USES_TIMERS.load(Ordering::Relaxed)
}

/// Records that a connection arms a timer.
#[inline]
pub fn note_timer() {
    if !uses_timers() {
        USES_TIMERS.store(true, Ordering::Relaxed);
    }
}

static USES_TIMERS: AtomicBool = AtomicBool::new(false);
