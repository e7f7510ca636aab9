//! Forwards connections to a backend, with the fewest copies that both sides allow.
//!
//! [`ForwardService`] ends a stack. For each connection it gets one from a backend service, and moves bytes in both
//! directions until both have ended. A backend service is any `tower::Service<ConnectionInfo>` that can be cloned and
//! returns a [`Connection`](crate::Connection): [`ConnectTo`] for a single target, a [`Pool`](crate::upstream::Pool) also
//! for one server with TLS or a PROXY header, or a custom one.
//!
//! # Position in the stack
//!
//! It is the innermost service, below all layers. Bytes move without being copied only if both sides are sockets, and all
//! layers that wrap them let the socket through ([`Passthrough`](crate::io::Passthrough)). TLS, a
//! [`BandwidthLayer`](crate::middleware::limit::BandwidthLayer), a write buffer and a
//! [`BoxIo`](crate::middleware::io::BoxIo) do not; limits, timeouts and counters do. By the same trait, a client that
//! disconnects while the backend is connected to is noticed.
//!
//! | of the client | effect on the backend |
//! |---|---|
//! | ends its stream (FIN, `close_notify`) | the backend's write side is shut down, and its answer still arrives |
//! | resets the connection | everything that was received, then a reset; under TLS a close without `close_notify` |
//! | resets the connection after the backend has ended its stream | as above, and the connection counts as completed |
//! | closes TLS without `close_notify` | everything that was received, then a reset, unless the backend has ended its stream before |
//! | does not read | the backend is not read either, after at most a pipe and the buffers of the sockets; on Linux, TCP ends it after two minutes ([`TcpOptions::with_user_timeout`](crate::listener::TcpOptions::with_user_timeout)) |
//!
//! Bytes count as delivered once the system has accepted them, so a client that cancels the rest of a download may count
//! as completed.
//!
//! The table also applies with both sides exchanged, except that a reset by the backend is always a failure, and so is
//! TLS that it closes without `close_notify` after it has sent something to a client that has ended its stream. If a side
//! closes before it has read everything, what it has sent before still reaches the other side. What the other side sends
//! from then on is discarded, from a backend up to 1 MiB; one that sends more is reset at the end.
//!
//! A reset discards what the system has not sent. On Linux, the forwarder therefore waits until everything was sent to
//! a socket that it reaches through [`Passthrough`](crate::io::Passthrough), also under TLS, for as long as the limit of
//! half-closed connections in all. A segment that the network loses after that is not repeated.
//!
//! # Errors and outcomes
//!
//! The response is [`Forwarded`]. The error is [`ForwardError`] with the step, the bytes in both directions and the
//! cause. A failed connect is [`Unreachable`](crate::middleware::error::Unreachable). [`ConnectionInfo::upstream`] and
//! [`ConnectionInfo::ended_by`] are recorded for logs.
//!
//! | limit | default | outcome |
//! |---|---|---|
//! | connecting | 10 s with [`ConnectTo`] or a [`Pool`](crate::upstream::Pool), 20 s with a [`SkipGreeting`](crate::upstream::SkipGreeting), and 30 s in all | `Unreachable` |
//! | silence after one side has ended | 60 s | `TimedOut` |
//! | single reads and writes of the client's stream | those of [`IoTimeoutLayer`](crate::IoTimeoutLayer) | `TimedOut` |
//! | silence, lifetime, throughput | those of [`ConnectionTimeoutLayer`] | `TimedOut` |
//!
//! A graceful shutdown waits for forwarded connections until its deadline; see [`DrainPolicy`].
//!
//! # Cancellation and drop
//!
//! Dropping the future drops both connections with their guards, such as the slot of a pool. If bytes of one side have
//! not reached the other one, both are reset, so that a truncated stream does not look complete. A forced close and the
//! timeouts of this module and of single operations do the same for bytes that the system holds unread, unless they are
//! under TLS or in a [`BoxIo`](crate::middleware::io::BoxIo). When the future is dropped, as by the limits of
//! [`ConnectionTimeoutLayer`], such bytes do not count.
//!
//! # Limitations
//!
//! While the backend is connected to, the client is not read. Its departure is noticed after 250 ms. A client that
//! ends its stream before it has sent a byte counts as gone, as in all layers that wait. A reset by a side is noticed
//! only once the bytes that it has sent before have been written to the other side.
//!
//! A Unix domain socket has no reset, so its peer sees the end of the stream instead. On Linux, one that is closed with
//! unread input counts as reset.
//!
//! [`IoTimeoutLayer`](crate::IoTimeoutLayer) limits the client's stream alone. Its read timeout ends a download whose
//! client sends nothing for that time, so disable it. [`ConnectionTimeoutLayer`] limits the silence of both directions
//! together, also if the client has reset its connection while the backend is stuck.
//!
//! Urgent data of TCP is not forwarded. From then on, bytes of that direction are copied.
//!
//! # Performance
//!
//! An idle connection holds no buffer. Bytes are read into a buffer of the thread and written immediately; what the
//! other side does not accept is kept, up to 64 KiB, or 128 KiB if a side is no plain socket. A TLS session keeps up to
//! 136 KiB more, which it has encrypted. After two reads in a row that filled that buffer, bytes of plain sockets move
//! through a pipe of the kernel (`splice(2)`, on Linux), which copies nothing and takes two system calls for 256 KiB, or
//! for 1 MiB once 16 MiB have moved. Other tasks of the thread get a turn after some 4 MiB in a direction, or after some
//! 1 MiB that is copied. The pipes of the process take at most 48 MiB, and those of 1 MiB a third of it; a slow reader
//! occupies one. Without a pipe, and on other systems, bytes are copied.
//!
//! What the kernel buffers comes on top: up to `tcp_rmem` on the side that sends, and `tcp_wmem` on the other one. It enlarges
//! the buffers of connections that have moved much, so after a long transfer, the sender can send more before it has to
//! wait: with 32 MiB of `tcp_rmem`, clients sent 4 to 23 MB to a backend that never read,
//! and up to 38 MB more to one that stopped after a long transfer. Fixed sizes limit that
//! ([`TcpOptions::with_recv_buffer_size`](crate::listener::TcpOptions::with_recv_buffer_size) for clients and
//! [`Connector::with_recv_buffer_size`](crate::connect::Connector::with_recv_buffer_size) for backends): with 1 MiB each,
//! a client sends some 5 MiB to a backend that does not read.
//!
//! [`ConnectTo`] and a [`Pool`](crate::upstream::Pool) set keepalive and the timeout of unacknowledged data, which take
//! four system calls, only once a connection has lasted a quarter of a second, unless the server is sent something first
//! (a PROXY header, TLS).
//!
//! # Example
//!
//! ```
//! use portcullis::{Server, ServiceBuilderExt, connect::connect, listener::TcpListener, service::ForwardService};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! # let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let backend_address = backend.local_addr()?;
//! # tokio::spawn(async move {
//! #     let (mut stream, _) = backend.accept().await?;
//! #     let mut request = String::new();
//! #     stream.read_to_string(&mut request).await?;
//! #     stream.write_all(request.to_uppercase().as_bytes()).await
//! # });
//! let stack = ServiceBuilder::new()
//!     .peer_addr()
//!     .connection_limit(1000)
//!     .service(ForwardService::to(backend_address));
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let server = Server::new().listen(listener, stack).spawn()?;
//!
//! let mut client = connect(address).await?;
//! client.write_all(b"hello").await?;
//! client.shutdown().await?; // the backend sees this end
//! let mut answer = String::new();
//! client.read_to_string(&mut answer).await?;
//! assert_eq!(answer, "HELLO");
//! # server.stop();
//! # server.wait().await;
//! # Ok(())
//! # }
//! ```
//!
//! [`ConnectionInfo::upstream`]: crate::ConnectionInfo::upstream
//! [`ConnectionInfo::ended_by`]: crate::ConnectionInfo::ended_by
//! [`ConnectionTimeoutLayer`]: crate::middleware::timeout::ConnectionTimeoutLayer

mod connect_to;
mod direction;
mod drain;
mod forwarding;
mod future;
mod late;
mod pipes;
mod report;
mod scratch;
mod service;
mod silence;
mod streak;
#[cfg(test)]
mod tests;
mod transfer;

pub use self::{
    connect_to::{ConnectTo, ConnectToFuture},
    future::ForwardFuture,
    report::{ForwardError, ForwardStep, Forwarded, Side},
    service::{DrainPolicy, ForwardService},
};
