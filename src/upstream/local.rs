//! Failures of this machine, which say nothing about a server.

use super::member::MemberState;
use crate::listener::accept_error::RESOURCE_ERRORS;
use portcullis_middleware::{BoxError, error::find};
use std::io;

/// Whether a connect failed because this machine has no file descriptors, ports or memory left.
///
/// A server that was reached before lacks a local port. One that was never reached may have an address of an IP version
/// that this machine does not use, which is the same error.
pub(super) fn is_local(error: &BoxError, state: &MemberState) -> bool {
    find::<io::Error>(&**error).is_some_and(|error| {
        let number = error.raw_os_error();
        let is_exhausted = number.is_some_and(|number| RESOURCE_ERRORS.contains(&number));
        let has_no_port = error.kind() == io::ErrorKind::AddrNotAvailable && state.was_reached();
        is_exhausted || has_no_port
    })
}
