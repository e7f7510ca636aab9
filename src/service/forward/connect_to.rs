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
/// The name of the server in [`ConnectionInfo::upstream`] is the target.
#[derive(Clone, Debug)]
pub struct ConnectTo {
    connector: Connector,
    /// Those of the connector, which a forwarder postpones.
    late_options: LateOptions,
    target: Target,
    name: Arc<str>,
}

impl ConnectTo {
    /// Connects to `target` with the default settings of a [`Connector`].
    pub fn new(target: impl Into<Target>) -> Self {
        let target = target.into();
        let connector = Connector::new();
        Self {
            late_options: connector.late_options(),
            connector,
            name: target.to_string().into(),
            target,
        }
    }

    /// Connects with the settings of `connector`.
    #[must_use]
    pub fn with_connector(mut self, connector: Connector) -> Self {
        self.late_options = connector.late_options();
        self.connector = connector;
        self
    }
}

impl Service<ConnectionInfo> for ConnectTo {
    type Response = Connection<Socket<TcpStream>>;
    type Error = ConnectError;
    type Future = ConnectToFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, client: ConnectionInfo) -> ConnectToFuture {
        ConnectToFuture {
            connecting: self
                .connector
                .connect_with(self.target.clone(), self.late_options.clone()),
            name: self.name.clone(),
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
