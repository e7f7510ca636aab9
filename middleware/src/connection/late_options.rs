//! Options of a socket that only matter to a connection that lasts.
//!
//! Keepalive and the timeout of unacknowledged data take four system calls, and notice after a minute that a peer has
//! vanished. A connection that has such options asks its own mailbox to set them, so that its first operation does. A
//! forwarder postpones that until it knows that the connection is not a short one.
//!
//! Connections to backends share the options in place of the information of a listener.

use super::{Address, ConnectionInfo, KernelSocket, ListenerInfo, control::Requests};
use std::{fmt, io, sync::Arc};

/// Sets options of the sockets that a connector opens.
#[derive(Clone)]
pub struct LateOptions(Arc<ListenerInfo>);

pub(super) type SetOptions = dyn Fn(KernelSocket<'_>) -> io::Result<()> + Send + Sync;

impl LateOptions {
    /// Options that `set` sets.
    pub fn new(set: impl Fn(KernelSocket<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(ListenerInfo::of_connector(Arc::new(set))))
    }

    /// Describes a connection that is open from now on, and whose first operation sets these options.
    pub fn describe(&self, peer: impl Into<Address>, local: impl Into<Address>) -> ConnectionInfo {
        let info = ConnectionInfo::from_listener(self.0.clone(), peer, local);
        info.control().set_late_options();
        info
    }
}

/// Leaves the options unset until [`request_late_options`]. False if there are none, or if they are set.
pub fn postpone_late_options(info: &ConnectionInfo) -> bool {
    !info.control().take(Requests::LATE_OPTIONS).is_empty()
}

/// Makes the next operation of the connection set the options. It wakes no task.
pub fn request_late_options(info: &ConnectionInfo) {
    info.control().set_late_options();
}

impl fmt::Debug for LateOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateOptions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Connection, Socket};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    /// A connection, its peer, and how often the options were set.
    async fn connection() -> (Connection<Socket<TcpStream>>, TcpStream, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap());
        let (stream, accepted) = tokio::join!(stream, listener.accept());
        let set = Arc::new(AtomicUsize::new(0));
        let counted = set.clone();
        let options = LateOptions::new(move |socket| {
            assert!(matches!(socket, KernelSocket::Tcp(_)));
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let info = options.describe(Address::Unknown, Address::Unknown);
        let connection = Connection::with_info(stream.unwrap(), info);
        (connection, accepted.unwrap().0, set)
    }

    #[tokio::test]
    async fn the_first_operation_sets_the_options_and_no_later_one() {
        let (mut connection, _peer, set) = connection().await;
        connection.set_nodelay(true);
        assert_eq!(set.load(Ordering::Relaxed), 0);
        for _ in 0..2 {
            connection.write_all(b"x").await.unwrap();
            assert_eq!(set.load(Ordering::Relaxed), 1);
        }
        assert!(connection.get_ref().get_ref().nodelay().unwrap());
        assert!(!postpone_late_options(connection.info()));
    }

    #[tokio::test]
    async fn options_that_are_postponed_are_set_when_they_are_requested() {
        let (mut connection, _peer, set) = connection().await;
        assert!(postpone_late_options(connection.info()));
        connection.set_nodelay(true);
        connection.write_all(b"x").await.unwrap();
        assert_eq!(set.load(Ordering::Relaxed), 0);
        request_late_options(connection.info());
        connection.write_all(b"x").await.unwrap();
        assert_eq!(set.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_stream_that_is_taken_out_has_its_options() {
        let (connection, _peer, set) = connection().await;
        drop(connection.detach().into_inner());
        assert_eq!(set.load(Ordering::Relaxed), 1);
    }
}
