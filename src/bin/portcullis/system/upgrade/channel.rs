//! Sends and receives messages, with file descriptors beside them.

use super::{
    PATIENCE, UpgradeError,
    message::{Decoder, Malformed, Message},
};
use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
    },
};
use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};
use tokio::{io::Interest, net::UnixStream, time::timeout};

/// A connection between the old and the new process.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    decoder: Decoder,
    /// File descriptors that arrived, in the order of the messages that they belong to.
    descriptors: VecDeque<OwnedFd>,
}

impl Channel {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            decoder: Decoder::default(),
            descriptors: VecDeque::new(),
        }
    }

    /// Sends a message, within [`PATIENCE`].
    pub(super) async fn send(
        &self,
        message: &Message,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), UpgradeError> {
        let bytes = message.encode().ok_or(Malformed("a name is too long"))?;
        let sent = timeout(PATIENCE, self.send_all(&bytes, descriptor)).await;
        Ok(sent.map_err(|_| UpgradeError::TimedOut)??)
    }

    async fn send_all(
        &self,
        mut bytes: &[u8],
        mut descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            // With the first part alone.
            let sent = self.stream.async_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                let descriptors = descriptor.as_slice();
                if !descriptors.is_empty() {
                    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
                }
                let parts = [IoSlice::new(bytes)];
                Ok(sendmsg(
                    &self.stream,
                    &parts,
                    &mut ancillary,
                    SendFlags::empty(),
                )?)
            });
            bytes = &bytes[sent.await?..];
            descriptor = None;
        }
        Ok(())
    }

    /// The next message, within [`PATIENCE`].
    pub(super) async fn receive(&mut self) -> Result<Message, UpgradeError> {
        self.receive_within(PATIENCE).await
    }

    pub(super) async fn receive_within(
        &mut self,
        limit: Duration,
    ) -> Result<Message, UpgradeError> {
        let received = timeout(limit, self.receive_next()).await;
        received.map_err(|_| UpgradeError::TimedOut)?
    }

    async fn receive_next(&mut self) -> Result<Message, UpgradeError> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return match message {
                    Message::Refused(why) => Err(UpgradeError::Refused(why)),
                    message => Ok(message),
                };
            }
            let mut buffer = [0; 4_096];
            let (received, descriptors) = self
                .stream
                .async_io(Interest::READABLE, || receive(&self.stream, &mut buffer))
                .await?;
            if received == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.descriptors.extend(descriptors);
            self.decoder.push(&buffer[..received]);
            if self.descriptors.len() > MAX_SOCKETS {
                return Err(Malformed("there are too many sockets").into());
            }
        }
    }

    /// Fails if the other process has closed the connection, or has sent more than what was received.
    pub(super) fn check_open(&self) -> Result<(), UpgradeError> {
        let mut byte = [0];
        match recv(&self.stream, &mut byte[..], RecvFlags::PEEK) {
            Ok((0, _)) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(_) => Err(Malformed("nothing more was expected").into()),
            Err(Errno::WOULDBLOCK) => Ok(()),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// The file descriptor that came with the last [`Message::Socket`].
    pub(super) fn descriptor(&mut self) -> Result<OwnedFd, UpgradeError> {
        let descriptor = self.descriptors.pop_front();
        Ok(descriptor.ok_or(Malformed("a socket is missing"))?)
    }
}

fn receive(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    // A read ends behind a message with a file descriptor, so one arrives at a time.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // Elsewhere it is set when the socket is adopted.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let flags = RecvFlags::empty();
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg(stream, &mut parts, &mut ancillary, flags)?;
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(rights) => Some(rights),
            _ => None,
        })
        .flatten()
        .collect();
    if received.flags.contains(ReturnFlags::CTRUNC) {
        let lost = "sockets were lost on the way; the limit of file descriptors may be reached";
        return Err(io::Error::other(lost));
    }
    Ok((received.bytes, descriptors))
}

/// What operators change by hand is less.
pub(super) const MAX_CHANGES: usize = 4_096;

/// More than any configuration has; a process that sends more is not ours.
pub(super) const MAX_SOCKETS: usize = 4_096;
