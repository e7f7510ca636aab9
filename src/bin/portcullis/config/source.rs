//! A file of the configuration, and the places in it.

use super::problem::Place;
use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

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

    pub(crate) fn text(&self) -> &str {
        &self.text
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
