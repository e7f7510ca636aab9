//! What follows on failures of accept: each of the policy's three kinds, injected by a listener.

use crate::support::{finish, hello, paused_scenario, read_to_end};
use portcullis::{
    Server,
    connection::Address,
    listener::accept_error::{
        AcceptErrorKind, AcceptErrorPolicy, CONNECTION_ERRORS, FATAL_ERRORS, RESOURCE_ERRORS,
    },
    listener::{Accepted, Listener},
    server::{Handle, ServeError},
};
use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};
use tower::service_fn;

/// Yields scripted results, then waits for ever.
struct Scripted(VecDeque<io::Result<DuplexStream>>);

impl Scripted {
    fn errors(errno: i32, times: usize) -> Self {
        Self(
            (0..times)
                .map(|_| Err(io::Error::from_raw_os_error(errno)))
                .collect(),
        )
    }

    fn then_connect(mut self) -> (Self, DuplexStream) {
        let (ours, theirs) = duplex(64);
        self.0.push_back(Ok(ours));
        (self, theirs)
    }
}

impl Listener for Scripted {
    type Io = DuplexStream;

    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Accepted<DuplexStream>>> {
        match self.0.pop_front() {
            Some(result) => Poll::Ready(result.map(|io| Accepted::new(io, Address::Unknown))),
            None => Poll::Pending,
        }
    }

    fn local_address(&self) -> Address {
        Address::Unknown
    }
}

fn errors(handle: &Handle) -> Vec<(AcceptErrorKind, u64)> {
    handle.status().accept_errors
}

#[test]
fn a_connection_that_failed_before_accept_is_passed_over_at_once() {
    paused_scenario(async {
        for errno in CONNECTION_ERRORS {
            let (listener, client) = Scripted::errors(*errno, 1000).then_connect();
            let begun = Instant::now();
            let handle = Server::new().listen(listener, hello()).spawn().unwrap();
            assert_eq!(read_to_end(client).await, "hello");
            assert_eq!(begun.elapsed(), Duration::ZERO, "errno {errno}");
            assert_eq!(errors(&handle), [(AcceptErrorKind::Connection, 1000)]);
            finish(&handle).await;
        }
    });
}

#[test]
fn a_lack_of_resources_pauses_accept_for_the_time_of_the_policy() {
    paused_scenario(async {
        for errno in RESOURCE_ERRORS {
            let (listener, client) = Scripted::errors(*errno, 1000).then_connect();
            let begun = Instant::now();
            let handle = Server::new().listen(listener, hello()).spawn().unwrap();
            assert_eq!(read_to_end(client).await, "hello");
            let expected = Duration::from_millis(50) * 1000;
            let took = begun.elapsed();
            // The timer wheel rounds each pause up to its next millisecond.
            assert!(
                (expected..=expected + Duration::from_secs(2)).contains(&took),
                "{errno}: {took:?}"
            );
            assert_eq!(errors(&handle), [(AcceptErrorKind::Resource, 1000)]);
            finish(&handle).await;
        }
    });
}

#[test]
fn the_pause_ends_when_a_connection_of_the_server_does() {
    paused_scenario(async {
        let policy = AcceptErrorPolicy::new().with_pause(Duration::from_secs(3600));
        let (ours, mut held) = duplex(64);
        let (mut listener, client) = Scripted::errors(RESOURCE_ERRORS[0], 1).then_connect();
        listener.0.push_front(Ok(ours));
        let stack = service_fn(|mut io: DuplexStream| async move {
            io.write_all(b"hello").await?;
            io.read(&mut [0; 1]).await.map(drop)
        });
        let server = Server::new().listen(listener, stack).accept_errors(policy);
        let handle = server.spawn().unwrap();
        held.read_exact(&mut [0; 5]).await.unwrap();
        let begun = Instant::now();
        held.shutdown().await.unwrap();
        let mut client = client;
        client.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        drop(client);
        finish(&handle).await;
    });
}

