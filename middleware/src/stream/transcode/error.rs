//! Errors for unsupported charsets and for text that cannot be converted.

use encoding_rs::Encoding;
use std::{error::Error, fmt, io};

/// The charset cannot be used on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedCharset {
    label: String,
    known: bool,
}

impl UnsupportedCharset {
    pub(super) fn unknown(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            known: false,
        }
    }

    pub(super) fn read_only(encoding: &'static Encoding) -> Self {
        Self {
            label: encoding.name().to_owned(),
            known: true,
        }
    }

    /// The charset's name, or the unknown label.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether the charset exists and cannot be written.
    pub const fn is_known(&self) -> bool {
        self.known
    }
}

impl fmt::Display for UnsupportedCharset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known {
            true => write!(f, "charset {} cannot be written", self.label),
            false => write!(f, "unknown charset {:?}", self.label),
        }
    }
}

impl Error for UnsupportedCharset {}

/// Text cannot be converted.
///
/// As an [`io::Error`] its kind is [`InvalidData`](io::ErrorKind::InvalidData).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TranscodeError {
    pub(super) encoding: &'static Encoding,
    pub(super) direction: Direction,
    pub(super) problem: TextProblem,
    pub(super) offset: u64,
}

impl TranscodeError {
    /// The charset of the wire.
    pub const fn encoding(&self) -> &'static Encoding {
        self.encoding
    }

    /// Whether it was read or written.
    pub const fn direction(&self) -> Direction {
        self.direction
    }

    /// What is wrong.
    pub const fn problem(&self) -> TextProblem {
        self.problem
    }

    /// Where the bad text begins, in bytes since the layer was called.
    ///
    /// Reads count bytes of the wire, writes count bytes of the handler's UTF-8.
    pub const fn offset(&self) -> u64 {
        self.offset
    }
}

impl fmt::Display for TranscodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let charset = self.encoding.name();
        match (self.direction, self.problem) {
            // The number instead of the character, which may be a control character for terminals.
            (_, TextProblem::Unmappable(character)) => {
                let number = u32::from(character);
                write!(f, "U+{number:04X} does not exist in {charset}")?;
            }
            (Direction::Read, TextProblem::Malformed) => write!(f, "read malformed {charset}")?,
            (Direction::Read, TextProblem::Truncated) => write!(f, "read truncated {charset}")?,
            (Direction::Write, TextProblem::Malformed) => f.write_str("wrote malformed UTF-8")?,
            (Direction::Write, TextProblem::Truncated) => f.write_str("wrote truncated UTF-8")?,
        }
        write!(f, " at byte {}", self.offset)
    }
}

impl Error for TranscodeError {}

impl From<TranscodeError> for io::Error {
    fn from(error: TranscodeError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The direction of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a stream has two directions")]
pub enum Direction {
    /// From the wire to the handler.
    Read,
    /// From the handler to the wire.
    Write,
}

/// Why a text cannot be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TextProblem {
    /// The bytes are malformed in the charset or, on writes, in UTF-8.
    Malformed,
    /// The charset of the wire lacks this character.
    Unmappable(char),
    /// The text ends within a character.
    Truncated,
}
