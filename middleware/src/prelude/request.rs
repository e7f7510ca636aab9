//! Requests TLS in the plain text of a protocol, as its client.

use super::{
    Greeting,
    reply::{UnexpectedReply, line, smtp_reply},
    xmpp,
};
use std::borrow::Cow;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The request for TLS of a client whose TLS begins on request (STARTTLS); the counterpart of [`Prelude`].
///
/// It performs no I/O, except in [`perform`](Self::perform). The server may send nothing behind a reply. Such bytes
/// would count as the server's under TLS, although anyone on the network could have added them.
///
/// [`Prelude`]: super::Prelude
#[derive(Clone, Debug)]
pub struct TlsRequest {
    protocol: Protocol,
    /// That of the client (SMTP), or of the server (XMPP).
    name: String,
    expected: Expected,
    greeting: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Postgres,
    Smtp,
    Imap,
    Pop3,
    Xmpp,
}

/// What the server sends next.
#[derive(Clone, Copy, Debug)]
enum Expected {
    Greeting(Greeting),
    Capabilities,
    Consent,
}

/// The next step of a [`TlsRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsRequestStep {
    /// The bytes do not suffice.
    Need,
    /// Write these bytes to the server. Those that were received are taken.
    Write(Cow<'static, [u8]>),
    /// TLS begins. The bytes that were received are taken.
    Tls,
}

impl TlsRequest {
    /// The greatest number of bytes that [`perform`](Self::perform) takes from the server before TLS.
    pub const MAX_LEN: usize = 16 * 1024;

    /// The `SSLRequest` of PostgreSQL.
    pub const fn postgres() -> Self {
        Self::new(Protocol::Postgres, String::new(), Expected::Consent)
    }

    /// `STARTTLS` of SMTP (RFC 3207), after an `EHLO` in the name of `client`, a host name or an address literal.
    ///
    /// # Panics
    ///
    /// Panics unless `client` consists of 1 to 253 ASCII letters, digits, `.`, `-`, `_`, `:`, `[` and `]`.
    pub fn smtp(client: impl Into<String>) -> Self {
        let client = super::mail::checked_host("an SMTP client", client.into());
        Self::new(Protocol::Smtp, client, Expected::Greeting(Greeting::Smtp))
    }

    /// `STARTTLS` of IMAP (RFC 9051, section 6.2.1).
    pub const fn imap() -> Self {
        Self::new(
            Protocol::Imap,
            String::new(),
            Expected::Greeting(Greeting::Imap),
        )
    }

    /// `STLS` of POP3 (RFC 2595, section 4).
    pub const fn pop3() -> Self {
        Self::new(
            Protocol::Pop3,
            String::new(),
            Expected::Greeting(Greeting::Pop3),
        )
    }

    /// `<starttls/>` in a stream of an XMPP client to `domain` (RFC 6120, section 5).
    ///
    /// # Panics
    ///
    /// Panics unless `domain` consists of 1 to 253 ASCII letters, digits, `.`, `-`, `_`, `:`, `[` and `]`.
    pub fn xmpp(domain: impl Into<String>) -> Self {
        let domain = super::mail::checked_host("an XMPP server", domain.into());
        Self::new(Protocol::Xmpp, domain, Expected::Capabilities)
    }

    const fn new(protocol: Protocol, name: String, expected: Expected) -> Self {
        Self {
            protocol,
            name,
            expected,
            greeting: Vec::new(),
        }
    }

