//! A client that does one thing at a time, so that counts do not vary between runs.

use crate::exchange::Exchange;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::sleep,
};

/// A client of one server.
pub trait Connect {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin;

    /// Connects to the server.
    fn connect(&self) -> impl Future<Output = io::Result<Self::Stream>>;

    /// The request, and the expected answer.
    fn exchange(&self) -> &Exchange;
}

/// Units one after the other, either exchanges on open connections or a connection each.
#[derive(Debug)]
pub struct Sequence<'a, C: Connect> {
    client: &'a C,
    open: Vec<C::Stream>,
    buffer: Vec<u8>,
}

impl<'a, C: Connect> Sequence<'a, C> {
    /// Opens so many connections, with one exchange on each. With none, each unit is a connection.
    pub async fn open(client: &'a C, connections: usize) -> io::Result<Self> {
        let (mut open, mut buffer) = (Vec::new(), Vec::new());
        for _ in 0..connections {
            let mut stream = client.connect().await?;
            client.exchange().run(&mut stream, &mut buffer).await?;
            open.push(stream);
        }
        Ok(Self {
            client,
            open,
            buffer,
        })
    }

    /// Runs so many units. On several connections all requests are sent before an answer is read.
    ///
    /// With a `gate` the server receives them all together. Otherwise the number of requests that it finds
    /// at each wait would vary.
    pub async fn run(&mut self, units: usize, gate: Option<Gate>) -> io::Result<()> {
        let Some(rounds) = units.checked_div(self.open.len()) else {
            for _ in 0..units {
                self.connection().await?;
            }
            return Ok(());
        };
        let gate = gate.filter(|_| self.open.len() > 1);
        let exchange = self.client.exchange();
        for _ in 0..rounds {
            if let Some(gate) = gate {
                gate.close().await?;
            }
            for stream in &mut self.open {
                exchange.send(stream).await?;
            }
            gate.map_or(Ok(()), Gate::open)?;
            for stream in &mut self.open {
                exchange.read_answer(stream, &mut self.buffer).await?;
            }
        }
        Ok(())
    }

    /// One whole connection. An echo server receives the end of our side right after the message. Otherwise
    /// it would sometimes wait once more for it. An HTTP server would take it as a disconnect.
    async fn connection(&mut self) -> io::Result<()> {
        let mut stream = self.client.connect().await?;
        let exchange = self.client.exchange();
        exchange.send(&mut stream).await?;
        if matches!(exchange, Exchange::Echo(_)) {
            stream.shutdown().await?;
        }
        exchange.read_answer(&mut stream, &mut self.buffer).await?;
        if matches!(exchange, Exchange::Hello) {
            stream.shutdown().await?;
        }
        match stream.read(&mut [0]).await {
            Ok(0) => Ok(()),
            Ok(_) => Err(io::Error::other("more came back than was sent")),
            // The servers close by a drop, which sends no `close_notify` under TLS.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Closes all connections and waits until the server has closed them as well.
    pub async fn close(self) {
        for mut stream in self.open {
            // Not counted, whatever the result.
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut [0]).await;
        }
    }
}

/// The process of a server, which can be stopped for a while.
#[derive(Clone, Copy, Debug)]
pub struct Gate(pub Pid);

impl Gate {
    async fn close(self) -> io::Result<()> {
        // The server has sent its last answer, but may not be waiting again yet.
        sleep(REST).await;
        Ok(kill(self.0, Signal::SIGSTOP)?)
    }

    fn open(self) -> io::Result<()> {
        Ok(kill(self.0, Signal::SIGCONT)?)
    }
}

/// Long for a server, also under valgrind, to return from an answer to its wait.
const REST: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::SocketAddr,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::SeqCst},
        },
    };
    use tokio::{
        io::{copy, split},
        net::{TcpListener, TcpStream},
        spawn,
    };

    struct Client(SocketAddr, Exchange);

    impl Connect for Client {
        type Stream = TcpStream;

        async fn connect(&self) -> io::Result<TcpStream> {
            TcpStream::connect(self.0).await
        }

        fn exchange(&self) -> &Exchange {
            &self.1
        }
    }

    /// An echo server that counts its connections.
    async fn server() -> (Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                let (mut reader, mut writer) = split(stream);
                spawn(async move {
                    copy(&mut reader, &mut writer).await?;
                    writer.shutdown().await
                });
            }
        });
        (Client(address, Exchange::echo(64)), accepted)
    }

    #[tokio::test]
    async fn each_unit_has_a_connection_of_its_own_where_none_stays() {
        let (client, accepted) = server().await;
        let mut sequence = Sequence::open(&client, 0).await.unwrap();
        sequence.run(7, None).await.unwrap();
        sequence.close().await;
        assert_eq!(accepted.load(SeqCst), 7);
    }

    #[tokio::test]
    async fn connections_that_stay_do_all_units() {
        let (client, accepted) = server().await;
        let mut sequence = Sequence::open(&client, 4).await.unwrap();
        sequence.run(40, None).await.unwrap();
        sequence.close().await;
        assert_eq!(accepted.load(SeqCst), 4);
    }
}
