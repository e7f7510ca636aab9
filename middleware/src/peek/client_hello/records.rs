//! Finds the handshake message in TLS records.

use super::error::{ClientHelloError, HelloProblem, MAX_FRAGMENT};
use std::borrow::Cow;

/// How much of the message has been received (RFC 8446, sections 5.1 and 4).
///
/// Over all calls each record is checked a single time, so that many small reads cost no more than one large one.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// Where the next record begins.
    next: usize,
    /// Bytes of the message in the records before.
    message: usize,
    /// The first four of them, which are the type and length of the message.
    head: [u8; HEAD],
    /// Number of complete records.
    count: usize,
}

impl Records {
    /// Continues with `input`, all bytes received so far. True once the message is complete.
    pub(super) fn advance(&mut self, input: &[u8], limit: usize) -> Result<bool, ClientHelloError> {
        loop {
            let Some(fragment) = fragment(&input[self.next..])? else {
                return match input.len() < limit {
                    true => Ok(false),
                    false => Err(HelloProblem::TooLong(input.len(), limit).into()),
                };
            };
            self.add(fragment);
            // Also where all bytes arrive together, so that the limit does not depend on how they are split.
            if self.next > limit {
                return Err(HelloProblem::TooLong(self.next, limit).into());
            }
            if let Some(length) = self.message_length()? {
                if length > limit {
                    return Err(HelloProblem::TooLong(length, limit).into());
                }
                if let Some(behind) = self.message.checked_sub(length) {
                    // A client waits for the server's flight after its hello.
                    return match behind {
                        0 => Ok(true),
                        _ => Err(HelloProblem::TrailingBytes(behind).into()),
                    };
                }
            }
        }
    }

    fn add(&mut self, fragment: &[u8]) {
        let head = self.head.iter_mut().skip(self.message);
        head.zip(fragment).for_each(|(head, byte)| *head = *byte);
        self.message += fragment.len();
        self.next += RECORD_HEADER + fragment.len();
        self.count += 1;
    }

    /// The length of the message with its head, once that has arrived.
    fn message_length(&self) -> Result<Option<usize>, ClientHelloError> {
        let [kind, length @ ..] = self.head;
        if kind != CLIENT_HELLO {
            return Err(HelloProblem::MessageType(kind).into());
        }
        let length = length.iter().fold(0, |sum, &b| sum << 8 | usize::from(b));
        Ok((self.message >= HEAD).then_some(HEAD + length))
    }

    /// The complete message without its head, in `input`; a copy if it spans several records.
    pub(super) fn body<'a>(&self, input: &'a [u8]) -> Cow<'a, [u8]> {
        if self.count == 1 {
            return Cow::Borrowed(&input[RECORD_HEADER + HEAD..self.next]);
        }
        let mut message = Vec::with_capacity(self.message);
        let mut rest = &input[..self.next];
        while let Ok(Some(fragment)) = fragment(rest) {
            message.extend_from_slice(fragment);
            rest = &rest[RECORD_HEADER + fragment.len()..];
        }
        message.drain(..HEAD);
        Cow::Owned(message)
    }
}

/// The fragment of the record at the beginning of `input`; `None` until it is complete.
///
/// Each byte of the header is checked as soon as it arrives, so that other protocols are recognized early.
fn fragment(input: &[u8]) -> Result<Option<&[u8]>, ClientHelloError> {
    match *input {
        [kind, ..] if kind != HANDSHAKE => Err(HelloProblem::RecordType(kind).into()),
        // The minor version carries no meaning.
        [_, major, ..] if major != 3 => Err(HelloProblem::RecordVersion(major).into()),
        [_, _, _, high, low, ref rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([high, low]));
            if length == 0 || length > MAX_FRAGMENT {
                return Err(HelloProblem::RecordLength(length).into());
            }
            Ok(rest.get(..length))
        }
        _ => Ok(None),
    }
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const HEAD: usize = 4;
