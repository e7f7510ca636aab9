//! In-memory connections for tests.

use super::{Accepted, Listener};
use portcullis_middleware::connection::{Address, Transport};
use std::{
    io,
    task::{Context, Poll},
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

/// Yields the connections that a [`MemoryConnector`] makes, without sockets or ports.
///
/// By default these are pipes whose other end the client gets. [`pair_of`](Self::pair_of) yields streams of
/// another type, such as the scripted peers of the feature `testing`. Addresses are unknown unless they are
/// set. After all connectors are dropped, `accept` stays pending.
///
/// ```
/// use portcullis::listener::{Listener, MemoryListener};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut listener, connector) = MemoryListener::pair();
/// let mut client = connector.connect()?;
/// client.write_all(b"hi").await?;
///
/// let (mut server, _) = listener.accept().await?;
/// let mut heard = [0; 2];
/// server.read_exact(&mut heard).await?;
/// assert_eq!(&heard, b"hi");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryListener<Io = DuplexStream> {
    queue: mpsc::Receiver<Accepted<Io>>,
    local: Address,
}

impl MemoryListener {
    /// Returns a listener and its connector.
    pub fn pair() -> (Self, MemoryConnector) {
        Self::pair_of()
    }
}

impl<Io: Transport> MemoryListener<Io> {
    /// Returns a listener for custom streams, and the connector that delivers them.
    pub fn pair_of() -> (Self, MemoryConnector<Io>) {
        let (connector, queue) = mpsc::channel(BACKLOG);
        let local = Address::Unknown;
        (Self { queue, local }, MemoryConnector { queue: connector })
    }

    /// Sets the listener's local address; unknown by default.
    #[must_use]
    pub fn with_local_address(mut self, address: impl Into<Address>) -> Self {
        self.local = address.into();
        self
    }
}

impl<Io: Transport> Listener for MemoryListener<Io> {
    type Io = Io;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted<Io>>> {
        match self.queue.poll_recv(cx) {
            Poll::Ready(Some(accepted)) => Poll::Ready(Ok(accepted)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn local_address(&self) -> Address {
        self.local.clone()
    }

    fn connection_local_address(&self, io: &Io) -> Address {
        match io.local_address() {
            Address::Unknown => self.local.clone(),
            known => known,
        }
    }

    fn accept_now(&mut self) -> io::Result<Option<Accepted<Io>>> {
        Ok(self.queue.try_recv().ok())
    }
}

/// Connects to a [`MemoryListener`]; clones connect to the same listener.
#[derive(Debug)]
pub struct MemoryConnector<Io = DuplexStream> {
    queue: mpsc::Sender<Accepted<Io>>,
}

impl<Io> Clone for MemoryConnector<Io> {
    fn clone(&self) -> Self {
        let queue = self.queue.clone();
        Self { queue }
    }
}

impl MemoryConnector {
    /// Makes a connection and returns the client's end. Each direction buffers 64 KiB.
    ///
    /// # Errors
    ///
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) when the listener was dropped, or 1024
    /// connections are already waiting.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        self.connect_from(Address::Unknown)
    }

    /// Like [`connect`](Self::connect), from the address `peer`.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_from(&self, peer: impl Into<Address>) -> io::Result<DuplexStream> {
        let (client, server) = duplex(BUFFER);
        self.deliver(server, peer)?;
        Ok(client)
    }
}

impl<Io: Transport> MemoryConnector<Io> {
    /// Makes the listener yield `io`, with `peer` as its peer address.
    ///
    /// # Errors
    ///
    /// As [`connect`](MemoryConnector::connect).
    pub fn deliver(&self, io: Io, peer: impl Into<Address>) -> io::Result<()> {
        let queued = self.queue.try_send(Accepted::new(io, peer));
        queued.map_err(|_| io::ErrorKind::ConnectionRefused.into())
    }

    /// Returns the number of connections that wait to be accepted.
    #[cfg(feature = "testing")]
    pub(crate) fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

const BACKLOG: usize = 1024;
const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio_test::{assert_pending, task::spawn};

    #[test]
    fn clients_are_refused_when_the_queue_is_full_or_the_listener_gone() {
        let (mut listener, connector) = MemoryListener::pair();
        let clients: Vec<_> = (0..BACKLOG).map(|_| connector.connect().unwrap()).collect();
        let full = connector.connect().unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::ConnectionRefused);

        for _ in &clients {
            assert!(listener.accept_now().unwrap().is_some());
        }
        assert!(listener.accept_now().unwrap().is_none());
        connector.connect().unwrap();

        drop(listener);
        let gone = connector.connect().unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn addresses_are_those_that_were_given() {
        let local = SocketAddr::from(([127, 0, 0, 1], 80));
        let peer = SocketAddr::from(([127, 0, 0, 2], 50_000));
        let (listener, connector) = MemoryListener::pair();
        let mut listener = listener.with_local_address(local);
        assert_eq!(listener.local_address().ip(), Some(local));

        let _client = connector.connect_from(peer).unwrap();
        let (io, from) = listener.accept_now().unwrap().unwrap().into_parts();
        assert_eq!(from.ip(), Some(peer));
        assert_eq!(listener.connection_local_address(&io).ip(), Some(local));
    }

    #[test]
    fn a_listener_without_connectors_waits() {
        let (mut listener, connector) = MemoryListener::pair();
        let client = connector.clone().connect().unwrap();
        drop(connector);
        assert!(listener.accept_now().unwrap().is_some());
        assert_pending!(spawn(listener.accept()).poll());
        drop(client);
    }
}
