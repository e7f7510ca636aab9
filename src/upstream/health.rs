//! How servers are checked.

#[cfg(feature = "tls")]
use super::ServerTls;
use std::{fmt, sync::Arc, time::Duration};

/// A health check that a [`Pool`](super::Pool) makes of each of its servers.
///
/// A server is down after three failed checks in a row and up after two successful ones. The first check of a server
/// decides alone, and so does the first that passes. Until then a server may just have been started, so it is checked
/// again after 250 ms, and after pauses that double up to the interval. A server that was not checked yet is used only
/// as long as no server has passed a check, or while all servers are new.
///
/// Checks connect as the pool does, with TLS if the server has it and unless they are [`tcp`](Self::tcp), and with a PROXY
/// header that names no client. They resume no TLS session, so that they verify the certificate each time.
///
/// ```
/// use portcullis::upstream::{HealthCheck, OnDown};
/// use std::time::Duration;
///
/// // The primary of a Patroni cluster; clients of a former primary have to connect again.
/// let primary = HealthCheck::http("/primary")
///     .with_port(8008)
///     .with_statuses(200..=200)
///     .with_interval(Duration::from_secs(2))
///     .with_on_down(OnDown::Close);
/// let redis = HealthCheck::exchange("PING\r\n", "+PONG");
/// ```
#[derive(Clone, Debug)]
pub struct HealthCheck {
    pub(super) probe: Probe,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) fall: u32,
    pub(super) rise: u32,
    pub(super) port: Option<u16>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<ServerTls>,
    pub(super) on_down: OnDown,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Probe {
    Tcp,
    #[cfg(feature = "tls")]
    Tls,
    Http {
        path: Arc<str>,
        host: Option<Arc<str>>,
        statuses: Arc<[u16]>,
    },
    Exchange {
        send: Sent,
        /// One of them has to be in the reply.
        expect: Vec<Arc<[u8]>>,
    },
}

