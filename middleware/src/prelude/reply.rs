//! Reads what servers of text protocols reply.

use crate::log_text::Escaped;
use std::{error::Error, fmt, io};

/// A server has replied something else than the protocol requires here.
///
/// Its text contains what the server has said, on one line.
#[derive(Debug)]
pub struct UnexpectedReply {
    text: String,
    source: Option<io::Error>,
}

impl UnexpectedReply {
    pub(super) fn new(text: impl Into<String>) -> Self {
        let (text, source) = (text.into(), None);
        Self { text, source }
    }

    /// The server has refused `what` in these words.
    pub(super) fn refusal(what: &str, line: &[u8]) -> Self {
        let shown = &line[..line.len().min(SHOWN)];
        let shown = String::from_utf8_lossy(shown);
        let shown = Escaped(shown.trim_end());
        Self::new(format!("the server refuses {what}: {shown}"))
    }

    pub(super) fn closed(when: &str) -> Self {
        Self::new(format!("the server closed the connection {when}"))
    }

    /// A request could not be sent.
    pub(super) fn unsent(source: io::Error) -> Self {
        Self {
            text: "the server does not take the request for TLS".into(),
            source: Some(source),
        }
    }

    pub(super) fn too_long() -> Self {
        Self::new("a reply of the server exceeds the limit")
    }

    fn invalid() -> Self {
        Self::new("a reply of the server is invalid")
    }
}

impl From<io::Error> for UnexpectedReply {
    fn from(source: io::Error) -> Self {
        Self {
            text: "the server does not reply".into(),
            source: Some(source),
        }
    }
}

impl fmt::Display for UnexpectedReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for UnexpectedReply {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// A line of a server.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    /// Without its end.
    pub(super) text: &'a [u8],
    /// With its end.
    pub(super) length: usize,
}

impl Line<'_> {
    /// Whether it begins with `words`, in any case, followed by a space or nothing.
    pub(super) fn begins(&self, words: &str) -> bool {
        let begin = self.text.split_at_checked(words.len());
        begin.is_some_and(|(begin, rest)| {
            begin.eq_ignore_ascii_case(words.as_bytes())
                && matches!(rest.first(), None | Some(b' '))
        })
    }
}

/// The first line of `bytes`; `None` if its end is missing.
///
/// Only CRLF ends a line. Other control characters than tabs are rejected, because clients may see more than one
/// line in them. The text may be in any charset.
pub(super) fn line(bytes: &[u8]) -> Result<Option<Line<'_>>, UnexpectedReply> {
    let is_forbidden = |&byte: &u8| byte.is_ascii_control() && byte != b'\t';
    match bytes.iter().position(is_forbidden) {
        None => Ok(None),
        Some(end) => match bytes[end..] {
            [b'\r'] => Ok(None),
            [b'\r', b'\n', ..] => Ok(Some(Line {
                text: &bytes[..end],
                length: end + 2,
            })),
            _ => Err(UnexpectedReply::invalid()),
        },
    }
}

/// A whole reply of an SMTP server.
pub(super) struct SmtpReply<'a> {
    pub(super) code: &'a [u8; 3],
    /// The text of its last line, with the code.
    pub(super) last: &'a [u8],
    pub(super) length: usize,
}

/// The first reply in `bytes`; `None` if its end is missing (RFC 5321, section 4.2).
///
/// Each line of a reply has the same code, and the last one has no hyphen behind it.
pub(super) fn smtp_reply(bytes: &[u8]) -> Result<Option<SmtpReply<'_>>, UnexpectedReply> {
    let mut length = 0;
    let mut first = None;
    while let Some(next) = line(&bytes[length..])? {
        length += next.length;
        let Some((code, rest)) = next.text.split_first_chunk::<3>() else {
            return Err(UnexpectedReply::invalid());
        };
        let is_code = code.iter().all(u8::is_ascii_digit);
        if !is_code || *first.get_or_insert(code) != code {
            return Err(UnexpectedReply::invalid());
        }
        match rest.first() {
            Some(b'-') => {}
            None | Some(b' ') => {
                let last = next.text;
                return Ok(Some(SmtpReply { code, last, length }));
            }
            Some(_) => return Err(UnexpectedReply::invalid()),
        }
    }
    Ok(None)
}

/// Of a reply, in bytes.
const SHOWN: usize = 120;
