use super::*;
use crate::io::BoxIo;
use crate::testing::{Peer, over_tcp};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
    time::Instant,
};
use tokio_test::{assert_pending, assert_ready, task};

static_assertions::assert_impl_all!(Connection<Socket<TcpStream>>: Send, Sync, Unpin);
static_assertions::assert_impl_all!(BoxIo: Send, Unpin);

fn in_memory() -> (Connection<Socket<DuplexStream>>, DuplexStream) {
    crate::testing::in_memory(64)
}

struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn flag() -> (Flag, impl Fn() -> bool) {
    let released = Arc::new(AtomicBool::new(false));
    (Flag(released.clone()), move || {
        released.load(Ordering::Relaxed)
    })
}

#[tokio::test]
async fn bytes_are_counted_in_both_directions() {
    let (mut connection, mut peer) = in_memory();
    peer.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    connection.read_exact(&mut buffer).await.unwrap();
    connection.write_all(b"hi").await.unwrap();
    let info = connection.info();
    assert_eq!((info.bytes_read(), info.bytes_written()), (5, 2));
}

#[tokio::test]
async fn a_forced_close_wakes_a_waiting_read_and_fails_ready_ones() {
    let (mut connection, mut peer) = in_memory();
    let info = connection.info().clone();
    let mut buffer = [0; 8];
    let mut read = task::spawn(connection.read(&mut buffer));
    assert_pending!(read.poll());
    info.force_close();
    assert!(read.is_woken());
    let error = assert_ready!(read.poll()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    assert!(crate::error::find::<ForcedClose>(&error).is_some());
    drop(read);
    peer.write_all(b"still there").await.unwrap();
    assert!(connection.read(&mut buffer).await.is_err());
    assert!(connection.write(b"x").await.is_err());
}

#[tokio::test]
async fn a_forced_close_wakes_both_halves_in_their_own_tasks() {
    let (connection, _peer) = in_memory();
    let info = connection.info().clone();
    let (mut read_half, mut write_half) = tokio::io::split(connection.box_io());
    let mut buffer = [0; 8];
    let mut read = task::spawn(read_half.read(&mut buffer));
    let mut write = task::spawn(write_half.write_all(&[0; 100]));
    assert_pending!(read.poll());
    assert_pending!(write.poll());
    info.force_close();
    assert!(read.is_woken() && write.is_woken());
    assert_ready!(read.poll()).unwrap_err();
    assert_ready!(write.poll()).unwrap_err();
}

#[tokio::test]
async fn a_read_that_moved_to_another_task_is_still_woken() {
    let (mut connection, _peer) = in_memory();
    let info = connection.info().clone();
    let mut buffer = [0; 8];
    assert_pending!(task::spawn(connection.read(&mut buffer)).poll());
    let mut moved = task::spawn(connection.read(&mut buffer));
    assert_pending!(moved.poll());
    info.force_close();
    assert!(moved.is_woken());
}

#[tokio::test]
async fn guards_outlive_the_io_and_end_with_the_connection() {
    struct Watch(Arc<AtomicBool>);
    impl Drop for Watch {
        fn drop(&mut self) {
            assert!(
                !self.0.load(Ordering::Relaxed),
                "guard released before the io"
            );
        }
    }
    let (guard, released) = flag();
    let (connection, _peer) = in_memory();
    let seen = guard.0.clone();
    let mut connection = connection.map_io(|_socket| Watch(seen));
    connection.hold(guard);
    assert!(!released());
    drop(connection);
    assert!(released());
}

#[tokio::test]
async fn detach_releases_the_guards_and_keeps_the_stream_open() {
    let (guard, released) = flag();
    let (mut connection, mut peer) = in_memory();
    connection.hold(guard);
    let info = connection.info().clone();
    let mut stream = connection.detach().into_inner();
    assert!(released());
    assert_eq!(info.phase(), Phase::Detached);
    stream.write_all(b"on").await.unwrap();
    let mut buffer = [0; 2];
    peer.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"on");
}

#[tokio::test]
async fn a_failed_change_of_io_releases_the_guards() {
    let (guard, released) = flag();
    let (mut connection, _peer) = in_memory();
    connection.hold(guard);
    let failed = connection.try_map_io(async |_io| Err::<DuplexStream, _>("no"));
    assert_eq!(failed.await.unwrap_err(), "no");
    assert!(released());
}

