//! Connections for unit tests.

use crate::{
    Connection, ConnectionInfo,
    connection::{Address, Socket},
};
use tokio::{
    io::{DuplexStream, duplex},
    net::{TcpListener, TcpStream},
};

/// The info of a connection whose addresses are unknown.
pub fn info() -> ConnectionInfo {
    ConnectionInfo::new(Address::Unknown, Address::Unknown)
}

/// A connection over `io` whose addresses are unknown.
///
/// The stream is used as it is, without the wrapper [`Socket`] that [`Connection::accept`] adds.
pub fn connection<IO>(io: IO) -> Connection<IO> {
    Connection::new(io, info())
}

/// A connection in memory and its client's stream.
///
/// Each direction buffers up to `buffer` bytes.
///
/// ```
/// use portcullis_middleware::testing::in_memory;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let (mut connection, mut client) = in_memory(1024);
/// client.write_all(b"hello").await?;
/// connection.read_exact(&mut [0; 5]).await?;
/// # Ok(())
/// # }
/// ```
pub fn in_memory(buffer: usize) -> (Connection<Socket<DuplexStream>>, DuplexStream) {
    let (server, client) = duplex(buffer);
    (Connection::accept(server), client)
}

/// A connection over TCP on 127.0.0.1 and its client's stream.
///
/// # Panics
///
/// Panics if the connection cannot be established.
pub async fn over_tcp() -> (Connection<Socket<TcpStream>>, TcpStream) {
    let connected = async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let client = TcpStream::connect(listener.local_addr()?);
        let (client, (server, _)) = tokio::try_join!(client, listener.accept())?;
        std::io::Result::Ok((Connection::accept(server), client))
    };
    connected.await.expect("loopback accepts connections")
}
