//! Clients that speak something else than TLS.

use std::{error, fmt};

/// A client does not speak TLS, because what it sent first is no record of TLS.
///
/// The text contains up to eight of its first bytes, escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTls(Box<[u8]>);

impl NotTls {
    /// `None` if `input` can be the beginning of a record, or is empty.
    pub(super) fn of(input: &[u8]) -> Option<Self> {
        let is_record = RECORDS.contains(input.first()?);
        (!is_record).then(|| Self(input.iter().copied().take(SHOWN).collect()))
    }
}

impl fmt::Display for NotTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the client does not speak TLS, it begins with \"{}\"",
            self.0.escape_ascii()
        )
    }
}

impl error::Error for NotTls {}

/// The types of records (RFC 8446, section 5.1; RFC 6520).
const RECORDS: std::ops::RangeInclusive<u8> = 20..=24;

/// Enough to know the protocol by.
const SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_no_record_is_shown_shortened_and_escaped() {
        let text = |input: &[u8]| NotTls::of(input).map(|error| error.to_string());
        let begins = |what| format!("the client does not speak TLS, it begins with \"{what}\"");
        assert_eq!(text(b"GET / HTTP/1.1"), Some(begins("GET / HT")));
        assert_eq!(text(b"\n\x00\"\xff"), Some(begins("\\n\\x00\\\"\\xff")));
        assert_eq!(
            (text(&[19]), text(&[25])),
            (Some(begins("\\x13")), Some(begins("\\x19")))
        );
        assert_eq!((text(&[20]), text(&[24]), text(&[])), (None, None, None));
    }
}
