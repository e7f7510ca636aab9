//! The extensions of a certificate or of a revocation list.

use super::{OBJECT_IDENTIFIER, OCTET_STRING, Outline, SEQUENCE, der::Der};

/// The list of extensions of a certificate, empty without one; `None` if what follows its subject is damaged.
pub(super) fn extensions_of<'a>(certificate: &Outline<'a>) -> Option<&'a [u8]> {
    let mut rest = Der(certificate.rest);
    rest.value(SEQUENCE)?; // key
    rest.optional(ISSUER_ID)?;
    rest.optional(SUBJECT_ID)?;
    let extensions = rest.optional(EXTENSIONS)?;
    rest.is_empty().then_some(extensions)
}

/// The content of the only extension of this kind (RFC 5280, section 4.2); the outer `None` if `extensions` is damaged,
/// and the inner one without such an extension.
pub(super) fn extension<'a>(extensions: &'a [u8], wanted: &[u8]) -> Option<Option<&'a [u8]>> {
    if extensions.is_empty() {
        return Some(None);
    }
    let mut found = None;
    let mut extensions = Der(Der(extensions).value(SEQUENCE)?);
    while !extensions.is_empty() {
        let mut extension = Der(extensions.value(SEQUENCE)?);
        let kind = extension.value(OBJECT_IDENTIFIER)?;
        extension.optional(BOOLEAN)?; // critical
        let content = extension.value(OCTET_STRING)?;
        if kind == wanted && found.replace(content).is_some() {
            return None; // An extension must not be repeated.
        }
    }
    Some(found)
}

pub(super) const BOOLEAN: u8 = 0x01;
const ISSUER_ID: u8 = 0x81;
const SUBJECT_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
