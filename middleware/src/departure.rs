//! Detects that a waiting client has disconnected, without consuming its input.
//!
//! A connection that waits for something other than its client is not read, so a disconnect would go
//! unnoticed. The system can be asked about the socket. The input is only peeked at, and stays in the socket
//! or in the TLS session.

use crate::connection::{AnyStream, Connection, Socket, Transport};
use crate::io::PrefixedIo;
#[cfg(feature = "tls")]
use crate::{
    io::EitherIo,
    tls::{TlsIo, TlsOrPlainIo},
};
use socket2::SockRef;
use std::{
    any::Any,
    io,
    mem::MaybeUninit,
    task::{Context, Poll},
};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{io::Interest, net::TcpStream};

/// Ready with the reason once the client of `connection`, which waits to be served, has disconnected.
///
/// Like `poll_departure`, with one exception. If a layer has already read from the socket, a client that
/// has half-closed may be waiting for a response, so only a reset counts.
pub(crate) fn poll_client_left<IO: 'static>(
    connection: &mut Connection<IO>,
    cx: &mut Context<'_>,
) -> Poll<io::Error> {
    let was_read = connection.info().bytes_read() > 0 && is_socket(connection.get_ref());
    match poll_departure(connection.get_mut(), cx) {
        Poll::Ready(left) if was_read && left.kind() == io::ErrorKind::UnexpectedEof => {
            Poll::Pending
        }
        polled => polled,
    }
}

/// Whether `io` is the bare socket, without a wrapper that reads on its own, as TLS does.
fn is_socket(io: &dyn Any) -> bool {
    #[cfg(unix)]
    if io.is::<Socket<UnixStream>>() {
        return true;
    }
    io.is::<Socket<TcpStream>>() || io.is::<Socket<AnyStream>>()
}

/// Ready with the reason once the client of `io` has disconnected. That is a reset, or a half-close after all
/// input was read.
///
/// A client that has sent something and then half-closed may be waiting for a response, so it counts as
/// connected. While input is unread, a later reset is not detected.
///
/// Each call makes one system call. The socket is found in a [`Socket`] over TCP or a Unix domain socket,
/// also behind a PROXY header, under TLS, and where the first byte has chosen between TLS and plain text. For other types the result is always pending. Under TLS this
/// reads ahead, because a client sends `close_notify` before it disconnects; the session keeps the input.
pub(crate) fn poll_departure<IO: 'static>(io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Error> {
    let io: &mut dyn Any = io;
    #[cfg(feature = "tls")]
    if let Some(polled) = poll_tls(io, cx) {
        return polled;
    }
    #[cfg(feature = "tls")]
    if let Some(polled) = poll_tls_or_plain(io, cx) {
        return polled;
    }
    let found = find::<TcpStream>(io).or_else(|| find::<AnyStream>(io));
    #[cfg(unix)]
    let found = found.or_else(|| find::<UnixStream>(io));
    match found {
        Some((stream, unread)) => unless_sent(unread, poll_raw(stream, cx)),
        None => Poll::Pending,
    }
}

/// The same for the stream of a [`Socket`].
pub(crate) fn poll_raw(stream: &dyn Any, cx: &mut Context<'_>) -> Poll<io::Error> {
    if let Some(stream) = stream.downcast_ref() {
        return poll_tcp(stream, cx);
    }
    #[cfg(unix)]
    if let Some(stream) = stream.downcast_ref() {
        return poll_unix(stream, cx);
    }
    match stream.downcast_ref() {
        Some(AnyStream::Tcp(stream)) => poll_tcp(stream, cx),
        #[cfg(unix)]
        Some(AnyStream::Unix(stream)) => poll_unix(stream, cx),
        Some(AnyStream::Memory(_)) | None => Poll::Pending,
    }
}

/// A client that has sent something may have half-closed and wait for a response, so only a reset counts.
pub(crate) fn unless_sent(sent: bool, polled: Poll<io::Error>) -> Poll<io::Error> {
    match polled {
        Poll::Ready(left) if sent && left.kind() == io::ErrorKind::UnexpectedEof => Poll::Pending,
        polled => polled,
    }
}

/// The stream of type `Io` in `io`, and whether bytes read from it are still to be delivered.
///
/// A PROXY header, a peek, a prelude and a second peek each put one prefix in front of the socket.
fn find<Io: Transport>(io: &dyn Any) -> Option<(&dyn Any, bool)> {
    let (io, fourth) = behind_prefix::<PrefixedIo<PrefixedIo<PrefixedIo<Socket<Io>>>>>(io);
    let (io, third) = behind_prefix::<PrefixedIo<PrefixedIo<Socket<Io>>>>(io);
    let (io, second) = behind_prefix::<PrefixedIo<Socket<Io>>>(io);
    let (io, first) = behind_prefix::<Socket<Io>>(io);
    let socket = io.downcast_ref::<Socket<Io>>()?;
    Some((socket.get_ref(), first || second || third || fourth))
}

