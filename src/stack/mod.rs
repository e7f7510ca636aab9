//! The recommended stack, from the outside in, and why.
//!
//! [`recommended`] puts the layers that a public server should have around a service, in the order below.
//! [`Options`] chooses them. With the defaults, a server has a trace, limits its connections to 10,000, and ends
//! those that move no byte for five minutes or keep a write waiting for 60 seconds. A layer that is not
//! configured is not in the stack.
//!
//! Write the stack by hand with [`ServiceBuilder`] if it needs another order or other layers. The example
//! `full_stack` does so.
//!
//! # The order
//!
//! Each layer sees a connection after those above it. Cheap decisions come before expensive ones, and a layer
//! comes after the layer that provides what it decides by. A connection that is rejected has cost as little as
//! possible, and no permit is held while a layer waits for the client's bytes.
//!
//! | | layer | protects against | why here, and what goes wrong elsewhere |
//! |---|---|---|---|
//! | 1 | [`PeerAddrLayer`] | | It turns the stream into a [`Connection`], which all other layers need. |
//! | 2 | [`TraceLayer`] | connections that end without a reason in the log | It reports only what it encloses. Further inside, rejected clients and failed handshakes would be missing. |
//! | 3 | `MetricsLayer` | the same, in metrics | As for the trace. |
//! | 4 | [`CatchPanicLayer`] | a panic without its text in the log | Inside of the trace, which reports the panic. The server survives panics anyway. |
//! | 5 | [`ConnectionLimitLayer`] | running out of memory and file descriptors | Before all work. Further clients wait in the kernel's accept queue. Inside of TLS, it would leave the number of handshakes to the clients. |
//! | 6 | [`AclLayer`] of the socket | clients that bypass the load balancer | Before the first byte is read. After the PROXY header it would judge another address. |
//! | 7 | `ProxyProtocolLayer` | guards that see the load balancer instead of the client | The header comes before all other bytes, so TLS would reject it. Guards by the client's address come after it, because they would count all clients as one. |
//! | 8 | [`AclLayer`] of the client | unwanted networks | The cheapest guard comes first. After a limit, a flood from a denied network would fill that limit's table. |
//! | 9 | [`RateLimitLayer`] | clients that connect too often | Before the handshake, which costs a thousand times as much. |
//! | 10 | [`KeyedLimitLayer`] | one client that takes all connections | After the rate, so that a client that reconnects too often takes no slots. Outside of TLS, so that slow handshakes count. |
//! | 11 | [`ConnectionTimeoutLayer`] | silent, slow and endless connections | Outside of everything that waits for the client. Inside of TLS, a handshake would not count as idle time. |
//! | 12 | [`PeekLayer`] | | It detects the protocol for a [`Router`](crate::middleware::route::Router), so it sees the bytes before TLS. |
//! | 13 | `TlsLayer` | readers on the network | After all guards by address, because the handshake is the most expensive step. It limits unfinished handshakes itself. |
//! | 14 | [`AclLayer`] of the certificate | clients whose certificate is valid and has no right to connect | The certificate is known after the handshake. |
//! | 15 | [`IoTimeoutLayer`] | a client that stops reading | Inside of TLS, it limits the operations of the service. Outside, one service call may be many operations on the wire. |
//! | 16 | [`BandwidthLayer`] | one client that takes the whole network | Inside of the timeouts, which then leave out the waits for bandwidth. Inside of TLS, it counts the bytes of the service. |
//! | 17 | layers of the service, such as [`OnErrorLayer`] | | Inside of TLS, so that an answer to an error is encrypted. |
//! | 18 | the service | | `HttpService`, a `Router`, a [hand-off](crate::service::hand_off()) or a function. |
//!
//! # The service
//!
//! The service takes a [`Connection`] over [`StackIo`], and may have layers of its own. A `Router` needs the
//! option [`with_peek`](Options::with_peek), and its routes terminate TLS themselves, so that each name has its
//! own.
//!
//! # Handles
//!
//! An option is a layer. Take its handle before you pass it on, to change a list or a limit while the server runs.
//!
//! # Limitations
//!
//! - A limit per client is off by default, because a load balancer without PROXY headers is a single client. Without
//!   it, one client can take all connections.
//! - A client that sends a byte every few minutes is not idle. Set
//!   [`with_min_throughput`](crate::middleware::timeout::ConnectionTimeoutLayer::with_min_throughput) where no client has a reason for that.
//! - An idle timeout of five minutes is short for databases and WebSockets without pings.
//!
//! # Performance
//!
//! The stack is of one type, with one box between the guards and the rest: two allocations per connection, and one
//! virtual call per poll. A layer that is not configured costs a comparison per connection. Per read and write, the stack adds a few comparisons to the operation: whether a prefix is unread, whether the
//! connection has TLS, and whether a bandwidth or a timeout is set. `benches/README.md` has its counts, with those
//! of bare tokio-rustls.
//!
//! # Example
//!
//! ```
//! use portcullis::{
//!     BoxError, Connection, Server,
//!     listener::MemoryListener,
//!     middleware::{
//!         access::{Acl, AclLayer},
//!         limit::{ClientIp, ConnectionLimitLayer, KeyedLimitLayer},
//!     },
//!     stack::{self, Options},
//! };
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tower::ServiceBuilder;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let acl = AclLayer::new(Acl::new().deny("192.0.2.0/24".parse()?));
//! let (access, per_client) = (acl.handle(), KeyedLimitLayer::new(ClientIp::new(), 100));
//! let options = Options::new()
//!     .with_connection_limit(ConnectionLimitLayer::new(5_000))
//!     .with_client_acl(acl)
//!     .with_keyed_limit(per_client);
//!
//! let service = ServiceBuilder::new().service_fn(|mut connection: Connection<_>| async move {
//!     connection.write_all(b"hello").await?;
//!     connection.close().await
//! });
//! let (listener, connector) = MemoryListener::pair();
//! let server = Server::new().listen(listener, stack::recommended(options, service)).spawn()?;
//!
//! let mut received = String::new();
//! connector.connect()?.read_to_string(&mut received).await?;
//! assert_eq!(received, "hello");
//! access.replace(Acl::new().deny("198.51.100.0/24".parse()?)); // for further connections
//! # server.stop();
//! # server.wait().await;
//! # Ok(())
//! # }
//! ```
//!
//! [`PeerAddrLayer`]: crate::middleware::peer_addr::PeerAddrLayer
//! [`TraceLayer`]: crate::middleware::observe::TraceLayer
//! [`CatchPanicLayer`]: crate::middleware::handler::CatchPanicLayer
//! [`ConnectionLimitLayer`]: crate::middleware::limit::ConnectionLimitLayer
//! [`AclLayer`]: crate::middleware::access::AclLayer
//! [`RateLimitLayer`]: crate::middleware::limit::RateLimitLayer
//! [`KeyedLimitLayer`]: crate::middleware::limit::KeyedLimitLayer
//! [`ConnectionTimeoutLayer`]: crate::middleware::timeout::ConnectionTimeoutLayer
//! [`PeekLayer`]: crate::middleware::peek::PeekLayer
//! [`IoTimeoutLayer`]: crate::middleware::timeout::IoTimeoutLayer
//! [`BandwidthLayer`]: crate::middleware::limit::BandwidthLayer
//! [`OnErrorLayer`]: crate::middleware::handler::OnErrorLayer

