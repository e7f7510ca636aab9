//! The clients of `portcullis demo --load`. They come in waves, and some of them do what a gate rejects, so that each
//! part of the page has something to show.

use portcullis::{BoxError, Connection, middleware::tls::TlsConnector};
use std::{
    f64::consts::TAU,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep},
};

/// The listeners of the gate.
#[derive(Clone, Copy)]
pub(super) struct Listeners {
    pub(super) web: SocketAddr,
    pub(super) sni: SocketAddr,
    pub(super) echo: SocketAddr,
}

/// Starts clients until the program ends. `chain` is the certificate of the gate.
pub(super) async fn run(listeners: Listeners, chain: String) {
    let Ok(tls) = TlsConnector::with_roots_pem(chain.as_bytes()) else {
        return;
    };
    let started = Instant::now();
    for number in 0_u32.. {
        sleep(pause(started.elapsed())).await;
        let client = Client {
            number,
            listeners,
            tls: tls.clone(),
        };
        // What a client is refused, the page shows.
        tokio::spawn(async move { client.run().await.ok() });
    }
}

/// Between 4 and 16 clients per second, in waves of 90 s.
fn pause(elapsed: Duration) -> Duration {
    let wave = (elapsed.as_secs_f64() / 90.0 * TAU).sin();
    Duration::from_secs_f64(1.0 / (10.0 + 6.0 * wave))
}

struct Client {
    number: u32,
    listeners: Listeners,
    tls: TlsConnector,
}

impl Client {
    async fn run(&self) -> Result<(), BoxError> {
        let Listeners { web, sni, echo } = self.listeners;
        match self.number % 16 {
            0..=5 => self.browse("localhost", web).await,
            6 => self.browse("a.test", sni).await,
            7 => self.browse("b.test", sni).await,
            8 => self.browse("refused.test", sni).await,
            // No TLS where there has to be some.
            9 => ask(self.connect(web).await?).await,
            _ => {
                let bytes = 1_024 << (self.number % 5);
                talk(self.connect(echo).await?, &vec![7; bytes], self.patience()).await
            }
        }
    }

    /// Requests a page again and again.
    async fn browse(&self, name: &str, listener: SocketAddr) -> Result<(), BoxError> {
        let connection = Connection::accept(self.connect(listener).await?);
        let mut connection = self.tls.connect(name, connection).await?;
        let request = format!("GET / HTTP/1.1\r\nhost: {name}\r\n\r\n");
        talk(&mut connection, request.as_bytes(), self.patience()).await?;
        Ok(connection.close().await?)
    }

    /// Each client has one of some addresses. One of them connects more often than the gate allows.
    async fn connect(&self, listener: SocketAddr) -> Result<TcpStream, BoxError> {
        let host = if self.number.is_multiple_of(3) {
            9
        } else {
            10 + (self.number % 40) as u8
        };
        let socket = TcpSocket::new_v4()?;
        // Linux has all of 127.0.0.0/8.
        if socket
            .bind((Ipv4Addr::new(127, 0, 0, host), 0).into())
            .is_err()
        {
            return Ok(TcpStream::connect(listener).await?);
        }
        Ok(socket.connect(listener).await?)
    }

    /// How long it stays, up to 15 s.
    fn patience(&self) -> Duration {
        Duration::from_millis(u64::from(self.number) * 7_919 % 15_000)
    }
}

/// Sends `message` four times a second, and reads what comes back.
async fn talk<IO>(mut stream: IO, message: &[u8], patience: Duration) -> Result<(), BoxError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let started = Instant::now();
    let mut buffer = vec![0; 16 * 1_024];
    while started.elapsed() < patience {
        stream.write_all(message).await?;
        stream.flush().await?;
        if stream.read(&mut buffer).await? == 0 {
            break;
        }
        sleep(Duration::from_millis(250)).await;
    }
    Ok(stream.shutdown().await?)
}

/// Sends a request in plain text.
async fn ask(mut stream: TcpStream) -> Result<(), BoxError> {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    Ok(())
}
