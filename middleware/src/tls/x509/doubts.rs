//! Warns about chains that clients will reject.
//!
//! A server does not verify its own chain, and rustls does not expose these fields. The warning is only
//! logged, because the clock may be wrong and clients may have the missing certificate.

use super::{Outline, now};
use crate::tls::rustls::pki_types::CertificateDer;

/// Logs problems of `chain` that may make clients reject it, at level WARN.
pub(in crate::tls) fn warn_about(chain: &[CertificateDer<'_>]) {
    for (number, doubt) in doubts(chain, now()) {
        tracing::warn!(certificate = number, "{doubt}");
    }
}

/// Problems of `chain`, each with the number of its certificate, counted from one.
pub(super) fn doubts(chain: &[CertificateDer<'_>], now: i64) -> Vec<(usize, &'static str)> {
    let outlines: Vec<_> = chain.iter().map(|der| Outline::read(der)).collect();
    let mut doubts = Vec::new();
    for (index, outline) in outlines.iter().enumerate() {
        let Some(outline) = outline else { continue };
        if now > outline.not_after {
            doubts.push((
                index + 1,
                "a certificate of the server has expired, and clients will reject it",
            ));
        }
        if now < outline.not_before {
            doubts.push((
                index + 1,
                "a certificate of the server is not valid yet, and clients will reject it",
            ));
        }
        let before = index.checked_sub(1).and_then(|at| outlines[at].as_ref());
        if before.is_some_and(|before| before.issuer != outline.subject) {
            let doubt = "a certificate of the server's chain did not issue the one before it, and clients may reject it";
            doubts.push((index + 1, doubt));
        }
    }
    doubts
}
