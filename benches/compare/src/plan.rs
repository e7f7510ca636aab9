//! A measurement as data: its servers, its columns, and how a sample is taken.

use crate::{
    entry::{Entry, Kind, Start},
    options::Options,
    process::{Cpu, Running, pause},
    server,
};
use harness::{BoxError, version::is_installed};
use std::{fmt, path::PathBuf, time::Duration};
use tokio::runtime::Runtime;

/// What all measurements need.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The clients'.
    pub(crate) runtime: Runtime,
    pub(crate) folder: PathBuf,
    pub(crate) quick: bool,
}

impl Bench {
    /// How long a sample takes.
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

    /// Rounds of what has a target of a few per cent: with fewer, chance moves a median by more.
    pub(crate) const fn many_rounds(&self) -> usize {
        match self.quick {
            true => 2,
            false => 20,
        }
    }

    /// Rounds of what repeats well and takes long.
    pub(crate) const fn few_rounds(&self) -> usize {
        match self.quick {
            true => 1,
            false => 5,
        }
    }

    /// What the server used while `load` ran, and what that returned.
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

/// A measurement: the servers, and what is done to each.
pub(crate) struct Plan {
    /// For `--only`, and the name of its plot.
    pub(crate) id: &'static str,
    pub(crate) title: String,
    pub(crate) about: String,
    /// The ratios are of the first, and of others that ask for it. In those, less is better.
    pub(crate) columns: &'static [Column],
    /// What is wanted of the results.
    pub(crate) targets: &'static [Target],
    pub(crate) rows: Vec<Row>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) rounds: usize,
    /// How long a sample takes, about, in seconds.
    pub(crate) seconds: f64,
    /// Whether each sample has a server of its own.
    pub(crate) fresh: bool,
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
            sample: Box::new(sample),
        }
    }

    pub(crate) fn servers(self, names: &str) -> Self {
        self.group("", 0, names)
    }

    /// Adds those that do the same in front of another server. They are compared with each other.
    pub(crate) fn forwarders(self, names: &str) -> Self {
        self.group("forwarding", 0, names)
    }

    /// Adds rows that are compared with each other; the first is their reference. A name that is there
    /// a second time stands for the reference, measured once more: it shows the noise.
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

    /// Each sample starts with nothing behind the server.
    pub(crate) fn fresh(mut self) -> Self {
        self.fresh = true;
        self.seconds += 0.1;
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

    /// Keeps the rows that were asked for, and their reference.
    pub(crate) fn only(&mut self, options: &Options) {
        if !options.servers.is_empty() {
            let asked = |row: &Row| options.servers.iter().any(|name| row.entry.name == name);
            self.rows
                .retain(|row| row.reference || row.again || asked(row));
        }
    }

    /// How long all of it takes, about, with the warm-up.
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

/// One line of a table: a server, with what is different in this line.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) group: String,
    pub(crate) entry: &'static Entry,
    /// What the measurement makes of it: a number of connections, for one.
    pub(crate) number: usize,
    /// What the others of its group are compared to.
    pub(crate) reference: bool,
    /// The reference once more.
    pub(crate) again: bool,
}

impl Row {
    /// Whether it is one of those that "the best peer" is chosen from.
    pub(crate) fn is_peer(&self) -> bool {
        self.entry.kind == Kind::Peer
    }
}

/// A server that could not be measured.
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
    /// Whether it has ratios, as the first column has in any case.
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

/// That a server takes at most so much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) group: &'static str,
    pub(crate) server: &'static str,
    pub(crate) column: usize,
    pub(crate) against: Against,
    pub(crate) at_most: f64,
}

/// What a value is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    Nothing,
    /// It is a ratio to that of this server.
    Ratio(&'static str),
    /// It is what is more than that of this server.
    Difference(&'static str),
}

impl Target {
    /// Of the first column, in a table without groups.
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

/// What came of one look at one server.
#[derive(Debug)]
pub(crate) struct Sample {
    /// As the columns say.
    pub(crate) values: Vec<f64>,
    /// Why it does not count.
    pub(crate) problem: Option<String>,
}

/// The server of this name, or why there is none.
fn available(name: &str) -> Result<&'static Entry, String> {
    let entry = server::find(name).ok_or("its cargo feature is off")?;
    match entry.start {
        Start::Here(_) => Ok(entry),
        Start::External { program, .. } if is_installed(program) => Ok(entry),
        Start::External { program, .. } => Err(format!("{program} is not installed (peers.sh)")),
    }
}
