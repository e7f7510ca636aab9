//! The command, and the table that it prints.

use super::{Change, changes};
use crate::{
    config::{Config, read_text},
    ctl::{Client, Interface, PATIENCE},
    exit, output, run,
};
use http::Method;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(clap::Args, Debug)]
pub(crate) struct PlanArgs {
    /// The new configuration file. The running process reads it as if it stood in the place of its own.
    #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
    config: PathBuf,
    /// The same without --config.
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// The file to compare with, instead of the running process.
    #[arg(long, value_name = "FILE")]
    old: Option<PathBuf>,
    /// The admin interface of the running process; by default that of the new file.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "old")]
    admin: Option<String>,
    /// The file of the token; by default the token is in the variable PORTCULLIS_TOKEN.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The file of the authorities, in PEM, for an interface with TLS; by default those of the system.
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
}

impl PlanArgs {
    fn interface(&self) -> Interface<'_> {
        Interface {
            admin: self.admin.as_deref(),
            config: self.path(),
            token_file: self.token_file.as_deref(),
            roots: self.roots.as_deref(),
            timeout: PATIENCE,
        }
    }

    fn path(&self) -> &Path {
        self.file.as_ref().unwrap_or(&self.config)
    }
}

/// Compares two files, or a file with the configuration of the running process.
pub(crate) fn plan(args: &PlanArgs) -> ExitCode {
    let (new, _, problems) = run::load(args.path());
    if problems.errors() > 0 {
        return run::print_problems(args.path(), problems);
    }
    let Some(path) = &args.old else {
        return match ask(args, &new) {
            Ok(rows) => print(&rows),
            Err(error) => {
                output::say(format_args!("portcullis: {error}"));
                ExitCode::from(exit::USAGE)
            }
        };
    };
    let (old, _, problems) = run::load(path);
    if problems.errors() > 0 {
        return run::print_problems(path, problems);
    }
    say(args.path(), &path.display().to_string());
    let rows: Vec<_> = changes(&old, &new).into_iter().map(Row::of).collect();
    print(&rows)
}

/// Asks the running process, which knows its connections.
fn ask(args: &PlanArgs, new: &Config) -> Result<Vec<Row>, String> {
    let instead = |error| format!("{error}; or compare two files with --old");
    let client = Client::new(args.interface()).map_err(instead)?;
    let runtime = run::runtime();
    let request = |method, path, body| {
        let answer = runtime.block_on(client.request(&method, path, body))?;
        let json: Value = serde_json::from_str(&answer.text).unwrap_or_default();
        if answer.status.is_success() {
            return Ok(json);
        }
        if let Some(error) = answer.needs_token {
            return Err(error);
        }
        let error = json["error"].as_str().unwrap_or("the answer is not JSON");
        Err(format!("{}: {error}", answer.status))
    };
    // The running process gets the text of one file, and reads those that it includes from its own folder.
    if new.files.len() > 1 {
        let status = request(Method::GET, "/api/status", String::new())?;
        let running = status["configuration"]["file"].as_str();
        if !running.is_some_and(|running| is_same(Path::new(running), args.path())) {
            return Err(format!(
                "{} includes other files, and is not the file that the running process reads, which is {}; put it \
                 there, or compare two files with --old",
                args.config.display(),
                running.unwrap_or("unknown")
            ));
        }
    }
    let text = read_text(args.path())
        .map_err(|error| format!("{} cannot be read: {error}", args.config.display()))?;
    let json = request(Method::POST, "/api/plan", text)?;
    let problems = json["problems"].as_array().into_iter().flatten();
    let problems: Vec<_> = problems.filter_map(Value::as_str).collect();
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    let running = json["file"].as_str().unwrap_or("no file");
    say(
        args.path(),
        &format!("what runs, which was read from {running}"),
    );
    let changes = json["changes"].as_array().into_iter().flatten();
    Ok(changes.map(Row::of_json).collect())
}

/// Says what is compared, beside the table.
fn say(new: &Path, old: &str) {
    output::say(format_args!("{} is compared with {old}", new.display()));
}

/// Whether both are one file, perhaps through links.
fn is_same(one: &Path, other: &Path) -> bool {
    let (one, other) = (fs::canonicalize(one), fs::canonicalize(other));
    one.is_ok_and(|one| other.is_ok_and(|other| one == other))
}

/// A change, and how many open connections it concerns, if that is known.
struct Row {
    key: String,
    from: String,
    to: String,
    takes_effect: String,
    connections: Option<u64>,
    effect: String,
}

impl Row {
    fn of(change: Change) -> Self {
        Self {
            takes_effect: change.takes_effect().into(),
            key: change.key,
            from: change.from,
            to: change.to,
            connections: None,
            effect: change.effect,
        }
    }

    fn of_json(change: &Value) -> Self {
        let text = |key: &str| change[key].as_str().unwrap_or_default().to_owned();
        Self {
            key: text("key"),
            from: text("from"),
            to: text("to"),
            takes_effect: text("takes_effect"),
            connections: change["connections"].as_u64(),
            effect: text("effect"),
        }
    }

    fn cells(&self) -> [String; 6] {
        let connections = self.connections;
        [
            cut(&self.key),
            cut(&self.from),
            cut(&self.to),
            self.takes_effect.clone(),
            connections.map_or_else(|| "-".into(), |connections| connections.to_string()),
            self.effect.clone(),
        ]
    }
}

/// Prints one line for each change, in columns.
fn print(rows: &[Row]) -> ExitCode {
    if rows.is_empty() {
        let nothing = "nothing to do: both configurations mean the same\n";
        return output::end_with(nothing, exit::OK);
    }
    let heads = [
        "KEY",
        "FROM",
        "TO",
        "TAKES EFFECT",
        "OPEN",
        "WHAT HAPPENS TO THEM",
    ];
    let mut lines = vec![heads.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut table = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths);
        let padded: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        table += padded.join("  ").trim_end();
        table.push('\n');
    }
    output::end_with(&table, exit::CHANGES)
}

/// Lists of networks may be long.
fn cut(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        return text.into();
    }
    let begin: String = text.chars().take(LONGEST - 1).collect();
    format!("{begin}…")
}
