//! Recognizes a whole ClientHello without a TLS session.

/// How much of a ClientHello has been received (RFC 8446, sections 5.1 and 4.1.2).
///
/// It only counts bytes. rustls validates them.
#[derive(Debug, Default)]
pub(super) struct Hello {
    /// Where the next record begins.
    record: usize,
    /// Bytes of the handshake message in the records before.
    message: usize,
    /// The first four of them, which are the type and length of the message.
    head: [u8; HEAD],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Partial,
    Complete,
    /// Anything but the beginning of a ClientHello; rustls answers it with the right alert.
    NoHello,
    TooLong,
}

impl Hello {
    /// Continues with `input`, all bytes received so far. Over all calls each record is checked once.
    pub(super) fn advance(&mut self, input: &[u8]) -> Progress {
        loop {
            let rest = &input[self.record..];
            if rest.first().is_some_and(|&kind| kind != HANDSHAKE) {
                return Progress::NoHello;
            }
            let fragment = match rest {
                [_, _, _, high, low, body @ ..] => {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    if length == 0 || length > MAX_FRAGMENT {
                        return Progress::NoHello;
                    }
                    body.get(..length)
                }
                _ => None,
            };
            let Some(fragment) = fragment else {
                return if input.len() < MAX_HELLO {
                    Progress::Partial
                } else {
                    Progress::TooLong
                };
            };
            self.take(fragment);
            let [kind, length @ ..] = self.head;
            if kind != CLIENT_HELLO {
                return Progress::NoHello;
            }
            if self.message < HEAD {
                continue;
            }
            let length = HEAD + length.iter().fold(0, |sum, &b| sum << 8 | usize::from(b));
            if length > MAX_HELLO {
                return Progress::TooLong;
            }
            if length <= self.message {
                return Progress::Complete;
            }
        }
    }

    fn take(&mut self, fragment: &[u8]) {
        let head = self.head.iter_mut().skip(self.message);
        head.zip(fragment).for_each(|(head, byte)| *head = *byte);
        self.message += fragment.len();
        self.record += RECORD_HEADER + fragment.len();
    }
}

/// The largest accepted ClientHello, in bytes on the wire: BoringSSL's limit. Common ones have 250 to 2,000
/// bytes.
pub(super) const MAX_HELLO: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const MAX_FRAGMENT: usize = 16 * 1024;
const HEAD: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello of `length` bytes with its head, in records of up to `fragment` bytes.
    fn hello(length: usize, fragment: usize) -> Vec<u8> {
        let mut message = vec![7; length];
        message[0] = CLIENT_HELLO;
        message[1..HEAD].copy_from_slice(&u32::try_from(length - HEAD).unwrap().to_be_bytes()[1..]);
        let record = |body: &[u8]| {
            let [high, low] = u16::try_from(body.len()).unwrap().to_be_bytes();
            [&[HANDSHAKE, 3, 1, high, low], body].concat()
        };
        message.chunks(fragment).flat_map(record).collect()
    }

    #[test]
    fn a_hello_is_complete_with_its_last_byte_however_it_is_cut_up() {
        for fragment in [1, 2, 3, 4, 5, 100, 516, 600] {
            let bytes = hello(517, fragment);
            for step in [1, 7, bytes.len()] {
                let mut progress = Hello::default();
                for end in (1..bytes.len()).step_by(step) {
                    assert_eq!(progress.advance(&bytes[..end]), Progress::Partial, "{end}");
                }
                assert_eq!(progress.advance(&bytes), Progress::Complete);
            }
        }
    }

    #[test]
    fn what_follows_a_hello_does_not_matter() {
        let bytes = [hello(300, 300), b"anything".to_vec()].concat();
        assert_eq!(Hello::default().advance(&bytes), Progress::Complete);
    }

    #[test]
    fn what_is_no_hello_is_for_rustls_to_judge() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            &[0],
            &[HANDSHAKE, 3, 1, 0, 0],
            &[HANDSHAKE, 3, 1, 0xff, 0xff],
            &[HANDSHAKE, 3, 1, 0, 1, 2],
        ] {
            assert_eq!(Hello::default().advance(bytes), Progress::NoHello);
        }
        assert_eq!(Hello::default().advance(&[]), Progress::Partial);
        assert_eq!(Hello::default().advance(&[HANDSHAKE]), Progress::Partial);
    }

    #[test]
    fn a_hello_beyond_the_limit_is_recognized_by_its_head() {
        let longest = hello(MAX_HELLO, 512);
        assert_eq!(Hello::default().advance(&longest[..600]), Progress::Partial);
        let longer = hello(MAX_HELLO + 1, 512);
        assert_eq!(Hello::default().advance(&longer[..600]), Progress::TooLong);
        // Record headers count too. Otherwise tiny records would allow five times the limit.
        let tiny = hello(MAX_HELLO, 1);
        let mut progress = Hello::default();
        assert_eq!(progress.advance(&tiny[..MAX_HELLO - 1]), Progress::Partial);
        assert_eq!(progress.advance(&tiny[..MAX_HELLO + 3]), Progress::TooLong);
    }
}