#[test]
fn a_paused_acceptor_still_ends_when_the_server_does() {
    paused_scenario(async {
        let policy = AcceptErrorPolicy::new().with_pause(Duration::from_secs(3600));
        let listener = Scripted::errors(RESOURCE_ERRORS[0], 1000);
        let server = Server::new()
            .listen(listener, hello())
            .accept_errors(policy);
        let handle = server.spawn().unwrap();
        while errors(&handle).is_empty() {
            tokio::task::yield_now().await;
        }
        let begun = Instant::now();
        handle.stop();
        handle.wait().await;
        assert!(
            begun.elapsed() <= Duration::from_secs(31),
            "{:?}",
            begun.elapsed()
        );
    });
}

/// Out of descriptors at each accept, with clients in its queue for some time.
struct Exhausted {
    clients_until: Option<Instant>,
}

impl Listener for Exhausted {
    type Io = DuplexStream;

    fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<Accepted<DuplexStream>>> {
        Poll::Pending
    }

    fn accept_now(&mut self) -> io::Result<Option<Accepted<DuplexStream>>> {
        Err(io::Error::from_raw_os_error(RESOURCE_ERRORS[0]))
    }

    fn local_address(&self) -> Address {
        Address::Unknown
    }

    fn is_ready(&self) -> io::Result<bool> {
        Ok(self
            .clients_until
            .is_some_and(|until| Instant::now() < until))
    }
}

#[test]
fn a_drain_that_is_out_of_descriptors_waits_only_where_a_client_waits_too() {
    paused_scenario(async {
        let wait = Duration::from_secs(7);
        for (clients_until, took) in [
            (None, Duration::ZERO..=Duration::ZERO),
            (
                Some(Instant::now() + wait),
                wait..=wait + Duration::from_millis(100),
            ),
        ] {
            let listener = Exhausted { clients_until };
            let handle = Server::new().listen(listener, hello()).spawn().unwrap();
            handle.stop();
            let report = handle.wait().await;
            assert!(took.contains(&report.took()), "{:?}", report.took());
            assert!(report.force_closed().is_empty());
        }
    });
}

#[test]
fn a_broken_listener_ends_loudly_and_the_others_go_on() {
    paused_scenario(async {
        for errno in FATAL_ERRORS {
            let (working, client) = Scripted(VecDeque::new()).then_connect();
            let server = Server::new()
                .listen_as("broken", Scripted::errors(*errno, 1), hello())
                .listen_as("working", working, hello());
            let handle = server.spawn().unwrap();
            assert_eq!(read_to_end(client).await, "hello");
            while errors(&handle).is_empty() {
                tokio::task::yield_now().await;
            }
            assert!(!handle.is_stopped());
            handle.stop();
            let report = handle.wait().await;
            let broken: Vec<_> = report
                .broken_listeners()
                .iter()
                .map(|broken| broken.name())
                .collect();
            assert_eq!(broken, ["broken"]);

            let alone = Server::new().listen_as("alone", Scripted::errors(*errno, 1), hello());
            let error = alone.run().await.unwrap_err();
            assert!(ServeError::is_broken_listener(&error));
            assert!(error.to_string().contains("alone"), "{error}");
        }
    });
}

#[test]
fn a_listener_that_broke_earlier_is_no_error_when_the_last_one_is_closed() {
    paused_scenario(async {
        let (working, client) = Scripted(VecDeque::new()).then_connect();
        let server = Server::new()
            .listen_as("broken", Scripted::errors(FATAL_ERRORS[0], 1), hello())
            .listen_as("working", working, hello());
        let handle = server.handle();
        let running = tokio::spawn(server.run());
        assert_eq!(read_to_end(client).await, "hello");
        while errors(&handle).is_empty() {
            tokio::task::yield_now().await;
        }
        handle.listener("working").unwrap().close();
        let report = running.await.unwrap().unwrap();
        assert_eq!(report.broken_listeners().len(), 1);
    });
}

#[test]
fn a_listener_that_only_ever_fails_is_paused_in_the_end() {
    paused_scenario(async {
        let (listener, client) = Scripted::errors(CONNECTION_ERRORS[0], 1124).then_connect();
        let begun = Instant::now();
        let handle = Server::new().listen(listener, hello()).spawn().unwrap();
        assert_eq!(read_to_end(client).await, "hello");
        let expected = Duration::from_millis(50) * 100;
        let took = begun.elapsed();
        assert!(
            (expected..expected + Duration::from_secs(1)).contains(&took),
            "{took:?}"
        );
        finish(&handle).await;
    });
}
