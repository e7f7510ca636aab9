//! The backend of forwarders. It is in the measuring process, so that no tool counts it.

use super::Variant;
use harness::bulk;
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    spawn,
    task::JoinHandle,
};

/// A server behind a forwarder. Dropping it closes its listener.
#[derive(Debug)]
pub(crate) struct Backend {
    address: SocketAddr,
    accepting: JoinHandle<io::Result<()>>,
}

impl Backend {
    /// Starts the backend that a variant needs: for bulk data, or an echo.
    pub(crate) async fn start(variant: Variant, is_bulk: bool) -> io::Result<Option<Self>> {
        if !variant.forwards() {
            return Ok(None);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepting = spawn(async move {
            loop {
                let (stream, _peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                match is_bulk {
                    true => spawn(bulk::serve(stream)),
                    false => spawn(echo(stream)),
                };
            }
        });
        Ok(Some(Self { address, accepting }))
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 256];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..read]).await?;
    }
}
