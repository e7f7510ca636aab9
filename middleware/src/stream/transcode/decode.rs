//! From the charset of the wire to UTF-8, without IO.

use super::{BadText, Direction, TextProblem, TranscodeError, layer::TranscodeSettings};
use encoding_rs::{Decoder, DecoderResult};
use std::mem;
use tokio::io::ReadBuf;

/// Decodes what it is fed, into the reader's buffers.
pub(super) struct Decode {
    decoder: Decoder,
    bad_text: BadText,
    /// How many bytes of the wire were decoded.
    offset: u64,
    /// Decoded, and not yet read: the reader's buffer was too small.
    text: [u8; SMALL],
    text_start: u8,
    text_end: u8,
    /// To be told once all text is read.
    error: Option<TranscodeError>,
    /// What came behind bad bytes; empty otherwise.
    wire: Vec<u8>,
    state: DecodeState,
    failed: bool,
    forgives: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecodeState {
    Open,
    /// The wire ended; the decoder may still have something to say.
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

    /// Replaces what is bad from here on, once one error was told.
    pub(super) const fn forgive(&mut self) {
        self.forgives = true;
    }

    #[cfg(test)]
    pub(super) const fn undecoded(&self) -> usize {
        self.wire.len()
    }

    /// How many bytes of the wire surely fit into `room` bytes of text; at least one.
    pub(super) const fn wire_room(room: usize) -> usize {
        let room = if room < SMALL { SMALL } else { room };
        (room - SLACK) / GROWTH
    }

    /// Takes `wire`, which is empty at its end, and decodes into `buf` what is before bad bytes.
    ///
    /// Only once [`drain`](Self::drain) has nothing left.
    pub(super) fn feed(&mut self, wire: &[u8], buf: &mut ReadBuf<'_>) {
        if wire.is_empty() {
            self.state = DecodeState::Ended;
            return;
        }
        let taken = self.decode(wire, buf);
        self.wire.extend_from_slice(&wire[taken..]);
    }

    /// Puts into `buf` what is there already; `false` when more of the wire is needed.
    ///
    /// `before` is how much was in `buf` when the read began.
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

    /// Decodes into `buf`, or beside it where it is too small; tells how much of `wire` that took.
    fn decode(&mut self, wire: &[u8], buf: &mut ReadBuf<'_>) -> usize {
        if buf.remaining() >= SMALL {
            let room = buf.remaining().min(wire.len() * GROWTH + SLACK);
            let (taken, length) = self.decode_to(wire, buf.initialize_unfilled_to(room));
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

    /// Decodes as far as there are room and no error; how many bytes of each that took.
    fn decode_to(&mut self, wire: &[u8], text: &mut [u8]) -> (usize, usize) {
        let last = self.state == DecodeState::Ended;
        let (mut taken, mut length) = (0, 0);
        // Room for a replacement behind whatever the decoder wrote. It seems to leave that itself, but
        // does not promise it, and a peer must not be able to cause a panic.
        let end = text.len() - REPLACEMENT.len();
        while length + LONGEST <= end {
            let (wire, text_room) = (&wire[taken..], &mut text[length..end]);
            let (result, read, written) = self
                .decoder
                .decode_to_utf8_without_replacement(wire, text_room, last);
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

/// Text of this size is decoded beside a reader's buffer that has less room.
const SMALL: usize = 64;

/// A byte of the wire may become so many bytes of UTF-8: half-width katakana, 0x80 in windows-1252.
const GROWTH: usize = 3;

/// Room for what the decoder held back, and for its own caution.
const SLACK: usize = 16;

/// What the decoder may write at once: two characters of Big5, one of any other charset.
const LONGEST: usize = 4;

const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();