mod options;

pub use self::options::Options;

use crate::{connection::Transport, server::Stack};
#[cfg(feature = "tls")]
use portcullis_middleware::tls::TlsIo;
use portcullis_middleware::{
    BoxError, Connection,
    connection::Socket,
    handler::CatchPanicLayer,
    io::{EitherIo, PrefixedIo},
    limit::BandwidthIo,
    peer_addr::PeerAddrLayer,
    stream::MapIoLayer,
    timeout::TimeoutIo,
};
use tower::{
    Service, ServiceBuilder,
    util::{BoxCloneSyncService, Either},
};

/// The stream that reaches the service of a [recommended] stack over `Io`.
pub type StackIo<Io> = MaybeLimitedIo<TimeoutIo<MaybeTlsIo<WireIo<Io>>>>;

/// The bytes of the wire, without the PROXY header.
pub type WireIo<Io> = PrefixedIo<Socket<Io>>;

/// Plaintext of a TLS connection, or a plain stream.
#[cfg(feature = "tls")]
pub type MaybeTlsIo<IO> = EitherIo<TlsIo<IO>, IO>;

/// A plain stream, because the feature `tls` is off.
#[cfg(not(feature = "tls"))]
pub type MaybeTlsIo<IO> = IO;

/// A stream with a limited bandwidth, or without a limit.
///
/// The limit has an allocation of its own, so that it takes no memory where it is not used.
pub type MaybeLimitedIo<IO> = EitherIo<Box<BandwidthIo<IO>>, IO>;

