mod endings;
pub(crate) mod log;
mod words;

use super::{TraceLayer, *};
use crate::{
    connection::{Address, Connection, ConnectionInfo, Socket},
    outcome::Outcome,
};
use static_assertions::assert_impl_all;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::io::DuplexStream;
use tower::{BoxError, Layer, Service};

assert_impl_all!(TraceLayer: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(Trace<()>: Clone, std::fmt::Debug, Send, Sync);
assert_impl_all!(TraceFuture<std::future::Ready<()>>: Send, Sync, Unpin);

type Conn = Connection<Socket<DuplexStream>>;

fn info() -> ConnectionInfo {
    let peer: SocketAddr = "192.0.2.1:4242".parse().unwrap();
    let local: SocketAddr = "127.0.0.1:80".parse().unwrap();
    ConnectionInfo::new(peer, local)
}

fn connection(info: &ConnectionInfo) -> (Conn, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(64);
    (Connection::with_info(ours, info.clone()), theirs)
}

/// Calls of the callbacks, in order.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Note>>>);

#[derive(Clone, Debug, PartialEq)]
enum Note {
    Opened,
    Closed(Outcome, Duration, Option<String>),
}

impl Notes {
    fn layer(&self) -> TraceLayer {
        log::settle_interest();
        let (opened, closed) = (self.clone(), self.clone());
        TraceLayer::new()
            .on_open(move |_| opened.add(Note::Opened))
            .on_close(move |end| {
                let error = end.error().map(ToString::to_string);
                closed.add(Note::Closed(end.outcome(), end.duration(), error));
            })
    }

    fn add(&self, note: Note) {
        self.0.lock().unwrap().push(note);
    }

    fn all(&self) -> Vec<Note> {
        self.0.lock().unwrap().clone()
    }

    /// The outcome of the only connection, which was opened once and closed once.
    fn outcome(&self) -> Outcome {
        let notes = self.all();
        let [Note::Opened, Note::Closed(outcome, ..)] = &notes[..] else {
            panic!("opened and closed once each: {notes:?}")
        };
        *outcome
    }
}
