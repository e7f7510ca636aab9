//! Bulk data in one direction, through a forwarder.
//!
//! A connection begins with two numbers of eight bytes, big-endian. The server sends as many bytes as the first says,
//! receives as many as the second says, and answers with the number that it received. Some forwarders end a
//! connection as soon as one side has ended, so an end means nothing here.

use std::{io, pin::pin};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The side of the server.
pub async fn serve(io: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let mut io = pin!(io);
    let (to_client, to_server) = (io.read_u64().await?, io.read_u64().await?);
    send(&mut io, to_client).await?;
    let received = receive(&mut io, to_server).await?;
    io.write_u64(received).await?;
    io.shutdown().await
}

/// Receives so many bytes from the server.
pub async fn download(io: impl AsyncRead + AsyncWrite, bytes: u64) -> io::Result<()> {
    let mut io = pin!(io);
    request(&mut io, bytes, 0).await?;
    compare(bytes, receive(&mut io, bytes).await?)?;
    compare(0, io.read_u64().await?)
}

/// Sends so many bytes to the server.
pub async fn upload(io: impl AsyncRead + AsyncWrite, bytes: u64) -> io::Result<()> {
    let mut io = pin!(io);
    request(&mut io, 0, bytes).await?;
    send(&mut io, bytes).await?;
    compare(bytes, io.read_u64().await?)
}

/// In one write, so that a forwarder finds both numbers together.
async fn request(
    writer: &mut (impl AsyncWrite + Unpin),
    to_client: u64,
    to_server: u64,
) -> io::Result<()> {
    let numbers = [to_client, to_server].map(u64::to_be_bytes);
    writer.write_all(numbers.as_flattened()).await?;
    writer.flush().await
}

fn compare(sent: u64, received: u64) -> io::Result<()> {
    match received == sent {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{received} of {sent} bytes arrived"
        ))),
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), mut bytes: u64) -> io::Result<()> {
    while bytes > 0 {
        let part = bytes.min(PART.len() as u64);
        writer.write_all(&PART[..part as usize]).await?;
        bytes -= part;
    }
    writer.flush().await
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

/// The same by threads that block, as most programs that measure throughput do it.
pub mod blocking {
    use super::{PART, compare};
    use std::io::{self, Read, Write};

    /// The side of the server.
    pub fn serve(mut io: impl Read + Write) -> io::Result<()> {
        let (to_client, to_server) = (number(&mut io)?, number(&mut io)?);
        send(&mut io, to_client)?;
        let received = receive(&mut io, to_server)?;
        io.write_all(&received.to_be_bytes())
    }

    /// Receives so many bytes from the server.
    pub fn download(mut io: impl Read + Write, bytes: u64) -> io::Result<()> {
        request(&mut io, bytes, 0)?;
        compare(bytes, receive(&mut io, bytes)?)?;
        compare(0, number(&mut io)?)
    }

    /// Sends so many bytes to the server.
    pub fn upload(mut io: impl Read + Write, bytes: u64) -> io::Result<()> {
        request(&mut io, 0, bytes)?;
        send(&mut io, bytes)?;
        compare(bytes, number(&mut io)?)
    }

    fn request(writer: &mut impl Write, to_client: u64, to_server: u64) -> io::Result<()> {
        let numbers = [to_client, to_server].map(u64::to_be_bytes);
        writer.write_all(numbers.as_flattened())
    }

    fn number(reader: &mut impl Read) -> io::Result<u64> {
        let mut number = [0; 8];
        reader.read_exact(&mut number)?;
        Ok(u64::from_be_bytes(number))
    }

    fn send(writer: &mut impl Write, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let part = bytes.min(PART.len() as u64);
            writer.write_all(&PART[..part as usize])?;
            bytes -= part;
        }
        Ok(())
    }

    fn receive(reader: &mut impl Read, most: u64) -> io::Result<u64> {
        let mut reader = reader.take(most);
        let mut buffer = vec![0; PART.len()];
        let mut received = 0;
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(received),
                read => received += read as u64,
            }
        }
    }
}

/// Large enough to fill the socket of a forwarder.
static PART: [u8; 256 * 1024] = [7; 256 * 1024];

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::{TcpListener, TcpStream},
        thread,
    };
    use tokio::{io::duplex, join};

    #[tokio::test]
    async fn both_directions_count_what_arrives() {
        for bytes in [0, 1, 1_000_000] {
            let (client, server) = duplex(10_000);
            let (done, served) = join!(download(client, bytes), serve(server));
            done.unwrap();
            served.unwrap();
            let (client, server) = duplex(10_000);
            let (done, served) = join!(upload(client, bytes), serve(server));
            done.unwrap();
            served.unwrap();
        }
    }

    #[test]
    fn both_directions_count_what_arrives_also_between_threads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for bytes in [0, 1, 1_000_000] {
            let clients = thread::spawn(move || {
                blocking::download(TcpStream::connect(address)?, bytes)?;
                blocking::upload(TcpStream::connect(address)?, bytes)
            });
            for _ in 0..2 {
                blocking::serve(listener.accept().unwrap().0).unwrap();
            }
            clients.join().unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_server_that_is_cut_off_is_an_error() {
        let (client, mut server) = duplex(10_000);
        let cut = async {
            server.read_u128().await.unwrap();
            server.write_all(b"some").await.unwrap();
            drop(server);
        };
        let (done, ()) = join!(download(client, 5), cut);
        assert!(done.is_err());
    }
}
