//! Whether a certificate is one of an authority.

use super::{
    BIT_STRING, Outline, SEQUENCE,
    der::Der,
    extension::{BOOLEAN, extension, extensions_of},
};

/// Whether a certificate may issue others (RFC 5280, sections 4.2.1.3 and 4.2.1.9).
///
/// Each certificate before version 3 may, because extensions are new in version 3. A damaged one may not.
pub(in crate::tls) fn can_issue(certificate: &[u8]) -> bool {
    let says_so = |outline: Outline<'_>| {
        if !outline.is_v3 {
            return Some(true);
        }
        let extensions = extensions_of(&outline)?;
        let Some(constraints) = extension(extensions, BASIC_CONSTRAINTS)? else {
            return Some(false);
        };
        let is_authority = Der(Der(constraints).value(SEQUENCE)?).optional(BOOLEAN)?;
        let signs = match extension(extensions, KEY_USAGE)? {
            Some(usage) => match Der(usage).value(BIT_STRING)? {
                [_unused, bits, ..] => bits & KEY_CERT_SIGN != 0,
                _ => false,
            },
            None => true,
        };
        Some(signs && matches!(is_authority, [value] if *value != 0))
    };
    Outline::read(certificate).and_then(says_so) == Some(true)
}

/// The issuer of a certificate in DER, without the tag and the length; `None` if the certificate is damaged.
pub(in crate::tls) fn issuer(certificate: &[u8]) -> Option<&[u8]> {
    Outline::read(certificate).map(|outline| outline.issuer)
}

const BASIC_CONSTRAINTS: &[u8] = &[0x55, 29, 19];
const KEY_USAGE: &[u8] = &[0x55, 29, 15];
/// Bit 5 of the first byte, counted from the highest.
const KEY_CERT_SIGN: u8 = 0x04;
