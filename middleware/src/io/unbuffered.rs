//! Takes a stream out of its buffer, for a change of protocols.

use crate::error::Refused;
use tokio::io::{AsyncRead, BufReader};

/// The reason of the [`Refused`] of [`unbuffered`], and of `PreludeLayer` for the same bytes.
pub(crate) const PIPELINED: &str = "bytes follow the request for TLS";

/// Returns the stream of `reader`, for a protocol that begins exactly behind the bytes that were read.
///
/// Call it before an upgrade in the middle of a conversation, such as
/// [`TlsLayer::accept`](crate::TlsLayer::accept) after STARTTLS. Bytes in the buffer arrived in plain text, where
/// anyone on the network could have added them, so they must neither reach the code behind the upgrade
/// (CVE-2011-0411) nor be dropped silently. Bytes that are still in the socket go into the handshake, which fails.
///
/// Other readers need the same check. `tokio_util`'s `Framed` shows its buffer as `read_buffer`.
///
/// # Errors
///
/// [`Refused`] by `starttls` if the buffer contains bytes. The stream is dropped.
///
/// # Example
///
/// ```
/// use portcullis_middleware::{BoxError, io::unbuffered};
/// use tokio::io::{AsyncBufReadExt, BufReader};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let mut reader = BufReader::new(&b"STARTTLS\r\n"[..]);
/// reader.read_line(&mut String::new()).await?;
/// let _stream = unbuffered(reader)?; // TLS begins here.
///
/// let mut reader = BufReader::new(&b"STARTTLS\r\nQUIT\r\n"[..]);
/// reader.read_line(&mut String::new()).await?;
/// assert!(unbuffered(reader).is_err());
/// # Ok(())
/// # }
/// ```
pub fn unbuffered<R: AsyncRead>(reader: BufReader<R>) -> Result<R, Refused> {
    match reader.buffer() {
        [] => Ok(reader.into_inner()),
        _ => Err(Refused::new("starttls", PIPELINED)),
    }
}
