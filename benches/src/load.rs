//! The client. Nothing in it happens at the same time: the counts should not depend on chance.

use super::{Protocol, Variant};
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
        server: Server,
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

/// Where a server is, and what it speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) variant: Variant,
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
    server: Server,
    connections: usize,
    rounds: usize,
    gate: Option<Gate>,
) -> io::Result<()> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Client::connect(server).await?);
    }
    for _ in 0..rounds {
        if let Some(gate) = gate {
            gate.close().await?;
        }
        for client in &mut open {
            client.ask().await?;
        }
        if let Some(gate) = gate {
            gate.open().await?;
        }
        for client in &mut open {
            client.read_answer().await?;
        }
    }
    for client in open {
        client.close().await?;
    }
    Ok(())
}

/// One whole connection. To a server that echoes the end of our side follows the message at once:
/// whether it came before or after the server waits again would depend on chance, and cost the server one
/// wait more. A server of HTTP would take it for a client that is gone.
async fn echo_and_close(server: Server) -> io::Result<()> {
    let mut client = Client::new(server).await?;
    client.ask().await?;
    if client.protocol == Protocol::Echo {
        client.stream.shutdown().await?;
    }
    client.read_answer().await?;
    client.close().await
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    protocol: Protocol,
}

impl Client {
    pub(crate) async fn new(server: Server) -> io::Result<Self> {
        let stream = TcpStream::connect(server.address).await?;
        stream.set_nodelay(true)?;
        let protocol = server.variant.protocol();
        Ok(Self { stream, protocol })
    }

    /// A connection with one exchange behind it.
    pub(crate) async fn connect(server: Server) -> io::Result<Self> {
        let mut client = Self::new(server).await?;
        client.ask().await?;
        client.read_answer().await?;
        Ok(client)
    }

    async fn ask(&mut self) -> io::Result<()> {
        let message = match self.protocol {
            Protocol::Echo => MESSAGE.as_slice(),
            Protocol::Http => REQUEST,
        };
        self.stream.write_all(message).await
    }

    async fn read_answer(&mut self) -> io::Result<()> {
        let mut answer = [0; 512];
        let mut read = 0;
        loop {
            let more = self.stream.read(&mut answer[read..]).await?;
            read += more;
            let whole = match self.protocol {
                Protocol::Echo => answer[..read] == MESSAGE,
                Protocol::Http => answer[..read].ends_with(ANSWER),
            };
            if whole {
                return Ok(());
            }
            if more == 0 {
                let said = answer[..read].escape_ascii();
                return Err(io::Error::other(format!("not what was expected: {said}")));
            }
        }
    }

    /// Ends the connection and waits until the server has ended it as well.
    async fn close(mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        match self.stream.read(&mut [0]).await? {
            0 => Ok(()),
            _ => Err(io::Error::other("more came back than was sent")),
        }
    }
}

const MESSAGE: [u8; 64] = *b"sixty-four bytes, as in all the comparisons with other servers..";

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

const ANSWER: &[u8] = b"\r\n\r\nHello, world!";