/// Puts the layers of `options` around `service`, in the [recommended order](self).
pub fn recommended<S, Io>(
    options: Options,
    service: S,
) -> impl Stack<Io, Response = S::Response, Error = BoxError> + Sync
where
    S: Service<Connection<StackIo<Io>>, Error: Into<BoxError>, Future: Send + 'static>,
    S: Clone + Send + Sync + 'static,
    S::Response: Send + 'static,
    Io: Transport,
{
    let stack = ServiceBuilder::new()
        .layer(PeerAddrLayer::new())
        .layer(options.trace);
    #[cfg(feature = "metrics")]
    let stack = stack.option_layer(options.metrics);
    let stack = stack
        .layer(CatchPanicLayer::new())
        .layer(options.connection_limit)
        .option_layer(options.socket_acl);
    #[cfg(feature = "proxy-protocol")]
    let stack = stack.layer(one_of(
        options.proxy_protocol,
        MapIoLayer::new(PrefixedIo::new),
    ));
    #[cfg(not(feature = "proxy-protocol"))]
    let stack = stack.layer(MapIoLayer::new(PrefixedIo::new));
    let stack = stack
        .option_layer(options.client_acl)
        .option_layer(options.rate_limit)
        .option_layer(options.keyed_limit)
        // Each optional layer doubles the type of what is inside. Without the box, the compiler needs minutes.
        .layer(BoxCloneSyncService::layer())
        .layer(options.connection_timeout)
        .option_layer(options.peek.map(|peek| (peek, MapIoLayer::new(flatten))));
    #[cfg(feature = "tls")]
    let stack = stack
        .layer(one_of(
            options
                .tls
                .map(|tls| (tls, MapIoLayer::new(EitherIo::Left))),
            MapIoLayer::new(EitherIo::Right),
        ))
        .option_layer(options.certificate_acl);
    let limited = |bandwidth| {
        (
            bandwidth,
            MapIoLayer::new(|io| EitherIo::Left(Box::new(io))),
        )
    };
    stack
        .layer(options.io_timeout)
        .layer(one_of(
            options.bandwidth.map(limited),
            MapIoLayer::new(EitherIo::Right),
        ))
        .map_err(Into::<BoxError>::into)
        .service(service)
}

/// The layer that is configured, or the other.
fn one_of<A, B>(configured: Option<A>, otherwise: B) -> Either<A, B> {
    match configured {
        Some(layer) => Either::Left(layer),
        None => Either::Right(otherwise),
    }
}

/// Makes one prefix of two.
fn flatten<IO>(io: PrefixedIo<PrefixedIo<IO>>) -> PrefixedIo<IO> {
    let first = io.prefix().to_vec();
    let mut io = io.into_inner();
    io.prepend(&first);
    io
}
