//! Decodes from the charset of the wire to UTF-8, without I/O.

use super::{BadText, Direction, TextProblem, TranscodeError, layer::TranscodeSettings};
use encoding_rs::{Decoder, DecoderResult};
use std::mem;
use tokio::io::ReadBuf;

/// Decodes bytes of the wire into the reader's buffers.
pub(super) struct Decode {
    decoder: Decoder,
    bad_text: BadText,
    /// Number of decoded bytes of the wire.
    offset: u64,
    /// Decoded text that did not fit into the reader's buffer.
    text: [u8; SMALL],
    text_start: u8,
    text_end: u8,
    /// Returned after all text is read.
    error: Option<TranscodeError>,
    /// Input behind malformed bytes.
    wire: Vec<u8>,
    state: DecodeState,
    failed: bool,
    forgives: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecodeState {
    Open,
    /// The input has ended; the decoder may have more output.
    Ended,
    Finished,
}

impl Decode {
    pub(super) fn new(settings: TranscodeSettings) -> Self {
        Self {
            decoder: settings.encoding.new_decoder_without_bom_handling(),
            bad_text: settings.bad_text,
            offset: 0,
            text: [0; SMALL],
            text_start: 0,
            text_end: 0,
            error: None,
            wire: Vec::new(),
            state: DecodeState::Open,
            failed: false,
            forgives: false,
        }
    }

    /// Replaces malformed bytes from now on, after one error was returned.
    pub(super) const fn forgive(&mut self) {
        self.forgives = true;
    }

    #[cfg(test)]
    pub(super) const fn undecoded(&self) -> usize {
        self.wire.len()
    }

    /// Number of bytes of the wire that always fit into `capacity` bytes of text; at least one.
    pub(super) const fn wire_capacity(capacity: usize) -> usize {
        let capacity = if capacity < SMALL { SMALL } else { capacity };
        (capacity - SLACK) / GROWTH
    }

    /// Decodes `wire` into `buf` up to malformed bytes; an empty `wire` is the end.
    ///
    /// It must be called only after [`drain`](Self::drain) returned `false`.
    pub(super) fn feed(&mut self, wire: &[u8], buf: &mut ReadBuf<'_>) {
        if wire.is_empty() {
            self.state = DecodeState::Ended;
            return;
        }
        let taken = self.decode(wire, buf);
        self.wire.extend_from_slice(&wire[taken..]);
    }

    /// Moves available text into `buf`; returns `false` if more input is needed.
    ///
    /// `before` is the length of `buf` when the read began.
    pub(super) fn drain(
        &mut self,
        buf: &mut ReadBuf<'_>,
        before: usize,
    ) -> Result<bool, TranscodeError> {
        loop {
            self.give_text(buf);
            if buf.filled().len() > before {
                return Ok(true);
            }
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            match self.state {
                DecodeState::Finished => return Ok(true),
                DecodeState::Open if self.wire.is_empty() => return Ok(false),
                DecodeState::Open | DecodeState::Ended => {}
            }
            let mut wire = mem::take(&mut self.wire);
            let taken = self.decode(&wire, buf);
            if taken < wire.len() {
                wire.drain(..taken);
                self.wire = wire;
            }
        }
    }

    /// Decodes into `buf`, or into `self.text` if it is too small; returns the bytes taken from `wire`.
    fn decode(&mut self, wire: &[u8], buf: &mut ReadBuf<'_>) -> usize {
        if buf.remaining() >= SMALL {
            let capacity = buf.remaining().min(wire.len() * GROWTH + SLACK);
            let (taken, length) = self.decode_to(wire, buf.initialize_unfilled_to(capacity));
            buf.advance(length);
            return taken;
        }
        let mut text = [0; SMALL];
        let (taken, length) = self.decode_to(wire, &mut text);
        self.text = text;
        self.text_start = 0;
        self.text_end = length as u8;
        taken
    }

    /// Decodes until `text` is full or an error occurs; returns the bytes taken and written.
    fn decode_to(&mut self, wire: &[u8], text: &mut [u8]) -> (usize, usize) {
        let last = self.state == DecodeState::Ended;
        let (mut taken, mut length) = (0, 0);
        // Reserve space for a replacement. The decoder seems to do the same but does not guarantee it,
        // and a peer must not be able to cause a panic.
        let end = text.len() - REPLACEMENT.len();
        while length + LONGEST <= end {
            let (wire, free) = (&wire[taken..], &mut text[length..end]);
            let (result, read, written) = self
                .decoder
                .decode_to_utf8_without_replacement(wire, free, last);
            taken += read;
            length += written;
            self.offset += read as u64;
            match result {
                DecoderResult::InputEmpty => {
                    if last {
                        self.state = DecodeState::Finished;
                    }
                    break;
                }
                DecoderResult::OutputFull => break,
                DecoderResult::Malformed(..) if self.replaces() => {
                    text[length..][..REPLACEMENT.len()].copy_from_slice(REPLACEMENT);
                    length += REPLACEMENT.len();
                }
                DecoderResult::Malformed(bad, behind) => {
                    self.failed = true;
                    self.error = Some(TranscodeError {
                        encoding: self.decoder.encoding(),
                        direction: Direction::Read,
                        problem: match last {
                            true => TextProblem::Truncated,
                            false => TextProblem::Malformed,
                        },
                        offset: self.offset - u64::from(bad) - u64::from(behind),
                    });
                    break;
                }
            }
        }
        (taken, length)
    }

    fn replaces(&self) -> bool {
        self.bad_text == BadText::Replace || (self.forgives && self.failed)
    }

    fn give_text(&mut self, buf: &mut ReadBuf<'_>) {
        let text = &self.text[self.text_start.into()..self.text_end.into()];
        let length = text.len().min(buf.remaining());
        buf.put_slice(&text[..length]);
        self.text_start += length as u8;
    }
}

/// Smaller buffers of readers are filled from `Decode::text`.
const SMALL: usize = 64;

/// Maximum bytes of UTF-8 per byte of the wire (half-width katakana, 0x80 in windows-1252).
const GROWTH: usize = 3;

/// Space for bytes that the decoder held back and for its own margin.
const SLACK: usize = 16;

/// Maximum output of one step of the decoder: two characters of Big5, one of other charsets.
const LONGEST: usize = 4;

const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();
