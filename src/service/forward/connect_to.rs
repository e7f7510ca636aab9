//! The backend that is a single target.

use crate::connect::{ConnectError, Connecting, Connector, Target};
use pin_project::pin_project;
use portcullis_middleware::{
    Connection, ConnectionInfo,
    connection::{Socket, UpstreamInfo},
    internal::LateOptions,
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{net::TcpStream, time::Instant};
use tower::Service;

/// Connects to the same target for every client.
///
/// The name of the server in [`ConnectionInfo::upstream`] is the target. It is one word in size, because each connection
/// gets a clone.
#[derive(Clone, Debug)]
pub struct ConnectTo(Arc<Destination>);

#[derive(Debug)]
struct Destination {
    connector: Connector,
    /// Those of the connector, which a forwarder postpones.
    late_options: LateOptions,
    target: Target,
    name: Arc<str>,
}

impl ConnectTo {
    /// Connects to `target` with the default settings of a [`Connector`].
    pub fn new(target: impl Into<Target>) -> Self {
        Self::build(target.into(), Connector::new())
    }

    /// Connects with the settings of `connector`.
    #[must_use]
    pub fn with_connector(self, connector: Connector) -> Self {
        Self::build(self.0.target.clone(), connector)
    }

    fn build(target: Target, connector: Connector) -> Self {
        Self(Arc::new(Destination {
            late_options: connector.late_options(),
            connector,
            name: target.to_string().into(),
            target,
        }))
    }
}

impl Service<ConnectionInfo> for ConnectTo {
    type Response = Connection<Socket<TcpStream>>;
    type Error = ConnectError;
    type Future = ConnectToFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, client: ConnectionInfo) -> ConnectToFuture {
        let to = self.0.clone();
        ConnectToFuture {
            connecting: Connecting::new(async move {
                let Destination {
                    connector,
                    late_options,
                    target,
                    ..
                } = &*to;
                connector.connect_with(target, late_options).await
            }),
            name: self.0.name.clone(),
            begun: Instant::now(),
            client,
        }
    }
}

/// Future of [`ConnectTo`]. Dropping it drops all attempts.
#[pin_project]
#[derive(Debug)]
pub struct ConnectToFuture {
    #[pin]
    connecting: Connecting,
    client: ConnectionInfo,
    name: Arc<str>,
    begun: Instant,
}

impl Future for ConnectToFuture {
    type Output = Result<Connection<Socket<TcpStream>>, ConnectError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let connection = ready!(this.connecting.poll(cx))?;
        let address = connection.info().socket_peer().clone();
        let upstream = UpstreamInfo::new(this.name.clone(), address)
            .with_connect_time(this.begun.elapsed())
            .with_connected_at(connection.info().accepted_at());
        this.client.set_upstream(upstream);
        Poll::Ready(Ok(connection))
    }
}
