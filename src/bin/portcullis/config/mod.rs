//! The configuration file: read, and checked as far as that is possible without the system.
//!
//! A file is TOML. It is read in three steps, and each reports all that it finds:
//!
//! 1. the syntax; the parser goes on after a mistake;
//! 2. each section alone: unknown keys, missing keys, invalid values;
//! 3. the references between sections, such as a listener's backend.
//!
//! If the syntax is wrong, nothing is reported as missing, because it may be what could not be read.

mod address;
mod admin;
mod backend;
mod buffers;
mod certificate;
mod guards;
mod health;
mod listener;
mod prelude;
mod problem;
mod process;
mod references;
mod section;
mod source;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use self::{
    admin::{Admin, Protect, Secret, TokenSource},
    backend::{
        Backend, BackendTls, Balance, ProxyField, SendProxy, Server, ServerAddress, WhenNoneHealthy,
    },
    buffers::Buffers,
    certificate::Certificate,
    guards::{Direction, Guards, Refuse, Throughput, WhenFull, chain},
    health::{Check, Health, Statuses},
    listener::{
        Action, ClientCertificates, Listener, Matches, NamePattern, OutdatedCrl, PROTOCOLS,
        ProxyProtocol, Route, Target, Tls, Untrusted, route_words,
    },
    prelude::Prelude,
    problem::{Place, Placed, Problems, Severity},
    process::{Access, Drain, Format, Log, Process, Workers},
    source::{Source, read_text},
    value::{
        ByteRate, EventRate, ListenAddress, Size, SocketMode, no_listen_address, parse_duration,
    },
};
use section::{Reader, Section};
use source::read_stdin;
use std::{cell::RefCell, fmt, fs, ops::Range, path::Path};
use toml::de::DeTable;

/// What has sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User<'a> {
    Listener(&'a str),
    Admin,
}

impl fmt::Display for User<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(name) => write!(f, "listener \"{name}\""),
            Self::Admin => f.write_str("admin"),
        }
    }
}

/// A configuration without errors of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    pub(crate) process: Process,
    pub(crate) drain: Drain,
    pub(crate) log: Log,
    /// Without it there is no admin interface, and the connections of listeners are not measured for one.
    pub(crate) admin: Option<Admin>,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) backends: Vec<Backend>,
    /// That of the texts which it was read from; see [`Source::hash`].
    pub(crate) hash: Option<String>,
    /// The files that it was read from.
    pub(crate) files: Vec<std::path::PathBuf>,
    /// The files with networks that it names.
    pub(crate) lists: Vec<std::path::PathBuf>,
    /// The hash of the texts of all these files.
    pub(crate) hash_with_lists: Option<String>,
}

impl Config {
    /// Reads a file and those that it includes.
    ///
    /// The problems may be notes alone; then the configuration can be used.
    pub(crate) fn load(path: &Path) -> (Self, Problems) {
        let mut problems = Problems::default();
        let config = match read_source(path, &mut problems) {
            Some(source) => Self::parse(&source, &mut problems),
            None => Self::default(),
        };
        (config, problems)
    }

    /// Reads the standard input. Paths in it are relative to the current folder.
    pub(crate) fn from_stdin() -> (Self, Problems) {
        let mut problems = Problems::default();
        let text = read_stdin();
        let source = Source::new("-", text.as_deref().unwrap_or_default());
        let config = match text {
            Ok(_) => Self::parse(&source, &mut problems),
            Err(error) => {
                let message = format!("the standard input cannot be read: {error}");
                problems.error(source.place(0..0), message);
                Self::default()
            }
        };
        (config, problems)
    }

    /// Reads `source`. What is wrong is left out and reported.
    pub(crate) fn parse(source: &Source, problems: &mut Problems) -> Self {
        let (config, _) = Self::parse_noting(source, problems, None);
        config
    }

    /// All that listens, and where.
    pub(crate) fn users(&self) -> impl Iterator<Item = (User<'_>, &Placed<ListenAddress>)> {
        let listeners = self.listeners.iter().flat_map(|listener| {
            let user = User::Listener(&listener.name.value);
            listener.listen.iter().map(move |listen| (user, listen))
        });
        let admin = self.admin.iter();
        listeners.chain(admin.map(|admin| (User::Admin, &admin.listen)))
    }

    /// What has a socket that prevents a new one at `address` of `user`, and its address.
    ///
    /// A socket of the same address goes from one user to another, where that is possible.
    pub(crate) fn in_the_way(
        &self,
        address: &ListenAddress,
        user: User<'_>,
    ) -> Option<(User<'_>, &ListenAddress)> {
        let mut users = self.users().map(|(holder, listen)| (holder, &listen.value));
        users.find(|(holder, held)| {
            let is_other = *holder != user && !address.is_any_port();
            held.overlaps(address) || (cfg!(not(unix)) && is_other && *held == address)
        })
    }

