//! The command, and the table that it prints.

use super::{Change, changes};
use crate::{exit, run};
use std::{path::PathBuf, process::ExitCode};

#[derive(clap::Args, Debug)]
pub(crate) struct PlanArgs {
    /// The new configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
    pub(crate) config: PathBuf,
    /// The file to compare with.
    #[arg(long, value_name = "FILE")]
    pub(crate) old: Option<PathBuf>,
}

/// Compares two files, or a file with the configuration of the running process.
pub(crate) fn plan(args: &PlanArgs) -> ExitCode {
    let Some(old) = &args.old else {
        eprintln!("portcullis: `plan` needs the old file: --old FILE");
        return ExitCode::from(exit::USAGE);
    };
    let (new, _, problems) = run::load(&args.config);
    let (old, _, old_problems) = run::load(old);
    if problems.errors() + old_problems.errors() > 0 {
        for problem in problems.sorted().into_iter().chain(old_problems.sorted()) {
            println!("{problem}");
        }
        return ExitCode::from(exit::USAGE);
    }
    let rows: Vec<_> = changes(&old, &new).into_iter().map(Row::of).collect();
    print(&rows)
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
        println!("nothing to do: both configurations mean the same");
        return ExitCode::from(exit::OK);
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
    for line in &lines {
        let cells = line.iter().zip(widths);
        let padded: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        println!("{}", padded.join("  ").trim_end());
    }
    ExitCode::from(exit::CHANGES)
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