#[tokio::test]
async fn the_answer_arrives_after_close_although_input_was_left_unread() {
    for _ in 0..20 {
        let (mut connection, mut client) = over_tcp().await;
        client.write_all(&[7; 4000]).await.unwrap();
        connection.write_all(b"busy\n").await.unwrap();
        let (closed, answer) = tokio::join!(connection.close(), async {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            client.shutdown().await.unwrap();
            answer
        });
        closed.unwrap();
        assert_eq!(answer, "busy\n");
    }
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_a_silent_peer_no_longer_than_its_bound() {
    let (connection, _peer) = in_memory();
    let begun = Instant::now();
    connection.close().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
}

#[tokio::test]
async fn a_service_that_closes_in_the_end_is_not_large_from_the_beginning() {
    let (connection, _peer) = in_memory();
    let close = connection.close();
    assert!(size_of_val(&close) <= 640, "{} bytes", size_of_val(&close));
}

#[tokio::test]
async fn close_may_have_all_the_time_there_is() {
    let (connection, peer) = in_memory();
    drop(peer);
    let linger = Linger::new().with_timeout(Duration::MAX);
    connection.close_within(linger).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_throws_away_no_more_than_its_bound() {
    let (connection, mut peer) = in_memory();
    let info = connection.info().clone();
    let flood = tokio::spawn(async move { while peer.write_all(&[0; 64]).await.is_ok() {} });
    let begun = Instant::now();
    connection
        .close_within(Linger::new().with_bytes(1000))
        .await
        .unwrap();
    assert!(
        (1000..5096).contains(&info.bytes_read()),
        "{}",
        info.bytes_read()
    );
    assert_eq!(begun.elapsed(), Duration::ZERO);
    flood.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_fails_when_the_peer_takes_no_output_in_time() {
    let bound = Duration::from_secs(30);
    for (stalls, expected) in [
        (bound - Duration::from_millis(1), Ok(())),
        (bound * 2, Err(io::ErrorKind::TimedOut)),
    ] {
        let script = Peer::new().stops_reading().stalls(stalls).reads_again();
        let (connection, seen) = script.waits_for_end().half_closes().connection();
        let mut connection = connection.map_io(tokio::io::BufWriter::new);
        connection.write_all(b"bye").await.unwrap();
        let begun = Instant::now();
        let closed = connection.close().await;
        assert_eq!(closed.map_err(|error| error.kind()), expected);
        assert_eq!(begun.elapsed(), stalls.min(bound));
        assert_eq!(seen.is_shut_down(), expected.is_ok());
        assert!(seen.is_dropped());
    }
}

#[tokio::test]
async fn abort_resets_and_drop_after_reading_all_ends_in_order() {
    let (connection, mut client) = over_tcp().await;
    connection.abort();
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    let (connection, mut client) = over_tcp().await;
    drop(connection);
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn nodelay_reaches_the_socket_through_a_box() {
    let (connection, mut client) = over_tcp().await;
    connection.get_ref().get_ref().set_nodelay(false).unwrap();
    connection.set_nodelay(true);
    let mut connection = connection;
    connection.write_all(b"x").await.unwrap();
    assert!(connection.get_ref().get_ref().nodelay().unwrap());
    connection.set_nodelay(true);
    connection.set_nodelay(false);
    connection.write_all(b"x").await.unwrap();
    assert!(!connection.get_ref().get_ref().nodelay().unwrap());
    client.read_exact(&mut [0; 2]).await.unwrap();
}

#[tokio::test]
async fn a_stream_without_context_tells_its_own_addresses() {
    let (connection, client) = over_tcp().await;
    assert_eq!(connection.peer_addr(), client.local_addr().ok());
    assert_eq!(connection.local_addr(), client.peer_addr().ok());
}

#[test]
fn the_socket_lets_go_of_wakers_when_it_is_dropped() {
    struct Ignored;
    impl std::task::Wake for Ignored {
        fn wake(self: Arc<Self>) {}
    }
    let task = Arc::new(Ignored);
    let waker = task.clone().into();
    let (mut connection, peer) = in_memory();
    let info = connection.info().clone();
    let mut buffer = [0; 1];
    let mut buffer = ReadBuf::new(&mut buffer);
    let read = Pin::new(&mut connection).poll_read(&mut Context::from_waker(&waker), &mut buffer);
    assert!(read.is_pending());
    drop((connection, peer, waker)); // the in-memory pipe keeps its own waker
    assert_eq!(Arc::strong_count(&task), 1);
    assert_eq!(info.phase(), Phase::Closed);
    info.force_close();
}