/// The stream inside of a `PrefixedIo<IO>`, and whether it has a prefix; otherwise `io` itself.
fn behind_prefix<IO: 'static>(io: &dyn Any) -> (&dyn Any, bool) {
    match io.downcast_ref::<PrefixedIo<IO>>() {
        Some(prefixed) => (prefixed.get_ref(), !prefixed.prefix().is_empty()),
        None => (io, false),
    }
}

/// The same for a connection under TLS; `None` for other types.
#[cfg(feature = "tls")]
fn poll_tls(io: &mut dyn Any, cx: &mut Context<'_>) -> Option<Poll<io::Error>> {
    let polled = poll_tls_over::<TcpStream>(io, cx);
    #[cfg(unix)]
    let polled = polled.or_else(|| poll_tls_over::<UnixStream>(io, cx));
    polled.or_else(|| poll_tls_over::<AnyStream>(io, cx))
}

#[cfg(feature = "tls")]
fn poll_tls_over<Io: Transport>(io: &mut dyn Any, cx: &mut Context<'_>) -> Option<Poll<io::Error>> {
    if let Some(tls) = io.downcast_mut::<TlsIo<PrefixedIo<Socket<Io>>>>() {
        return Some(poll_plaintext(tls.poll_fill_buf(cx)));
    }
    if let Some(tls) = io.downcast_mut::<TlsIo<PrefixedIo<PrefixedIo<Socket<Io>>>>>() {
        return Some(poll_plaintext(tls.poll_fill_buf(cx)));
    }
    if let Some(tls) = io.downcast_mut::<TlsIo<PrefixedIo<PrefixedIo<PrefixedIo<Socket<Io>>>>>>() {
        return Some(poll_plaintext(tls.poll_fill_buf(cx)));
    }
    if let Some(tls) =
        io.downcast_mut::<TlsIo<PrefixedIo<PrefixedIo<PrefixedIo<PrefixedIo<Socket<Io>>>>>>>()
    {
        return Some(poll_plaintext(tls.poll_fill_buf(cx)));
    }
    let tls = io.downcast_mut::<TlsIo<Socket<Io>>>()?;
    Some(poll_plaintext(tls.poll_fill_buf(cx)))
}

/// The same behind `TlsOrPlainLayer`, which is directly over the socket or behind a PROXY header.
#[cfg(feature = "tls")]
fn poll_tls_or_plain(io: &mut dyn Any, cx: &mut Context<'_>) -> Option<Poll<io::Error>> {
    let polled = poll_either_over::<TcpStream>(io, cx);
    #[cfg(unix)]
    let polled = polled.or_else(|| poll_either_over::<UnixStream>(io, cx));
    polled.or_else(|| poll_either_over::<AnyStream>(io, cx))
}

#[cfg(feature = "tls")]
fn poll_either_over<Io: Transport>(
    io: &mut dyn Any,
    cx: &mut Context<'_>,
) -> Option<Poll<io::Error>> {
    let polled = poll_either::<Socket<Io>>(io, cx);
    polled.or_else(|| poll_either::<PrefixedIo<Socket<Io>>>(io, cx))
}

#[cfg(feature = "tls")]
fn poll_either<IO: 'static>(io: &mut dyn Any, cx: &mut Context<'_>) -> Option<Poll<io::Error>> {
    Some(match io.downcast_mut::<TlsOrPlainIo<IO>>()? {
        EitherIo::Left(tls) => poll_departure(tls, cx),
        EitherIo::Right(plain) => poll_departure(plain, cx),
    })
}

/// The same for what a TLS session returns when it reads ahead.
#[cfg(feature = "tls")]
pub(crate) fn poll_plaintext(plaintext: Poll<io::Result<&[u8]>>) -> Poll<io::Error> {
    match plaintext {
        Poll::Ready(Ok([])) => Poll::Ready(disconnected()),
        Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        Poll::Ready(Err(reason)) => Poll::Ready(reason),
    }
}

