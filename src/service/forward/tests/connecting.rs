//! Connecting to the backend.

use super::support::Once;
use crate::service::forward::{ConnectTo, ForwardService, Forwarded};
use portcullis_middleware::{
    BoxError, Connection, ConnectionInfo,
    connection::{EndedBy, ForcedClose, Socket},
    error::{Elapsed, Refused, Unreachable, find},
    outcome::Outcome,
    testing,
};
use std::{future::pending, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpListener,
    time::{Instant, sleep},
};
use tokio_test::{assert_pending, task};
use tower::{Service, service_fn};

type Backend = Connection<Socket<DuplexStream>>;

/// Forwards to a backend whose connecting ends with `result`.
async fn forward<F>(
    connecting: impl Fn() -> F + Clone,
) -> (ConnectionInfo, Result<Forwarded, BoxError>)
where
    F: Future<Output = Result<Backend, BoxError>>,
{
    let (client, _theirs) = testing::in_memory(64);
    let info = client.info().clone();
    let backend = service_fn(move |_: ConnectionInfo| connecting());
    (info, ForwardService::new(backend).call(client).await)
}

#[tokio::test]
async fn a_backend_that_refuses_is_unreachable_and_a_refusal_stays_one() {
    let (info, result) = forward(|| async { Err("refused".into()) }).await;
    let error = result.unwrap_err();
    assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Unreachable);
    let unreachable = find::<Unreachable>(&*error).unwrap();
    let source = std::error::Error::source(unreachable).unwrap();
    assert_eq!(source.to_string(), "refused");
    assert_eq!((info.upstream(), info.ended_by()), (None, None));

    let refused = || async { Err(Refused::new("pool", "queue is full").into()) };
    let (info, result) = forward(refused).await;
    let error = result.unwrap_err();
    assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Refused);
    assert!(find::<Unreachable>(&*error).is_none());
}

#[tokio::test(start_paused = true)]
async fn connecting_takes_at_most_half_a_minute() {
    let begun = Instant::now();
    let (info, result) = forward(pending).await;
    let error = result.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
    assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Unreachable);
    assert!(find::<Unreachable>(&*error).is_some());

    let late = || async {
        sleep(Duration::from_millis(29_990)).await;
        Err("late".into())
    };
    let (_, result) = forward(late).await;
    let error = result.unwrap_err();
    let source = std::error::Error::source(find::<Unreachable>(&*error).unwrap());
    assert!(source.is_some_and(|source| find::<Elapsed>(source).is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_forced_close_ends_the_wait_for_the_backend() {
    for after in [Duration::ZERO, Duration::from_secs(2)] {
        let (client, _theirs) = testing::in_memory(64);
        let info = client.info().clone();
        let backend = service_fn(|_: ConnectionInfo| pending::<Result<Backend, BoxError>>());
        let forwards = tokio::spawn(ForwardService::new(backend).call(client));
        sleep(after).await;
        let begun = Instant::now();
        info.force_close();
        let error = forwards.await.unwrap().unwrap_err();
        assert!(find::<ForcedClose>(&*error).is_some());
        assert!(begun.elapsed() <= Duration::from_millis(251));
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_the_backend_is_connected_to_is_noticed() {
    let (client, theirs) = testing::over_tcp().await;
    let info = client.info().clone();
    let backend = service_fn(|_: ConnectionInfo| pending::<Result<Backend, BoxError>>());
    let forwards = tokio::spawn(ForwardService::new(backend).call(client));
    drop(theirs);
    let error = forwards.await.unwrap().unwrap_err();
    assert_eq!(Outcome::of(&info, Some(&*error)), Outcome::Disconnected);
    assert_eq!(info.ended_by(), Some(EndedBy::Client));
}

#[tokio::test]
async fn the_backend_is_recorded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"hello").await.unwrap();
        }
    });
    let (client, mut theirs) = testing::over_tcp().await;
    let info = client.info().clone();
    let forwards = tokio::spawn(ForwardService::to(address).call(client));
    theirs.read_exact(&mut [0; 5]).await.unwrap();
    drop(theirs);
    let forwarded = forwards.await.unwrap().unwrap();
    assert_eq!(
        (forwarded.to_client, forwarded.ended_by),
        (5, EndedBy::Backend)
    );
    let upstream = info.upstream().unwrap();
    assert_eq!(*upstream.server, *address.to_string());
    assert_eq!(upstream.address.ip(), Some(address));
    assert!(upstream.connect_time > Duration::ZERO);

    // Another service does not record it.
    let (client, theirs) = testing::in_memory(64);
    drop(theirs);
    let info = client.info().clone();
    let backend = service_fn(move |_| ConnectTo::new(address).call(testing::info()));
    let _the_client_is_gone = ForwardService::new(backend).call(client).await;
    assert_eq!(*info.upstream().unwrap().server, *address.to_string());
}

#[tokio::test]
async fn a_drop_in_any_state_releases_both_connections() {
    for polls in 0..4 {
        let guard = Arc::new(());
        let (mut client, mut theirs) = testing::in_memory(64);
        let (mut backend, mut server) = testing::in_memory(64);
        client.hold(guard.clone());
        backend.hold(guard.clone());
        let mut service = ForwardService::new(Once::new(backend));
        let mut forwards = task::spawn(service.call(client));
        drop(service);
        for poll in 0..polls {
            theirs.write_all(b"x").await.unwrap();
            if poll == 2 {
                theirs.shutdown().await.unwrap();
            }
            assert_pending!(forwards.poll());
        }
        drop(forwards);
        assert_eq!(Arc::strong_count(&guard), 1, "after {polls} polls");
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), polls);
    }
}

#[cfg(target_pointer_width = "64")]
#[test]
fn the_future_of_a_connection_is_small() {
    use crate::service::forward::ForwardFuture;
    use tokio::net::TcpStream;

    type Sockets = ForwardFuture<ConnectTo, Socket<TcpStream>, Socket<TcpStream>>;
    assert!(
        size_of::<Sockets>() <= 296,
        "{} bytes",
        size_of::<Sockets>()
    );
}
