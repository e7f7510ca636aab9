//! Clients and handlers that misbehave, against a whole stack: each ends in the outcome that is its
//! own, others are served before, meanwhile and after, and nothing is left over.

mod handlers;
mod limits;
mod reach;
mod silence;
mod sockets;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tls;

use crate::support::{echoed, finish, idle};
use portcullis::{
    Connection, Server, ServiceBuilderExt,
    connection::Transport,
    io::BoxIo,
    listener::{MemoryConnector, MemoryListener, TcpListener},
    middleware::{
        limit::{ConnectionLimitLayer, LimitHandle},
        observe::TraceLayer,
        outcome::Outcome,
        timeout::IoTimeoutLayer,
    },
    server::Stack,
    server::{Drain, Handle, Report},
};
use std::{
    collections::HashMap,
    future::pending,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};
use tower::ServiceBuilder;

/// The layers of a public server, with settings of a test.
struct Gate {
    limit: ConnectionLimitLayer,
    timeout: IoTimeoutLayer,
    drain: Drain,
    ends: Ends,
}

/// How connections ended, as `on_close` of the trace saw it.
type Ends = Arc<Mutex<HashMap<Outcome, u64>>>;

impl Gate {
    fn new() -> Self {
        Self {
            limit: ConnectionLimitLayer::new(1000),
            timeout: IoTimeoutLayer::new(),
            drain: Drain::new(),
            ends: Ends::default(),
        }
    }

    fn trace(&self) -> TraceLayer {
        let ends = self.ends.clone();
        TraceLayer::new().on_close(move |closed| {
            *ends.lock().unwrap().entry(closed.outcome()).or_default() += 1;
        })
    }

    fn stack<Io, H, Fut>(&self, handler: H) -> impl Stack<Io> + use<Io, H, Fut>
    where
        Io: Transport,
        H: Fn(Connection<BoxIo>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        ServiceBuilder::new()
            .peer_addr()
            .layer(self.trace())
            .layer(self.limit.clone())
            .catch_panics()
            .layer(self.timeout)
            .box_io()
            .service_fn(handler)
    }

    fn serve<H, Fut>(self, handler: H) -> Scene
    where
        H: Fn(Connection<BoxIo>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        let stack = self.stack(handler);
        self.listen(stack)
    }

    fn serve_in_memory<H, Fut>(self, handler: H) -> Scene
    where
        H: Fn(Connection<BoxIo>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        let stack = self.stack(handler);
        self.listen_in_memory(stack)
    }

    fn listen(self, stack: impl Stack<TcpStream>) -> Scene {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let door = Door::Tcp(listener.local_addr().unwrap());
        self.open(door, Server::new().listen(listener, stack))
    }

    fn listen_in_memory(self, stack: impl Stack<DuplexStream>) -> Scene {
        let (listener, connector) = MemoryListener::pair();
        self.open(
            Door::Memory(connector),
            Server::new().listen(listener, stack),
        )
    }

    fn open(self, door: Door, server: Server) -> Scene {
        Scene {
            handle: server.drain(self.drain).spawn().unwrap(),
            limit: self.limit.handle(),
            door,
            ends: self.ends,
            good: AtomicU64::new(0),
        }
    }
}

/// A server behind a [`Gate`].
struct Scene {
    handle: Handle,
    limit: LimitHandle,
    door: Door,
    ends: Ends,
    /// How many good clients were served.
    good: AtomicU64,
}

enum Door {
    Tcp(SocketAddr),
    Memory(MemoryConnector),
}

impl Scene {
    async fn connect(&self) -> BoxIo {
        match &self.door {
            Door::Tcp(_) => BoxIo::new(self.tcp().await),
            Door::Memory(connector) => BoxIo::new(connector.connect().unwrap()),
        }
    }

    async fn tcp(&self) -> TcpStream {
        let Door::Tcp(address) = self.door else {
            panic!("this server is in memory");
        };
        TcpStream::connect(address).await.unwrap()
    }

    /// A client as it should be is served as it should be.
    async fn good(&self) {
        self.good_over(self.connect().await).await;
    }

    async fn good_over(&self, mut client: impl AsyncRead + AsyncWrite + Unpin) {
        client.write_all(&[ECHO]).await.unwrap();
        assert!(echoed(&mut client, b"as it should be").await.unwrap());
        client.shutdown().await.unwrap();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0, "a clean end");
        self.good.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until nothing is being served, stops the server, and checks what must hold then.
    async fn finish(self, bad: impl IntoIterator<Item = (Outcome, u64)>) {
        idle(&self.handle).await;
        let report = self.cut(bad).await;
        assert_eq!((report.ended(), report.force_closed().len()), (0, 0));
    }

    /// Stops the server and checks what must hold then: besides the good clients it saw `bad`, and
    /// the trace agrees.
    async fn cut(self, bad: impl IntoIterator<Item = (Outcome, u64)>) -> Report {
        let report = finish(&self.handle).await;
        assert_eq!((self.limit.active(), self.limit.waiting()), (0, 0));
        let mut expected: HashMap<_, _> = bad.into_iter().collect();
        match self.good.into_inner() {
            0 => {}
            good => *expected.entry(Outcome::Completed).or_default() += good,
        }
        let outcomes: HashMap<_, _> = self.handle.status().outcomes.into_iter().collect();
        assert_eq!(outcomes, expected, "as the server counted");
        assert_eq!(*self.ends.lock().unwrap(), expected, "as the trace saw it");
        if let Door::Tcp(address) = self.door {
            let refused = TcpStream::connect(address).await;
            assert!(refused.is_err(), "the listener is still open");
        }
        report
    }
}

/// Does what the first byte of the client tells it to.
async fn act(mut connection: Connection<BoxIo>) -> io::Result<()> {
    match connection.read_u8().await? {
        ECHO => echo(connection).await,
        ANSWER => {
            connection.write_all(&[b'!'; ANSWER_LENGTH]).await?;
            connection.close().await
        }
        ANSWER_AT_THE_END => {
            connection.read_to_end(&mut Vec::new()).await?;
            connection.write_all(&[b'!'; ANSWER_LENGTH]).await?;
            connection.close().await
        }
        PANIC => panic!("told to panic"),
        SLEEP => pending().await,
        SPIN => loop {
            tokio::task::yield_now().await;
        },
        other => Err(io::Error::other(format!("unknown command {other}"))),
    }
}

async fn echo(mut connection: Connection<BoxIo>) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let read = connection.read(&mut buffer).await?;
        if read == 0 {
            return connection.close().await;
        }
        connection.write_all(&buffer[..read]).await?;
        connection.flush().await?;
    }
}

const ECHO: u8 = b'e';
const ANSWER: u8 = b'a';
const ANSWER_AT_THE_END: u8 = b'z';
const PANIC: u8 = b'p';
const SLEEP: u8 = b's';
const SPIN: u8 = b'y';

/// More than the buffers of a socket and of a connection in memory take.
const ANSWER_LENGTH: usize = 8 * 1024 * 1024;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
