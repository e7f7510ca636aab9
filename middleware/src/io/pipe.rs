//! A pipe of the kernel, through which bytes move from socket to socket without being copied.

#[cfg(not(any(target_os = "android", target_os = "linux")))]
pub use self::elsewhere::Pipe;
#[cfg(any(target_os = "android", target_os = "linux"))]
pub use self::linux::Pipe;

#[cfg(any(target_os = "android", target_os = "linux"))]
mod linux {
    use crate::connection::KernelSocket;
    use rustix::{
        fd::{AsFd, OwnedFd},
        io::Errno,
        pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice},
    };
    use socket2::SockRef;
    use std::{
        io,
        mem::MaybeUninit,
        task::{Context, Poll, ready},
    };
    use tokio::io::Interest;

    /// A pipe of the kernel (`pipe(7)`), which takes two file descriptors.
    ///
    /// [`Passthrough`](crate::io::Passthrough) moves bytes into it and out of it.
    #[derive(Debug)]
    pub struct Pipe {
        read: OwnedFd,
        write: OwnedFd,
        // The kernel's sizes have 31 bits.
        len: u32,
        capacity: u32,
        limit: u32,
    }

    impl Pipe {
        /// Creates a pipe for `capacity` bytes, rounded up by the kernel.
        ///
        /// # Errors
        ///
        /// The kernel's error. It limits the memory of all pipes of a user (`pipe-user-pages-soft`), the size of
        /// a single one (`pipe-max-size`), and the number of file descriptors. On systems other than Linux it is
        /// [`Unsupported`](io::ErrorKind::Unsupported).
        pub fn new(capacity: usize) -> io::Result<Self> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            let capacity = fcntl_setpipe_size(&write, capacity)? as u32;
            Ok(Self {
                read,
                write,
                len: 0,
                capacity,
                limit: capacity,
            })
        }

        /// The number of bytes in the pipe.
        pub const fn len(&self) -> usize {
            self.len as usize
        }

        /// Whether the pipe contains no bytes.
        pub const fn is_empty(&self) -> bool {
            self.len == 0
        }

        /// The number of bytes that fit into the pipe. Small packets fill it earlier, as each occupies a page.
        pub const fn capacity(&self) -> usize {
            self.capacity as usize
        }

        /// Limits the bytes that one move takes into the pipe; by default, and at most, its capacity does.
        ///
        /// A limit of zero counts as one, because no bytes would mean the end of the input.
        pub const fn set_limit(&mut self, bytes: usize) {
            self.limit = match bytes {
                0 => 1,
                _ if bytes < self.capacity() => bytes as u32,
                _ => self.capacity,
            };
        }

        /// Only into an empty pipe, so that `WouldBlock` means that the socket has no input.
        fn fill(&mut self, socket: impl AsFd) -> io::Result<usize> {
            // The second attempt is for input that arrives after the first one.
            for _ in 0..2 {
                match splice(&socket, None, &self.write, None, self.limit as usize, FLAGS) {
                    // Before urgent data of TCP, the kernel also says so although more input follows.
                    Ok(0) | Err(Errno::AGAIN) => {
                        let mut byte = [MaybeUninit::uninit()];
                        if SockRef::from(&socket).peek(&mut byte)? == 0 {
                            return Ok(0);
                        }
                    }
                    moved => {
                        let moved = moved?;
                        self.len += moved as u32;
                        return Ok(moved);
                    }
                }
            }
            Err(io::ErrorKind::InvalidInput.into())
        }

        fn empty(&mut self, socket: impl AsFd) -> io::Result<usize> {
            let moved = splice(&self.read, None, socket, None, self.len(), FLAGS)?;
            self.len -= moved as u32;
            Ok(moved)
        }
    }

    const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

    /// One body for both types of streams, which share these methods but lack a common trait.
    macro_rules! poll_socket {
        ($socket:expr, $cx:expr, $ready:ident, $interest:expr, $stream:ident => $move:expr) => {
            match $socket {
                KernelSocket::Tcp($stream) => poll_socket!(@ $stream, $cx, $ready, $interest, $move),
                KernelSocket::Unix($stream) => poll_socket!(@ $stream, $cx, $ready, $interest, $move),
            }
        };
        (@ $stream:ident, $cx:expr, $ready:ident, $interest:expr, $move:expr) => {
            loop {
                ready!($stream.$ready($cx))?;
                match $stream.try_io($interest, || $move) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    moved => return Poll::Ready(moved),
                }
            }
        };
    }

    impl KernelSocket<'_> {
        pub(crate) fn poll_read_to_pipe(
            self,
            cx: &mut Context<'_>,
            pipe: &mut Pipe,
        ) -> Poll<io::Result<usize>> {
            assert!(pipe.is_empty(), "bytes are moved into an empty pipe only");
            poll_socket!(self, cx, poll_read_ready, Interest::READABLE, socket => pipe.fill(socket))
        }

        pub(crate) fn poll_write_from_pipe(
            self,
            cx: &mut Context<'_>,
            pipe: &mut Pipe,
        ) -> Poll<io::Result<usize>> {
            if pipe.is_empty() {
                return Poll::Ready(Ok(0));
            }
            poll_socket!(self, cx, poll_write_ready, Interest::WRITABLE, socket => pipe.empty(socket))
        }
    }
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
mod elsewhere {
    use crate::connection::KernelSocket;
    use std::{
        io,
        task::{Context, Poll},
    };

    /// A pipe of the kernel, which exists on Linux only. Here no value of this type exists.
    #[derive(Debug)]
    #[non_exhaustive]
    pub enum Pipe {}

    impl Pipe {
        /// Always fails, because moving bytes through a pipe needs Linux.
        ///
        /// # Errors
        ///
        /// [`Unsupported`](io::ErrorKind::Unsupported).
        pub fn new(capacity: usize) -> io::Result<Self> {
            let _ = capacity;
            Err(io::ErrorKind::Unsupported.into())
        }

        /// The number of bytes in the pipe.
        pub const fn len(&self) -> usize {
            match *self {}
        }

        /// Whether the pipe contains no bytes.
        pub const fn is_empty(&self) -> bool {
            match *self {}
        }

        /// The number of bytes that fit into the pipe.
        pub const fn capacity(&self) -> usize {
            match *self {}
        }

        /// Limits the bytes that one move takes into the pipe.
        pub const fn set_limit(&mut self, bytes: usize) {
            let _ = bytes;
            match *self {}
        }
    }

    impl KernelSocket<'_> {
        pub(crate) fn poll_read_to_pipe(
            self,
            _: &mut Context<'_>,
            pipe: &mut Pipe,
        ) -> Poll<io::Result<usize>> {
            match *pipe {}
        }

        pub(crate) fn poll_write_from_pipe(
            self,
            _: &mut Context<'_>,
            pipe: &mut Pipe,
        ) -> Poll<io::Result<usize>> {
            match *pipe {}
        }
    }
}
