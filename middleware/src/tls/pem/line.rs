//! Classifies a line of PEM as a boundary, text, or a damaged boundary.

use super::{BYTE_ORDER_MARK, PemFault};

pub(super) enum Line<'a> {
    Begin(&'a str),
    End(&'a str),
    Suspicious(PemFault),
    Text,
}

/// Lines with their numbers; they end with CR, LF, or both.
pub(super) fn lines(mut text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut number = 0;
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        number += 1;
        let end = text.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let end = end.unwrap_or(text.len());
        let (line, rest) = text.split_at(end);
        text = match rest {
            [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
            [] => rest,
        };
        Some((number, line))
    })
}

/// Trailing white space is ignored (RFC 7468, section 2); everything else counts.
pub(super) fn classify(line: &[u8]) -> Line<'_> {
    let line = line.trim_ascii_end();
    if let Some(label) = label(line, b"-----BEGIN ") {
        return Line::Begin(label);
    }
    if let Some(label) = label(line, b"-----END ") {
        return Line::End(label);
    }
    if !resembles_boundary(line) {
        return Line::Text;
    }
    let without_mark = line.strip_prefix(BYTE_ORDER_MARK);
    if without_mark.is_some_and(|line| label(line, b"-----BEGIN ").is_some()) {
        return Line::Suspicious(PemFault::ByteOrderMark);
    }
    let words = |word: &[u8]| line.windows(word.len()).filter(|w| *w == word).count();
    if words(b"-----BEGIN ") + words(b"-----END ") > 1 {
        return Line::Suspicious(PemFault::Joined);
    }
    Line::Suspicious(PemFault::Boundary)
}

/// The label, if `line` is a boundary that begins with `start`.
fn label<'a>(line: &'a [u8], start: &[u8]) -> Option<&'a str> {
    let label = line.strip_prefix(start)?.strip_suffix(b"-----")?;
    let is_label = label
        .split(|byte| matches!(byte, b' ' | b'-'))
        .all(|word| !word.is_empty() && word.iter().all(is_label_byte));
    // A key on a single line must not be taken for a label, and must not be printed as one.
    let is_label = is_label && label.len() <= MAX_LABEL;
    is_label.then(|| str::from_utf8(label).ok()).flatten()
}

const fn is_label_byte(byte: &u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

/// Whether a human reader would take `line` for a BEGIN or END line.
///
/// Comments may contain these words, so one sign is not enough. It takes two hyphens and the word, or the
/// word and the kind of content.
fn resembles_boundary(line: &[u8]) -> bool {
    // Word processors turn hyphens into dashes.
    let dashes = [
        '\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2014}', '\u{2212}',
    ];
    let line = String::from_utf8_lossy(line).replace(dashes, "--");
    let upper = line.to_ascii_uppercase();
    let hyphens = line.contains("--");
    for word in ["BEGIN", "END"] {
        for (at, _) in upper.match_indices(word) {
            let (before, after) = (&line[..at], &line[at + word.len()..]);
            if before.ends_with(char::is_alphanumeric) {
                continue;
            }
            let in_capitals = &line[at..at + word.len()] == word;
            let fenced =
                before.trim_end().ends_with("--") && !after.starts_with(char::is_alphanumeric);
            let names_content = contains_any(&upper[at + word.len()..], CONTENTS);
            let is_bare = in_capitals
                && !before.contains(char::is_alphanumeric)
                && contains_any(after, CONTENTS);
            if (fenced && in_capitals) || (hyphens && names_content) || is_bare {
                return true;
            }
        }
    }
    // The word itself is misspelt.
    let inner = line.trim().strip_prefix("-----");
    let inner = inner.and_then(|rest| rest.strip_suffix("-----"));
    inner.is_some_and(|inner| {
        inner.starts_with(|c: char| c.is_alphanumeric()) && contains_any(inner, CONTENTS)
    })
}

fn contains_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// The ends of the labels that are used here.
const CONTENTS: &[&str] = &["CERTIFICATE", "KEY", "CRL"];
/// Longer than any label in use, and shorter than any key.
const MAX_LABEL: usize = 64;
