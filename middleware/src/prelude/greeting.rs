//! What the servers of mail protocols send first.

use super::reply::{Line, UnexpectedReply, line, smtp_reply};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The greeting of a mail server, for which its clients wait.
///
/// Clients that were greeted already, as after a [prelude](super), must not get it a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Greeting {
    /// A reply with the code 220, of one or more lines (RFC 5321, section 4.2).
    Smtp,
    /// `* OK` (RFC 9051, section 7.1.1).
    Imap,
    /// `+OK` (RFC 1939, section 4).
    Pop3,
}

impl Greeting {
    /// The greatest length of a greeting, in bytes.
    pub const MAX_LEN: usize = 8 * 1024;

    /// The length of the greeting that `bytes` begin with; `None` as long as it is incomplete.
    ///
    /// # Errors
    ///
    /// [`UnexpectedReply`] if it is no greeting, or the server refuses the connection.
    pub fn length(self, bytes: &[u8]) -> Result<Option<usize>, UnexpectedReply> {
        let length = match self {
            Self::Smtp => smtp_reply(bytes)?.map(|reply| match reply.code {
                b"220" => Ok(reply.length),
                _ => Err(reply.last),
            }),
            Self::Imap => line(bytes)?.map(|line| line.if_it_begins("* OK")),
            Self::Pop3 => line(bytes)?.map(|line| line.if_it_begins("+OK")),
        };
        match length {
            Some(Err(other)) => Err(UnexpectedReply::refusal("the connection", other)),
            Some(Ok(length)) if length <= Self::MAX_LEN => Ok(Some(length)),
            None if bytes.len() < Self::MAX_LEN => Ok(None),
            _ => Err(UnexpectedReply::too_long()),
        }
    }

    /// Reads the greeting of the server from `io` and discards it. Returns the bytes that were read behind it.
    ///
    /// It has no timeout.
    ///
    /// # Errors
    ///
    /// [`UnexpectedReply`] if it is no greeting, the server refuses the connection, or closes it. I/O errors are
    /// its source.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the bytes that were read.
    pub async fn skip<IO>(self, io: &mut IO) -> Result<Vec<u8>, UnexpectedReply>
    where
        IO: AsyncRead + Unpin,
    {
        let mut received = Vec::with_capacity(FIRST_READ);
        loop {
            let left = (Self::MAX_LEN - received.len()) as u64;
            if (&mut *io).take(left).read_buf(&mut received).await? == 0 {
                return Err(UnexpectedReply::closed("before its greeting"));
            }
            if let Some(length) = self.length(&received)? {
                received.drain(..length);
                return Ok(received);
            }
        }
    }

    /// The greeting for a client that begins behind TLS, where this one came before it.
    ///
    /// Anyone on the network could have written it. The response codes of IMAP are commands to the client, as
    /// capabilities, referrals and alerts (RFC 9051, section 7.1), so none is passed on, and no text with it. SMTP
    /// clients show the text at most. POP3 clients sign the timestamp (APOP), so it must stay.
    pub(super) fn under_tls(self, greeting: &[u8]) -> Vec<u8> {
        match self {
            Self::Imap => b"* OK ready\r\n".to_vec(),
            Self::Smtp | Self::Pop3 => greeting.to_vec(),
        }
    }
}

impl<'a> Line<'a> {
    /// The length of a line that begins with this word, else the line.
    fn if_it_begins(self, word: &str) -> Result<usize, &'a [u8]> {
        match self.begins(word) {
            true => Ok(self.length),
            false => Err(self.text),
        }
    }
}

const FIRST_READ: usize = 256;
