//! Connections within the process, for tests.

use super::Listener;
use portcullis_middleware::connection::Address;
use std::{
    io,
    task::{Context, Poll},
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

/// Yields the connections that a [`MemoryConnector`] makes; no socket, no port, no address.
///
/// Once all connectors are gone it waits for ever, as a port does that nobody knows.
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
pub struct MemoryListener {
    queue: mpsc::Receiver<DuplexStream>,
}

impl MemoryListener {
    /// A listener, and what connects to it.
    pub fn pair() -> (Self, MemoryConnector) {
        let (connector, queue) = mpsc::channel(BACKLOG);
        (Self { queue }, MemoryConnector { queue: connector })
    }
}

impl Listener for MemoryListener {
    type Io = DuplexStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(DuplexStream, Address)>> {
        match self.queue.poll_recv(cx) {
            Poll::Ready(Some(io)) => Poll::Ready(Ok((io, Address::Unknown))),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn accept_now(&mut self) -> io::Result<Option<(DuplexStream, Address)>> {
        Ok(self.queue.try_recv().ok().map(|io| (io, Address::Unknown)))
    }
}

/// Connects to a [`MemoryListener`]; clones connect to the same one.
#[derive(Clone, Debug)]
pub struct MemoryConnector {
    queue: mpsc::Sender<DuplexStream>,
}

impl MemoryConnector {
    /// Makes a connection and returns the client's end. Each direction buffers 64 KiB.
    ///
    /// # Errors
    ///
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) when the listener is gone, or 1024
    /// connections wait for it already.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        let (client, server) = duplex(BUFFER);
        let queued = self.queue.try_send(server);
        queued.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(client)
    }
}

const BACKLOG: usize = 1024;
const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
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
    fn a_listener_without_connectors_waits() {
        let (mut listener, connector) = MemoryListener::pair();
        let client = connector.clone().connect().unwrap();
        drop(connector);
        assert!(listener.accept_now().unwrap().is_some());
        assert_pending!(spawn(listener.accept()).poll());
        drop(client);
    }
}
