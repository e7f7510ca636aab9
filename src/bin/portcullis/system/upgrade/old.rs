//! The old process: offers its sockets.

use super::{
    UpgradeError,
    channel::{Channel, MAX_CHANGES, MAX_SOCKETS},
    check_user,
    message::{Malformed, Message, VERSION},
};
use crate::view::parts_of;
use portcullis::{
    listener::{BindError, Listener as _, UnixListener},
    server::{Handle, ListenerHandle, State},
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::Duration,
};
use tokio::net::UnixStream;

/// For the first message, so that a process that only connects holds up no other.
const GREETING: Duration = Duration::from_secs(2);

/// Waits for a new process.
#[derive(Debug)]
pub(crate) struct Offer(UnixListener);

/// A new process that asks for the sockets.
#[derive(Debug)]
pub(crate) struct Request {
    channel: Channel,
    /// The number of the new process, where the system tells it.
    pub(crate) process: Option<i32>,
}

impl Offer {
    /// Listens on `path`, whose file only this user may connect to. A stale file is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, BindError> {
        UnixListener::bind(path).map(Self)
    }

    /// Waits for a new process that may take over.
    ///
    /// # Cancel safety
    ///
    /// A process whose greeting has not arrived is disconnected.
    pub(crate) async fn request(&mut self) -> Request {
        loop {
            let greeted = match self.0.accept().await {
                Ok((stream, _)) => greet(stream).await,
                Err(error) => {
                    tracing::warn!(%error, "the upgrade socket cannot accept");
                    tokio::time::sleep(GREETING).await;
                    continue;
                }
            };
            match greeted {
                Ok(request) => return request,
                Err(error) => tracing::warn!(%error, "a request for an upgrade was rejected"),
            }
        }
    }
}

async fn greet(stream: UnixStream) -> Result<Request, UpgradeError> {
    let peer = stream.peer_cred()?;
    check_user(peer.uid())?;
    let mut channel = Channel::new(stream);
    match channel.receive_within(GREETING).await? {
        Message::Hello(version) if version == VERSION => {}
        Message::Hello(_) => {
            let why = format!("this process speaks \"{VERSION}\"");
            channel.send(&Message::Refused(why), None).await?;
            return Err(Malformed("it speaks another version").into());
        }
        _ => return Err(Malformed("a greeting was expected").into()),
    }
    let process = peer.pid();
    Ok(Request { channel, process })
}

impl Request {
    /// Passes on the sockets of `servers`, those of systemd by their names, and what operators have changed. Stops
    /// accepting on the sockets that the new process serves.
    ///
    /// On an error before that, the servers go on as they were.
    pub(crate) async fn hand_over(
        &mut self,
        servers: [Option<&Handle>; 2],
        activated: &[(String, OwnedFd)],
        changes: &[String],
    ) -> Result<(), UpgradeError> {
        let is_open = |it: &ListenerHandle| matches!(it.state(), State::Running | State::Paused);
        let listeners = servers.into_iter().flatten().flat_map(Handle::listeners);
        let listeners: Vec<_> = listeners.filter(is_open).collect();
        for listener in &listeners {
            for socket in listener.sockets() {
                if let Some(socket) = socket.duplicate()? {
                    let message = Message::Socket(listener.name().into());
                    self.channel.send(&message, Some(socket.as_fd())).await?;
                }
            }
        }
        for (name, socket) in activated {
            let message = Message::Activated(name.clone());
            self.channel.send(&message, Some(socket.as_fd())).await?;
        }
        let beyond = changes.len().saturating_sub(MAX_CHANGES);
        if beyond > 0 {
            tracing::warn!(
                beyond,
                "there are more than {MAX_CHANGES} changes; the last ones are not handed over"
            );
        }
        for change in changes.iter().take(MAX_CHANGES) {
            let message = Message::Changed(change.clone());
            match message.encode() {
                Some(_) => self.channel.send(&message, None).await?,
                None => tracing::warn!("too long to be handed over: {change}"),
            }
        }
        let taken = self.taken().await?;
        let is_taken = |it: &&ListenerHandle| taken.iter().any(|taken| taken == it.name());
        let (taken, others): (Vec<_>, Vec<_>) = listeners.iter().partition(is_taken);
        for listener in taken {
            listener.hand_over();
        }
        for label in others.into_iter().map(ListenerHandle::name) {
            let (listener, address) = parts_of(label);
            tracing::warn!(
                listener,
                address,
                "the new process does not listen here, so no new connections are accepted"
            );
        }
        Ok(())
    }

    /// The listeners that the new process serves.
    async fn taken(&mut self) -> Result<Vec<String>, UpgradeError> {
        self.channel.send(&Message::All, None).await?;
        let mut taken = Vec::new();
        while taken.len() <= MAX_SOCKETS {
            match self.channel.receive().await? {
                Message::Took(listener) => taken.push(listener),
                Message::Ready => return Ok(taken),
                _ => return Err(Malformed("the listeners it serves were expected").into()),
            }
        }
        Err(Malformed("it serves too many listeners").into())
    }

    /// Reports that this process no longer accepts connections.
    pub(crate) async fn finish(self) -> Result<(), UpgradeError> {
        self.channel.send(&Message::HandedOver, None).await
    }
}
