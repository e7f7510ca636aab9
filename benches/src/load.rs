//! The client. Nothing in it happens at the same time: the counts should not depend on chance.

use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Connect, one echo, close: one connection after the other.
    Connection,
    /// Echoes on one connection.
    Echo,
    /// Echoes on sixteen connections: all write, then all read.
    EchoOf16,
}

impl Workload {
    pub(crate) const ALL: [Self; 3] = [Self::Connection, Self::Echo, Self::EchoOf16];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Echo => "echo",
            Self::EchoOf16 => "echo-16",
        }
    }

    /// Does `count` of it.
    ///
    /// With a `gate` the sixteen messages are all there before the server sees the first: how many
    /// it finds at a time would depend on chance otherwise.
    pub(crate) async fn run(
        self,
        server: SocketAddr,
        count: usize,
        gate: Option<Gate>,
    ) -> io::Result<()> {
        match self {
            Self::Connection => {
                for _ in 0..count {
                    echo_and_close(server).await?;
                }
                Ok(())
            }
            Self::Echo => echo(server, 1, count, None).await,
            Self::EchoOf16 => echo(server, 16, count / 16, gate).await,
        }
    }
}

/// The process of a server, which can be made to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate(pub(crate) u32);

impl Gate {
    async fn close(self) -> io::Result<()> {
        self.signal("STOP").await
    }

    async fn open(self) -> io::Result<()> {
        self.signal("CONT").await
    }

    async fn signal(self, signal: &str) -> io::Result<()> {
        // The shell's own `kill` is always there.
        let kill = format!("kill -{signal} {}", self.0);
        let status = Command::new("sh").args(["-c", &kill]).status().await?;
        match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(kill)),
        }
    }
}

async fn echo(
    server: SocketAddr,
    connections: usize,
    rounds: usize,
    gate: Option<Gate>,
) -> io::Result<()> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(connect(server).await?);
    }
    for _ in 0..rounds {
        if let Some(gate) = gate {
            gate.close().await?;
        }
        for stream in &mut open {
            stream.write_all(&MESSAGE).await?;
        }
        if let Some(gate) = gate {
            gate.open().await?;
        }
        for stream in &mut open {
            read_echo(stream).await?;
        }
    }
    for stream in open {
        close(stream).await?;
    }
    Ok(())
}

/// One whole connection. The end of our side follows the message at once: whether it came before or
/// after the server waits again would depend on chance, and cost the server one wait more.
async fn echo_and_close(server: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&MESSAGE).await?;
    stream.shutdown().await?;
    read_echo(&mut stream).await?;
    read_end(&mut stream).await
}

/// A connection with one echo behind it.
pub(crate) async fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&MESSAGE).await?;
    read_echo(&mut stream).await?;
    Ok(stream)
}

async fn read_echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut echo = [0; MESSAGE.len()];
    stream.read_exact(&mut echo).await?;
    if echo == MESSAGE {
        Ok(())
    } else {
        Err(io::Error::other("the echo is not what was sent"))
    }
}

/// Ends the connection and waits until the server has ended it as well.
async fn close(mut stream: TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    read_end(&mut stream).await
}

async fn read_end(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err(io::Error::other("more came back than was sent")),
    }
}

const MESSAGE: [u8; 64] = *b"sixty-four bytes, as in all the comparisons with other servers..";
