//! The backend of forwarders, in the measuring process, so that no tool counts it; and the bulk through them.

use super::{Protocol, Variant, load::Client};
use harness::sequence::Connect;
use portcullis::BoxError;
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, split},
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
    /// Starts the backend that a variant needs; `bulk` for one that speaks the protocol of this module, else it
    /// echoes.
    pub(crate) async fn start(variant: Variant, bulk: bool) -> io::Result<Option<Self>> {
        if variant.protocol() != Protocol::Forward {
            return Ok(None);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let accepting = spawn(async move {
            loop {
                let (stream, _peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                match bulk {
                    true => spawn(serve_bulk(stream)),
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

/// Sends as many bytes as the first eight say, and at the end of the client's bytes how many they were.
async fn serve_bulk(mut stream: TcpStream) -> io::Result<()> {
    let bytes = stream.read_u64().await?;
    send(&mut stream, bytes).await?;
    let received = receive(&mut stream, u64::MAX).await?;
    stream.write_u64(received).await
}

async fn send(writer: &mut (impl AsyncWriteExt + Unpin), mut bytes: u64) -> io::Result<()> {
    while bytes > 0 {
        let part = bytes.min(PART.len() as u64);
        writer.write_all(&PART[..part as usize]).await?;
        bytes -= part;
    }
    Ok(())
}

/// Receives so many bytes, or until the end; returns how many they were.
async fn receive(reader: &mut (impl AsyncRead + Unpin), most: u64) -> io::Result<u64> {
    let mut reader = reader.take(most);
    let mut buffer = vec![0; PART.len()];
    let mut received = 0;
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(received),
            read => received += read as u64,
        }
    }
}

/// Receives so many MiB from the backend, over one connection.
pub(crate) async fn to_client(client: &Client, count: usize) -> Result<(), BoxError> {
    let bytes = MIB * count as u64;
    let mut stream = client.connect().await?;
    stream.write_u64(bytes).await?;
    let received = receive(&mut stream, bytes).await?;
    stream.shutdown().await?;
    match (received == bytes, stream.read_u64().await?) {
        (true, 0) => Ok(()),
        (_, more) => Err(format!("{received} of {bytes} bytes arrived, and {more} there").into()),
    }
}

/// Sends so many MiB to the backend, over one connection.
pub(crate) async fn to_backend(client: &Client, count: usize) -> Result<(), BoxError> {
    let bytes = MIB * count as u64;
    let (mut reader, mut writer) = split(client.connect().await?);
    writer.write_u64(0).await?;
    send(&mut writer, bytes).await?;
    writer.shutdown().await?;
    let received = reader.read_u64().await?;
    match received == bytes {
        true => Ok(()),
        false => Err(format!("{received} of {bytes} bytes arrived").into()),
    }
}

const MIB: u64 = 1 << 20;

static PART: [u8; 256 * 1024] = [7; 256 * 1024];
