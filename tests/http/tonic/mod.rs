//! gRPC by tonic, both ways: at the end of a stack, and with a stack as the source of its connections.

mod connection_info;
mod long_streams;
mod probe;
mod shutdown;
mod tls;

use crate::support::assert_ended;
use portcullis::{
    Server,
    listener::Listener,
    server::Stack,
    server::{Handle, Report},
    service::{HandOff, HttpService},
};
use probe::{Observed, Probe};
use std::{future::pending, net::SocketAddr};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    task::JoinHandle,
};
use tonic::{
    service::{InterceptorLayer, Routes},
    transport,
};
use tower::{Layer, ServiceBuilder};

/// How tonic comes by its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    HttpService,
    Incoming,
    IncomingTls,
    IncomingInfo,
}

/// A server of [`Probe`].
struct Served {
    handle: Handle,
    observed: mpsc::UnboundedReceiver<Observed>,
    tonic: Option<JoinHandle<Result<(), transport::Error>>>,
}

impl Served {
    fn new<L, B, IO>(way: Way, server: Server, listener: L, layers: ServiceBuilder<B>) -> Self
    where
        L: Listener,
        B: Layer<HttpService<Routes>> + Layer<HandOff<IO>>,
        <B as Layer<HttpService<Routes>>>::Service: Stack<L::Io>,
        <B as Layer<HandOff<IO>>>::Service: Stack<L::Io>,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (probe, observed) = Probe::new();
        let routes = Routes::new(probe).prepare();
        if way == Way::HttpService {
            let stack = layers.service(HttpService::new(routes).with_streaming_calls());
            return Self {
                handle: server.listen(listener, stack).spawn().unwrap(),
                observed,
                tonic: None,
            };
        }
        let incoming = server.incoming(listener, layers).unwrap();
        let handle = incoming.handle().unwrap().clone();
        let mut tonic = transport::Server::builder();
        let router = tonic.add_routes(routes.clone());
        let served = match way {
            Way::HttpService => unreachable!("see above"),
            Way::Incoming => {
                tokio::spawn(router.serve_with_incoming_shutdown(incoming.tonic(), pending()))
            }
            Way::IncomingTls => {
                tokio::spawn(router.serve_with_incoming_shutdown(incoming.tonic_tls(), pending()))
            }
            Way::IncomingInfo => {
                let incoming = incoming.tonic_with(|connection| connection.info().clone());
                let router = transport::Server::builder()
                    .layer(InterceptorLayer::new(
                        portcullis::tonic::insert_connect_info,
                    ))
                    .add_routes(routes);
                tokio::spawn(router.serve_with_incoming_shutdown(incoming, pending()))
            }
        };
        Self {
            handle,
            observed,
            tonic: Some(served),
        }
    }

    /// The addresses of the only connection, both ends as the client sees them: its own first.
    fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let connections = self.handle.connections();
        assert_eq!(connections.len(), 1);
        let info = &connections[0];
        let (peer, local) = (info.socket_peer().ip(), info.socket_local().ip());
        (peer.unwrap(), local.unwrap())
    }

    async fn finish(self) -> Report {
        self.handle.stop();
        self.over().await
    }

    /// Waits until the server is over, and tonic with it.
    async fn over(self) -> Report {
        if let Some(tonic) = self.tonic {
            tonic.await.unwrap().unwrap();
        }
        let report = self.handle.wait().await;
        assert_ended(&self.handle);
        report
    }
}
