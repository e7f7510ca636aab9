//! What the system asks of a running program, one thing at a time.

use super::ConfigWatch;
#[cfg(unix)]
use super::upgrade::{Offer, Request};
use std::{future::pending, io};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) enum Event {
    /// SIGHUP, or a changed file: read the configuration again.
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
    watch: Option<ConfigWatch>,
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
            watch: None,
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
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.hangup.recv() => Event::Reload,
            () = changed(&mut self.watch) => Event::Reload,
            _ = self.user1.recv() => Event::ReopenLog,
            _ = self.user2.recv() => Event::Restart,
            request = request => Event::Upgrade(request),
        }
    }
}

#[cfg(not(unix))]
impl Events {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { watch: None })
    }

    pub(crate) async fn next(&mut self) -> Event {
        changed(&mut self.watch).await;
        Event::Reload
    }
}

impl Events {
    /// Reloads on changes of files from now on.
    pub(crate) fn set_watch(&mut self, watch: Option<ConfigWatch>) {
        self.watch = watch;
    }
}

async fn changed(watch: &mut Option<ConfigWatch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => pending().await,
    }
}
