//! The phases of an outgoing connection that time out.

use portcullis_middleware::error::TimeoutPhase;

/// Connecting to an upstream.
pub const CONNECT: TimeoutPhase = TimeoutPhase::new("connect");
/// Checking the health of an upstream.
pub const HEALTH_CHECK: TimeoutPhase = TimeoutPhase::new("health_check");
/// Waiting for a permit of a limit.
pub const ADMISSION: TimeoutPhase = TimeoutPhase::new("admission");
