//! One request and its answer.

use std::{io, sync::Arc};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The request of a client, and the expected answer.
#[derive(Clone, Debug)]
pub enum Exchange {
    /// The same bytes.
    Echo(Arc<[u8]>),
    /// The greeting, as an HTTP/1.1 response.
    Hello,
}

impl Exchange {
    /// An echo of so many bytes.
    pub fn echo(size: usize) -> Self {
        // The period is no multiple of a usual buffer size.
        Self::Echo((0..size).map(|i| (i % 251) as u8).collect())
    }

    /// The bytes to send.
    pub fn request(&self) -> &[u8] {
        match self {
            Self::Echo(message) => message,
            Self::Hello => b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        }
    }

    /// Sends the request and checks the answer. `buffer` can be reused for the next exchange.
    pub async fn run<Io>(&self, io: &mut Io, buffer: &mut Vec<u8>) -> io::Result<()>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        self.send(io).await?;
        self.read_answer(io, buffer).await
    }

    /// The first half of [`run`](Self::run).
    pub async fn send(&self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        io.write_all(self.request()).await?;
        io.flush().await
    }

    /// The second half of [`run`](Self::run).
    pub async fn read_answer<Io>(&self, io: &mut Io, buffer: &mut Vec<u8>) -> io::Result<()>
    where
        Io: AsyncRead + Unpin,
    {
        buffer.clear();
        // Through one more reference, so that this code is separate from that of a server in the same program.
        // The compiler would not inline shared code, and an echo would cost the server 60 instructions more.
        let mut io = io;
        while self.missing(buffer)? {
            if AsyncReadExt::read_buf(&mut io, buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Whether the answer is incomplete.
    pub fn missing(&self, answer: &[u8]) -> io::Result<bool> {
        match self {
            Self::Echo(message) if answer.len() < message.len() => Ok(true),
            Self::Echo(message) if answer == &**message => Ok(false),
            Self::Echo(_) => Err(io::Error::other("the echo is not what was sent")),
            Self::Hello => is_incomplete(answer),
        }
    }
}

/// Whether an HTTP response is incomplete; an error if it does not contain the greeting.
fn is_incomplete(answer: &[u8]) -> io::Result<bool> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(true);
    };
    let body = &answer[head + 4..];
    if body.len() < HELLO.len() {
        return Ok(true);
    }
    if answer.starts_with(b"HTTP/1.1 200") && body == HELLO.as_bytes() {
        return Ok(false);
    }
    Err(io::Error::other("this is not the greeting"))
}

/// The answer of every HTTP server, as `text/plain; charset=utf-8`.
pub const HELLO: &str = "Hello, world!";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_has_to_be_the_same() {
        let echo = Exchange::echo(3);
        assert!(echo.missing(&[0, 1]).unwrap());
        assert!(!echo.missing(&[0, 1, 2]).unwrap());
        assert!(echo.missing(&[0, 1, 3]).is_err());
        assert!(echo.missing(&[0, 1, 2, 0]).is_err());
    }

    #[test]
    fn a_response_has_to_be_whole_and_the_greeting() {
        let hello = Exchange::Hello;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, world!";
        for end in 0..answer.len() {
            assert!(hello.missing(&answer[..end]).unwrap(), "{end}");
        }
        assert!(!hello.missing(answer).unwrap());
        assert!(
            hello
                .missing(b"HTTP/1.1 500 No\r\n\r\nHello, world!")
                .is_err()
        );
        assert!(
            hello
                .missing(b"HTTP/1.1 200 OK\r\n\r\nGood bye, sir")
                .is_err()
        );
    }
}
