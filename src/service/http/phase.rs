//! The phases of an HTTP connection that time out.

use portcullis_middleware::error::TimeoutPhase;

/// Waiting for the first byte of the first request.
pub const FIRST_BYTE: TimeoutPhase = TimeoutPhase::new("first_byte");
/// The head of a request, from its first byte to its last.
pub const REQUEST_HEAD: TimeoutPhase = TimeoutPhase::new("request_head");
/// The body of a request, slower than its minimum rate while the server waits for it.
pub const REQUEST_BODY: TimeoutPhase = TimeoutPhase::new("request_body");
