//! A stream with nothing behind it.

use portcullis::middleware::connection::Transport;
use std::{
    hint::black_box,
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that always has a message after one wait, and accepts every write.
///
/// Each read waits once, like on a socket whose peer answers. It wakes its task on its own, and the next poll
/// has the message. The stream does not end, allocate or make system calls.
///
/// Reads and writes are out of line, as a socket's are. Else they would cost less where the compiler sees
/// through what is around them, and a box would be charged with the difference.
#[derive(Debug)]
pub(crate) struct Mock {
    waited: bool,
}

impl Mock {
    pub(crate) const fn new() -> Self {
        Self { waited: false }
    }
}

impl Transport for Mock {}

impl AsyncRead for Mock {
    #[inline(never)]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.waited = !self.waited;
        if self.waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Hides the contents from the compiler.
        let message = black_box(&[7; MESSAGE]);
        buf.put_slice(&message[..MESSAGE.min(buf.remaining())]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Mock {
    #[inline(never)]
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // What is written has to be there.
        Poll::Ready(Ok(black_box(buf).len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Bytes of a message, as in the small echoes.
pub(crate) const MESSAGE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        task::{Wake, Waker},
    };

    #[derive(Default)]
    struct Wakes(AtomicU32);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_read_waits_once_and_wakes_its_task_once() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let mut mock = Mock::new();
        for read in 1..=3 {
            let mut bytes = [0; 100];
            let mut buffer = ReadBuf::new(&mut bytes);
            let waits = Pin::new(&mut mock).poll_read(&mut cx, &mut buffer);
            assert!(waits.is_pending() && buffer.filled().is_empty());
            assert_eq!(wakes.0.load(Ordering::Relaxed), read);
            let comes = Pin::new(&mut mock).poll_read(&mut cx, &mut buffer);
            assert!(comes.is_ready());
            assert_eq!(buffer.filled(), [7; MESSAGE]);
            assert_eq!(wakes.0.load(Ordering::Relaxed), read);
        }
    }

    #[test]
    fn a_small_buffer_gets_what_it_can_hold() {
        let mut cx = Context::from_waker(Waker::noop());
        let mut mock = Mock { waited: true };
        let mut bytes = [0; 5];
        let mut buffer = ReadBuf::new(&mut bytes);
        assert!(
            Pin::new(&mut mock)
                .poll_read(&mut cx, &mut buffer)
                .is_ready()
        );
        assert_eq!(buffer.filled(), [7; 5]);
    }

    #[test]
    fn a_write_is_taken_whole_and_at_once() {
        let mut cx = Context::from_waker(Waker::noop());
        let written = Pin::new(&mut Mock::new()).poll_write(&mut cx, &[1; 1000]);
        assert!(matches!(written, Poll::Ready(Ok(1000))));
    }
}
