//! A measurement as data.

use crate::{
    entry::{Entry, Kind, Start},
    options::Options,
    process::{Cpu, Running, pause},
    server,
};
use harness::{BoxError, version::is_installed};
use std::{fmt, path::PathBuf, time::Duration};
use tokio::runtime::Runtime;

/// The context of all measurements.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The clients'.
    pub(crate) runtime: Runtime,
    pub(crate) folder: PathBuf,
    pub(crate) quick: bool,
}

impl Bench {
    /// Duration of a sample.
    pub(crate) const fn time(&self) -> Duration {
        match self.quick {
            true => Duration::from_millis(120),
            false => Duration::from_millis(300),
        }
    }

    pub(crate) const fn rounds(&self) -> usize {
        match self.quick {
            true => 2,
            false => 10,
        }
    }

    /// Rounds of measurements with a target of a few per cent, for less noise in the median.
    pub(crate) const fn many_rounds(&self) -> usize {
        match self.quick {
            true => 2,
            false => 20,
        }
    }

    /// Rounds of measurements that take long and vary little.
    pub(crate) const fn few_rounds(&self) -> usize {
        match self.quick {
            true => 1,
            false => 5,
        }
    }

    /// The result of `load`, and the CPU time of the server meanwhile.
    pub(crate) fn watch<T>(
        &self,
        server: &Running,
        load: impl Future<Output = Result<T, BoxError>>,
    ) -> Result<(T, Cpu), BoxError> {
        let before = server.cpu()?;
        let result = self.runtime.block_on(load)?;
        // The server has still to see the last connections end.
        pause(Duration::from_millis(20));
        Ok((result, server.cpu()? - before))
    }
}

/// A measurement.
pub(crate) struct Plan {
    /// For `--only`, and the name of its plot.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) about: String,
    /// The first one and those marked as compared have ratios. In those, less is better.
    pub(crate) columns: &'static [Column],
    /// Upper bounds of the results.
    pub(crate) targets: &'static [Target],
    pub(crate) rows: Vec<Row>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) rounds: usize,
    /// Approximate duration of a sample in seconds.
    pub(crate) seconds: f64,
    /// Whether each sample has a fresh server.
    pub(crate) fresh: bool,
    /// The server behind those that forward.
    pub(crate) backend: &'static str,
    pub(crate) sample: Box<Sampler>,
}

type Sampler = dyn Fn(&Bench, &Row, &mut Running) -> Result<Sample, BoxError>;

impl Plan {
    pub(crate) fn new(
        bench: &Bench,
        id: &'static str,
        title: impl Into<String>,
        about: impl Into<String>,
        columns: &'static [Column],
        sample: impl Fn(&Bench, &Row, &mut Running) -> Result<Sample, BoxError> + 'static,
    ) -> Self {
        Self {
            id,
            title: title.into(),
            about: about.into(),
            columns,
            targets: &[],
            rows: Vec::new(),
            missing: Vec::new(),
            rounds: bench.rounds(),
            seconds: bench.time().as_secs_f64() + 0.1,
            fresh: false,
            backend: "tokio",
            sample: Box::new(sample),
        }
    }

    pub(crate) fn servers(self, names: &str) -> Self {
        self.group("", 0, names)
    }

    /// Adds those that do the same in front of another server. They are compared with each other.
    pub(crate) fn forwarders(self, names: &str) -> Self {
        self.group(FORWARDING, 0, names)
    }

    /// Adds rows that are compared with each other. The first is their reference. A repeated name is the
    /// reference in a second process, which shows the noise.
    pub(crate) fn group(mut self, group: impl Into<String>, number: usize, names: &str) -> Self {
        let group = group.into();
        let names: Vec<&str> = names.split_whitespace().collect();
        for (place, name) in names.iter().enumerate() {
            let again = names[..place].contains(name);
            match available(name) {
                Ok(entry) => self.rows.push(Row {
                    label: format!("{name}{}", if again { " (again)" } else { "" }),
                    group: group.clone(),
                    entry,
                    number,
                    reference: place == 0,
                    again,
                }),
                Err(why) => {
                    let name = (*name).to_owned();
                    let missing = Missing { name, why };
                    // Several groups may miss the same.
                    if !self.missing.contains(&missing) {
                        self.missing.push(missing);
                    }
                }
            }
        }
        self
    }

