//! Reads one table of a file, and reports each key that is unknown, missing or of the wrong type.
//!
//! A section learns its keys by being asked for them. What was not asked for is unknown, so there is no list of
//! keys beside the code that reads them.

use super::{
    problem::{Place, Placed, Problems, nearest},
    source::Source,
};
use std::{cell::RefCell, ops::Range, path::PathBuf};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// A value of the configuration, as it is written in the file.
pub(crate) trait Value: Sized {
    /// Reads `value`, or reports what is wrong with it.
    fn read(value: &Spanned<DeValue<'_>>, reader: &Reader<'_>) -> Option<Self>;
}

/// A file that is being read, and the problems found in all files.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Source,
    pub(crate) problems: &'a RefCell<Problems>,
    /// Whether the syntax is wrong somewhere, so that keys may seem to be missing.
    pub(crate) is_damaged: bool,
    /// The files with networks that were read, also those with a mistake.
    pub(crate) lists: &'a RefCell<Vec<Source>>,
    /// Notes the path of each key that the program looks for, such as `listener.limits.connections`.
    pub(crate) known: Option<&'a RefCell<Vec<String>>>,
}

impl Reader<'_> {
    pub(crate) fn error(&self, span: Range<usize>, message: impl Into<String>) {
        self.error_in(&self.source.place(span), message);
    }

    /// Reports a problem, unless the syntax is wrong in the same place, which is why the value is, too.
    pub(crate) fn error_in(&self, place: &Place, message: impl Into<String>) {
        let mut problems = self.problems.borrow_mut();
        if !(self.is_damaged && problems.has_error_at(place)) {
            problems.error(place.clone(), message);
        }
    }

    /// Reports that `value` is not `expected`, such as "a duration".
    pub(crate) fn unexpected<T>(&self, value: &Spanned<DeValue<'_>>, expected: &str) -> Option<T> {
        let found = value.get_ref().type_str();
        self.error(
            value.span(),
            format!("expected {expected}, found a value of type {found}"),
        );
        None
    }
}

