//! Failures of this machine, which say nothing about a server.

use crate::listener::accept_error::RESOURCE_ERRORS;
use portcullis_middleware::{BoxError, error::find};
use std::io;

/// Whether a connect failed because this machine has no file descriptors, ports or memory left.
pub(super) fn is_local(error: &BoxError) -> bool {
    find::<io::Error>(&**error).is_some_and(|error| {
        let number = error.raw_os_error();
        let is_exhausted = number.is_some_and(|number| RESOURCE_ERRORS.contains(&number));
        is_exhausted || error.kind() == io::ErrorKind::AddrNotAvailable
    })
}
