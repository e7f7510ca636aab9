//! The old process: offers its sockets.

use super::{
    PATIENCE, UpgradeError,
    channel::{Channel, MAX_CHANGES, MAX_SOCKETS},
    check_user,
    message::{Malformed, Message, VERSION},
};
use crate::view::parts_of;
use portcullis::{
    listener::{BindError, Listener as _, UnixListener},
    server::{Handle, ListenerHandle},
};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    pin::Pin,
    time::Duration,
};
use tokio::{net::UnixStream, time::timeout};

/// For the first message, so that a process that only connects holds up no other.
const GREETING: Duration = Duration::from_secs(2);

/// Waits for a new process.
pub(crate) struct Offer {
    listener: UnixListener,
    /// With a process that has connected.
    greeting: Option<Greeting>,
}

type Greeting = Pin<Box<dyn Future<Output = Result<Request, UpgradeError>> + Send>>;

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
        let listener = UnixListener::bind(path)?;
        Ok(Self {
            listener,
            greeting: None,
        })
    }

    /// Waits for a new process that may take over.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: a greeting that has begun goes on with the next call.
    pub(crate) async fn request(&mut self) -> Request {
        loop {
            let greeting = match &mut self.greeting {
                Some(greeting) => greeting,
                None => match self.listener.accept().await {
                    Ok((stream, _)) => self.greeting.insert(Box::pin(greet(stream))),
                    Err(error) => {
                        tracing::warn!(%error, "the upgrade socket cannot accept");
                        tokio::time::sleep(GREETING).await;
                        continue;
                    }
                },
            };
            let greeted = greeting.await;
            self.greeting = None;
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
        // Also those that drain, so that the new process serves the clients in their queues.
        let listeners = servers.into_iter().flatten().flat_map(Handle::listeners);
        let listeners: Vec<_> = listeners.collect();
        let mut offered = Vec::new();
        let taken = match self
            .offer(&listeners, &mut offered, activated, changes)
            .await
        {
            Ok(taken) => taken,
            Err(error) => {
                offered.into_iter().for_each(|it| keep_files(it, false));
                return Err(error);
            }
        };
        let is_taken = |it: &&ListenerHandle| taken.iter().any(|taken| taken == it.name());
        let (taken, others): (Vec<_>, Vec<_>) = offered.into_iter().partition(is_taken);
        for listener in taken {
            listener.hand_over();
            // Of one that empties its queue already, too.
            keep_files(listener, true);
        }
        for other in others {
            keep_files(other, false);
            let (listener, address) = parts_of(other.name());
            tracing::warn!(
                listener,
                address,
                "the new process does not listen here, so no new connections are accepted"
            );
        }
        Ok(())
    }

    /// Sends what the new process gets. Returns the labels of the sockets that it serves.
    async fn offer<'a>(
        &mut self,
        listeners: &'a [ListenerHandle],
        offered: &mut Vec<&'a ListenerHandle>,
        activated: &[(String, OwnedFd)],
        changes: &[String],
    ) -> Result<Vec<String>, UpgradeError> {
        for listener in listeners {
            for socket in listener.sockets() {
                let Some(duplicate) = socket.duplicate()? else {
                    continue;
                };
                // This process may be stopped at any time, and the file is that of the new one then.
                socket.keep_file(true);
                if offered
                    .last()
                    .is_none_or(|last| last.name() != listener.name())
                {
                    offered.push(listener);
                }
                let message = Message::Socket(listener.name().into());
                self.channel.send(&message, Some(duplicate.as_fd())).await?;
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
        self.channel.send(&Message::All, None).await?;
        let taken = timeout(PATIENCE, self.taken()).await;
        let taken = taken.map_err(|_| UpgradeError::TimedOut)??;
        // It may have ended since it was ready, and then no process would serve.
        self.channel.check_open()?;
        Ok(taken)
    }

    /// The labels of the sockets that the new process serves.
    async fn taken(&mut self) -> Result<Vec<String>, UpgradeError> {
        let mut taken = Vec::new();
        while taken.len() <= MAX_SOCKETS {
            match self.channel.receive().await? {
                Message::Took(label) => taken.push(label),
                Message::Ready => return Ok(taken),
                _ => return Err(Malformed("the listeners it serves were expected").into()),
            }
        }
        Err(Malformed("it serves too many listeners").into())
    }

    /// Reports why the new process does not get the sockets.
    pub(crate) async fn refuse(self, why: &UpgradeError) {
        // It ends also without this message.
        let _ = self
            .channel
            .send(&Message::Refused(why.to_string()), None)
            .await;
    }

    /// Reports that this process has stopped accepting connections.
    pub(crate) async fn finish(self) -> Result<(), UpgradeError> {
        self.channel.send(&Message::HandedOver, None).await
    }
}

fn keep_files(listener: &ListenerHandle, keep: bool) {
    for socket in listener.sockets() {
        socket.keep_file(keep);
    }
}
