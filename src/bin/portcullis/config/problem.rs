//! What is wrong with a configuration, where, and how to mend it.

use std::{collections::BTreeSet, fmt, path::Path, sync::Arc};

/// The place of a value in a file. Lines and columns begin at 1; columns count characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: Arc<Path>,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

/// Writes `file:line:column`, as editors and terminals open it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

impl Place {
    /// Where another place is, for a message here: its line, and its file if that is another one.
    pub(crate) fn of_other(&self, other: &Self) -> String {
        let Self { file, line, .. } = other;
        match *file == self.file {
            true => format!("line {line}"),
            false => format!("{}:{line}", file.display()),
        }
    }

    /// The beginning of a message; empty for a text that is in no file.
    pub(crate) fn before(&self) -> String {
        match self.file.as_os_str().is_empty() {
            true => String::new(),
            false => format!("{self}: "),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// One line for the reader of the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    pub(crate) severity: Severity,
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably does something else than intended.
    Note,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let note = match self.severity {
            Severity::Error => "",
            Severity::Note => "note: ",
        };
        let place = self.place.before();
        write!(f, "{place}{note}{}", self.message)
    }
}

/// All problems of a configuration, sorted by place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn error(&mut self, place: Place, message: impl Into<String>) {
        self.add(place, Severity::Error, message.into());
    }

    pub(crate) fn note(&mut self, place: Place, message: impl Into<String>) {
        self.add(place, Severity::Note, message.into());
    }

    fn add(&mut self, place: Place, severity: Severity, message: String) {
        self.0.push(Problem {
            place,
            severity,
            message,
        });
    }

    /// Adds the problems of a later step, without those at the place of an error, from which they probably follow.
    pub(crate) fn extend(&mut self, others: Self) {
        let others = others.0.into_iter();
        let others: Vec<_> = others.filter(|it| !self.has_error_at(&it.place)).collect();
        self.0.extend(others);
    }

    pub(crate) fn has_error_at(&self, place: &Place) -> bool {
        let mut errors = self.0.iter().filter(|it| it.severity == Severity::Error);
        errors.any(|it| it.place == *place)
    }

    /// Keeps the problems at places that `keep`.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Place) -> bool) {
        self.0.retain(|problem| keep(&problem.place));
    }

    pub(crate) fn errors(&self) -> usize {
        let is_error = |problem: &&Problem| problem.severity == Severity::Error;
        let errors: BTreeSet<_> = self.0.iter().filter(is_error).collect();
        errors.len()
    }

    pub(crate) fn sorted(mut self) -> Vec<Problem> {
        self.0.sort();
        self.0.dedup();
        self.0
    }
}

/// The known name that `unknown` is probably a misspelling of.
pub(crate) fn nearest<'a>(
    unknown: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(unknown, name);
    let nearest = known.into_iter().min_by_key(|name| distance(name))?;
    // A third of the letters may differ; beyond that a suggestion is a guess.
    (distance(nearest) <= unknown.chars().count().max(3) / 3).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_misspelt_name_finds_its_neighbour_and_a_foreign_one_finds_none() {
        let known = ["backend", "listen", "limits"];
        assert_eq!(nearest("bakend", known), Some("backend"));
        assert_eq!(nearest("limit", known), Some("limits"));
        assert_eq!(nearest("certificate", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
