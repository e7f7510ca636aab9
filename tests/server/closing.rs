//! How a connection ends, as its peer sees it: with FIN, with a reset, or not at all.

use crate::support::{Fixture, eventually, paused_scenario, scenario};
use portcullis::{
    Connection, ServiceBuilderExt,
    connection::{Linger, Socket},
    middleware::limit::ConnectionLimitLayer,
    server::Drain,
};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tower::ServiceBuilder;

type Tcp = Connection<Socket<TcpStream>>;

/// What a client receives that sends `request` and reads until the end.
async fn received_by_client<F>(
    request: &[u8],
    handler: impl Fn(Tcp) -> F + Clone + Send + 'static,
) -> io::Result<Vec<u8>>
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let server = Fixture::serve(ServiceBuilder::new().peer_addr().service_fn(handler));
    let mut client = server.connect().await;
    client.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let ended = client.read_to_end(&mut answer).await;
    drop(client);
    server.finish().await;
    ended.map(|_| answer)
}

fn assert_reset(received: io::Result<Vec<u8>>) {
    assert_eq!(received.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

/// Reads the five bytes that the client sends.
async fn read_all(connection: &mut Tcp) -> io::Result<()> {
    connection.read_exact(&mut [0; 5]).await.map(drop)
}

/// Waits until input is there, and leaves it unread.
async fn arrived(connection: &Tcp) -> io::Result<()> {
    connection
        .get_ref()
        .get_ref()
        .peek(&mut [0; 1])
        .await
        .map(drop)
}

#[test]
fn a_return_an_error_and_a_panic_end_in_order_when_all_input_was_read() {
    scenario(async {
        let returned = received_by_client(b"hello", |mut connection| async move {
            read_all(&mut connection).await?;
            connection.write_all(b"done").await
        });
        assert_eq!(returned.await.unwrap(), b"done");

        let failed = received_by_client(b"hello", |mut connection| async move {
            read_all(&mut connection).await?;
            connection.write_all(b"half").await?;
            Err(io::Error::other("on purpose"))
        });
        assert_eq!(failed.await.unwrap(), b"half");

        let panicked = received_by_client(b"hello", |mut connection| async move {
            read_all(&mut connection).await?;
            connection.write_all(b"oops").await?;
            panic!("on purpose")
        });
        assert_eq!(panicked.await.unwrap(), b"oops");
    });
}

#[test]
fn close_ends_in_order_although_input_was_left_unread() {
    scenario(async {
        for _ in 0..20 {
            let closed = received_by_client(&[7; 20_000], |mut connection: Tcp| async move {
                arrived(&connection).await?;
                connection.write_all(b"busy").await?;
                connection.close().await
            });
            assert_eq!(closed.await.unwrap(), b"busy");
        }
    });
}

#[test]
fn a_drop_with_unread_input_resets_as_documented() {
    scenario(async {
        let dropped = received_by_client(b"hello", |connection: Tcp| async move {
            arrived(&connection).await
        });
        assert_reset(dropped.await);
    });
}

#[test]
fn abort_resets_although_all_input_was_read() {
    scenario(async {
        let aborted = received_by_client(b"hello", |mut connection| async move {
            read_all(&mut connection).await?;
            connection.abort();
            Ok(())
        });
        assert_reset(aborted.await);
    });
}

#[test]
fn detach_ends_nothing() {
    scenario(async {
        let (give, mut take) = mpsc::channel(1);
        let stack = ServiceBuilder::new()
            .peer_addr()
            .service_fn(move |connection: Tcp| {
                let give = give.clone();
                async move {
                    give.send(connection.detach())
                        .await
                        .map_err(io::Error::other)
                }
            });
        let server = Fixture::serve(stack);
        let mut client = server.connect().await;
        let mut stream = take.recv().await.unwrap();
        server.finish().await;
        let silence = timeout(Duration::from_millis(30), client.read(&mut [0; 1])).await;
        assert!(silence.is_err(), "the peer saw {silence:?}");
        stream.write_all(b"!").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'!');
    });
}

#[test]
fn a_close_waits_for_a_peer_that_does_not_leave_and_for_no_longer_than_its_bound() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .peer_addr()
            .service_fn(|connection: Tcp| {
                connection.close_within(Linger::new().with_idle_timeout(Duration::from_secs(3)))
            });
        let server = Fixture::serve(stack);
        let begun = Instant::now();
        let mut client = server.connect().await;
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(
            begun.elapsed() < Duration::from_millis(900),
            "FIN comes at once"
        );
        server.idle().await;
        let took = begun.elapsed();
        assert!(
            (Duration::from_millis(2_950)..Duration::from_secs(5)).contains(&took),
            "{took:?}"
        );
        drop(client);
        server.finish().await;
    });
}

#[test]
fn an_answer_arrives_at_a_client_that_reads_slowly_and_sends_meanwhile() {
    const ANSWER: usize = 1024 * 1024;
    scenario(async {
        let stack = ServiceBuilder::new()
            .peer_addr()
            .service_fn(async |mut connection: Tcp| {
                connection.write_all(&vec![b'a'; ANSWER]).await?;
                connection.close().await
            });
        let server = Fixture::serve(stack);
        let mut client = server.connect().await;
        let mut answer = vec![0; ANSWER];
        client.read_exact(&mut answer[..1000]).await.unwrap();
        sleep(Duration::from_millis(1500)).await;
        client.write_all(b"x").await.unwrap();
        // Time for a reset to come.
        sleep(Duration::from_millis(50)).await;
        client.read_exact(&mut answer[1000..]).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        drop(client);
        server.finish().await;
    });
}

#[test]
fn an_answer_arrives_although_megabytes_of_input_follow() {
    scenario(async {
        let stack = ServiceBuilder::new()
            .peer_addr()
            .service_fn(async |mut connection: Tcp| {
                arrived(&connection).await?;
                connection.write_all(b"too much").await?;
                connection.close().await
            });
        let server = Fixture::serve(stack);
        for _ in 0..5 {
            let mut client = server.connect().await;
            client.write_all(&vec![b'x'; 5_000_000]).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"too much");
        }
        server.finish().await;
    });
}

#[test]
fn clients_that_linger_keep_no_place_in_the_limit_and_are_cut_at_the_deadline() {
    paused_scenario(async {
        let (limit, handle) = ConnectionLimitLayer::pair(1);
        let stack = ServiceBuilder::new()
            .peer_addr()
            .layer(limit)
            .service_fn(|connection: Tcp| {
                connection.close_within(
                    Linger::new()
                        .with_idle_timeout(Duration::from_secs(600))
                        .with_timeout(Duration::MAX),
                )
            });
        let deadline = Duration::from_secs(10);
        let server = Fixture::serve_with(stack, |server| {
            server.drain(Drain::new().with_deadline(deadline))
        });
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = server.connect().await;
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            clients.push(client);
        }
        eventually("no place is taken", || handle.active() == 0).await;
        assert_eq!(server.status().active, 3);
        let report = server.finish().await;
        assert_eq!(report.force_closed().len(), 3);
        assert!(report.took() >= deadline);
        drop(clients);
    });
}
