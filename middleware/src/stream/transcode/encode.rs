//! Encodes from UTF-8 to the charset of the wire, without I/O.

use super::{BadText, Direction, TextProblem, TranscodeError, layer::TranscodeSettings};
use encoding_rs::{Encoder, EncoderResult};
use std::str;

/// Encodes pieces of text that may end within a character.
pub(super) struct Encode {
    encoder: Encoder,
    bad_text: BadText,
    /// Number of bytes of UTF-8 taken.
    offset: u64,
    /// An incomplete character.
    begun: [u8; 4],
    begun_length: u8,
    finished: bool,
}

impl Encode {
    pub(super) fn new(settings: TranscodeSettings) -> Self {
        Self {
            encoder: settings.encoding.new_encoder(),
            bad_text: settings.bad_text,
            offset: 0,
            begun: [0; 4],
            begun_length: 0,
            finished: false,
        }
    }

    pub(super) const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the end of the text needs bytes or is an error.
    pub(super) fn owes_an_end(&self) -> bool {
        self.begun_length > 0 || self.encoder.has_pending_state()
    }

    /// Encodes `text` into `wire`, which must have [`FREE`] bytes of capacity left.
    ///
    /// Returns the number of bytes taken, at least one unless `text` is empty.
    pub(super) fn take(
        &mut self,
        text: &[u8],
        wire: &mut Vec<u8>,
    ) -> Result<usize, TranscodeError> {
        let mut taken = 0;
        while taken < text.len() {
            // This much text always fits, even if it is replaced.
            let most = (wire.capacity() - wire.len()).saturating_sub(SLACK) / GROWTH;
            if most < LEAST {
                break;
            }
            let text = &text[taken..];
            let piece = &text[..text.len().min(most)];
            let result = match self.begun_length {
                0 => self.take_piece(piece, wire),
                _ => self.complete(piece, wire),
            };
            match result {
                Ok(length) => {
                    taken += length;
                    self.offset += length as u64;
                }
                // The error recurs on the next call, at the start of its text.
                Err(_) if taken > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Ends the text; needs [`FREE`] bytes if it [owes an end](Self::owes_an_end).
    pub(super) fn finish(&mut self, wire: &mut Vec<u8>) -> Result<(), TranscodeError> {
        let begun = u64::from(self.begun_length);
        if begun > 0 {
            self.begun_length = 0;
            self.bad(TextProblem::Truncated, self.offset - begun, wire)?;
        }
        let _ = self.encode("", wire, true);
        self.finished = true;
        Ok(())
    }

    /// Encodes the valid start of `text`, or handles the invalid sequence at its start.
    fn take_piece(&mut self, text: &[u8], wire: &mut Vec<u8>) -> Result<usize, TranscodeError> {
        let Some(chunk) = text.utf8_chunks().next() else {
            return Ok(0);
        };
        if !chunk.valid().is_empty() {
            return self.take_valid(chunk.valid(), self.offset, wire);
        }
        let bad = chunk.invalid();
        if is_incomplete(bad) {
            // Only at the end of `text`, which otherwise contains the whole character.
            self.begun[..bad.len()].copy_from_slice(bad);
            self.begun_length = bad.len() as u8;
        } else {
            self.bad(TextProblem::Malformed, self.offset, wire)?;
        }
        Ok(bad.len())
    }

    /// Continues the character that an earlier piece began.
    fn complete(&mut self, text: &[u8], wire: &mut Vec<u8>) -> Result<usize, TranscodeError> {
        let begun = usize::from(self.begun_length);
        let begins_at = self.offset - begun as u64;
        let mut character = self.begun;
        for (index, byte) in text.iter().enumerate().take(character.len() - begun) {
            let length = begun + index + 1;
            character[length - 1] = *byte;
            match str::from_utf8(&character[..length]) {
                Ok(valid) => {
                    self.begun_length = 0;
                    self.take_valid(valid, begins_at, wire)?;
                    return Ok(index + 1);
                }
                Err(error) if error.error_len().is_none() => {
                    self.begun = character;
                    self.begun_length = length as u8;
                }
                Err(_) => {
                    // The byte belongs to the next character.
                    self.begun_length = 0;
                    self.bad(TextProblem::Malformed, begins_at, wire)?;
                    return Ok(index);
                }
            }
        }
        Ok(text.len())
    }

    /// Encodes `text`, which begins at `offset`; returns the number of bytes taken.
    fn take_valid(
        &mut self,
        text: &str,
        offset: u64,
        wire: &mut Vec<u8>,
    ) -> Result<usize, TranscodeError> {
        let mut taken = 0;
        while taken < text.len() {
            let (result, length) = self.encode(&text[taken..], wire, false);
            taken += length;
            if let EncoderResult::Unmappable(_) = result {
                // For the controls forbidden in ISO-2022-JP, the encoder reports U+FFFD instead.
                let character = text[..taken].chars().next_back().unwrap_or_default();
                let before = taken - character.len_utf8();
                if self.bad_text == BadText::Fail && before > 0 {
                    return Ok(before);
                }
                self.bad(TextProblem::Unmappable(character), offset, wire)?;
            }
        }
        Ok(taken)
    }

    /// Fails or writes a replacement.
    fn bad(
        &mut self,
        problem: TextProblem,
        offset: u64,
        wire: &mut Vec<u8>,
    ) -> Result<(), TranscodeError> {
        if self.bad_text == BadText::Fail {
            return Err(TranscodeError {
                encoding: self.encoder.encoding(),
                direction: Direction::Write,
                problem,
                offset,
            });
        }
        if let (EncoderResult::Unmappable(_), _) = self.encode("\u{FFFD}", wire, false) {
            let _ = self.encode("?", wire, false);
        }
        Ok(())
    }

    fn encode(&mut self, text: &str, wire: &mut Vec<u8>, last: bool) -> (EncoderResult, usize) {
        self.encoder
            .encode_from_utf8_to_vec_without_replacement(text, wire, last)
    }
}

fn is_incomplete(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// Free capacity required before text is encoded.
pub(super) const FREE: usize = 256;

/// Maximum bytes of the wire per byte of UTF-8 (U+FFFD in gb18030, state changes in ISO-2022-JP).
const GROWTH: usize = 4;

/// Space for the encoder's own margin.
const SLACK: usize = 16;

/// Pieces of this size contain a whole character.
const LEAST: usize = 8;