/// One body for both types of streams, which share these methods but lack a common trait.
macro_rules! poll_stream {
    ($stream:expr, $cx:expr) => {{
        // The system is asked first, because tokio's readiness may lag behind.
        let peek =
            || disconnect_reason(|| SockRef::from($stream).peek(&mut [MaybeUninit::uninit()]));
        let mut peeked = peek();
        loop {
            match peeked {
                Ok(Some(reason)) => return Poll::Ready(reason),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return Poll::Pending,
            }
            match $stream.poll_read_ready($cx) {
                Poll::Ready(Ok(())) => peeked = $stream.try_io(Interest::READABLE, peek),
                Poll::Ready(Err(error)) => return Poll::Ready(error),
                Poll::Pending => return Poll::Pending,
            }
        }
    }};
}

fn poll_tcp(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Error> {
    poll_stream!(stream, cx)
}

#[cfg(unix)]
fn poll_unix(stream: &UnixStream, cx: &mut Context<'_>) -> Poll<io::Error> {
    poll_stream!(stream, cx)
}

/// The reason if the client has disconnected, or `WouldBlock` if it is silent.
fn disconnect_reason(mut peek: impl FnMut() -> io::Result<usize>) -> io::Result<Option<io::Error>> {
    loop {
        return match peek() {
            Ok(0) => Ok(Some(disconnected())),
            Ok(_) => Ok(None),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Err(error),
                // A signal says nothing about the client. `WouldBlock` would make tokio wait for more input.
                io::ErrorKind::Interrupted => continue,
                _ => Ok(Some(error)),
            },
        };
    }
}

