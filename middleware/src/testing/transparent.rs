//! Compares a wrapper with its inner stream.

use super::{ScriptedIo, random::Random, woken::Woken};
use std::{
    fmt, io,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Checks that the stream made by `wrap` behaves like its inner stream.
///
/// A bare [`ScriptedIo`] and a wrapped one perform the same reads, writes, vectored writes, flushes and
/// shutdowns, 64 for each of 256 seeds. Pending operations are sometimes repeated and sometimes dropped. Both
/// must return the same results (bytes, counts, pending, kinds of errors), pass the same calls on, also on
/// drop, and wake waiting tasks. Spurious wakes are allowed.
///
/// The operations are polled by hand, one after the other. Run the check inside of a runtime if the wrapper
/// needs one, for timers.
///
/// # Panics
///
/// Panics at the first difference and reports the seed, the operation and both results.
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
        let mut operation = TestOperation::any(&mut random);
        for number in 1..=OPERATIONS {
            let at = format!("seed {seed}, operation {number}, {operation}");
            let expected = operation.poll(bare.as_mut());
            let answer = operation.poll(wrapped.as_mut());
            let (expected_calls, calls) = (bare_calls.take(), calls.take());
            assert!(
                calls == expected_calls,
                "{at}: the bare stream received {expected_calls:?}, the wrapped one {calls:?}"
            );
            assert!(
                answer.is_like(&expected),
                "{at}: the bare stream returned {expected:?}, the wrapped one {answer:?}"
            );
            if expected.result.is_ready() || random.one_in(4) {
                operation = TestOperation::any(&mut random);
            }
        }
        drop(wrapped);
        let calls = calls.take();
        assert!(
            calls.is_empty(),
            "seed {seed}, drop: the wrapped stream received {calls:?}"
        );
    }
}

/// One operation on both streams.
#[derive(Debug)]
enum TestOperation {
    /// A read into a buffer that holds these bytes and has this free capacity.
    Read(Vec<u8>, usize),
    Write(Vec<u8>),
    WriteVectored(Vec<Vec<u8>>),
    IsWriteVectored,
    Flush,
    Shutdown,
}

impl TestOperation {
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

    fn poll<IO: AsyncRead + AsyncWrite>(&self, io: Pin<&mut IO>) -> Observed {
        let woken = Woken::default();
        let waker = woken.waker();
        let mut cx = Context::from_waker(&waker);
        let mut bytes = Vec::new();
        let result = match self {
            Self::Read(held, capacity) => {
                bytes = vec![0; held.len() + capacity];
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
        Observed {
            result: result.map_err(|error| error.kind()),
            bytes,
            woken: woken.is_woken(),
        }
    }
}

impl fmt::Display for TestOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(_, capacity) => write!(f, "read of up to {capacity} bytes"),
            Self::Write(bytes) => write!(f, "write of {} bytes", bytes.len()),
            Self::WriteVectored(buffers) => write!(f, "write of {} buffers", buffers.len()),
            Self::IsWriteVectored => f.write_str("is_write_vectored"),
            Self::Flush => f.write_str("flush"),
            Self::Shutdown => f.write_str("shutdown"),
        }
    }
}

/// Result of an operation.
#[derive(Debug)]
struct Observed {
    /// Bytes written; reads return `bytes`.
    result: Poll<Result<usize, io::ErrorKind>>,
    /// The whole buffer of a read, including what it held before.
    bytes: Vec<u8>,
    woken: bool,
}

impl Observed {
    /// Whether the results are equal, apart from spurious wakes.
    fn is_like(&self, expected: &Self) -> bool {
        self.result == expected.result
            && self.bytes == expected.bytes
            && (self.woken || !expected.woken)
    }
}

const SEEDS: u64 = 256;
const OPERATIONS: usize = 64;
const MOST_BYTES: usize = 48;