    fn parse_noting(
        source: &Source,
        problems: &mut Problems,
        known: Option<&RefCell<Vec<String>>>,
    ) -> (Self, usize) {
        let found = RefCell::new(std::mem::take(problems));
        let lists = RefCell::default();
        let mut config = Self::default();
        let mut defaults = Guards::default();
        let mut sources = vec![(source.clone(), true)];
        let (mut read, mut is_damaged) = (0, false);
        // Sources are read in the order of their inclusion; the list grows while it is walked.
        while let Some((source, is_main)) = sources.get(read).cloned() {
            read += 1;
            let (table, errors) = DeTable::parse_recoverable(source.text());
            let reader = Reader {
                source: &source,
                problems: &found,
                is_damaged: !errors.is_empty(),
                lists: &lists,
                known,
            };
            is_damaged |= reader.is_damaged;
            for error in errors {
                let span = error.span().unwrap_or(0..0);
                let message = syntax_error(source.text(), span.clone(), error.message());
                reader.error(span, message);
            }
            let includes = Section::root(reader, &table)
                .read(|section| config.read_section(section, &mut defaults, is_main));
            for include in includes {
                for path in included(&include.value, &include.place, &found) {
                    if let Some(source) = read_source(&path, &mut found.borrow_mut()) {
                        sources.push((source, false));
                    }
                }
            }
        }
        config.hash = Source::hash(sources.iter().map(|(source, _)| source));
        config.files = sources
            .iter()
            .map(|(source, _)| source.path().into())
            .collect();
        let lists: Vec<Source> = lists.into_inner();
        let texts = sources.iter().map(|(source, _)| source).chain(&lists);
        config.hash_with_lists = Source::hash(texts);
        config.lists = lists.iter().map(|list| list.path().into()).collect();
        let mut found = found.into_inner();
        // What seems to be missing may be where the syntax is wrong.
        if !is_damaged {
            references::check(&config, &mut found);
        }
        *problems = found;
        (config, read)
    }

    /// Returns the patterns of the files to include.
    fn read_section(
        &mut self,
        section: &Section<'_>,
        defaults: &mut Guards,
        is_main: bool,
    ) -> Vec<Placed<std::path::PathBuf>> {
        let mut includes = Vec::new();
        if is_main {
            read_version(section);
            includes = read_includes(section);
            if let Some(section) = section.section("process") {
                self.process = section.read(Process::read);
            }
            if let Some(section) = section.section("drain") {
                self.drain = section.read(Drain::read);
            }
            if let Some(section) = section.section("log") {
                self.log = section.read(Log::read);
            }
            if let Some(section) = section.section("admin") {
                self.admin = section.read(Admin::read);
            }
            if let Some(section) = section.section("defaults") {
                *defaults = section.read(|section| Guards::read(section, &Guards::default()));
            }
        }
        let listeners = section.sections("listener").into_iter();
        self.listeners.extend(
            listeners
                .filter_map(|section| section.read(|section| Listener::read(section, defaults))),
        );
        let backends = section.sections("backend").into_iter();
        self.backends
            .extend(backends.filter_map(|section| section.read(Backend::read)));
        let certificates = section.sections("certificate").into_iter();
        self.certificates
            .extend(certificates.filter_map(|section| section.read(Certificate::read)));
        includes
    }
}

/// The parser's message, with what it is about.
fn syntax_error(text: &str, span: Range<usize>, message: &str) -> String {
    let at = text.get(span.clone()).unwrap_or_default();
    let behind = text.get(span.start..).unwrap_or_default().trim_start();
    if message == "duplicate key" {
        return format!("duplicate key `{}`", at.escape_debug());
    }
    if behind.starts_with(',') {
        return format!("{message}; write [ ] around several values");
    }
    message.to_owned()
}

/// The version of the format comes first, so that a later format is recognized.
const VERSION: u32 = 1;

fn read_version(section: &Section<'_>) {
    if !section.has("version") && !section.reader().is_damaged {
        section.error(format!(
            "`version = {VERSION}` is missing as the first line"
        ));
    } else if section
        .get::<u32>("version")
        .is_some_and(|version| version != VERSION)
    {
        section.error_at(
            "version",
            format!("this program reads version {VERSION} of the configuration"),
        );
    }
}

fn read_includes(section: &Section<'_>) -> Vec<Placed<std::path::PathBuf>> {
    let patterns = section.get::<value::OneOrMore<Placed<String>>>("include");
    let patterns = patterns.map_or_else(Vec::new, |patterns| patterns.0);
    let resolve = |pattern: Placed<String>| Placed {
        value: section.reader().source.resolve(&pattern.value),
        place: pattern.place,
    };
    patterns.into_iter().map(resolve).collect()
}

/// The files that match a path whose last part may contain a `*`, in the order of their names.
fn included(
    pattern: &Path,
    place: &Place,
    problems: &RefCell<Problems>,
) -> Vec<std::path::PathBuf> {
    let report = |message: String| problems.borrow_mut().error(place.clone(), message);
    let name = pattern.file_name().and_then(|name| name.to_str());
    let Some((before, behind)) = name.and_then(|name| name.split_once('*')) else {
        return vec![pattern.into()];
    };
    let folder = match pattern.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if behind.contains('*') || folder.to_string_lossy().contains('*') {
        report("an include may contain one *, in the name of the file".into());
        return Vec::new();
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            report(format!("{}: {error}", folder.display()));
            return Vec::new();
        }
    };
    let matches = |path: &std::path::PathBuf| {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        name.len() >= before.len() + behind.len()
            && name.starts_with(before)
            && name.ends_with(behind)
            && !name.starts_with('.')
    };
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(matches)
        .collect();
    paths.sort();
    paths
}

fn read_source(path: &Path, problems: &mut Problems) -> Option<Source> {
    match read_text(path) {
        Ok(text) => Some(Source::new(path, text)),
        Err(error) => {
            let place = Source::new(path, "").place(0..0);
            problems.error(place, format!("cannot be read: {error}"));
            None
        }
    }
}
