//! TCP, Unix and in-memory listeners, and the trait that they implement.
//!
//! A [`Listener`] yields bare streams, each with the peer's address as accept returned it. The server
//! accepts, pauses and drains; layers add TLS, limits and everything else that concerns a connection. A
//! listener does not wait for peers, because it accepts connections that the kernel has completed.
//!
//! | Listener | Yields | For |
//! |---|---|---|
//! | [`TcpListener`] | `TcpStream` | the network; options by [`TcpOptions`] |
//! | `UnixListener` | `UnixStream` | programs on the same machine |
//! | [`AnyListener`] | [`AnyStream`](portcullis_middleware::connection::AnyStream) | one stack for both |
//! | [`MemoryListener`] | `DuplexStream` | tests, without a socket |
//!
//! Dropping a listener closes it and resets the clients in its accept queue.
//! [`accept_now`](Listener::accept_now) empties the queue first.
//!
//! There are two kinds of addresses. `local_addr` and `peer_addr` return a `SocketAddr`, as in the standard
//! library, and exist where an IP address is expected. `local_address` and `peer` return an [`Address`],
//! which may also be a Unix path or unknown.
//!
//! ```
//! use portcullis::listener::{Listener, TcpListener};
//! use tokio::{io::AsyncReadExt, net::TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut listener = TcpListener::bind("127.0.0.1:0")?;
//! let client = TcpStream::connect(listener.local_addr()?).await?;
//!
//! let (mut stream, peer) = listener.accept().await?;
//! assert_eq!(peer.ip(), Some(client.local_addr()?));
//! assert!(stream.nodelay()?);
//!
//! drop(client);
//! assert_eq!(stream.read(&mut [0; 8]).await?, 0);
//! # Ok(())
//! # }
//! ```

pub mod accept_error;
mod accepted;
mod adopt;
mod any;
mod bind_error;
mod memory;
pub mod phase;
mod tcp;
#[cfg(unix)]
mod unix;
#[cfg(unix)]
mod weak_socket;

pub(crate) use self::tcp::UserTimeout;
pub use self::{
    accepted::Accepted,
    any::AnyListener,
    bind_error::BindError,
    memory::{MemoryConnector, MemoryListener},
    tcp::{Keepalive, TcpListener, TcpOptions},
};
#[cfg(unix)]
pub use self::{
    unix::{UnixListener, UnixOptions},
    weak_socket::WeakSocket,
};

use portcullis_middleware::{
    connection::{Address, Transport},
    error::Elapsed,
};
use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{task::unconstrained, time::timeout};

