//! A client of one connection in memory, and what became of the connection.

use portcullis::{
    BoxError, Connection, ConnectionInfo,
    connection::{Address, ListenerInfo, Socket},
    middleware::{
        drain::DrainTrigger,
        error::{Elapsed, TimeoutPhase, find},
        outcome::Outcome,
    },
    service::HttpService,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
    time::Instant,
};
use tower::Service;

use crate::app::app;

/// The client's side of a connection that an [`HttpService`] serves.
pub struct Peer {
    pub io: DuplexStream,
    pub drain: DrainTrigger,
    pub info: ConnectionInfo,
    served: JoinHandle<(Result<(), BoxError>, Instant)>,
}

/// The whole of an answer.
#[derive(Debug)]
pub struct Answer {
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub fn closes(&self) -> bool {
        self.head.contains("connection: close\r\n")
    }
}

impl Peer {
    /// Served with the settings that `configure` makes.
    pub fn with(
        configure: impl FnOnce(HttpService<axum::Router>) -> HttpService<axum::Router>,
    ) -> Self {
        Self::of(configure(HttpService::new(app())), 64 * 1024)
    }

    /// Served by `service`, with buffers of `buffer` bytes in between.
    pub fn of<S>(mut service: S, buffer: usize) -> Self
    where
        S: Service<Connection<Socket<DuplexStream>>, Response = (), Error = BoxError>
            + Send
            + 'static,
        S::Future: Send,
    {
        let (io, ours) = tokio::io::duplex(buffer);
        let (drain, signal) = DrainTrigger::pair();
        let origin = Arc::new(ListenerInfo::new().with_drain(signal));
        let info = ConnectionInfo::from_listener(origin, Address::Unknown, Address::Unknown);
        let connection = Connection::with_info(ours, info.clone());
        let served = tokio::spawn(async move {
            let result = service.call(connection).await;
            (result, Instant::now())
        });
        Self {
            io,
            drain,
            info,
            served,
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Asks for `path` and reads the answer.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(get(path)).await;
        self.answer().await
    }

    /// Reads an answer that has a length, or none.
    pub async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let length = head.split("content-length: ").nth(1);
        let length = length.map_or(0, |rest| {
            rest.split("\r\n").next().unwrap().parse().unwrap()
        });
        let mut body = vec![0; length];
        self.io.read_exact(&mut body).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        Answer { head, body }
    }

    /// Reads up to the empty line.
    pub async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.io.read_u8().await.expect("the head of an answer"));
        }
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    }

    /// Reads until the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.io.read_to_end(&mut rest).await.unwrap();
        rest
    }

    pub fn is_served(&self) -> bool {
        !self.served.is_finished()
    }

    /// Waits for the end of the connection: what the service returned, and when.
    pub async fn ended(&mut self) -> (Result<(), BoxError>, Instant) {
        (&mut self.served).await.expect("the service panicked")
    }

    /// Waits for an end by the bound on `phase`, so long after `since`.
    pub async fn timed_out(&mut self, phase: TimeoutPhase, since: Instant, after: Duration) {
        let (result, at) = self.ended().await;
        let error = result.expect_err("no end by a bound");
        let elapsed = find::<Elapsed>(&*error).unwrap_or_else(|| panic!("not a bound: {error}"));
        assert_eq!((elapsed.phase(), elapsed.after()), (phase, after));
        assert_took(at - since, after);
    }

    /// Waits for the end and tells its outcome.
    pub async fn outcome(&mut self) -> Outcome {
        let (result, _) = self.ended().await;
        let error = result.as_ref().err().map(|error| &**error as _);
        Outcome::of(&self.info, error)
    }
}

/// Held to both sides of a bound; tokio's timers have grains of a millisecond.
pub fn assert_took(took: Duration, bound: Duration) {
    let latest = bound + 2 * crate::GRAIN;
    assert!((bound..=latest).contains(&took), "{took:?} of {bound:?}");
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")
}

/// The head of an upload of `length` bytes.
pub fn upload(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")
}
