use super::*;
use crate::{Connection, connection::Socket, io::BoxIo};
use std::{
    collections::HashSet,
    io::{self, IoSlice},
    mem::discriminant,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[test]
fn a_box_is_transparent() {
    assert_transparent(BoxIo::new);
}

#[test]
fn a_connection_and_its_socket_are_transparent() {
    assert_transparent(Connection::accept);
    assert_transparent(|io| -> Socket<ScriptedIo> { Connection::accept(io).into_parts().0 });
}

#[test]
fn the_check_sees_no_difference_where_there_is_none() {
    assert_transparent(|io| io);
    assert_transparent(|io| Broken(io, Fault::None));
}

#[test]
#[should_panic(
    expected = "is_write_vectored: the bare stream returned Observed { result: Ready(Ok(1))"
)]
fn the_check_catches_who_denies_vectored_writes() {
    assert_transparent(|io| Broken(io, Fault::DeniesVectored));
}

#[test]
#[should_panic(expected = "the bare stream received [WriteVectored(")]
fn the_check_catches_who_writes_only_the_first_buffer() {
    assert_transparent(|io| Broken(io, Fault::WritesFirstBuffer));
}

#[test]
#[should_panic(expected = ", flush: the bare stream received [Flush], the wrapped one []")]
fn the_check_catches_who_swallows_a_flush() {
    assert_transparent(|io| Broken(io, Fault::SwallowsFlush));
}

#[test]
#[should_panic(expected = ", shutdown: the bare stream received [Shutdown], the wrapped one []")]
fn the_check_catches_who_swallows_a_shutdown() {
    assert_transparent(|io| Broken(io, Fault::SwallowsShutdown));
}

#[test]
#[should_panic(
    expected = ", shutdown: the bare stream received [Shutdown], the wrapped one [Flush, Shutdown]"
)]
fn the_check_catches_who_flushes_before_a_shutdown() {
    assert_transparent(|io| Broken(io, Fault::FlushesBeforeShutdown));
}

#[test]
#[should_panic(expected = "read of up to")]
fn the_check_catches_who_loses_a_byte_of_a_partial_read() {
    assert_transparent(|io| Broken(io, Fault::LosesByte));
}

#[test]
#[should_panic(expected = "read of up to")]
fn the_check_catches_who_forgets_what_the_buffer_held() {
    assert_transparent(|io| Broken(io, Fault::ClearsBuffer));
}

#[test]
#[should_panic(expected = "woken: true }, the wrapped one Observed { result: Pending")]
fn the_check_catches_who_loses_a_wake() {
    assert_transparent(|io| Broken(io, Fault::LosesWake));
}

#[test]
#[should_panic(expected = "seed 0, drop: the wrapped stream received [Flush]")]
fn the_check_catches_who_acts_on_drop() {
    assert_transparent(|io| Broken(io, Fault::FlushesOnDrop));
}

/// The first seeds must cover every kind of event, or the check would miss faults.
#[test]
fn scripts_have_every_kind_of_event() {
    let mut cx = Context::from_waker(Waker::noop());
    let mut seen = HashSet::new();
    for seed in 0..64 {
        let mut io = ScriptedIo::new(seed);
        seen.insert(if io.is_write_vectored() {
            "vectored"
        } else {
            "plain"
        });
        for _ in 0..64 {
            let mut room = [0; 8];
            let mut buf = ReadBuf::new(&mut room);
            let read = Pin::new(&mut io).poll_read(&mut cx, &mut buf);
            seen.insert(match (read, buf.filled().len()) {
                (Poll::Pending, _) => "waiting read",
                (Poll::Ready(Err(_)), _) => "failing read",
                (Poll::Ready(Ok(())), 0) => "end",
                (Poll::Ready(Ok(())), 8) => "full read",
                (Poll::Ready(Ok(())), _) => "partial read",
            });
            seen.insert(match Pin::new(&mut io).poll_write(&mut cx, b"12345678") {
                Poll::Pending => "waiting write",
                Poll::Ready(Err(_)) => "failing write",
                Poll::Ready(Ok(8)) => "full write",
                Poll::Ready(Ok(_)) => "partial write",
            });
        }
    }
    assert_eq!(seen.len(), 11, "{seen:?}");
}

#[test]
fn an_operation_waits_once_at_most_and_is_woken() {
    let mut io = ScriptedIo::new(1);
    let mut task = tokio_test::task::spawn(());
    let mut waits = 0;
    for _ in 0..1000 {
        while task
            .enter(|cx, _| Pin::new(&mut io).poll_flush(cx))
            .is_pending()
        {
            waits += 1;
            assert!(task.is_woken());
            assert!(
                task.enter(|cx, _| Pin::new(&mut io).poll_flush(cx))
                    .is_ready()
            );
        }
    }
    assert!((100..500).contains(&waits), "{waits}");
}

#[test]
fn the_record_is_kept_in_order_and_taken_once() {
    let (mut io, calls) = ScriptedIo::pair(3);
    let mut cx = Context::from_waker(Waker::noop());
    let _ = Pin::new(&mut io).poll_write(&mut cx, b"ab");
    let _ = Pin::new(&mut io).poll_write_vectored(&mut cx, &[IoSlice::new(b"c")]);
    let _ = Pin::new(&mut io).poll_shutdown(&mut cx);
    let expected = [
        Call::Write(b"ab".to_vec()),
        Call::WriteVectored(vec![b"c".to_vec()]),
        Call::Shutdown,
    ];
    assert_eq!(calls.take(), expected);
    assert!(calls.take().is_empty());
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    DeniesVectored,
    WritesFirstBuffer,
    SwallowsFlush,
    SwallowsShutdown,
    FlushesBeforeShutdown,
    LosesByte,
    ClearsBuffer,
    LosesWake,
    FlushesOnDrop,
}

struct Broken(ScriptedIo, Fault);

impl Broken {
    fn has(&self, fault: Fault) -> bool {
        discriminant(&self.1) == discriminant(&fault)
    }

    fn io(&mut self) -> Pin<&mut ScriptedIo> {
        Pin::new(&mut self.0)
    }
}

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has(Fault::ClearsBuffer) {
            buf.clear();
        }
        if self.has(Fault::LosesWake) {
            return self
                .io()
                .poll_read(&mut Context::from_waker(Waker::noop()), buf);
        }
        let before = buf.filled().len();
        let result = self.io().poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if self.has(Fault::LosesByte) && read > 1 && buf.remaining() > 0 {
            buf.set_filled(before + read - 1);
        }
        result
    }
}

impl AsyncWrite for Broken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has(Fault::SwallowsFlush) {
            return Poll::Ready(Ok(()));
        }
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has(Fault::SwallowsShutdown) {
            return Poll::Ready(Ok(()));
        }
        if self.has(Fault::FlushesBeforeShutdown) {
            let _ = self.io().poll_flush(cx);
        }
        self.io().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.has(Fault::WritesFirstBuffer) {
            return self
                .io()
                .poll_write(cx, bufs.first().map_or(&[], |buf| buf));
        }
        self.io().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        !self.has(Fault::DeniesVectored) && self.0.is_write_vectored()
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if self.has(Fault::FlushesOnDrop) {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = self.io().poll_flush(&mut cx);
        }
    }
}
