//! Reads the common name of a certificate that TLS has verified.

/// The last common name in the subject (RFC 5280, section 4.1.2.6), the most specific one; `None` if there is none.
///
/// Control characters would confuse logs of receivers, so a name with some counts as none.
pub(super) fn common_name(der: &[u8]) -> Option<&[u8]> {
    let mut certificate = Der(Der(der).value(SEQUENCE)?);
    let mut fields = Der(certificate.value(SEQUENCE)?);
    let _version = fields.value(VERSION);
    fields.value(INTEGER)?;
    fields.value(SEQUENCE)?; // signature algorithm
    fields.value(SEQUENCE)?; // issuer
    fields.value(SEQUENCE)?; // validity
    let mut subject = Der(fields.value(SEQUENCE)?);
    let mut found = None;
    while let Some(set) = subject.value(SET) {
        let mut set = Der(set);
        while let Some(attribute) = set.value(SEQUENCE) {
            let mut attribute = Der(attribute);
            if attribute.value(OBJECT_ID)? == COMMON_NAME {
                found = attribute.value(UTF8).or_else(|| attribute.value(PRINTABLE));
            }
        }
    }
    let is_text = |name: &&[u8]| {
        let text = str::from_utf8(name).ok();
        text.is_some_and(|text| !text.is_empty() && !text.chars().any(char::is_control))
    };
    found.filter(is_text)
}

/// The rest of a DER encoding.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The contents of the next element, if it has this tag.
    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&[kind, length], rest) = self.0.split_first_chunk()?;
        if kind != tag {
            return None;
        }
        let (length, rest) = match length {
            0..=0x7F => (usize::from(length), rest),
            0x81 => rest.split_first().map(|(&b, rest)| (b.into(), rest))?,
            0x82 => {
                let (&length, rest) = rest.split_first_chunk()?;
                (u16::from_be_bytes(length).into(), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(value)
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xA0;
const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const UTF8: u8 = 0x0C;
const PRINTABLE: u8 = 0x13;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
