//! What a certificate revocation list says about itself.

use super::{
    INTEGER, SEQUENCE,
    der::Der,
    facts::{named, time},
};
use std::time::SystemTime;

/// The issuer of a list, and the time from which it is out of date (RFC 5280, section 5.1.2); `None` if it is damaged.
pub(in crate::tls) fn crl_facts(crl: &[u8]) -> Option<(Option<String>, SystemTime)> {
    let mut fields = Der(Der(Der(crl).value(SEQUENCE)?).value(SEQUENCE)?);
    fields.optional(INTEGER)?; // version
    fields.value(SEQUENCE)?; // signature algorithm
    let issuer = fields.value(SEQUENCE)?;
    fields.time()?; // of this list
    let next_update = time(fields.time()?)?;
    Some((named(issuer), next_update))
}