    /// What the client sends first; nothing if the server greets.
    pub fn first(&self) -> Cow<'static, [u8]> {
        match self.protocol {
            Protocol::Postgres => Cow::Borrowed(&SSL_REQUEST),
            Protocol::Smtp | Protocol::Imap | Protocol::Pop3 => Cow::Borrowed(b""),
            Protocol::Xmpp => xmpp::open_stream(&self.name).into_bytes().into(),
        }
    }

    /// Continues with `bytes`, at least one, that were received and not taken yet.
    ///
    /// # Errors
    ///
    /// [`UnexpectedReply`] if the server refuses TLS, does not offer it, or breaks the protocol.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<TlsRequestStep, UnexpectedReply> {
        let reply = match self.expected {
            Expected::Greeting(greeting) => self.greeted(greeting, bytes)?,
            Expected::Capabilities => self.offered(bytes)?,
            Expected::Consent => self.consented(bytes)?,
        };
        let Some((length, step)) = reply else {
            return Ok(TlsRequestStep::Need);
        };
        if length < bytes.len() {
            return Err(UnexpectedReply::new(
                "bytes follow a reply of the server before TLS",
            ));
        }
        Ok(step)
    }

    fn greeted(&mut self, greeting: Greeting, bytes: &[u8]) -> Replied {
        let Some(length) = greeting.length(bytes)? else {
            return Ok(None);
        };
        self.greeting = greeting.under_tls(&bytes[..length]);
        let (request, next) = match greeting {
            Greeting::Smtp => {
                let hello = format!("EHLO {}\r\n", self.name).into_bytes();
                (hello.into(), Expected::Capabilities)
            }
            Greeting::Imap => (b"a STARTTLS\r\n"[..].into(), Expected::Consent),
            Greeting::Pop3 => (b"STLS\r\n"[..].into(), Expected::Consent),
        };
        self.expected = next;
        Ok(Some((length, TlsRequestStep::Write(request))))
    }

    fn offered(&mut self, bytes: &[u8]) -> Replied {
        let (length, request) = match self.protocol {
            Protocol::Xmpp => (xmpp::offer(bytes)?, xmpp::REQUEST),
            _ => (smtp_offer(bytes)?, &b"STARTTLS\r\n"[..]),
        };
        let Some(length) = length else {
            return Ok(None);
        };
        self.expected = Expected::Consent;
        Ok(Some((length, TlsRequestStep::Write(request.into()))))
    }

    fn consented(&self, bytes: &[u8]) -> Replied {
        let length = match self.protocol {
            Protocol::Postgres => postgres_consent(bytes)?,
            Protocol::Smtp => match smtp_reply(bytes)? {
                Some(reply) if reply.code == b"220" => Some(reply.length),
                Some(reply) => return Err(UnexpectedReply::refusal("TLS", reply.last)),
                None => None,
            },
            Protocol::Imap => imap_consent(bytes)?,
            Protocol::Pop3 => match line(bytes)? {
                Some(line) if line.begins("+OK") => Some(line.length),
                Some(line) => return Err(UnexpectedReply::refusal("TLS", line.text)),
                None => None,
            },
            Protocol::Xmpp => xmpp::consent(bytes)?,
        };
        Ok(length.map(|length| (length, TlsRequestStep::Tls)))
    }

    /// Requests TLS on `io`, which is ready for the handshake afterwards. Returns the greeting of the server, for a
    /// client that waits for one.
    ///
    /// Mail servers do not greet again under TLS. The greeting of IMAP is `* OK ready`, because response codes from
    /// before TLS must not count under TLS. The text of SMTP and the timestamp of POP3 are those of the server, and
    /// unauthenticated. The greeting is empty for PostgreSQL and XMPP, whose clients speak first. There is no timeout.
    ///
    /// # Errors
    ///
    /// [`UnexpectedReply`] as in [`advance`](Self::advance), and if the server sends more than
    /// [`MAX_LEN`](Self::MAX_LEN) bytes or closes the connection. I/O errors are its source.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves `io` in the middle of the conversation. Drop it as well.
    pub async fn perform<IO>(mut self, io: &mut IO) -> Result<Vec<u8>, UnexpectedReply>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        send(io, &self.first()).await?;
        let mut received = Vec::with_capacity(FIRST_READ);
        let mut left = Self::MAX_LEN;
        loop {
            if left == 0 {
                return Err(UnexpectedReply::too_long());
            }
            let read = (&mut *io).take(left as u64).read_buf(&mut received).await?;
            if read == 0 {
                return Err(UnexpectedReply::closed("before TLS"));
            }
            left -= read;
            match self.advance(&received)? {
                TlsRequestStep::Need => {}
                TlsRequestStep::Tls => return Ok(self.greeting),
                TlsRequestStep::Write(request) => {
                    received.clear();
                    send(io, &request).await?;
                }
            }
        }
    }
}

/// The length of a whole reply and what follows from it; `None` if its end is missing.
type Replied = Result<Option<(usize, TlsRequestStep)>, UnexpectedReply>;

fn postgres_consent(bytes: &[u8]) -> Result<Option<usize>, UnexpectedReply> {
    match bytes.first() {
        None => Ok(None),
        Some(b'S') => Ok(Some(1)),
        Some(b'N') => Err(UnexpectedReply::new("the server does not support TLS")),
        // It sends an error message instead, for example while it shuts down.
        Some(_) => Err(UnexpectedReply::new("the server replies with an error")),
    }
}

fn smtp_offer(bytes: &[u8]) -> Result<Option<usize>, UnexpectedReply> {
    let Some(reply) = smtp_reply(bytes)? else {
        return Ok(None);
    };
    if reply.code != b"250" {
        return Err(UnexpectedReply::refusal("EHLO", reply.last));
    }
    let mut rest = &bytes[..reply.length];
    // The first line is the name of the server.
    let mut is_first = true;
    while let Some(line) = line(rest)? {
        let keyword = line.text.get(4..).unwrap_or_default();
        if !is_first && keyword.eq_ignore_ascii_case(b"STARTTLS") {
            return Ok(Some(reply.length));
        }
        is_first = false;
        rest = &rest[line.length..];
    }
    Err(UnexpectedReply::new("the server does not offer STARTTLS"))
}

/// The response with the tag of the request, behind responses without one.
fn imap_consent(bytes: &[u8]) -> Result<Option<usize>, UnexpectedReply> {
    let mut length = 0;
    while let Some(line) = line(&bytes[length..])? {
        length += line.length;
        if line.begins("a OK") {
            return Ok(Some(length));
        }
        if !line.begins("*") || line.begins("* BYE") {
            return Err(UnexpectedReply::refusal("TLS", line.text));
        }
    }
    Ok(None)
}

async fn send(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), UnexpectedReply> {
    let sending = async {
        io.write_all(bytes).await?;
        io.flush().await
    };
    sending.await.map_err(UnexpectedReply::unsent)
}

const FIRST_READ: usize = 512;

/// Length and code ("Message Formats" in PostgreSQL's documentation).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
