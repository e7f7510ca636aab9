//! Each key of the configuration file does what `configuration.md` says of it, in a running program.

mod access;
mod balance;
mod bandwidth;
mod buffers;
mod health;
mod limits;
mod listed;
mod per_client;
mod process;
mod proxy_protocol;
mod servers;
mod throughput;
mod timeouts;
mod tls;

use crate::{
    gate::{Folder, backend, line, program},
    support::child::{Child, address_in},
};
use serde_json::Value;
use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, timeout},
};

/// A running program with listeners in front of a backend `b`.
struct Running {
    child: Child,
    /// Of the listeners.
    addresses: Vec<SocketAddr>,
    /// Lines from before it listened.
    early: VecDeque<String>,
    _folder: Folder,
}

impl Running {
    /// One listener with these keys, in front of a server that greets with "one" and echoes.
    async fn listener(keys: &str) -> Self {
        Self::listeners(&[keys]).await
    }

    /// A listener for each of these keys, in front of the same server.
    async fn listeners(keys: &[&str]) -> Self {
        let server = backend("one").await;
        let backend = format!("servers = \"{server}\"");
        Self::in_folder(Folder::new(), "", keys, &backend).await
    }

    /// One listener in front of a backend with these keys.
    async fn backend(keys: &str) -> Self {
        Self::in_folder(Folder::new(), "", &[""], keys).await
    }

    /// With the keys of the whole file, of each listener and of the backend, and the files that they name.
    async fn in_folder(folder: Folder, whole: &str, listeners: &[&str], backend: &str) -> Self {
        let text = configuration(whole, listeners, backend);
        Self::of(folder, &text, listeners.len()).await
    }

    /// The configuration `text`, which has this many listeners.
    async fn of(folder: Folder, text: &str, listeners: usize) -> Self {
        let file = folder.write("gate.toml", text);
        let file = file.to_str().expect("it is UTF-8");
        let mut child = Child::start(program(["run", "--config", file])).expect("it starts");
        let (mut addresses, mut early) = (Vec::new(), VecDeque::new());
        while addresses.len() < listeners {
            let line = child.line().await;
            match line.contains("listening on ") {
                true => addresses.push(address_in(&line).expect("an address of loopback")),
                false => early.push_back(line),
            }
        }
        Self {
            child,
            addresses,
            early,
            _folder: folder,
        }
    }

    async fn connect(&self) -> TcpStream {
        self.connect_to(0).await
    }

    async fn connect_to(&self, listener: usize) -> TcpStream {
        let stream = TcpStream::connect(self.addresses[listener]).await;
        stream.expect("it listens")
    }

    /// A client at this address of loopback, which may be reset at once.
    async fn connect_from(&self, client: [u8; 4], listener: usize) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::from(client), 0).into())?;
        socket.connect(self.addresses[listener]).await
    }

    /// Whether a client at this address of loopback is served.
    async fn serves(&self, client: [u8; 4], listener: usize) -> bool {
        match self.connect_from(client, listener).await {
            Ok(stream) => is_served(stream).await,
            Err(_) => false,
        }
    }

    /// A client that has got its greeting.
    async fn greeted(&self) -> TcpStream {
        let mut stream = self.connect().await;
        assert_eq!(greeting(&mut stream).await.expect("a greeting"), "one");
        stream
    }

    /// Whether a client is refused by a reset, and not by a close.
    async fn resets(&self, listener: usize) -> bool {
        let refused = async {
            let mut stream = TcpStream::connect(self.addresses[listener]).await?;
            stream.read(&mut [0]).await
        };
        match timeout(PATIENCE, refused).await.expect("it is not refused") {
            Ok(read) => {
                assert_eq!(read, 0, "it is served");
                false
            }
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                true
            }
        }
    }

    /// Waits for a line of the log that contains `text`.
    async fn says(&mut self, text: &str) -> String {
        while let Some(line) = self.early.pop_front() {
            if line.contains(text) {
                return line;
            }
        }
        self.child.says(text).await
    }

    /// The access line of the next connection that has ended.
    async fn ended(&mut self) -> Value {
        let line = self.says("\"outcome\"").await;
        serde_json::from_str(&line).expect("it is JSON")
    }

    /// Why the next connection has ended.
    async fn reason(&mut self) -> String {
        let line = self.ended().await;
        line["reason"].as_str().unwrap_or_default().to_owned()
    }
}

/// Listeners `l0`, `l1` and so on, with these keys, in front of a backend `b`.
fn configuration(whole: &str, listeners: &[&str], backend: &str) -> String {
    let listener = |(number, keys): (usize, &&str)| {
        let target = match keys.contains("route") || keys.contains("backend = ") {
            true => "",
            false => "backend = \"b\"\n",
        };
        format!("[[listener]]\nname = \"l{number}\"\nlisten = \"127.0.0.1:0\"\n{target}{keys}\n")
    };
    let listeners: String = listeners.iter().enumerate().map(listener).collect();
    format!("version = 1\n{whole}\n{listeners}[[backend]]\nname = \"b\"\n{backend}\n")
}

/// The first line of a server.
async fn greeting(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let greeting = timeout(PATIENCE, line(stream)).await;
    greeting.expect("it is neither greeted nor closed")
}

/// Whether the client is served.
async fn is_served(mut stream: TcpStream) -> bool {
    greeting(&mut stream).await.is_ok_and(|text| text == "one")
}

/// How long it takes until the connection ends, by a close or a reset.
async fn end(stream: &mut (impl AsyncRead + Unpin)) -> Duration {
    let begun = Instant::now();
    let mut bytes = vec![0; 65_536];
    let end = async { while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, end).await.expect("it does not end");
    begun.elapsed()
}

/// Whether it is open after a while in which nothing is to happen.
async fn stays_open(stream: &mut (impl AsyncRead + Unpin), time: Duration) -> bool {
    let mut bytes = vec![0; 65_536];
    let end = async { while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
    timeout(time, end).await.is_err()
}

/// Serves each connection of a new listener.
async fn serve<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A server that accepts and neither sends nor closes.
async fn silent_server() -> SocketAddr {
    serve(|stream| async move {
        let _open = stream;
        std::future::pending().await
    })
    .await
}

/// A server that sends without end, and reads what it gets.
async fn flooding_server() -> SocketAddr {
    serve(|stream| async move {
        let (mut read, mut write) = stream.into_split();
        let discard =
            tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
        let sent = tokio::io::copy(&mut tokio::io::repeat(0), &mut write).await;
        discard.abort();
        sent.map(drop)
    })
    .await
}

/// Longer than any timeout of a test, and for what takes no time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of the timeouts of tests.
const SHORT: Duration = Duration::from_millis(300);
