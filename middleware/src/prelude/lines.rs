//! Reads one line of a text protocol.

use super::PreludeStep;

/// The first line of `bytes` without its end, and its length with it.
///
/// Only CRLF ends a line, as servers behind this one may see other ends differently. Control characters are rejected.
pub(super) fn line(bytes: &[u8], max_len: usize) -> Result<(&str, usize), PreludeStep> {
    let end = bytes.iter().take(max_len).position(|&byte| byte == b'\n');
    let line = &bytes[..end.unwrap_or(bytes.len())];
    let Some(end) = end else {
        return match bytes.len() < max_len {
            true => Err(PreludeStep::Need),
            false => Err(PreludeStep::refuse(b"", LINE_TOO_LONG)),
        };
    };
    let text = line
        .strip_suffix(b"\r")
        .and_then(|line| str::from_utf8(line).ok());
    match text.filter(|text| !text.chars().any(char::is_control)) {
        Some(text) => Ok((text, end + 1)),
        None => Err(PreludeStep::refuse(b"", INVALID_LINE)),
    }
}

/// The first word in upper case, and the rest of the line.
pub(super) fn command(line: &str) -> (String, &str) {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    (command.to_ascii_uppercase(), rest)
}

pub(super) const LINE_TOO_LONG: &str = "a line exceeds the limit";
pub(super) const INVALID_LINE: &str = "a line is invalid";
