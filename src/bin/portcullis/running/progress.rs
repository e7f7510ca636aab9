//! What a graceful shutdown still waits for, again and again.

use portcullis::server::Handle;
use std::{fmt, time::Duration};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

/// Looks at the shutdown of a server.
pub(super) struct Progress {
    server: Handle,
    /// Since the shutdown has begun.
    looks: Option<Interval>,
}

/// What a shutdown waits for.
#[derive(Clone, Debug)]
pub(crate) struct Remaining {
    /// Connections.
    pub(crate) open: usize,
    /// The time until they are force-closed.
    pub(crate) left: Duration,
}

impl Progress {
    pub(super) const fn new(server: Handle) -> Self {
        Self {
            server,
            looks: None,
        }
    }

    /// Resolves when the shutdown begins, then every ten seconds, and writes it to the log while there is something to
    /// wait for. Safe to drop at any time.
    pub(super) async fn next(&mut self) -> Remaining {
        let is_first = self.looks.is_none();
        if is_first {
            self.server.draining().await;
            let mut looks = interval(EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first look is now.
            looks.reset();
            self.looks = Some(looks);
        } else if let Some(looks) = &mut self.looks {
            looks.tick().await;
        }
        let deadline = self.server.drain_deadline();
        let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
        let (open, left) = (self.server.status().active, left.unwrap_or_default());
        if is_first || open > 0 {
            tracing::info!(open, left = seconds(left), "draining");
        }
        Remaining { open, left }
    }
}

impl Remaining {
    /// For how long systemd should wait for the next message, whatever `TimeoutStopSec=` says.
    ///
    /// `None` after the deadline, so that a process that hangs is killed.
    #[cfg_attr(not(unix), allow(dead_code, reason = "there is no systemd"))]
    pub(crate) fn patience(&self) -> Option<Duration> {
        (!self.left.is_zero()).then_some(PATIENCE)
    }
}

/// Such as "3 connections are open, and are force-closed in 25 s".
impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = seconds(self.left);
        match self.open {
            0 => f.write_str("no connection is open"),
            1 => write!(f, "1 connection is open, and is force-closed in {left} s"),
            open => write!(
                f,
                "{open} connections are open, and are force-closed in {left} s"
            ),
        }
    }
}

fn seconds(time: Duration) -> u64 {
    time.as_secs_f64().round() as u64
}

const EVERY: Duration = Duration::from_secs(10);
/// A message may be late twice.
const PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis::{
        Connection, Server, ServiceBuilderExt, listener::MemoryListener, server::Drain,
    };
    use tokio::{
        io::AsyncReadExt,
        time::{sleep, timeout},
    };
    use tower::ServiceBuilder;

    #[tokio::test(start_paused = true)]
    async fn it_says_every_ten_seconds_what_is_open_and_until_when() {
        let (listener, connector) = MemoryListener::pair();
        let stack = ServiceBuilder::new().peer_addr().service_fn(
            |mut connection: Connection<_>| async move { connection.read_u8().await.map(drop) },
        );
        let hour = Drain::new().with_deadline(Duration::from_secs(3_600));
        let server = Server::new().drain(hour).listen(listener, stack);
        let server = server.spawn().expect("it starts");
        let clients = [connector.connect(), connector.connect()];
        let [first, _second] = clients.map(|client| client.expect("it listens"));
        while server.status().active < 2 {
            tokio::task::yield_now().await;
        }

        let mut progress = Progress::new(server.clone());
        let early = timeout(Duration::from_secs(60), progress.next()).await;
        assert!(early.is_err(), "nothing has begun: {early:?}");
        server.stop();
        let seen = async |progress: &mut Progress| {
            let Remaining { open, left } = progress.next().await;
            (open, left.as_secs_f64().round() as u64)
        };
        assert_eq!(seen(&mut progress).await, (2, 3_600));
        // Dropped like a branch of `select!`.
        let dropped = timeout(Duration::from_millis(9_900), progress.next()).await;
        assert!(dropped.is_err(), "{dropped:?}");
        assert_eq!(seen(&mut progress).await, (2, 3_590));
        drop(first);
        assert_eq!(seen(&mut progress).await, (1, 3_580));
        sleep(Duration::from_secs(1)).await;
        assert_eq!(seen(&mut progress).await, (1, 3_570));
    }

    #[test]
    fn systemd_waits_until_the_deadline_and_no_longer() {
        let remaining = |left| Remaining { open: 1, left };
        let patience = remaining(Duration::from_millis(1)).patience();
        assert!(patience.is_some_and(|patience| patience > 2 * EVERY));
        assert_eq!(remaining(Duration::ZERO).patience(), None);
    }

    #[test]
    fn a_number_of_connections_is_in_words() {
        let words = |open| {
            let left = Duration::from_millis(25_400);
            Remaining { open, left }.to_string()
        };
        assert_eq!(words(0), "no connection is open");
        assert_eq!(
            words(1),
            "1 connection is open, and is force-closed in 25 s"
        );
        assert_eq!(
            words(3),
            "3 connections are open, and are force-closed in 25 s"
        );
    }
}
