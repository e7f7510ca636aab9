use super::*;
use crate::{connection::Connection, testing::connection};
use static_assertions::assert_impl_all;
use std::io::{ErrorKind, IoSlice};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};
use tokio_test::{assert_pending, assert_ready_ok, io::Builder, task};
use tower::{Layer, Service, ServiceExt, service_fn};

assert_impl_all!(CountedIo<TcpStream>: Send, Sync, Unpin);
assert_impl_all!(CountBytes<()>: Clone, std::fmt::Debug, Send, Sync);

fn counted<IO>(io: IO) -> (CountedIo<IO>, ByteCounter) {
    let total = ByteCounter::new();
    (CountedIo::new(io, total.clone()), total)
}

async fn echo(mut connection: Connection<CountedIo<tokio_test::io::Mock>>) -> std::io::Result<()> {
    let mut data = [0; 5];
    connection.read_exact(&mut data).await?;
    connection.write_all(&data).await
}

#[tokio::test]
async fn the_total_is_that_of_all_connections_of_the_layer() {
    let (layer, total) = CountBytesLayer::pair();
    let mut service = layer.layer(service_fn(echo));
    for _ in 0..3 {
        let io = Builder::new()
            .read(b"he")
            .read(b"llo")
            .write(b"hello")
            .build();
        service
            .ready()
            .await
            .unwrap()
            .call(connection(io))
            .await
            .unwrap();
    }
    assert_eq!((total.bytes_read(), total.bytes_written()), (15, 15));
}

#[tokio::test]
async fn the_total_is_told_while_connections_run_and_each_knows_its_own() {
    let total = ByteCounter::new();
    let (one, mut peer) = tokio::io::duplex(64);
    let (two, _peer) = tokio::io::duplex(64);
    let mut one = CountedIo::new(one, total.clone());
    let mut two = CountedIo::new(two, total.clone());
    peer.write_all(b"abc").await.unwrap();
    one.read_exact(&mut [0; 3]).await.unwrap();
    two.write_all(b"de").await.unwrap();
    one.write_all(b"f").await.unwrap();
    assert_eq!((one.bytes_read(), one.bytes_written()), (3, 1));
    assert_eq!((two.bytes_read(), two.bytes_written()), (0, 2));
    assert_eq!((total.bytes_read(), total.bytes_written()), (3, 3));
}

#[tokio::test]
async fn only_what_was_moved_before_an_error_counts() {
    let io = Builder::new()
        .read(b"he")
        .read_error(ErrorKind::ConnectionReset.into())
        .write(b"h")
        .write_error(ErrorKind::BrokenPipe.into())
        .build();
    let (mut io, total) = counted(io);
    assert!(io.read_exact(&mut [0; 5]).await.is_err());
    assert!(io.write_all(b"hello").await.is_err());
    assert_eq!((total.bytes_read(), total.bytes_written()), (2, 1));
}

#[tokio::test]
async fn what_has_to_wait_counts_once_it_is_done() {
    let (ours, mut peer) = tokio::io::duplex(4);
    let (mut io, total) = counted(ours);
    assert_ready_ok!(task::spawn(io.write(b"full")).poll());
    let mut write = task::spawn(io.write(b"more"));
    assert_pending!(write.poll());
    assert_eq!(total.bytes_written(), 4);
    peer.read_exact(&mut [0; 3]).await.unwrap();
    assert_eq!(assert_ready_ok!(write.poll()), 3);
    assert_eq!(total.bytes_written(), 7);
}

#[tokio::test]
async fn a_read_counts_what_it_added_to_the_buffer_and_the_end_is_nothing() {
    let (mut io, total) = counted(&b"hello"[..]);
    let mut buffer = Vec::from(*b"there already: ");
    io.read_to_end(&mut buffer).await.unwrap();
    assert_eq!(buffer, b"there already: hello");
    assert_eq!((io.bytes_read(), total.bytes_read()), (5, 5));
}

#[tokio::test]
async fn vectored_writes_stay_vectored_and_count() {
    let (ours, _peer) = tokio::io::duplex(64);
    let (mut io, total) = counted(ours);
    assert!(io.is_write_vectored());
    let bufs = [IoSlice::new(b"ab"), IoSlice::new(b"cde")];
    assert_eq!(io.write_vectored(&bufs).await.unwrap(), 5);
    assert_eq!(total.bytes_written(), 5);
    let (plain, _) = counted(Builder::new().build());
    assert!(!plain.is_write_vectored());
}

#[tokio::test]
async fn flush_and_shutdown_reach_the_inner_io() {
    let (ours, mut peer) = tokio::io::duplex(64);
    let (mut io, _) = counted(tokio::io::BufWriter::new(ours));
    io.write_all(b"held back").await.unwrap();
    io.flush().await.unwrap();
    let mut data = [0; 9];
    assert_ready_ok!(task::spawn(peer.read_exact(&mut data)).poll());
    io.shutdown().await.unwrap();
    assert_eq!(
        assert_ready_ok!(task::spawn(peer.read(&mut data)).poll()),
        0
    );
}

#[tokio::test]
async fn the_inner_io_comes_back_uncounted() {
    let (ours, _peer) = tokio::io::duplex(64);
    let (mut io, total) = counted(ours);
    io.get_mut().write_all(b"not").await.unwrap();
    let mut bare: DuplexStream = io.into_inner();
    bare.write_all(b"counted").await.unwrap();
    assert_eq!(total.bytes_written(), 0);
}

#[test]
fn a_counted_io_passes_everything_through() {
    crate::testing::assert_transparent(|io| CountedIo::new(io, ByteCounter::new()));
}
