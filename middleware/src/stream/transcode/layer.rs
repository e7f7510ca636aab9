//! The layer and its service.

use super::{TranscodeIo, UnsupportedCharset};
use crate::Connection;
use encoding_rs::Encoding;
use std::task::{Context, Poll};
use tower::{Layer, Service};

/// What to do with text that cannot be converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadText {
    /// The read or write fails with a [`TranscodeError`](super::TranscodeError).
    #[default]
    Fail,
    /// It is replaced by U+FFFD, or by `?` in charsets without U+FFFD.
    Replace,
}

/// Layer for [`Transcode`]; see the [module docs](super).
#[derive(Clone, Copy, Debug)]
pub struct TranscodeLayer {
    settings: TranscodeSettings,
}

impl TranscodeLayer {
    /// Uses `encoding` on the wire; text that cannot be converted is an error.
    ///
    /// # Errors
    ///
    /// Fails for charsets that cannot be written, UTF-16 and the standard's "replacement".
    pub fn new(encoding: &'static Encoding) -> Result<Self, UnsupportedCharset> {
        let settings = TranscodeSettings::new(encoding)?;
        Ok(Self { settings })
    }

    /// Uses the charset with this label on the wire; case is ignored.
    ///
    /// # Errors
    ///
    /// Fails for labels that the Encoding Standard does not define, and like [`new`](Self::new).
    pub fn for_label(label: &str) -> Result<Self, UnsupportedCharset> {
        match Encoding::for_label(label.as_bytes()) {
            Some(encoding) => Self::new(encoding),
            None => Err(UnsupportedCharset::unknown(label)),
        }
    }

    /// Sets what to do with text that cannot be converted, in both directions.
    #[must_use]
    pub const fn with_bad_text(mut self, bad_text: BadText) -> Self {
        self.settings.bad_text = bad_text;
        self
    }

    /// The charset of the wire.
    pub const fn encoding(&self) -> &'static Encoding {
        self.settings.encoding
    }
}

impl<S> Layer<S> for TranscodeLayer {
    type Service = Transcode<S>;

    fn layer(&self, inner: S) -> Transcode<S> {
        let settings = self.settings;
        Transcode { inner, settings }
    }
}

/// Calls the inner service with a [`TranscodeIo`] inside each connection.
#[derive(Clone, Copy, Debug)]
pub struct Transcode<S> {
    inner: S,
    settings: TranscodeSettings,
}

impl<S, IO> Service<Connection<IO>> for Transcode<S>
where
    S: Service<Connection<TranscodeIo<IO>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, connection: Connection<IO>) -> S::Future {
        let transcoded = connection.map_io(|io| TranscodeIo::with_settings(io, self.settings));
        self.inner.call(transcoded)
    }
}

/// A charset that can be read and written, and the handling of bad text.
#[derive(Clone, Copy, Debug)]
pub(super) struct TranscodeSettings {
    pub(super) encoding: &'static Encoding,
    pub(super) bad_text: BadText,
}

impl TranscodeSettings {
    pub(super) fn new(encoding: &'static Encoding) -> Result<Self, UnsupportedCharset> {
        if encoding.output_encoding() != encoding {
            return Err(UnsupportedCharset::read_only(encoding));
        }
        let bad_text = BadText::Fail;
        Ok(Self { encoding, bad_text })
    }
}
