//! Compares the tables with the calls of `tracing`'s macros in the sources, and with the page.

use super::*;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Target, level and sorted fields of an event.
type Emitted = (String, Option<Level>, Vec<String>);

#[test]
fn every_event_of_this_package_is_in_the_table_and_the_other_way_round() {
    let found = scan(Path::new(MIDDLEWARE), "portcullis_middleware");
    compare(&found, |target| {
        target.starts_with("portcullis_middleware") || target == TARGET
    });
}

#[test]
fn every_event_of_the_server_is_in_the_table_and_the_other_way_round() {
    let sources = Path::new(MIDDLEWARE).join("../../src");
    if !sources.exists() {
        return; // outside of the repository
    }
    let found = scan(&sources, "portcullis");
    compare(&found, |target| {
        target.starts_with("portcullis::") && target != TARGET
    });
}

#[test]
fn every_field_of_the_span_is_in_the_table_in_the_order_of_the_code() {
    let source = fs::read_to_string(Path::new(MIDDLEWARE).join("observe/trace/report.rs")).unwrap();
    let (_, call) = source.split_once(" span!(").unwrap();
    let names: Vec<_> = fields(arguments(call)).collect();
    let listed: Vec<_> = SPAN_FIELDS.iter().map(|field| field.name).collect();
    assert_eq!(names, listed);
}

#[test]
fn every_field_of_an_event_is_described() {
    let described: BTreeSet<_> = FIELDS.iter().map(|field| field.name).collect();
    let used: BTreeSet<_> = EVENTS
        .iter()
        .flat_map(|event| event.fields)
        .copied()
        .collect();
    assert_eq!(used, described);
}

#[test]
fn the_page_shows_the_tables() {
    let page = fs::read_to_string(Path::new(MIDDLEWARE).join("telemetry.rs")).unwrap();
    let rows = |fields: &[Field]| -> Vec<String> {
        let row = |field: &Field| format!("//! | `{}` | {} |", field.name, field.value);
        fields.iter().map(row).collect()
    };
    let mut expected = [rows(SPAN_FIELDS), rows(FIELDS)].concat();
    expected.extend(EVENTS.iter().map(|event| {
        let fields: Vec<_> = event
            .fields
            .iter()
            .map(|field| format!("`{field}`"))
            .collect();
        let fields = match fields.is_empty() {
            true => String::new(),
            false => format!(" {}", fields.join(", ")),
        };
        let level = event
            .level
            .map_or("configurable".to_owned(), |level| level.to_string());
        format!(
            "//! | `{}` | {level} |{fields} | {} |",
            event.target, event.when
        )
    }));
    let shown: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("//! | `"))
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn the_scan_reads_the_fields_of_a_call() {
    let call = r#"%id, ?limit, plain, a.b = f(x, "y, z"), error = %Escaped(e), "text {x}", x)"#;
    let names: Vec<_> = fields(arguments(call)).collect();
    assert_eq!(names, ["id", "limit", "plain", "a.b", "error"]);
}

/// Fails unless the events of the targets in `of` are those in the table.
#[track_caller]
fn compare(found: &BTreeSet<Emitted>, of: impl Fn(&str) -> bool) {
    let events = EVENTS.iter().filter(|event| of(event.target));
    let entry = |event: &Event| {
        let fields = event.fields.iter().map(|field| (*field).to_owned());
        (event.target.to_owned(), event.level, sorted(fields))
    };
    let listed: BTreeSet<Emitted> = events.map(entry).collect();
    let unlisted: Vec<_> = found.difference(&listed).collect();
    let unused: Vec<_> = listed.difference(found).collect();
    assert!(
        unlisted.is_empty() && unused.is_empty(),
        "emitted and not in the table: {unlisted:#?}\nin the table and not emitted: {unused:#?}"
    );
}

/// All events in the sources below `folder`, without tests.
fn scan(folder: &Path, package: &str) -> BTreeSet<Emitted> {
    let mut found = BTreeSet::new();
    for path in sources(folder) {
        let source = fs::read_to_string(&path).unwrap();
        let code = source
            .split("#[cfg(test)]\nmod ")
            .next()
            .unwrap_or_default();
        let module = target(path.strip_prefix(folder).unwrap(), package);
        let macros = [
            ("tracing::error!(", Some(Level::ERROR)),
            ("tracing::warn!(", Some(Level::WARN)),
            ("tracing::info!(", Some(Level::INFO)),
            ("tracing::debug!(", Some(Level::DEBUG)),
            ("tracing::trace!(", Some(Level::TRACE)),
            // Inside of `at_level!`, which sets the target.
            (" event!(", None),
        ];
        for (call, level) in macros {
            for rest in code.split(call).skip(1) {
                let names = fields(arguments(rest)).map(str::to_owned);
                let target = level.map_or(TARGET, |_| &module);
                found.insert((target.to_owned(), level, sorted(names)));
            }
        }
    }
    assert!(!found.is_empty(), "no events below {}", folder.display());
    found
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // `src/bin` is a package of its own, whose log is not part of the API.
        let is_skipped = |name| name == "tests" || name == "bin";
        if path.file_stem().is_some_and(is_skipped) {
            continue;
        } else if path.is_dir() {
            paths.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    paths
}

/// The path of the module in the file `path`, which is the target of its events.
fn target(path: &Path, package: &str) -> String {
    let path = path.with_extension("");
    let names = path.iter().map(|name| name.to_str().unwrap());
    let modules = names.filter(|name| !matches!(*name, "mod" | "lib"));
    let path: Vec<_> = [package].into_iter().chain(modules).collect();
    path.join("::")
}

/// The arguments of a macro call, split at commas outside of parentheses and texts.
fn arguments(call: &str) -> Vec<&str> {
    let (mut depth, mut text, mut escaped, mut start) = (0, false, false, 0);
    let mut arguments = Vec::new();
    for (at, c) in call.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if text => escaped = true,
            '"' => text = !text,
            _ if text => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                arguments.push(call[start..at].trim());
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(call[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    arguments
}

/// The names of the fields, which come before the message.
fn fields(arguments: Vec<&str>) -> impl Iterator<Item = &str> {
    let is_field = |argument: &&str| !argument.starts_with('"') && !argument.is_empty();
    // The name of a span comes first.
    let is_name = |argument: &&str| argument.starts_with("\"connection\"");
    let arguments = arguments.into_iter().skip_while(is_name);
    arguments.take_while(is_field).map(|argument| {
        let name = argument.split('=').next().unwrap_or_default().trim();
        name.trim_start_matches(['%', '?'])
    })
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

const MIDDLEWARE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
