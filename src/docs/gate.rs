//! Put a gate before a service.
//!
//! A gate accepts the connections of clients, decides which ones to let through, and forwards them to servers. This
//! chapter begins with a forwarder of ten lines and adds guards, a pool of servers, health checks and TLS, one at a
//! time. The code on this page is compiled.
//!
//! # Ten lines
//!
//! [`ForwardService`] ends a stack at a single server:
//!
//! ```no_run
//! use portcullis::{BoxError, Server, ServiceBuilderExt, listener::TcpListener, service::ForwardService};
//! use tower::ServiceBuilder;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let server: portcullis::connect::Target = "10.0.1.10:8080".parse()?;
//!     let stack = ServiceBuilder::new().peer_addr().service(ForwardService::to(server));
//!     let listener = TcpListener::bind("0.0.0.0:80")?;
//!     Server::new().listen(listener, stack).stop_on_signals().run().await?;
//!     Ok(())
//! }
//! ```
//!
//! It passes on bytes, half-closes and resets in both directions, and does not interpret them. So it fits databases,
//! HTTP, gRPC, WebSockets and TLS that the server terminates.
//!
//! # Guards
//!
//! Layers in front of it decide which clients are let through, and for how long. They are in the order in which
//! a connection meets them:
//!
//! ```no_run
//! use portcullis::{
//!     ServiceBuilderExt,
//!     middleware::{
//!         access::{Acl, AclLayer},
//!         limit::{ClientIp, KeyedLimitLayer},
//!         timeout::{ConnectionTimeoutLayer, IoTimeoutLayer},
//!     },
//!     server::Stack,
//!     service::ForwardService,
//! };
//! use std::time::Duration;
//! use tokio::net::TcpStream;
//! use tower::ServiceBuilder;
//!
//! fn guarded(server: portcullis::connect::Target) -> Result<impl Stack<TcpStream>, portcullis::BoxError> {
//!     let office = Acl::new().allow("192.0.2.0/24 2001:db8::/48".parse()?);
//!     Ok(ServiceBuilder::new()
//!         .peer_addr()
//!         .trace_connections("database")
//!         .connection_limit(10_000)
//!         .layer(AclLayer::new(office))
//!         .layer(KeyedLimitLayer::new(ClientIp::new(), 20)) // connections of each client
//!         .layer(ConnectionTimeoutLayer::new().with_idle_timeout(Duration::from_secs(3600)))
//!         .layer(IoTimeoutLayer::new().without_read_timeout()) // a silent peer is fine, one that never reads is not
//!         .service(ForwardService::to(server)))
//! }
//! ```
//!
//! # Several servers
//!
//! A [`Pool`] connects to one of several servers. It is a service of the client's information, which is what
//! [`ForwardService::new`] takes:
//!
//! ```no_run
//! use portcullis::{
//!     ServiceBuilderExt,
//!     server::Stack,
//!     service::ForwardService,
//!     upstream::{Pool, Server},
//! };
//! use tokio::net::TcpStream;
//! use tower::ServiceBuilder;
//!
//! fn balanced() -> Result<impl Stack<TcpStream>, portcullis::BoxError> {
//!     let pool = Pool::new([
//!         "10.0.1.10:8080".parse::<Server>()?,
//!         "10.0.1.11:8080".parse::<Server>()?.with_weight(50), // half of the default
//!         "spare.internal:8080".parse::<Server>()?.with_backup(true),
//!     ]);
//!     Ok(ServiceBuilder::new().peer_addr().service(ForwardService::new(pool)))
//! }
//! ```
//!
//! Each connection goes to the server with the fewest connections in proportion to its weight. If a server fails, the next
//! one is tried, within ten seconds in all, so a client notices only that its connection took longer to open. After five
//! failures in a row a server is ejected for a time. A pool with host names is made inside of a tokio runtime, where a task
//! resolves them every 30 s. Other ways to [balance](crate::upstream::Balance) are round robin,
//! the address of the client, and the first server that has capacity.
//!
//! # Health
//!
//! Connects show whether a server accepts connections. Health checks show whether it works, and whether it has the
//! right role. This pool follows the primary of a PostgreSQL cluster, which an agent on port 8008 reports:
//!
//! ```no_run
//! use portcullis::upstream::{HealthCheck, OnDown, Pool, Server};
//!
//! # fn primary() -> Result<Pool, portcullis::BoxError> {
//! let check = HealthCheck::http("/primary")
//!     .with_port(8008)
//!     .with_statuses(200..=200)
//!     .with_on_down(OnDown::Close); // clients of a former primary have to connect again
//! let pool = Pool::builder()
//!     .with_name("pg-primary")
//!     .with_health_check(check)
//!     .build(["pg1.internal:5432".parse::<Server>()?, "pg2.internal:5432".parse()?]);
//! # Ok(pool)
//! # }
//! ```
//!
//! | a server | new connections | its open connections |
//! |---|---|---|
//! | refuses connects, or does not answer them in three seconds | try it and then the next one, and skip it once it is ejected | stay |
//! | fails its checks | go to others | stay, or are force-closed ([`OnDown::Close`]) |
//! | passes its checks again | reach it slowly, over 30 seconds | |
//! | is drained by [`Pool::drain`], or removed | go to others | stay; five minutes if it is removed |
//! | vanishes from the network | as one that refuses | end with an error after two minutes without an answer, by keepalive |
//! | has as many connections as allowed | go to others, or wait up to five seconds if all are full | stay |
//!
//! If no server can be used, the client is disconnected, with the outcome
//! [`Unreachable`](crate::middleware::outcome::Outcome::Unreachable). The log line contains what was tried:
//!
//! ```text
//! no connection to the backend: no backend in pool "pg-primary": no server can be used; not tried: pg1.internal:5432@10.0.0.7:5432 is down, …
//! ```
//!
//! # TLS
//!
//! TLS may end at the gate, at the server, or at both. Where it ends at the server, nothing has to be done. Here it
//! ends at the gate, which connects to its servers with TLS again and passes on the address of the client in a PROXY
//! header (features `aws-lc-rs` and `proxy-protocol`):
//!
#![cfg_attr(
    all(feature = "aws-lc-rs", feature = "proxy-protocol"),
    doc = "```no_run"
)]
#![cfg_attr(
    not(all(feature = "aws-lc-rs", feature = "proxy-protocol")),
    doc = "```ignore"
)]
//! use portcullis::{
//!     BoxError, ServiceBuilderExt, TlsLayer,
//!     middleware::{proxy_protocol::ProxyHeaderEncoder, tls::TlsConnector},
//!     server::Stack,
//!     service::ForwardService,
//!     upstream::{Pool, Server, ServerTls},
//! };
//! use tokio::net::TcpStream;
//! use tower::ServiceBuilder;
//!
//! fn encrypted() -> Result<impl Stack<TcpStream>, BoxError> {
//!     let roots = std::fs::read("internal-ca.pem")?;
//!     let tls = ServerTls::new(TlsConnector::with_roots_pem(&roots)?);
//!     let header = ProxyHeaderEncoder::v2().with_authority(true);
//!     let server = |address: &str| {
//!         let server: Server = address.parse()?;
//!         Ok::<_, BoxError>(server.with_tls(tls.clone()).with_proxy_header(header))
//!     };
//!     let pool = Pool::new([server("app1.internal:8443")?, server("app2.internal:8443")?]);
//!     Ok(ServiceBuilder::new()
//!         .peer_addr()
//!         .connection_limit(10_000)
//!         .layer(TlsLayer::from_pem_files("chain.pem", "key.pem")?.unbuffered()) // no buffers while idle
//!         .service(ForwardService::new(pool)))
//! }
//! ```
//!
//! The certificates of the servers are verified for their host names. To pass some names through and terminate
//! others on one port, put a [`Router`](crate::middleware::route) in between, as the example `sni_router` does.
//!
//! # Operation
//!
//! Clones of a pool share it, so keep one to look at the servers and to change them while they are in use:
//!
//! ```
//! use portcullis::upstream::{Pool, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), portcullis::BoxError> {
//! let first: Server = "10.0.1.10:8080".parse()?;
//! let pool = Pool::new([first.clone()]);
//! for server in pool.servers() {
//!     println!("{} is {}, with {} connections", server.key, server.state, server.connections);
//! }
//! pool.drain(&first.key()); // before it is restarted
//! pool.restore(&first.key());
//! pool.replace([first, "10.0.1.12:8080".parse()?]); // after the configuration has changed
//! # assert_eq!(pool.servers().len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! A key is the name of a server or else its address. The key of a server with a host name drains all addresses of the
//! name. Each of them also has a key of its own: `db.internal:5432@10.0.0.7:5432`.
//!
//! Servers that are registered elsewhere arrive as a [stream of changes](crate::upstream::PoolBuilder::follow). A graceful
//! shutdown of the gate waits for its connections up to the deadline; see
//! [`DrainPolicy`](crate::service::forward::DrainPolicy). The example `forward` is a complete program, and the program
//! `portcullis` does all of this from a configuration file.
//!
//! [`ForwardService`]: crate::service::ForwardService
//! [`ForwardService::new`]: crate::service::ForwardService::new
//! [`OnDown::Close`]: crate::upstream::OnDown::Close
//! [`Pool`]: crate::upstream::Pool
//! [`Pool::drain`]: crate::upstream::Pool::drain
