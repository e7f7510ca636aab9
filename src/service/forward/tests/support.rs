//! Backends, and connections that are forwarded to them.

use crate::service::forward::{ForwardError, ForwardService, Forwarded};
use portcullis_middleware::{
    BoxError, Connection, ConnectionInfo, error::find, io::Passthrough, testing,
};
use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tower::Service;

/// A backend that is one connection, made before.
pub(super) struct Once<IO>(Arc<Mutex<Option<Connection<IO>>>>);

impl<IO> Once<IO> {
    pub(super) fn new(connection: Connection<IO>) -> Self {
        Self(Arc::new(Mutex::new(Some(connection))))
    }
}

impl<IO> Clone for Once<IO> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<IO> Service<ConnectionInfo> for Once<IO> {
    type Response = Connection<IO>;
    type Error = BoxError;
    type Future = Ready<Result<Connection<IO>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: ConnectionInfo) -> Self::Future {
        ready(Ok(self.0.lock().unwrap().take().unwrap()))
    }
}

/// A connection that is forwarded in a task of its own.
pub(super) struct Forwards {
    pub(super) info: ConnectionInfo,
    pub(super) task: JoinHandle<Result<Forwarded, BoxError>>,
}

impl Forwards {
    pub(super) fn start<IO, BackendIo>(
        client: Connection<IO>,
        backend: Connection<BackendIo>,
        settings: impl FnOnce(ForwardService<Once<BackendIo>>) -> ForwardService<Once<BackendIo>>,
    ) -> Self
    where
        IO: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
        BackendIo: AsyncRead + AsyncWrite + Passthrough + Unpin + Send + 'static,
    {
        let info = client.info().clone();
        let mut service = settings(ForwardService::new(Once::new(backend)));
        let task = tokio::spawn(service.call(client));
        Self { info, task }
    }

    pub(super) async fn result(self) -> Result<Forwarded, BoxError> {
        self.task.await.unwrap()
    }

    pub(super) async fn error(self) -> ForwardErrorOwned {
        let error = self.result().await.unwrap_err();
        let found = find::<ForwardError>(&*error).unwrap();
        ForwardErrorOwned {
            text: found.to_string(),
            forwarded: found.forwarded(),
            kind: found.io_error().kind(),
        }
    }
}

pub(super) struct ForwardErrorOwned {
    pub(super) text: String,
    pub(super) forwarded: Forwarded,
    pub(super) kind: std::io::ErrorKind,
}

/// A forwarded connection in memory, with the client's and the backend's stream.
pub(super) fn in_memory(buffer: usize) -> (Forwards, DuplexStream, DuplexStream) {
    let (client, theirs) = testing::in_memory(buffer);
    let (backend, server) = testing::in_memory(buffer);
    (Forwards::start(client, backend, |s| s), theirs, server)
}

/// The same over TCP.
pub(super) async fn over_tcp() -> (Forwards, TcpStream, TcpStream) {
    let (client, theirs) = testing::over_tcp().await;
    let (backend, server) = testing::over_tcp().await;
    (Forwards::start(client, backend, |s| s), theirs, server)
}

/// Waits until `condition` holds, half a minute at most.
pub(super) async fn until(mut condition: impl FnMut() -> bool) {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(30), holds)
        .await
        .expect("not in time");
}

/// Xorshift with 64 bits of state (Marsaglia, "Xorshift RNGs", 2003).
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, which must not be zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as usize % bound
    }
}
