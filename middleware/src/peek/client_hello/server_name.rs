//! Checks a host name.

use super::error::{ClientHelloError, HelloProblem};

/// Accepts names whose labels consist of letters, digits, hyphens and underscores (RFC 1123, section 2.1).
///
/// Internationalised names arrive in their ASCII form. A trailing dot is allowed, because some clients send it.
pub(crate) fn check_host_name(name: &str) -> Result<(), ClientHelloError> {
    let labels = name.strip_suffix('.').unwrap_or(name).split('.');
    match name.len() <= MAX_NAME && labels.into_iter().all(is_label) {
        true => Ok(()),
        false => Err(HelloProblem::ServerName.into()),
    }
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
