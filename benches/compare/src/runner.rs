//! Takes the samples, in rounds with all servers in turn.

use crate::{
    entry::Kind,
    plan::{Bench, Column, Missing, Plan, Row, Sample, Target},
    process::Running,
};
use harness::BoxError;
use indicatif::{ProgressBar, ProgressStyle};
use std::{collections::HashMap, time::Duration};

/// All samples of one measurement.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) about: String,
    pub(crate) columns: &'static [Column],
    pub(crate) targets: &'static [Target],
    pub(crate) lines: Vec<Line>,
    pub(crate) missing: Vec<Missing>,
}

/// All samples of one row of it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) group: String,
    pub(crate) number: usize,
    pub(crate) kind: Kind,
    pub(crate) forwards: bool,
    pub(crate) reference: bool,
    pub(crate) peer: bool,
    /// The values of all columns, or an error, for each round.
    pub(crate) samples: Vec<Result<Vec<f64>, String>>,
}

impl Line {
    fn new(row: &Row) -> Self {
        Self {
            label: row.label.clone(),
            group: row.group.clone(),
            number: row.number,
            kind: row.entry.kind,
            forwards: row.entry.forwards,
            reference: row.reference,
            peer: row.is_peer(),
            samples: Vec::new(),
        }
    }

    /// With the mark of those that forward.
    pub(crate) fn name(&self) -> String {
        format!("{}{}", self.label, if self.forwards { " †" } else { "" })
    }

    /// A column, round by round; `None` where the sample does not count.
    pub(crate) fn column(&self, column: usize) -> Vec<Option<f64>> {
        let value = |sample: &Result<Vec<f64>, String>| {
            let value = *sample.as_ref().ok()?.get(column)?;
            value.is_finite().then_some(value)
        };
        self.samples.iter().map(value).collect()
    }

    /// The first thing that went wrong.
    pub(crate) fn problem(&self) -> Option<&str> {
        let problems = self
            .samples
            .iter()
            .filter_map(|sample| sample.as_ref().err());
        problems.map(String::as_str).next()
    }
}

/// Shows the progress and the remaining time.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new(all: Duration) -> Self {
        let bar = ProgressBar::new(millis(all));
        let style = "{elapsed_precise} [{bar:30}] {percent}%, {eta} left: {wide_msg}";
        // The template is a constant: it parses.
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(bar)
    }

    fn begin(&self, plan: &Plan) {
        if self.0.is_hidden() {
            eprintln!("{}: about {} s", plan.id, plan.estimate().as_secs().max(1));
        }
    }

    fn show(&self, plan: &Plan, round: usize, row: &Row) {
        let rounds = plan.rounds;
        let group = if row.group.is_empty() { "" } else { ", " };
        self.0.set_message(format!(
            "{}, round {round} of {rounds}: {}{group}{}",
            plan.id, row.label, row.group
        ));
    }

    fn done(&self, plan: &Plan) {
        self.0.inc((plan.seconds * 1e3) as u64);
    }

    /// Prints above the bar.
    pub(crate) fn print(&self, text: &str) {
        self.0.suspend(|| println!("{text}"));
    }

    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

pub(crate) fn run(bench: &Bench, plan: &Plan, progress: &Progress) -> Table {
    progress.begin(plan);
    let mut servers = Servers {
        bench,
        plan,
        running: HashMap::new(),
    };
    let mut lines: Vec<Line> = plan.rows.iter().map(Line::new).collect();
    if !plan.fresh {
        for row in &plan.rows {
            progress.show(plan, 0, row);
            if !servers.running.contains_key(&(row.entry.name, row.again)) {
                // A warm-up. A failure here will show in the rounds as well.
                let _ = servers.sample(row);
            }
            progress.done(plan);
        }
    }
    for round in 0..plan.rounds {
        for place in 0..plan.rows.len() {
            // Each round begins with another server, because the position may have an effect.
            let turn = (place + round) % plan.rows.len();
            let row = &plan.rows[turn];
            progress.show(plan, round + 1, row);
            let sample = servers.sample(row).map_err(|error| error.to_string());
            lines[turn]
                .samples
                .push(sample.and_then(|sample| match sample.problem {
                    None => Ok(sample.values),
                    Some(problem) => Err(problem),
                }));
            progress.done(plan);
        }
    }
    Table {
        id: plan.id,
        title: plan.title.clone(),
        about: plan.about.clone(),
        columns: plan.columns,
        targets: plan.targets,
        lines,
        missing: plan.missing.clone(),
    }
}

/// The servers that stay up for all rounds.
struct Servers<'a> {
    bench: &'a Bench,
    plan: &'a Plan,
    /// The second reference is a separate process, because the memory layout is random as well.
    running: HashMap<(&'static str, bool), Running>,
}

impl Servers<'_> {
    fn sample(&mut self, row: &Row) -> Result<Sample, BoxError> {
        let name = (row.entry.name, row.again);
        let mut server = match self.running.remove(&name) {
            Some(server) => server,
            None => Running::start(row.entry, self.plan.backend, &self.bench.folder)?,
        };
        // After a failure the server is in an unknown state, so the next sample gets a new one.
        let sample = (self.plan.sample)(self.bench, row, &mut server)?;
        if !self.plan.fresh && sample.problem.is_none() {
            self.running.insert(name, server);
        }
        Ok(sample)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
