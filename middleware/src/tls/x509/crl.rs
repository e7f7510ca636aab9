//! What a certificate revocation list says about itself.

use super::{
    INTEGER, SEQUENCE,
    der::Der,
    extension::extension,
    facts::{named, time},
};
use std::time::SystemTime;

/// The facts of a certificate revocation list (RFC 5280, section 5.1.2).
pub(in crate::tls) struct CrlFacts<'a> {
    /// In DER.
    pub(in crate::tls) issuer: &'a [u8],
    /// The common name of its issuer, or its organization.
    pub(in crate::tls) issuer_name: Option<String>,
    /// When it was issued, in Unix seconds.
    pub(in crate::tls) this_update: i64,
    /// The time from which it is out of date.
    pub(in crate::tls) next_update: SystemTime,
    /// Whether it is only for some certificates of its issuer.
    pub(in crate::tls) is_partial: bool,
}

/// What a list says about itself; `None` if it is damaged.
pub(in crate::tls) fn crl_facts(crl: &[u8]) -> Option<CrlFacts<'_>> {
    let mut fields = Der(Der(Der(crl).value(SEQUENCE)?).value(SEQUENCE)?);
    fields.optional(INTEGER)?; // version
    fields.value(SEQUENCE)?; // signature algorithm
    let issuer = fields.value(SEQUENCE)?;
    let this_update = fields.time()?;
    let next_update = time(fields.time()?)?;
    fields.optional(SEQUENCE)?; // revoked certificates
    let extensions = fields.optional(EXTENSIONS)?;
    Some(CrlFacts {
        issuer,
        issuer_name: named(issuer),
        this_update,
        next_update,
        is_partial: extension(extensions, ISSUING_DISTRIBUTION_POINT)?.is_some(),
    })
}

const EXTENSIONS: u8 = 0xa0;
const ISSUING_DISTRIBUTION_POINT: &[u8] = &[0x55, 29, 28];
