//! Transcodes between UTF-8 in the handler and another charset on the wire.
//!
//! The handler reads and writes UTF-8. The charsets and their labels are those of the
//! [Encoding Standard](https://encoding.spec.whatwg.org/), converted by [`encoding_rs`]. In this standard,
//! `iso-8859-1` and `us-ascii` are other names of windows-1252. The constructors of the layer reject UTF-16, which
//! the standard cannot encode, and its "replacement" encoding.
//!
//! # Position in the stack
//!
//! Inside of TLS and of every layer that works with bytes, right around the handler.
//!
//! # Errors and outcomes
//!
//! Text cannot be converted if its bytes are malformed, if the charset lacks a character, or if the stream ends
//! within a character. Such text fails with a [`TranscodeError`] inside an [`io::Error`](std::io::Error) of kind
//! [`InvalidData`](std::io::ErrorKind::InvalidData). With [`BadText::Replace`], it is replaced as the standard
//! specifies, by U+FFFD on reads and by U+FFFD or `?` on writes.
//!
//! * A read first returns the text in front of the malformed bytes, then the error. The next read continues
//!   behind them. After the write side is shut down, only one error is returned and further malformed bytes are
//!   replaced. Hence [`Connection::close`](crate::Connection::close) can read the remaining input, and the peer
//!   receives the end of the handler's output.
//! * A write accepts the text in front of the unmappable character. The next write fails and accepts nothing. A
//!   character that fails is not sent, even partially, and a part of it from an earlier write is discarded.
//! * A shutdown within a character fails once; the next one shuts down.
//!
//! # Cancellation and drop
//!
//! Written text is sent immediately, as far as the stream accepts it. The rest, 8 KiB at most, is buffered until
//! the next write, flush, shutdown or pending read. Dropping the connection loses it, so flush or
//! [`close`](crate::Connection::close) at the end.
//!
//! # Limitations
//!
//! Charsets are not detected, and a byte order mark is an ordinary character (U+FEFF). In ISO-2022-JP, which is
//! stateful, only the shutdown returns to ASCII, because the standard forbids two changes of state in a row.
//!
//! # Performance
//!
//! Each byte is converted once, from the stack into the reader's buffer or from the writer's buffer into the
//! output buffer. The output buffer of 8 KiB is allocated on the first write and released when a read is pending.
//! A read requests a third of its capacity from the stream, at most 8 KiB, because characters may grow.
//!
//! # Example
//! ```
//! use portcullis_middleware::{
//!     BoxError, Connection, peer_addr::PeerAddrLayer, stream::TranscodeLayer,
//! };
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tower::{Service, ServiceBuilder};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let mut stack = ServiceBuilder::new()
//!     .layer(PeerAddrLayer::new())
//!     .layer(TranscodeLayer::for_label("iso-8859-1")?)
//!     .service_fn(|mut connection: Connection<_>| async move {
//!         let mut name = String::new();
//!         connection.read_to_string(&mut name).await?;
//!         let greeting = format!("¡Olé, {name}!");
//!         connection.write_all(greeting.as_bytes()).await?;
//!         connection.close().await?;
//!         Ok::<_, BoxError>(())
//!     });
//!
//! let (ours, mut theirs) = tokio::io::duplex(64);
//! theirs.write_all(b"Jos\xe9").await?;
//! theirs.shutdown().await?;
//! stack.call(ours).await?;
//!
//! let mut received = Vec::new();
//! theirs.read_to_end(&mut received).await?;
//! assert_eq!(received, b"\xa1Ol\xe9, Jos\xe9!");
//! # Ok(())
//! # }
//! ```

mod decode;
mod encode;
mod error;
mod io;
mod layer;
#[cfg(test)]
mod tests;

pub use self::{
    error::{Direction, TextProblem, TranscodeError, UnsupportedCharset},
    io::TranscodeIo,
    layer::{BadText, Transcode, TranscodeLayer},
};
pub use encoding_rs;
