//! The phases of an outgoing connection that time out.

use portcullis_middleware::error::TimeoutPhase;

/// Connecting to an upstream.
pub const CONNECT: TimeoutPhase = TimeoutPhase::new("connect");
/// Waiting for a permit of a limit.
pub const ADMISSION: TimeoutPhase = TimeoutPhase::new("admission");
