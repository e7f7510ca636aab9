//! Where the features of five older TCP server libraries are in this one.
//!
//! portcullis carries on the ideas of five libraries of the Scheme family. Each row names what was
//! there, what does it here, and which test or example shows it. Where a default differs, the reason
//! stands beside it.
//!
//! # A. tcp-server, an extension of CHICKEN 4
//!
//! | there | here | shown by |
//! |---|---|---|
//! | `make-tcp-server`: a thread for each connection | [`Server`](crate::Server) over any [`Listener`](crate::listener::Listener), a task for each connection | `tests/server.rs`, `tests/end.rs` |
//! | MAXREQUESTS | [`ConnectionLimitLayer`](crate::middleware::connection_limit::ConnectionLimitLayer) | `tests/acceptor.rs` |
//! | diagnostics for each request, with a prefix | [`TraceLayer::with_name`](crate::middleware::trace::TraceLayer::with_name) | `examples/echo.rs`, tests of `trace` |
//! | generic over the transport | [`Listener`](crate::listener::Listener) and [`Transport`](crate::connection::Transport); [`PeerAddrLayer`](crate::middleware::peer_addr::PeerAddrLayer) for the addresses | the listener in the docs of `Listener`, tests over memory |
//! | hard close | [`Connection::abort`](crate::Connection::abort) | `tests/closing.rs` |
//! | the time-of-day server on port 6504 | `examples/time_of_day.rs` | `tests/examples.rs`, `tests/interop.py` |
//!
//! # B. CHICKEN 5, `(chicken tcp)`
//!
//! | there | here | shown by |
//! |---|---|---|
//! | `tcp-listen PORT [BACKLOG=100 [HOST]]` | [`TcpListener::bind`](crate::listener::TcpListener::bind), [`TcpOptions`](crate::listener::TcpOptions); the backlog is 1024: it is where clients wait while a limit is reached, and the system bounds it anyway | tests of `listener::tcp` |
//! | `tcp-close`, `tcp-listener-port` (port 0), `tcp-listener-fileno` | drop; [`local_addr`](crate::listener::TcpListener::local_addr); `AsFd`, `AsRawFd` | tests of `listener::tcp` |
//! | `tcp-accept` with `tcp-accept-timeout`, off | [`accept_within`](crate::listener::Listener::accept_within) for a listener, [`Server::stop_when_idle`](crate::Server::stop_when_idle) for a server; both off | tests of `listener`, `tests/end.rs` |
//! | `tcp-accept-ready?` | [`Listener::is_ready`](crate::listener::Listener::is_ready) | tests of `listener` |
//! | `tcp-connect HOST [PORT]`, `"HOST:PORT"`, service names | [`connect`](crate::connect::connect()) | tests of `connect` |
//! | `tcp-connect-timeout`, off | [`Connector::with_timeout`](crate::connect::Connector::with_timeout); ten seconds, since the system's own bound is above two minutes | tests of `connect` |
//! | `tcp-addresses`, `tcp-port-numbers` | [`Connection::local_addr`](crate::Connection::local_addr), [`Connection::peer_addr`](crate::Connection::peer_addr), on both sides | tests of `connection` and `connect` |
//! | `tcp-read-timeout`, `tcp-write-timeout`: 60 s, `#f` turns off | [`IoTimeoutLayer`](crate::middleware::io_timeout::IoTimeoutLayer): 60 s, `None` turns off; [`TimeoutIo`](crate::middleware::io_timeout::TimeoutIo) for a client | tests of `io_timeout` |
//! | conditions `(exn i/o net timeout)` | [`io::ErrorKind::TimedOut`](std::io::ErrorKind::TimedOut) with [`Elapsed`](crate::middleware::error::Elapsed) as source; [`find`](crate::middleware::error::find) | tests of `error` |
//! | `tcp-buffer-size`, off | [`BufferLayer`](crate::middleware::buffer::BufferLayer); off, since it is a layer | tests of `buffer` |
//! | `tcp-abandon-port` | [`Connection::detach`](crate::Connection::detach) | `tests/closing.rs` |
//! | `server.scm` and `client.scm` on 4242 | `examples/hello.rs`, both sides | `tests/interop.py` |
//!
//! # C. Vicare, `(vicare posix tcp-server-sockets)`
//!
//! | there | here | shown by |
//! |---|---|---|
//! | `make-master-sock INTERFACE PORT MAX-PENDING` | [`TcpListener::bind`](crate::listener::TcpListener::bind) with a host name or an address of the interface; [`Target`](crate::connect::Target) for service names | tests of `listener::tcp` and `connect` |
//! | SO_REUSEADDR | [`TcpOptions::with_reuse_address`](crate::listener::TcpOptions::with_reuse_address), on | tests of `listener::tcp` |
//! | lingers one second | [`Connection::close`](crate::Connection::close) lingers in its own task: 5 s without input, 30 s at most ([`Linger`](crate::connection::Linger)). SO_LINGER blocks a thread for that long and is off ([`TcpOptions::with_linger`](crate::listener::TcpOptions::with_linger)) | `tests/closing.rs` |
//! | readable when a connection is pending | [`Listener::is_ready`](crate::listener::Listener::is_ready) | tests of `listener` |
//! | `make-server-sock-and-port`: port, fd, `sockaddr` | the accepted stream, its `AsFd`, and a `SocketAddr` (a raw `sockaddr` through `socket2::SockAddr::from`) | the example below |
//! | `close-server-port`, `close-master-sock` | drop; [`AsyncWriteExt::shutdown`](tokio::io::AsyncWriteExt::shutdown) | `tests/support`, tests of `testing` |
//!
//! ```
//! # #[cfg(unix)] {
//! use portcullis::listener::{Listener, TcpListener};
//! use std::os::fd::{AsFd, AsRawFd};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! let mut listener = TcpListener::bind("127.0.0.1:0")?;
//! let client = tokio::net::TcpStream::connect(listener.local_addr()?).await?;
//! let (stream, peer) = listener.accept().await?;
//! let raw = socket2::SockAddr::from(peer.ip().expect("TCP has addresses"));
//! assert_eq!(raw.as_socket(), client.local_addr().ok());
//! assert_eq!(listener.as_fd().as_raw_fd(), listener.as_raw_fd());
//! let _descriptor = stream.as_fd();
//! # Ok(())
//! # }
//! # }
//! ```
//!
//! # D. Sagittarius, `(net server)`
//!
//! | there | here | shown by |
//! |---|---|---|
//! | `make-simple-server`: the handler gets the server and the socket, which is closed for it | [`Server::listen`](crate::Server::listen); [`Handle::of`](crate::server::Handle::of) in a handler; a connection closes when it is dropped | `tests/server.rs`, `tests/end.rs` |
//! | `max-thread` (1), the next one waits | [`ConnectionLimitLayer::new`](crate::middleware::connection_limit::ConnectionLimitLayer::new); without a default: a limit is the program's to know | `tests/acceptor.rs` |
//! | `max-retry`: ten times 500 ms, then refused | [`wait_up_to`](crate::middleware::connection_limit::ConnectionLimitLayer::wait_up_to): five seconds are theirs; ours has no default, and a bound on how many wait | tests of `connection_limit` |
//! | `non-blocking?`: a number of threads, the least busy is next | [`Workers::LeastBusy`](crate::server::Workers::LeastBusy), [`Workers::PerCore`](crate::server::Workers::PerCore) | `tests/acceptor.rs`, `examples/thread_pool.rs` |
//! | `exception-handler` with the socket still open; decides whether to go on | [`OnErrorLayer::new`](crate::middleware::on_error::OnErrorLayer::new): answer, close, abort; [`with_retry`](crate::middleware::on_error::OnErrorLayer::with_retry): go on | tests of `on_error` |
//! | `shutdown-port`, `shutdown-handler` | a second listener whose handler calls [`Handle::stop`](crate::server::Handle::stop) if it likes | `examples/shutdown_port.rs` |
//! | `use-ipv6?` | an address of either family; [`TcpOptions::with_only_v6`](crate::listener::TcpOptions::with_only_v6); [`TcpOptions::bind_all`](crate::listener::TcpOptions::bind_all) and [`Server::listen_all`](crate::Server::listen_all) | tests of `listener::tcp` |
//! | `secure?`, `certificates`, `private-key` | `TlsLayer` (feature `tls`) | `examples/tls_echo.rs` |
//! | `server-start!`, `background`, `server-stop!`, `server-stopped?`, `wait-server-stop!` | [`Server::run`](crate::Server::run), [`Server::spawn`](crate::Server::spawn), [`Handle::stop`](crate::server::Handle::stop), [`is_stopped`](crate::server::Handle::is_stopped), [`wait`](crate::server::Handle::wait), [`wait_for`](crate::server::Handle::wait_for). A second start does not compile | `tests/server.rs`, `tests/end.rs` |
//! | `on-server-start!`, `on-server-stop!` | [`Server::on_start`](crate::Server::on_start), [`Server::on_stop`](crate::Server::on_stop) | `tests/server.rs`, `tests/end.rs` |
//! | configuration readable from the server | [`Handle::config`](crate::server::Handle::config), [`Handle::status`](crate::server::Handle::status) | `tests/server.rs`, `tests/end.rs` |
//! | detached sockets | [`Connection::detach`](crate::Connection::detach), [`hand_off`](crate::service::hand_off()) | `tests/closing.rs`, `tests/incoming.rs` |
//!
//! # E. Slogan, `tcp_server_stream`
//!
//! | there | here | shown by |
//! |---|---|---|
//! | the server is a stream of clients | [`Server::incoming`](crate::Server::incoming) | `tests/incoming.rs` |
//! | `"INTF:PORT"`, bytes of an address, address and `port_number` | all that `ToSocketAddrs` takes: `"host:port"`, `("host", port)`, `(IpAddr::from([127, 0, 0, 1]), port)`, `SocketAddr::from(([0; 16], port))` | the example below |
//! | backlog 128 | [`TcpOptions::with_backlog`](crate::listener::TcpOptions::with_backlog), 1024, see B | tests of `listener::tcp` |
//! | `reuse_address` on; off makes a port in use an error | [`TcpOptions::with_reuse_address`](crate::listener::TcpOptions::with_reuse_address), the same | tests of `listener::tcp` |
//! | `transcoder` | `TranscodeLayer` (feature `transcode`) | `examples/charset.rs` |
//! | `call_with_stream`: closed on every way out | dropping closes | `tests/closing.rs` |
//! | the line echo server on 2020 and its client | `examples/line_echo.rs` | `tests/interop.py` |
//!
//! ```
//! use portcullis::listener::TcpListener;
//! use std::net::{IpAddr, SocketAddr};
//!
//! # fn main() -> Result<(), portcullis::BoxError> {
//! TcpListener::bind("127.0.0.1:0")?;
//! TcpListener::bind(("localhost", 0))?;
//! TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0))?;
//! TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
//! let loopback = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
//! assert_eq!(SocketAddr::from((loopback, 80)).to_string(), "[::1]:80");
//! # Ok(())
//! # }
//! ```
