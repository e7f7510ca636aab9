//! The accept loop keeps running when stacks panic, fail, or meet a burst of clients.

use crate::support::{assert_ended, finish, hello, idle, read_to_end, scenario, serve_in_memory};
use portcullis::{BoxError, Server, listener::MemoryListener, middleware::outcome::Outcome};
use std::{
    panic::panic_any,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    time::timeout,
};
use tower::{Service, service_fn};

/// Panics, or fails, when asked whether it is ready, as often as told.
#[derive(Clone)]
struct Unready {
    times: Arc<AtomicUsize>,
    panics: bool,
}

impl Service<DuplexStream> for Unready {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let left = self
            .times
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_err() {
            return Poll::Ready(Ok(()));
        }
        assert!(!self.panics, "told to panic");
        Poll::Ready(Err("not ready".into()))
    }

    fn call(&mut self, _: DuplexStream) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

#[test]
fn a_stack_that_fails_or_panics_when_asked_if_ready_costs_one_connection_each() {
    scenario(async {
        for (panics, outcome) in [(false, Outcome::Failed), (true, Outcome::Panicked)] {
            let times = Arc::new(AtomicUsize::new(2));
            let (handle, connector) = serve_in_memory(Unready { times, panics });
            for _ in 0..3 {
                assert_eq!(read_to_end(connector.connect().unwrap()).await, "");
            }
            finish(&handle).await;
            let outcomes = handle.status().outcomes;
            assert!(outcomes.contains(&(outcome, 2)), "{outcomes:?}");
        }
    });
}

/// What a panic may throw: it panics when it is dropped.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("thrown, and thrown away");
    }
}

/// Throws a [`Grenade`] when asked whether it is ready, called, polled or dropped, one after the other.
#[derive(Clone)]
struct Thrower(Arc<AtomicUsize>);

impl Service<DuplexStream> for Thrower {
    type Response = ();
    type Error = BoxError;
    type Future = Thrown;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            panic_any(Grenade);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, io: DuplexStream) -> Thrown {
        let round = self.0.load(Ordering::SeqCst);
        if round == 2 {
            panic_any(Grenade);
        }
        Thrown {
            round,
            io: Some(io),
        }
    }
}

struct Thrown {
    round: usize,
    io: Option<DuplexStream>,
}

impl Future for Thrown {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.io = None;
        if self.round == 3 {
            panic_any(Grenade);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Thrown {
    fn drop(&mut self) {
        if self.round == 4 {
            panic_any(Grenade);
        }
    }
}

#[test]
fn a_panic_whose_payload_panics_when_dropped_costs_one_connection_wherever_it_comes() {
    scenario(async {
        let (handle, connector) = serve_in_memory(Thrower(Arc::default()));
        for _ in 0..6 {
            assert_eq!(read_to_end(connector.connect().unwrap()).await, "");
        }
        let report = finish(&handle).await;
        assert!(report.broken_listeners().is_empty());
        let outcomes = handle.status().outcomes;
        let counts = [(Outcome::Completed, 2), (Outcome::Panicked, 4)];
        assert_eq!(outcomes, counts);
    });
}

/// Panics when it is cloned the second time, as one does whose lock is poisoned.
struct Fragile(Arc<AtomicUsize>);

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert_ne!(self.0.fetch_add(1, Ordering::SeqCst), 1, "told to panic");
        Self(self.0.clone())
    }
}

#[test]
fn a_stack_that_panics_when_it_is_cloned_costs_one_connection() {
    scenario(async {
        let fragile = Fragile(Arc::default());
        let stack = service_fn(move |mut io: DuplexStream| {
            let _held = &fragile;
            async move { io.write_all(b"hello").await }
        });
        // The first clone is the acceptor's.
        let (handle, connector) = serve_in_memory(stack);
        assert_eq!(read_to_end(connector.connect().unwrap()).await, "");
        assert_eq!(read_to_end(connector.connect().unwrap()).await, "hello");
        finish(&handle).await;
        assert!(handle.status().outcomes.contains(&(Outcome::Panicked, 1)));
    });
}

/// tokio lets a task do so much at a time: somewhere here the first wait for a change comes after that.
#[test]
fn a_server_that_begins_with_a_crowd_hears_of_its_end() {
    scenario(async {
        for crowd in 120..140 {
            let (listener, connector) = MemoryListener::pair();
            let mut clients = Vec::new();
            for _ in 0..crowd {
                clients.push(connector.connect().unwrap());
            }
            let handle = Server::new().listen(listener, hello()).spawn().unwrap();
            for client in clients {
                assert_eq!(read_to_end(client).await, "hello");
            }
            idle(&handle).await;
            handle.stop();
            let ended = timeout(Duration::from_secs(5), handle.wait()).await;
            ended.unwrap_or_else(|_| panic!("deaf after {crowd}"));
            assert_ended(&handle);
        }
    });
}
