//! The phases of a listener that time out.

use portcullis_middleware::error::TimeoutPhase;

/// Waiting for a connection.
pub const ACCEPT: TimeoutPhase = TimeoutPhase::new("accept");
