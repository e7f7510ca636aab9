//! What the system asks of a running program, one thing at a time.

#[cfg(unix)]
use super::upgrade::{Offer, Request};
use std::io;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) enum Event {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: open the files of the log again.
    #[cfg(unix)]
    ReopenLog,
    /// SIGUSR2: start the program again, for an upgrade.
    #[cfg(unix)]
    Restart,
    /// A new process asks for the sockets.
    #[cfg(unix)]
    Upgrade(Request),
}

/// Signals and requests. While one is handled, the others wait.
pub(crate) struct Events {
    #[cfg(unix)]
    hangup: Signal,
    #[cfg(unix)]
    user1: Signal,
    #[cfg(unix)]
    user2: Signal,
    #[cfg(unix)]
    offer: Option<Offer>,
}

#[cfg(unix)]
impl Events {
    /// Catches the signals from now on.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            offer: None,
        })
    }

    /// Waits for new processes from now on.
    pub(crate) fn set_offer(&mut self, offer: Option<Offer>) {
        self.offer = offer;
    }

    pub(crate) async fn next(&mut self) -> Event {
        let request = async {
            match &mut self.offer {
                Some(offer) => offer.request().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.hangup.recv() => Event::Reload,
            _ = self.user1.recv() => Event::ReopenLog,
            _ = self.user2.recv() => Event::Restart,
            request = request => Event::Upgrade(request),
        }
    }
}

#[cfg(not(unix))]
impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    pub(crate) async fn next(&mut self) -> Event {
        std::future::pending().await
    }
}
