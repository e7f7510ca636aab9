//! Compares a wrapper with what it wraps.

use super::{ScriptedIo, random::Random};
use std::{
    fmt, io,
    io::IoSlice,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Checks that the IO made by `wrap` behaves like the IO inside, whatever is asked of it.
///
/// A bare [`ScriptedIo`] and a wrapped one go through the same reads, writes, vectored writes,
/// flushes and shutdowns, 64 for each of 256 seeds; operations that wait are sometimes repeated and
/// sometimes given up. Both have to answer the same (bytes, counts, waiting, kinds of errors), the
/// same calls have to arrive inside, also on drop, and who waits has to be woken. A wake too many is
/// allowed.
///
/// The operations are polled by hand, one after the other. A wrapper that needs a runtime (timers)
/// is checked inside of one.
///
/// # Panics
///
/// At the first difference; the message names the seed, the operation and what both did.
///
/// ```
/// use portcullis_middleware::{Connection, testing::assert_transparent};
///
/// assert_transparent(|io| Connection::accept(io).box_io());
/// ```
#[track_caller]
pub fn assert_transparent<W: AsyncRead + AsyncWrite>(wrap: impl Fn(ScriptedIo) -> W) {
    for seed in 0..SEEDS {
        let (bare, bare_calls) = ScriptedIo::pair(seed);
        let (inside, calls) = ScriptedIo::pair(seed);
        let mut bare = Box::pin(bare);
        let mut wrapped = Box::pin(wrap(inside));
        let mut random = Random::new(!seed);
        let mut operation = Operation::any(&mut random);
        for number in 1..=OPERATIONS {
            let at = format!("seed {seed}, operation {number}, {operation}");
            let expected = operation.poll(bare.as_mut());
            let answer = operation.poll(wrapped.as_mut());
            let (expected_calls, calls) = (bare_calls.take(), calls.take());
            assert!(
                calls == expected_calls,
                "{at}: the bare IO received {expected_calls:?}, the wrapped one {calls:?}"
            );
            assert!(
                answer.is_like(&expected),
                "{at}: the bare IO answered {expected:?}, the wrapped one {answer:?}"
            );
            if expected.result.is_ready() || random.one_in(4) {
                operation = Operation::any(&mut random);
            }
        }
        drop(wrapped);
        let calls = calls.take();
        assert!(
            calls.is_empty(),
            "seed {seed}, drop: the wrapped IO received {calls:?}"
        );
    }
}

/// One thing to ask of both.
#[derive(Debug)]
enum Operation {
    /// A read into a buffer that holds these bytes already and has that much room.
    Read(Vec<u8>, usize),
    Write(Vec<u8>),
    WriteVectored(Vec<Vec<u8>>),
    IsWriteVectored,
    Flush,
    Shutdown,
}

impl Operation {
    fn any(random: &mut Random) -> Self {
        match random.below(32) {
            0..=11 => Self::Read(random.bytes(4), random.below(MOST_BYTES + 1)),
            12..=19 => Self::Write(random.bytes(MOST_BYTES)),
            20..=25 => {
                let buffers = random.below(5);
                Self::WriteVectored((0..buffers).map(|_| random.bytes(MOST_BYTES)).collect())
            }
            26..=27 => Self::IsWriteVectored,
            28..=30 => Self::Flush,
            _ => Self::Shutdown,
        }
    }

    fn poll<IO: AsyncRead + AsyncWrite>(&self, io: Pin<&mut IO>) -> Answer {
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        let mut cx = Context::from_waker(&waker);
        let mut bytes = Vec::new();
        let result = match self {
            Self::Read(held, room) => {
                bytes = vec![0; held.len() + room];
                let mut buf = ReadBuf::new(&mut bytes);
                buf.put_slice(held);
                let result = io.poll_read(&mut cx, &mut buf);
                let filled = buf.filled().len();
                bytes.truncate(filled);
                result.map_ok(|()| 0)
            }
            Self::Write(bytes) => io.poll_write(&mut cx, bytes),
            Self::WriteVectored(buffers) => {
                let slices: Vec<_> = buffers.iter().map(|bytes| IoSlice::new(bytes)).collect();
                io.poll_write_vectored(&mut cx, &slices)
            }
            Self::IsWriteVectored => Poll::Ready(Ok(io.is_write_vectored().into())),
            Self::Flush => io.poll_flush(&mut cx).map_ok(|()| 0),
            Self::Shutdown => io.poll_shutdown(&mut cx).map_ok(|()| 0),
        };
        Answer {
            result: result.map_err(|error| error.kind()),
            bytes,
            woken: flag.0.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(_, room) => write!(f, "read of up to {room} bytes"),
            Self::Write(bytes) => write!(f, "write of {} bytes", bytes.len()),
            Self::WriteVectored(buffers) => write!(f, "write of {} buffers", buffers.len()),
            Self::IsWriteVectored => f.write_str("is_write_vectored"),
            Self::Flush => f.write_str("flush"),
            Self::Shutdown => f.write_str("shutdown"),
        }
    }
}

/// What came of an operation.
#[derive(Debug)]
struct Answer {
    /// Bytes written; for a read see `bytes`.
    result: Poll<Result<usize, io::ErrorKind>>,
    /// All that is in the buffer of a read, what it held before included.
    bytes: Vec<u8>,
    woken: bool,
}

impl Answer {
    /// A wake too many is allowed, one too few is not.
    fn is_like(&self, expected: &Self) -> bool {
        self.result == expected.result
            && self.bytes == expected.bytes
            && (self.woken || !expected.woken)
    }
}

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const SEEDS: u64 = 256;
const OPERATIONS: usize = 64;
const MOST_BYTES: usize = 48;