/// What a check sends, for example a password. Its `Debug` is only the length.
#[derive(Clone, PartialEq)]
pub(super) struct Sent(pub(super) Arc<[u8]>);

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl HealthCheck {
    /// The server accepts a connection.
    pub const fn tcp() -> Self {
        Self::new(Probe::Tcp)
    }

    /// The server completes a TLS handshake, with the [TLS of the server](super::Server::with_tls) or that of
    /// [`with_tls`](Self::with_tls).
    ///
    /// The report of the check contains when the certificate of the server expires. A certificate that expires within 14
    /// days, or within a third of its validity if that is shorter, is logged daily, whatever is checked over TLS.
    ///
    /// Under TLS 1.3 a server rejects a client certificate, or the lack of one, after the handshake. The check waits 100 ms
    /// for its alert; [`http`](Self::http) and [`exchange`](Self::exchange) wait for an answer.
    #[cfg(feature = "tls")]
    pub const fn tls() -> Self {
        Self::new(Probe::Tls)
    }

    /// The server responds to a `GET` request for `path`, by default with a status from 200 to 399.
    ///
    /// The request is HTTP/1.1, and the response is read up to its status.
    ///
    /// # Panics
    ///
    /// If `path` does not begin with a slash or contains a space or a control character.
    pub fn http(path: impl AsRef<str>) -> Self {
        let path = path.as_ref();
        let is_valid = path.starts_with('/') && is_visible(path);
        assert!(
            is_valid,
            "{path:?} is not a path; it begins with `/` and has no spaces"
        );
        Self::new(Probe::Http {
            path: path.into(),
            host: None,
            statuses: (200..=399).collect(),
        })
    }

    /// The server replies to `send` with bytes that contain `expect`, within its first 4 KiB.
    ///
    /// Without anything to send the server speaks first, as mail servers do.
    pub fn exchange(send: impl AsRef<[u8]>, expect: impl AsRef<[u8]>) -> Self {
        Self::new(Probe::Exchange {
            send: Sent(send.as_ref().into()),
            expect: vec![expect.as_ref().into()],
        })
    }

    const fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval: INTERVAL,
            timeout: TIMEOUT,
            fall: FALL,
            rise: RISE,
            port: None,
            #[cfg(feature = "tls")]
            tls: None,
            on_down: OnDown::Keep,
        }
    }

    /// Sets the `host` of HTTP requests; by default the host and port of the server, or `localhost` for a Unix domain
    /// socket.
    ///
    /// # Panics
    ///
    /// If `host` contains a space or a control character.
    #[must_use]
    pub fn with_host(mut self, name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        assert!(is_visible(name), "{name:?} is not a host; it has no spaces");
        if let Probe::Http { host, .. } = &mut self.probe {
            *host = Some(name.into());
        }
        self
    }

    /// Sets the statuses of HTTP responses that pass, such as `200..=299` or `[200, 401]`; 200 to 399 by default.
    #[must_use]
    pub fn with_statuses(mut self, accepted: impl IntoIterator<Item = u16>) -> Self {
        if let Probe::Http { statuses, .. } = &mut self.probe {
            *statuses = accepted.into_iter().collect();
        }
        self
    }

    /// Also passes an [`exchange`](Self::exchange) whose reply contains `expect`.
    #[must_use]
    pub fn or_expect(mut self, other: impl AsRef<[u8]>) -> Self {
        if let Probe::Exchange { expect, .. } = &mut self.probe {
            expect.push(other.as_ref().into());
        }
        self
    }

    /// Sets the time between checks of a server; 5 s by default, within a tenth, and 10 ms at least.
    #[must_use]
    pub const fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Limits the time of a check; 2 s by default.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the failed checks in a row that take a server down; 3 by default. Zero counts as one. The first check of a
    /// server takes it down alone.
    #[must_use]
    pub const fn with_fall(mut self, checks: u32) -> Self {
        self.fall = checks;
        self
    }

    /// Sets the successful checks in a row that bring a server up again; 2 by default. Zero counts as one. A server
    /// that has never passed a check needs one.
    #[must_use]
    pub const fn with_rise(mut self, checks: u32) -> Self {
        self.rise = checks;
        self
    }

    /// Checks another port than that of the server, in plain text unless [`with_tls`](Self::with_tls) is set.
    #[must_use]
    pub const fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Checks with these TLS settings instead of those of the server.
    ///
    /// They are required for [`tls`](Self::tls) checks of servers to which TLS is passed through.
    ///
    /// For [`Pool::reconfigure`](super::Pool::reconfigure), settings are the same ones if their connectors share a
    /// configuration, or were made of the same roots and protocols, and present no certificate or one of the same files.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: impl Into<Option<ServerTls>>) -> Self {
        self.tls = tls.into();
        self
    }

    /// Sets what happens to the connections of a server that goes down; they are kept by default.
    #[must_use]
    pub const fn with_on_down(mut self, on_down: OnDown) -> Self {
        self.on_down = on_down;
        self
    }

    /// Whether both check alike.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        #[cfg(feature = "tls")]
        let has_same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => ours.is_same(theirs),
            _ => false,
        };
        #[cfg(not(feature = "tls"))]
        let has_same_tls = true;
        let facts = |it: &Self| {
            (
                it.interval,
                it.timeout,
                it.fall,
                it.rise,
                it.port,
                it.on_down,
            )
        };
        has_same_tls && self.probe == other.probe && facts(self) == facts(other)
    }
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What happens to the connections of a server that goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnDown {
    /// They are kept. A server that fails its checks may still serve them.
    #[default]
    Keep,
    /// They are force-closed, for example because the server is no longer the primary of a database. The checks of
    /// a server end when it is removed, so its connections stay until the [drain
    /// timeout](super::PoolBuilder::with_drain_timeout).
    Close,
}

/// The result of one health check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckReport {
    /// Whether the check passed.
    pub passed: bool,
    /// What was found, on one line.
    pub text: String,
    /// How long the check took.
    pub took: Duration,
    /// How long ago the check ended.
    pub age: Duration,
}

const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
const FALL: u32 = 3;
const RISE: u32 = 2;
