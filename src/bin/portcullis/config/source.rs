//! A file of the configuration, and the places in it.

use super::problem::Place;
use portcullis::middleware::internal::{read_text_file, read_text_of};
use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The text of a file that may be read while a program serves, so that it is neither a FIFO nor endless.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    read_text_file(path)
}

/// The text of the standard input, which is as long as a file may be.
pub(crate) fn read_stdin() -> io::Result<String> {
    read_text_of(io::stdin().lock())
}

/// The text of one file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    path: Arc<Path>,
    text: String,
    /// The offsets at which lines begin, without the first one.
    lines: Vec<usize>,
}

impl Source {
    pub(crate) fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let text = text.into();
        let newlines = text.match_indices('\n');
        Self {
            path: path.into().into(),
            lines: newlines.map(|(newline, _)| newline + 1).collect(),
            text,
        }
    }

    /// A text that is in no file. Its problems name no place.
    pub(crate) fn unnamed(text: impl Into<String>) -> Self {
        Self::new("", text)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The first twelve digits of the SHA-256 of these texts in a row, as `sha256sum` prints them.
    ///
    /// `None` if the crypto provider lacks SHA-256.
    pub(crate) fn hash<'a>(sources: impl Iterator<Item = &'a Self>) -> Option<String> {
        use portcullis::middleware::tls::{
            provider,
            rustls::{SupportedCipherSuite, crypto::hash::HashAlgorithm},
        };
        let provider = provider();
        let mut suites = provider.cipher_suites.iter();
        let mut hash = suites.find_map(|suite| match suite {
            SupportedCipherSuite::Tls13(suite) => {
                let hash = suite.common.hash_provider;
                (hash.algorithm() == HashAlgorithm::SHA256).then(|| hash.start())
            }
            SupportedCipherSuite::Tls12(_) => None,
        })?;
        sources.for_each(|source| hash.update(source.text.as_bytes()));
        let hash = hash.finish();
        let digits = hash.as_ref().iter().map(|byte| format!("{byte:02x}"));
        Some(digits.take(6).collect())
    }

    /// The place of the first character of `span`, in bytes.
    pub(crate) fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        let line = self.lines.partition_point(|start| *start <= before.len());
        let line_start = line.checked_sub(1).map_or(0, |line| self.lines[line]);
        Place {
            file: self.path.clone(),
            line: line + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// A path of the configuration; relative ones are relative to this file.
    pub(crate) fn resolve(&self, path: &str) -> PathBuf {
        self.path
            .parent()
            .map_or_else(|| path.into(), |folder| folder.join(path))
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn the_hash_is_that_of_sha256sum_over_all_files() {
        let [one, two] = ["a", "bc"].map(|text| Source::new("gate.toml", text));
        let hash = Source::hash([one, two].iter());
        assert_eq!(hash.as_deref(), Some("ba7816bf8f01"), "that of \"abc\"");
    }

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let source = Source::new("gate.toml", "a = 1\nb = \"ü\" # x\n");
        let at = |offset: usize| {
            let place = source.place(offset..offset);
            (place.line, place.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(6), (2, 1));
        let comment = source.text().find('#').expect("it is there");
        assert_eq!(at(comment), (2, 9));
        assert_eq!(at(1_000), (3, 1), "a span behind the end is the end");
    }
}