/// A table, with the words that messages use for it, such as `listener "shop"`.
pub(crate) struct Section<'a> {
    reader: Reader<'a>,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    words: String,
    /// The keys that lead here, such as `listener.limits`.
    path: String,
    keys: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub(crate) fn root(reader: Reader<'a>, table: &'a Spanned<DeTable<'a>>) -> Self {
        Self {
            reader,
            table: table.get_ref(),
            span: 0..0,
            words: "this file".into(),
            path: String::new(),
            keys: RefCell::default(),
        }
    }

    /// A table in the place of a value, such as `when-full = { wait = "5s", at-most = 100 }`.
    pub(crate) fn inline(
        reader: Reader<'a>,
        table: &'a DeTable<'a>,
        span: Range<usize>,
        words: &str,
    ) -> Self {
        Self {
            reader,
            table,
            span,
            words: words.into(),
            path: words.into(),
            keys: RefCell::default(),
        }
    }

    /// Reads the section with `read`, then reports the keys that `read` did not ask for.
    pub(crate) fn read<T>(self, read: impl FnOnce(&Self) -> T) -> T {
        let value = read(&self);
        self.report_unknown();
        value
    }

    /// The value of `key`; `None` if it is absent, or wrong and reported.
    pub(crate) fn get<T: Value>(&self, key: &'static str) -> Option<T> {
        T::read(self.raw(key)?, &self.reader)
    }

    /// The value of `key`, with its place.
    pub(crate) fn placed<T: Value>(&self, key: &'static str) -> Option<Placed<T>> {
        let raw = self.raw(key)?;
        Some(Placed {
            value: T::read(raw, &self.reader)?,
            place: self.reader.source.place(raw.span()),
        })
    }

    /// The value of `key`, which must be there.
    pub(crate) fn require<T: Value>(&self, key: &'static str) -> Option<Placed<T>> {
        self.missing(key, "");
        self.placed(key)
    }

    /// Reports `key` if it is absent, unless it was misspelt, which is reported there.
    pub(crate) fn missing(&self, key: &'static str, hint: &str) {
        if self.reader.is_damaged {
            return;
        }
        let misspelt = |name: &str| name != key && nearest(name, [key]).is_some();
        let mut names = self.table.iter().map(|(name, _)| name.get_ref());
        if !self.has(key) && !names.any(|name| misspelt(name)) {
            self.error(format!("{}: `{key}` is missing{hint}", self.words));
        }
    }

    /// A path, relative to the file that contains it.
    pub(crate) fn file(&self, key: &'static str) -> Option<Placed<PathBuf>> {
        self.placed::<String>(key).map(|path| Placed {
            value: self.reader.source.resolve(&path.value),
            place: path.place,
        })
    }

    /// The table `key`; `None` if it is absent, or no table, which is reported.
    pub(crate) fn section(&self, key: &'static str) -> Option<Self> {
        let raw = self.raw(key)?;
        match raw.get_ref() {
            DeValue::Table(table) => {
                let words = self.words_of(key);
                Some(self.inner(key, table, raw.span(), words))
            }
            _ => self.reader.unexpected(raw, "a table"),
        }
    }

    /// The tables of the array `key`, which the file writes as `[[key]]`.
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(raw) = self.raw(key) else {
            return Vec::new();
        };
        let DeValue::Array(array) = raw.get_ref() else {
            self.reader
                .unexpected::<()>(raw, &format!("several tables, written as [[{key}]]"));
            return Vec::new();
        };
        let section = |raw: &'a Spanned<DeValue<'a>>| match raw.get_ref() {
            DeValue::Table(table) => {
                let words = match table.get("name").and_then(|name| name.get_ref().as_str()) {
                    Some(name) => format!("{key} \"{}\"", name.escape_debug()),
                    None => self.words_of(key),
                };
                Some(self.inner(key, table, raw.span(), words))
            }
            _ => self.reader.unexpected(raw, "a table"),
        };
        array.iter().filter_map(section).collect()
    }

    /// Whether `key` is present. It counts as known from now on.
    pub(crate) fn has(&self, key: &'static str) -> bool {
        self.raw(key).is_some()
    }

    /// Whether `key` is absent, or an array of tables.
    pub(crate) fn is_table_array(&self, key: &'static str) -> bool {
        let is_table = |it: &Spanned<DeValue<'_>>| it.get_ref().is_table();
        self.raw(key).is_none_or(|raw| {
            let array = raw.get_ref().as_array();
            array.is_some_and(|array| array.iter().all(is_table))
        })
    }

    /// Whether `key` is present and a table.
    pub(crate) fn has_table(&self, key: &'static str) -> bool {
        self.raw(key).is_some_and(|raw| raw.get_ref().is_table())
    }

    pub(crate) fn place(&self) -> Place {
        self.reader.source.place(self.span.clone())
    }

    /// The place of `key`'s value, or of the section without it.
    pub(crate) fn place_of(&self, key: &'static str) -> Place {
        let span = self.raw(key).map_or(self.span.clone(), Spanned::span);
        self.reader.source.place(span)
    }

    pub(crate) fn words(&self) -> &str {
        &self.words
    }

    pub(crate) fn reader(&self) -> &Reader<'a> {
        &self.reader
    }

    /// Reports a problem of the section as a whole.
    pub(crate) fn error(&self, message: impl Into<String>) {
        self.reader.error(self.span.clone(), message);
    }

    /// Reports a problem at the value of `key`.
    pub(crate) fn error_at(&self, key: &'static str, message: impl Into<String>) {
        self.reader.error_in(&self.place_of(key), message);
    }

    /// Notes something about the value of `key`.
    pub(crate) fn note_at(&self, key: &'static str, message: impl Into<String>) {
        let place = self.place_of(key);
        self.reader.problems.borrow_mut().note(place, message);
    }

    fn raw(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        let mut keys = self.keys.borrow_mut();
        if !keys.contains(&key) {
            keys.push(key);
            if let Some(known) = self.reader.known {
                known.borrow_mut().push(join(&self.path, key));
            }
        }
        self.table.get(key)
    }

    fn inner(&self, key: &str, table: &'a DeTable<'a>, span: Range<usize>, words: String) -> Self {
        Self {
            reader: self.reader,
            table,
            span,
            words,
            path: join(&self.path, key),
            keys: RefCell::default(),
        }
    }

    fn words_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            format!("[{key}]")
        } else {
            format!("{}: {key}", self.words)
        }
    }

    fn report_unknown(&self) {
        let keys = self.keys.borrow();
        for (key, _) in self.table {
            let name = key.get_ref();
            if keys.contains(&&**name) {
                continue;
            }
            let hint = match nearest(name, keys.iter().copied()) {
                Some(nearest) => format!("; did you mean `{nearest}`?"),
                None => format!("; known keys are {}", list(&keys)),
            };
            let name = name.escape_debug();
            let message = format!("unknown key `{name}` in {}{hint}", self.words);
            self.reader.error(key.span(), message);
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.into()
    } else {
        format!("{path}.{key}")
    }
}

fn list(keys: &[&str]) -> String {
    let mut keys: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    keys.sort();
    keys.join(", ")
}