/// A source of connections.
///
/// A custom listener needs [`poll_accept`](Self::poll_accept) and [`local_address`](Self::local_address). A
/// listener over a kernel queue should also override [`accept_now`](Self::accept_now).
///
/// ```
/// use portcullis::{listener::{Accepted, Listener}, middleware::connection::Address};
/// use std::{io, task::{Context, Poll}};
/// use tokio::{io::DuplexStream, sync::mpsc::Receiver};
///
/// struct FromChannel(Receiver<DuplexStream>);
///
/// impl Listener for FromChannel {
///     type Io = DuplexStream;
///
///     fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted<DuplexStream>>> {
///         let next = self.0.poll_recv(cx);
///         next.map(|io| Ok(Accepted::new(io.ok_or(io::ErrorKind::NotFound)?, Address::Unknown)))
///     }
///
///     fn local_address(&self) -> Address {
///         Address::Unknown
///     }
/// }
/// ```
pub trait Listener: Send + 'static {
    /// The stream of one connection.
    type Io: Transport;

    /// Accepts the next connection.
    ///
    /// Only the waker of the most recent call is woken.
    ///
    /// # Errors
    ///
    /// Those of `accept(2)`. Most concern one connection or are temporary; [`accept_error`] tells which ones
    /// stop a listener.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted<Self::Io>>>;

    /// The address that the listener is bound to.
    fn local_address(&self) -> Address;

    /// Accepts a connection that is already waiting; returns `None` instead of waiting.
    ///
    /// A drain empties the queue with it before it closes the listener. It therefore asks the kernel, because
    /// the runtime may not have seen the newest clients yet. The default polls
    /// [`poll_accept`](Self::poll_accept) once and discards its waker.
    ///
    /// # Errors
    ///
    /// As [`poll_accept`](Self::poll_accept). Other connections may still be waiting after an error.
    fn accept_now(&mut self) -> io::Result<Option<Accepted<Self::Io>>> {
        // Unconstrained, because an exhausted budget would look like an empty queue.
        let accept = pin!(unconstrained(poll_fn(|cx| self.poll_accept(cx))));
        match accept.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(accepted) => accepted.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Returns the local address of `io`, a connection that this listener accepted.
    ///
    /// A listener that knows it avoids the system call of the default.
    fn connection_local_address(&self, io: &Self::Io) -> Address {
        io.local_address()
    }

    /// The listening socket, for [`ListenerHandle::hand_over`](crate::server::ListenerHandle::hand_over); `None` by
    /// default.
    #[cfg(unix)]
    fn socket(&self) -> Option<WeakSocket> {
        None
    }

    /// Binds another listener to the same address, with its own queue (`SO_REUSEPORT`).
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) by default and without the socket option; otherwise the
    /// errors of binding.
    fn shard(&self) -> io::Result<Self>
    where
        Self: Sized,
    {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this listener has a single queue; serve it without a listener per worker",
        ))
    }

    /// Waits for the next connection and splits it, as tokio's listeners do; see
    /// [`poll_accept`](Self::poll_accept).
    ///
    /// Cancel safe. The poll that accepts a connection also returns it.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Address)>> + Send
    where
        Self: Sized,
    {
        poll_fn(|cx| self.poll_accept(cx).map_ok(Accepted::into_parts))
    }

    /// Waits for the next connection for at most `limit`.
    ///
    /// Cancel safe, as [`accept`](Self::accept).
    ///
    /// # Errors
    ///
    /// [`TimedOut`](io::ErrorKind::TimedOut) with [`Elapsed`] as source when the limit expires; otherwise as
    /// [`poll_accept`](Self::poll_accept).
    fn accept_within(
        &mut self,
        limit: Duration,
    ) -> impl Future<Output = io::Result<(Self::Io, Address)>> + Send
    where
        Self: Sized,
    {
        let accepted = timeout(limit, self.accept());
        async move {
            accepted
                .await
                .unwrap_or_else(|_| Err(Elapsed::new(phase::ACCEPT, limit).into()))
        }
    }

    /// Whether a connection waits in the queue. Returns immediately and leaves the queue as it is.
    ///
    /// A drain calls it when [`accept_now`](Self::accept_now) fails for lack of file descriptors. If the
    /// queue is empty, the drain need not wait for one.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](io::ErrorKind::Unsupported) by default and on systems other than Unix.
    fn is_ready(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Checks with `poll(2)` whether a connection waits in the queue of `listener`.
#[cfg(unix)]
fn connection_waits(listener: impl std::os::fd::AsFd) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut listener = [PollFd::new(&listener, PollFlags::IN)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    Ok(poll(&mut listener, Some(&at_once))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use tokio::io::DuplexStream;

    /// Yields the given results, then stays pending.
    #[derive(Debug)]
    struct Scripted(VecDeque<io::Result<DuplexStream>>);

    impl Listener for Scripted {
        type Io = DuplexStream;

        fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Accepted<DuplexStream>>> {
            match self.0.pop_front() {
                Some(next) => Poll::Ready(next.map(|io| Accepted::new(io, Address::Unknown))),
                None => Poll::Pending,
            }
        }

        fn local_address(&self) -> Address {
            Address::Unknown
        }
    }

    #[test]
    fn a_listener_without_an_accept_now_of_its_own_is_polled_once() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        let (io, _peer) = tokio::io::duplex(1);
        let mut listener = Scripted([Err(reset), Ok(io)].into());
        assert!(listener.accept_now().is_err());
        assert!(listener.accept_now().unwrap().is_some());
        assert!(listener.accept_now().unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_accept_may_take_its_bound_and_no_longer() {
        let (mut listener, connector) = MemoryListener::pair();
        let limit = Duration::from_secs(5);
        let begun = tokio::time::Instant::now();
        let error = listener.accept_within(limit).await.unwrap_err();
        assert_eq!(begun.elapsed(), limit);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let elapsed = portcullis_middleware::error::find::<Elapsed>(&error).unwrap();
        assert_eq!(elapsed, &Elapsed::new(phase::ACCEPT, limit));

        let late = tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            connector.connect()
        });
        assert!(
            listener
                .accept_within(limit + Duration::from_millis(1))
                .await
                .is_ok()
        );
        late.await.unwrap().unwrap();
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn readiness_is_told_without_taking_the_connection() {
        let mut listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!listener.is_ready().unwrap());
        let _client = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        assert!(listener.is_ready().unwrap());
        assert!(listener.is_ready().unwrap());
        listener.accept().await.unwrap();
        assert!(!listener.is_ready().unwrap());
        assert!(Scripted(VecDeque::new()).is_ready().is_err());
    }

    #[tokio::test]
    async fn a_long_queue_is_not_taken_for_an_empty_one_when_the_budget_is_spent() {
        struct Queue(tokio::sync::mpsc::Receiver<DuplexStream>);
        impl Listener for Queue {
            type Io = DuplexStream;
            fn poll_accept(
                &mut self,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<Accepted<DuplexStream>>> {
                let next = self.0.poll_recv(cx);
                next.map(|io| {
                    let io = io.ok_or(io::ErrorKind::NotFound)?;
                    Ok(Accepted::new(io, Address::Unknown))
                })
            }
            fn local_address(&self) -> Address {
                Address::Unknown
            }
        }
        let (sender, receiver) = tokio::sync::mpsc::channel(500);
        for _ in 0..500 {
            sender.try_send(tokio::io::duplex(1).0).unwrap();
        }
        let mut queue = Queue(receiver);
        let mut taken = 0;
        while queue.accept_now().unwrap().is_some() {
            taken += 1;
        }
        assert_eq!(taken, 500);
    }

    #[test]
    fn a_listener_that_cannot_be_sharded_says_so() {
        let error = Scripted(VecDeque::new()).shard().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains("single queue"), "{error}");
    }
}