fn disconnected() -> io::Error {
    let text = "the client disconnected while its connection waited";
    io::Error::new(io::ErrorKind::UnexpectedEof, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        io::{BoxIo, EitherIo, Passthrough},
        observe::{ByteCounter, CountedIo},
        stream::write_buffer::WriteBufferIo,
        timeout::{HalfClosedTimeoutIo, TimeoutIo},
    };
    use std::future::poll_fn;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_test::{assert_pending, task};

    async fn over_tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        (accepted.unwrap().0, client.unwrap())
    }

    /// Waits until `end` has been detected; it has not happened when the wait begins.
    async fn noticed<IO: 'static>(io: &mut IO, end: impl FnOnce()) -> io::ErrorKind {
        let mut left = task::spawn(poll_fn(|cx| poll_departure(io, cx)));
        for _ in 0..3 {
            assert_pending!(left.poll());
        }
        end();
        left.await.kind()
    }

    #[tokio::test]
    async fn an_end_and_a_reset_wake_one_that_waits() {
        let (ours, theirs) = over_tcp().await;
        let mut connection = Connection::accept(ours);
        let kind = noticed(connection.get_mut(), || drop(theirs)).await;
        assert_eq!(kind, io::ErrorKind::UnexpectedEof);

        let (ours, theirs) = over_tcp().await;
        let mut connection = Connection::accept(AnyStream::from(ours));
        let reset = || {
            theirs.set_zero_linger().unwrap();
            drop(theirs);
        };
        let kind = noticed(connection.get_mut(), reset).await;
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn what_the_system_knows_is_noticed_at_once() {
        let (ours, theirs) = over_tcp().await;
        let mut connection = Connection::accept(ours);
        theirs.set_zero_linger().unwrap();
        drop(theirs);
        let mut left = task::spawn(poll_fn(|cx| poll_departure(connection.get_mut(), cx)));
        assert!(left.poll().is_ready());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_end_of_a_unix_socket_wakes_one_that_waits() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::accept(ours);
        noticed(connection.get_mut(), || drop(theirs)).await;
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::accept(AnyStream::from(ours));
        noticed(connection.get_mut(), || drop(theirs)).await;
    }

    #[tokio::test]
    async fn a_client_that_has_sent_something_is_there_and_its_bytes_stay() {
        let (ours, mut theirs) = over_tcp().await;
        let mut connection = Connection::accept(ours);
        theirs.write_all(b"hello").await.unwrap();
        theirs.shutdown().await.unwrap();
        // The bytes have arrived once the socket is readable.
        connection.get_ref().get_ref().readable().await.unwrap();
        let mut left = task::spawn(poll_fn(|cx| poll_departure(connection.get_mut(), cx)));
        for _ in 0..3 {
            assert_pending!(left.poll());
        }
        drop(left);
        let mut received = String::new();
        connection.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "hello");
    }

    #[tokio::test]
    async fn the_socket_is_found_behind_prefixes() {
        let (ours, theirs) = over_tcp().await;
        let mut connection = Connection::accept(ours).map_io(PrefixedIo::new);
        noticed(connection.get_mut(), || drop(theirs)).await;

        let (ours, theirs) = over_tcp().await;
        let connection = Connection::accept(ours).map_io(PrefixedIo::new);
        let mut connection = connection.map_io(PrefixedIo::new);
        noticed(connection.get_mut(), || drop(theirs)).await;

        let (ours, theirs) = over_tcp().await;
        let connection = Connection::accept(ours).map_io(PrefixedIo::new);
        let connection = connection.map_io(PrefixedIo::new);
        let mut connection = connection.map_io(PrefixedIo::new);
        noticed(connection.get_mut(), || drop(theirs)).await;

        let (ours, theirs) = over_tcp().await;
        let connection = Connection::accept(ours).map_io(PrefixedIo::new);
        let connection = connection.map_io(PrefixedIo::new);
        let connection = connection.map_io(PrefixedIo::new);
        let mut connection = connection.map_io(PrefixedIo::new);
        noticed(connection.get_mut(), || drop(theirs)).await;
    }

    #[tokio::test]
    async fn behind_a_prefix_with_unread_bytes_only_a_reset_counts() {
        let (ours, mut theirs) = over_tcp().await;
        let prefixed = |io| PrefixedIo::with_prefix(io, b"hello".to_vec());
        let mut connection = Connection::accept(ours).map_io(prefixed);
        theirs.shutdown().await.unwrap();
        let mut left = task::spawn(poll_fn(|cx| poll_departure(connection.get_mut(), cx)));
        for _ in 0..3 {
            assert_pending!(left.poll());
            tokio::task::yield_now().await;
        }
        drop(left);

        let (ours, theirs) = over_tcp().await;
        let mut connection = Connection::accept(ours).map_io(prefixed);
        let reset = || {
            theirs.set_zero_linger().unwrap();
            drop(theirs);
        };
        let kind = noticed(connection.get_mut(), reset).await;
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_departure_passes_through_wrappers_once_their_prefix_was_read() {
        let (ours, mut theirs) = over_tcp().await;
        let mut connection = Connection::accept(ours)
            .map_io(|io| CountedIo::new(io, ByteCounter::new()))
            .map_io(|io| HalfClosedTimeoutIo::new(TimeoutIo::new(io)))
            .map_io(|io| WriteBufferIo::new(io, 64))
            .map_io(EitherIo::<_, BoxIo>::Left)
            .map_io(|io| PrefixedIo::with_prefix(Box::new(io), b"hello".to_vec()));
        let socket = connection.info().clone();
        theirs.shutdown().await.unwrap();
        for _ in 0..3 {
            let mut left = task::spawn(poll_fn(|cx| connection.poll_departure(cx)));
            assert_pending!(left.poll());
            tokio::task::yield_now().await;
        }
        connection.read_exact(&mut [0; 5]).await.unwrap();
        let left = poll_fn(|cx| connection.poll_departure(cx)).await;
        assert_eq!(left.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(socket.bytes_read(), 0);
    }

    #[tokio::test]
    async fn of_a_peer_that_has_sent_something_a_socket_only_reports_a_reset() {
        let (ours, mut theirs) = over_tcp().await;
        let mut connection = Connection::accept(ours);
        theirs.write_all(b"hello").await.unwrap();
        theirs.shutdown().await.unwrap();
        connection.read_to_end(&mut Vec::new()).await.unwrap();
        let mut left = task::spawn(poll_fn(|cx| connection.poll_departure(cx)));
        assert_pending!(left.poll());
        drop(left);

        let (ours, mut theirs) = over_tcp().await;
        let mut connection = Connection::accept(ours);
        theirs.write_all(b"hello").await.unwrap();
        connection.read_exact(&mut [0; 5]).await.unwrap();
        theirs.set_zero_linger().unwrap();
        drop(theirs);
        let left = poll_fn(|cx| connection.poll_departure(cx)).await;
        assert_eq!(left.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_look_that_a_signal_interrupts_is_repeated() {
        let looks = |then: fn() -> io::Result<usize>| {
            let mut interrupted = [io::ErrorKind::Interrupted; 2].into_iter();
            disconnect_reason(move || match interrupted.next() {
                Some(kind) => Err(kind.into()),
                None => then(),
            })
        };
        let reason = looks(|| Ok(0)).unwrap().map(|reason| reason.kind());
        assert_eq!(reason, Some(io::ErrorKind::UnexpectedEof));
        assert!(looks(|| Ok(1)).unwrap().is_none());
        let silent = looks(|| Err(io::ErrorKind::WouldBlock.into()));
        assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn of_other_streams_nothing_is_known() {
        let (ours, theirs) = tokio::io::duplex(8);
        let mut connection = Connection::accept(ours);
        drop(theirs);
        let mut left = task::spawn(poll_fn(|cx| poll_departure(connection.get_mut(), cx)));
        assert_pending!(left.poll());
    }
}
