//! Connections and detectors that the tests share.

mod bounds;
mod protocols;
mod waiting;

use super::{client_hello::tests::TestHello, *};
use crate::{
    BoxError, Connection, ConnectionInfo,
    error::{Elapsed, Refused, TimeoutPhase, find},
    io::PrefixedIo,
    testing::connection,
};
use std::{io, time::Duration};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tower::{Layer, Service, ServiceExt, service_fn};

/// What a service receives: the protocol, and all bytes.
type Received = (Option<Protocol>, Vec<u8>);

/// Passes a connection over `io` through `layer` and reads it to its end.
async fn serve<D, IO>(layer: PeekLayer<D>, io: IO) -> Result<Received, BoxError>
where
    D: Detector + Send + 'static,
    IO: AsyncRead + Unpin + Send + 'static,
{
    serve_connection(layer, connection(io)).await
}

async fn serve_connection<D, IO>(
    layer: PeekLayer<D>,
    connection: Connection<IO>,
) -> Result<Received, BoxError>
where
    D: Detector + Send + 'static,
    IO: AsyncRead + Unpin + Send + 'static,
{
    let read = |mut connection: Connection<PrefixedIo<IO>>| async move {
        let mut input = Vec::new();
        connection.read_to_end(&mut input).await?;
        io::Result::Ok((connection.extensions().get().cloned(), input))
    };
    layer.layer(service_fn(read)).oneshot(connection).await
}

fn hello() -> Vec<u8> {
    TestHello::to("shop.example").records(1 << 14)
}

fn name(info: &ConnectionInfo) -> Option<&str> {
    info.hello()?.server_name()
}
