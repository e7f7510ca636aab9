//! What the fuzz targets reach beyond the public API.

use super::{
    TicketKeys, provider,
    rustls::{
        server::ProducesTickets,
        time_provider::{DefaultTimeProvider, TimeProvider},
    },
    x509,
};
use crate::connection::CertificateFacts;
use std::sync::Arc;

/// The facts of a certificate in DER.
pub fn certificate_facts(der: &[u8]) -> Option<CertificateFacts> {
    x509::facts(der, x509::sha256(&provider()))
}

/// Seals and opens tickets with `keys`; `None` if they cannot be read.
pub fn ticketer(keys: &TicketKeys) -> Option<Arc<dyn ProducesTickets>> {
    let time: Arc<dyn TimeProvider> = Arc::new(DefaultTimeProvider);
    keys.ticketer(&provider(), &time).ok()
}
