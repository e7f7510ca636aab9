//! The messages of an upgrade, without I/O.
//!
//! Each is a frame: the kind in one byte, the length of the text in two bytes (big-endian), the text in UTF-8.

use std::fmt;

/// The version of the protocol. A process rejects another one.
pub(super) const VERSION: &str = "portcullis-upgrade 2";

/// The longest text of a message. It holds the name of a listener and its address.
const MAX_TEXT: usize = 4_096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// New to old: the first message, with [`VERSION`].
    Hello(String),
    /// Old to new: a socket of this listener. Its file descriptor comes with the frame.
    Socket(String),
    /// Old to new: a socket that systemd has passed by this name. Its file descriptor comes with the frame.
    Activated(String),
    /// Old to new: what an operator has changed at run time, as an object in JSON.
    Changed(String),
    /// Old to new: all sockets and changes were sent.
    All,
    /// New to old: it serves the sockets that came with this text.
    Took(String),
    /// New to old: it accepts connections.
    Ready,
    /// Old to new: it has stopped accepting connections.
    HandedOver,
    /// To the other process: the upgrade fails, for this reason.
    Refused(String),
}

impl Message {
    /// The bytes of the message. `None` if its text is too long.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let (kind, text) = match self {
            Self::Hello(version) => (1, &**version),
            Self::Socket(listener) => (2, &**listener),
            Self::All => (3, ""),
            Self::Took(listener) => (4, &**listener),
            Self::Ready => (5, ""),
            Self::HandedOver => (6, ""),
            Self::Refused(why) => (7, &**why),
            Self::Activated(name) => (8, &**name),
            Self::Changed(change) => (9, &**change),
        };
        let length = u16::try_from(text.len()).ok()?;
        let mut bytes = vec![kind];
        bytes.extend(length.to_be_bytes());
        bytes.extend(text.as_bytes());
        (text.len() <= MAX_TEXT).then_some(bytes)
    }

    fn decode(kind: u8, text: &[u8]) -> Result<Self, Malformed> {
        let text = str::from_utf8(text).map_err(|_| Malformed("a text is not UTF-8"))?;
        let no_text = |message| match text {
            "" => Ok(message),
            _ => Err(Malformed("a message has a text that it must not have")),
        };
        match kind {
            1 => Ok(Self::Hello(text.into())),
            2 => Ok(Self::Socket(text.into())),
            3 => no_text(Self::All),
            4 => Ok(Self::Took(text.into())),
            5 => no_text(Self::Ready),
            6 => no_text(Self::HandedOver),
            7 => Ok(Self::Refused(text.into())),
            8 => Ok(Self::Activated(text.into())),
            9 => Ok(Self::Changed(text.into())),
            _ => Err(Malformed("a message is of an unknown kind")),
        }
    }
}

/// Bytes that break the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(super) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the other process breaks the protocol: {}", self.0)
    }
}

/// Puts messages together from the bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Decoder(Vec<u8>);

impl Decoder {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next message, once all of its bytes are there.
    ///
    /// Between calls it holds at most one incomplete message and what one `push` added.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Malformed> {
        let [kind, high, low, rest @ ..] = &*self.0 else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length > MAX_TEXT {
            return Err(Malformed("a text is too long"));
        }
        let Some(text) = rest.get(..length) else {
            return Ok(None);
        };
        let message = Message::decode(*kind, text)?;
        self.0.drain(..3 + length);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Message> {
        vec![
            Message::Hello(VERSION.into()),
            Message::Socket("shop 0.0.0.0:443".into()),
            Message::Socket("x".repeat(MAX_TEXT)),
            Message::All,
            Message::Took("ümläute".into()),
            Message::Ready,
            Message::HandedOver,
            Message::Refused("because".into()),
            Message::Activated("web".into()),
            Message::Changed("{}".into()),
        ]
    }

    #[test]
    fn messages_are_the_same_after_any_split() {
        let bytes: Vec<u8> = all()
            .iter()
            .flat_map(|message| message.encode().expect("it is short enough"))
            .collect();
        for size in [1, 2, 3, 7, 100, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for part in bytes.chunks(size) {
                decoder.push(part);
                while let Some(message) = decoder.next().expect("they are right") {
                    found.push(message);
                }
            }
            assert_eq!(found, all(), "in pieces of {size}");
            assert!(decoder.0.is_empty());
        }
    }

    #[test]
    fn what_is_no_message_is_an_error_before_its_text_arrives() {
        let wrong: [&[u8]; 6] = [
            &[0, 0, 0],
            &[10, 0, 0],
            &[1, 0xff, 0xff],
            &[2, 0x10, 0x01],
            &[5, 0, 1, b'x'],
            &[2, 0, 1, 0xff],
        ];
        for bytes in wrong {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            assert!(decoder.next().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_not_sent() {
        let longest = Message::Took("x".repeat(MAX_TEXT));
        assert!(longest.encode().is_some());
        for length in [MAX_TEXT + 1, 70_000] {
            assert_eq!(Message::Took("x".repeat(length)).encode(), None);
        }
    }
}
