//! Options of the backend's socket that only a connection that lasts needs.

use super::support::Forwards;
use crate::{
    connect::{Buffers, Connector},
    listener::Keepalive,
};
use portcullis_middleware::{
    Connection, ConnectionInfo,
    connection::Address,
    internal::{LateOptions, begin_watch, end_watch, expire},
    testing,
};
use socket2::SockRef;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, advance},
};

/// Forwards to a backend whose options count how often they are set.
async fn counted() -> (Forwards, TcpStream, TcpStream, Arc<AtomicUsize>) {
    counted_for(|_| {}).await
}

/// The same, with `prepare` for the client.
async fn counted_for(
    prepare: impl FnOnce(&ConnectionInfo),
) -> (Forwards, TcpStream, TcpStream, Arc<AtomicUsize>) {
    let set = Arc::new(AtomicUsize::new(0));
    let counted = set.clone();
    let options = LateOptions::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let (client, theirs) = testing::over_tcp().await;
    prepare(client.info());
    let (backend, server) = testing::over_tcp().await;
    let info = options.describe(Address::Unknown, Address::Unknown);
    let backend = Connection::with_info(backend.detach().into_inner(), info);
    let forwards = Forwards::start(client, backend, |s| s);
    (forwards, theirs, server, set)
}

/// A task that is always ready keeps paused time from leaping.
fn hold_time() {
    tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
}

#[tokio::test(start_paused = true)]
async fn options_are_set_once_a_quarter_of_a_second_has_passed_also_without_traffic() {
    hold_time();
    let (forwards, mut client, mut server, set) = counted().await;
    client.write_all(b"hello").await.unwrap();
    server.read_exact(&mut [0; 5]).await.unwrap();
    advance(Duration::from_millis(249)).await;
    client.write_all(b"hello").await.unwrap();
    server.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(set.load(Ordering::Relaxed), 0);
    advance(Duration::from_millis(2)).await;
    run().await;
    assert_eq!(set.load(Ordering::Relaxed), 1);
    advance(Duration::from_secs(10)).await;
    client.write_all(b"hello").await.unwrap();
    server.read_exact(&mut [0; 5]).await.unwrap();
    assert_eq!(set.load(Ordering::Relaxed), 1);
    drop((client, server));
    forwards.result().await.unwrap();
}

/// Lets the forwarder run.
async fn run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn options_are_set_by_the_clock_of_the_server_if_it_has_one() {
    for ends in [false, true] {
        hold_time();
        let (forwards, mut client, mut server, set) = counted_for(begin_watch).await;
        let info = forwards.info.clone();
        client.write_all(b"hello").await.unwrap();
        server.read_exact(&mut [0; 5]).await.unwrap();
        let mut wakers = Vec::new();
        advance(Duration::from_millis(249)).await;
        expire(&info, Instant::now(), &mut wakers);
        assert!(wakers.is_empty());
        advance(Duration::from_millis(2)).await;
        run().await;
        assert_eq!(
            set.load(Ordering::Relaxed),
            0,
            "no timer of the runtime is armed"
        );
        match ends {
            true => end_watch(&info, &mut wakers),
            false => expire(&info, Instant::now(), &mut wakers),
        }
        assert_eq!(wakers.len(), 1);
        wakers.into_iter().for_each(Waker::wake);
        run().await;
        assert_eq!(set.load(Ordering::Relaxed), 1);
        drop((client, server));
        forwards.result().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_clock_has_the_time_of_the_options_also_before_the_first_byte() {
    hold_time();
    let (forwards, _client, _server, _set) = counted_for(begin_watch).await;
    run().await;
    let mut wakers = Vec::new();
    end_watch(&forwards.info, &mut wakers);
    assert_eq!(wakers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_short_connection_ends_without_options() {
    hold_time();
    let (forwards, mut client, mut server, set) = counted().await;
    client.write_all(b"hello").await.unwrap();
    server.read_exact(&mut [0; 5]).await.unwrap();
    drop((client, server));
    forwards.result().await.unwrap();
    assert_eq!(set.load(Ordering::Relaxed), 0);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_options_are_those_of_the_connector() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seven = Duration::from_secs(7);
    let keepalive = Keepalive::new().with_time(seven);
    let probing = Connector::new().with_keepalive(keepalive);
    let bare = Connector::new().with_keepalive(None);
    for (connector, user_timeout) in [
        (probing, Some(seven + Duration::from_secs(60))),
        (bare, None),
    ] {
        let options = connector.late_options();
        let opened = connector
            .open_with::<TcpStream>(address, &options, Buffers::default())
            .await;
        let mut connection = opened.unwrap();
        let socket = SockRef::from(connection.get_ref().get_ref());
        assert!(!socket.keepalive().unwrap());
        connection.write_all(b"x").await.unwrap();
        let socket = SockRef::from(connection.get_ref().get_ref());
        assert_eq!(socket.keepalive().unwrap(), user_timeout.is_some());
        assert_eq!(socket.tcp_user_timeout().unwrap(), user_timeout);
        assert_eq!(
            socket.tcp_keepalive_time().unwrap() == seven,
            user_timeout.is_some()
        );
    }
}
