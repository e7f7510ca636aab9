//! Lets the handler speak UTF-8 where the wire speaks another charset.
//!
//! What the handler reads is valid UTF-8, made from the charset of the wire; what it writes is UTF-8
//! and leaves in that charset. The charsets and their labels are those of the
//! [Encoding Standard](https://encoding.spec.whatwg.org/), converted by [`encoding_rs`]. Mind that
//! its `iso-8859-1` and `us-ascii` are other names of windows-1252. UTF-16, which the standard does
//! not write, and its "replacement" are refused when the layer is made.
//!
//! Charsets are not detected, and a byte order mark is a character (U+FEFF) like any other.
//!
//! # Text that cannot be converted
//!
//! Bytes that mean nothing in the charset, a character that the charset does not have, UTF-8 of the
//! handler that is none, a stream that ends within a character: each is a [`TranscodeError`] inside
//! an [`io::Error`](std::io::Error) of kind [`InvalidData`](std::io::ErrorKind::InvalidData), unless
//! [`BadText::Replace`] was chosen. Then it is replaced as the standard says: U+FFFD on the way in,
//! U+FFFD or `?` on the way out.
//!
//! * A read gives the text in front of the bad bytes first, then the error, and goes on behind them
//!   if it is called again. Once the write side is shut down only one error is told, the rest is
//!   replaced: so [`Connection::close`](crate::Connection::close) can read out what the peer still
//!   sends, and the peer gets the handler's last words.
//! * A write takes the text in front of the bad character; the next one fails and takes nothing.
//!   Nothing of a bad character is sent. One that was begun by an earlier write is forgotten.
//! * A shutdown within a character fails once; the next one shuts down.
//!
//! # Its place
//!
//! Inside of TLS and of everything that works with bytes, right around the handler.
//!
//! What is written is sent at once, as far as the IO takes it. The rest, 8 KiB at most, stays in a
//! buffer until the next write, a flush, a shutdown, or a read that has to wait; a drop loses it. So
//! flush or [`close`](crate::Connection::close). In ISO-2022-JP, which has states, only the shutdown
//! returns to ASCII: between two characters the standard allows one change of state and not two.
//!
//! # Cost
//!
//! Each byte is converted once, from the stack into the reader's buffer and from the writer's into
//! the one that is sent. That one, an allocation of 8 KiB, comes with the first write and is given
//! back when a read has to wait. A read asks the IO for a third of the room that it has, at most
//! 8 KiB: the rest is for characters that grow.
//!
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
//! let mut said = Vec::new();
//! theirs.read_to_end(&mut said).await?;
//! assert_eq!(said, b"\xa1Ol\xe9, Jos\xe9!");
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
