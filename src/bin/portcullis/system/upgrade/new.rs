//! The new process: takes sockets over.

use super::{
    UpgradeError,
    channel::{Channel, MAX_CHANGES, MAX_SOCKETS},
    check_user,
    message::{Malformed, Message, VERSION},
};
use crate::system::handed_over::HandedOver;
use std::{io, path::Path};
use tokio::net::UnixStream;

/// An upgrade in which the sockets have arrived, and the old process still serves.
pub(super) struct Takeover {
    channel: Channel,
    /// The number of the old process, where the system tells it.
    pub(super) process: Option<i32>,
}

/// Asks the process that listens on `path` for its sockets. `None` if there is no such process.
pub(super) async fn take_over(path: &Path) -> Result<Option<(Takeover, HandedOver)>, UpgradeError> {
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let peer = stream.peer_cred()?;
    check_user(peer.uid())?;
    let mut channel = Channel::new(stream);
    channel.send(&Message::Hello(VERSION.into()), None).await?;
    let mut sockets = HandedOver::default();
    for _ in 0..=MAX_SOCKETS + MAX_CHANGES {
        match channel.receive().await? {
            Message::Socket(listener) => {
                let socket = channel.descriptor()?;
                let known = sockets.listening.entry(listener).or_default();
                known.push(socket);
            }
            Message::Activated(name) => {
                let socket = channel.descriptor()?;
                sockets.activated.push((name, socket));
            }
            Message::Changed(change) => sockets.changes.push(change),
            Message::All => {
                let process = peer.pid();
                return Ok(Some((Takeover { channel, process }, sockets)));
            }
            _ => return Err(Malformed("a socket was expected").into()),
        }
    }
    Err(Malformed("there are too many sockets and changes").into())
}

/// Whether the path lacks a socket, or has that of a process that has ended.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

impl Takeover {
    /// Reports why this process does not take the place of the old one, which goes on.
    pub(super) async fn refuse(self, why: &str) -> Result<(), UpgradeError> {
        self.channel.send(&Message::Refused(why.into()), None).await
    }

    /// Reports that this process serves the sockets with these labels, and waits until the old one has stopped
    /// accepting. It refuses if `is_ending` by then.
    pub(super) async fn finish(
        mut self,
        taken: &[String],
        is_ending: impl Fn() -> bool,
    ) -> Result<(), UpgradeError> {
        let sent = self.report(taken, is_ending).await;
        if let Err(UpgradeError::Stopped) = sent {
            return sent;
        }
        // Also if the old process has hung up, because what it has said before can still be read.
        let mut answer = self.channel.receive().await;
        if answer.as_ref().is_err_and(UpgradeError::is_reset) {
            answer = self.channel.receive().await;
        }
        match answer {
            Ok(Message::HandedOver) => Ok(()),
            Ok(_) => Err(Malformed("an acknowledgement was expected").into()),
            Err(refused @ UpgradeError::Refused(_)) => Err(refused),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    }

    /// Reports what this process serves, and that it is ready, unless `is_ending`.
    async fn report(
        &self,
        taken: &[String],
        is_ending: impl Fn() -> bool,
    ) -> Result<(), UpgradeError> {
        for label in taken {
            let took = Message::Took(label.clone());
            self.channel.send(&took, None).await?;
        }
        if is_ending() {
            let stopped = UpgradeError::Stopped;
            let refused = Message::Refused(stopped.to_string());
            // Without an answer, the old process goes on as well.
            let _ = self.channel.send(&refused, None).await;
            return Err(stopped);
        }
        self.channel.send(&Message::Ready, None).await
    }
}
