//! A stream of one of two types.

use super::{Passthrough, forward_io, forward_passthrough};
use tokio::io::{AsyncRead, AsyncWrite};

/// One of two streams, chosen at run time, without an allocation.
///
/// Use it for a layer that wraps some connections and passes others through, such as optional TLS. Every call
/// is forwarded to the stream inside, vectored writes included.
///
/// ```
/// use portcullis_middleware::io::EitherIo;
/// use tokio::io::{AsyncWriteExt, BufStream, DuplexStream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// fn maybe_buffered(io: DuplexStream, buffered: bool) -> EitherIo<DuplexStream, BufStream<DuplexStream>> {
///     match buffered {
///         false => EitherIo::Left(io),
///         true => EitherIo::Right(BufStream::new(io)),
///     }
/// }
///
/// let (ours, theirs) = tokio::io::duplex(64);
/// let mut stream = maybe_buffered(ours, true);
/// stream.write_all(b"hello").await?;
/// stream.flush().await?;
/// # let mut output = [0; 5];
/// # tokio::io::AsyncReadExt::read_exact(&mut { theirs }, &mut output).await?;
/// # assert_eq!(&output, b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "one of two types")]
pub enum EitherIo<A, B> {
    /// A stream of the first type.
    Left(A),
    /// A stream of the second type.
    Right(B),
}

forward_io!(
    [A: AsyncRead + AsyncWrite + Unpin, B: AsyncRead + AsyncWrite + Unpin] EitherIo<A, B>,
    io => [Self::Left(io), Self::Right(io)]
);
forward_passthrough!(
    [A: Passthrough, B: Passthrough] EitherIo<A, B>,
    io => [Self::Left(io), Self::Right(io)]
);