    /// Starts a fresh server for each sample.
    pub(crate) fn fresh(mut self) -> Self {
        self.fresh = true;
        self.seconds += 0.1;
        self
    }

    pub(crate) const fn backend(mut self, name: &'static str) -> Self {
        self.backend = name;
        self
    }

    pub(crate) const fn targets(mut self, targets: &'static [Target]) -> Self {
        self.targets = targets;
        self
    }

    pub(crate) const fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    pub(crate) fn repeat(mut self, rounds: usize, seconds: f64) -> Self {
        (self.rounds, self.seconds) = (rounds, seconds);
        self
    }

    /// Keeps the selected rows, and their reference.
    pub(crate) fn only(&mut self, options: &Options) {
        if !options.servers.is_empty() {
            let asked = |row: &Row| options.servers.iter().any(|name| row.entry.name == name);
            self.rows
                .retain(|row| row.reference || row.again || asked(row));
        }
    }

    /// Approximate duration of the whole measurement, with the warm-up.
    pub(crate) fn estimate(&self) -> Duration {
        let samples = self.rows.len() * (self.rounds + usize::from(!self.fresh));
        Duration::from_secs_f64(samples as f64 * self.seconds)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The group of those that forward.
pub(crate) const FORWARDING: &str = "forwarding";

/// One line of a table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) group: String,
    pub(crate) entry: &'static Entry,
    /// A parameter of the measurement, such as a number of connections.
    pub(crate) number: usize,
    /// Whether it is the reference of its group.
    pub(crate) reference: bool,
    /// Whether it is the second measurement of the reference.
    pub(crate) again: bool,
}

impl Row {
    /// Whether it can be the best peer.
    pub(crate) fn is_peer(&self) -> bool {
        self.entry.kind == Kind::Peer
    }
}

/// A server that cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Missing {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) digits: usize,
    /// Whether it has ratios. The first column always does.
    pub(crate) compared: bool,
}

impl Column {
    pub(crate) const fn compared(self) -> Self {
        Self {
            compared: true,
            ..self
        }
    }
}

pub(crate) const fn column(title: &'static str, digits: usize) -> Column {
    Column {
        title,
        digits,
        compared: false,
    }
}

/// An upper bound of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) group: &'static str,
    pub(crate) server: &'static str,
    pub(crate) column: usize,
    pub(crate) against: Against,
    pub(crate) at_most: f64,
}

/// What a value is compared to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    Nothing,
    /// The value of this server, as a ratio.
    Ratio(&'static str),
    /// The value of this server, as a difference.
    Difference(&'static str),
}

impl Target {
    /// In the first column of a table without groups.
    pub(crate) const fn ratio(server: &'static str, other: &'static str, at_most: f64) -> Self {
        Self {
            against: Against::Ratio(other),
            ..Self::value(server, at_most)
        }
    }

    pub(crate) const fn difference(
        server: &'static str,
        other: &'static str,
        at_most: f64,
    ) -> Self {
        Self {
            against: Against::Difference(other),
            ..Self::value(server, at_most)
        }
    }

    pub(crate) const fn value(server: &'static str, at_most: f64) -> Self {
        Self {
            group: "",
            server,
            column: 0,
            against: Against::Nothing,
            at_most,
        }
    }

    pub(crate) const fn in_group(self, group: &'static str) -> Self {
        Self { group, ..self }
    }

    pub(crate) const fn in_column(self, column: usize) -> Self {
        Self { column, ..self }
    }
}

/// One sample of one server.
#[derive(Debug)]
pub(crate) struct Sample {
    /// In the order of the columns.
    pub(crate) values: Vec<f64>,
    /// Why the sample is invalid.
    pub(crate) problem: Option<String>,
}

/// The server of this name, or the reason why it is missing.
fn available(name: &str) -> Result<&'static Entry, String> {
    let entry = server::find(name).ok_or("its cargo feature is off")?;
    match entry.start {
        Start::Here(_) => Ok(entry),
        Start::External { program, .. } if is_installed(program) => Ok(entry),
        Start::External { program, .. } => Err(format!("{program} is not installed (peers.sh)")),
    }
}
