//! Measures all variants, by the difference between a long run and a short one.

use super::{
    Options, Protocol, Variant,
    backend::Backend,
    idle::{self, After},
    load::{Client, Workload},
    program,
    serve::{BUFFERED, role},
};
use harness::{
    count,
    stats::{Spread, per_unit},
    tool::{
        callgrind,
        memcheck::{self, Heap},
        strace::{self, Calls},
    },
    version::is_installed,
};
use portcullis::BoxError;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::timeout;

/// What one variant costs.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    pub(crate) variant: Variant,
    /// In the order of [`Workload::ALL`].
    counts: [Counts; 6],
    /// Resident bytes per idle connection.
    pub(crate) idle: Option<f64>,
    /// The same before a first request of HTTP.
    pub(crate) silent: Option<f64>,
}

/// What one unit of a workload costs; what no tool was there to count is `None`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) instructions: Option<f64>,
    pub(crate) calls: Option<Calls>,
    pub(crate) heap: Option<Heap>,
}

impl Costs {
    /// Nothing counted yet.
    pub(crate) fn new(variant: Variant) -> Self {
        Self {
            variant,
            counts: Default::default(),
            idle: None,
            silent: None,
        }
    }

    pub(crate) const fn of(&self, workload: Workload) -> &Counts {
        &self.counts[workload as usize]
    }

    pub(crate) const fn of_mut(&mut self, workload: Workload) -> &mut Counts {
        &mut self.counts[workload as usize]
    }
}

impl Counts {
    /// System calls that concern connections.
    pub(crate) fn connection_calls(&self) -> Option<f64> {
        self.calls.as_ref().map(Calls::of_connections)
    }

    /// All system calls.
    pub(crate) fn all_calls(&self) -> Option<f64> {
        self.calls.as_ref().map(Calls::all)
    }
}

/// Measures the variants in `options`, with the progress on standard error.
pub(crate) async fn all(options: &Options) -> Result<Vec<Costs>, BoxError> {
    let bench = Bench {
        valgrind: available("valgrind", "instructions and allocations"),
        strace: available("strace", "system calls"),
        repetitions: if options.quick { 1 } else { 3 },
        idle: !options.check,
        profiles: options.profiles.clone(),
    };
    if let Some(directory) = &bench.profiles {
        fs::create_dir_all(directory)?;
    }
    let variants = options.variants();
    if variants.contains(&Variant::Program) {
        program::compile()?;
    }
    let mut costs = Vec::new();
    for variant in variants {
        eprintln!("measuring {variant}");
        costs.push(timeout(LIMIT, bench.costs(variant)).await??);
    }
    Ok(costs)
}

/// Whether a tool is installed; prints how to install it if it is not.
fn available(program: &str, counts: &str) -> bool {
    let found = is_installed(program);
    if !found {
        eprintln!("no {program}, so no {counts}; on Debian: apt-get install {program}");
    }
    found
}

struct Bench {
    valgrind: bool,
    strace: bool,
    repetitions: usize,
    idle: bool,
    profiles: Option<PathBuf>,
}

impl Bench {
    async fn costs(&self, variant: Variant) -> Result<Costs, BoxError> {
        let mut costs = Costs::new(variant);
        for workload in Workload::of(variant.protocol()).iter().copied() {
            *costs.of_mut(workload) = self.counts(variant, workload).await?;
        }
        // The program has an allocator that takes memory in large steps.
        if self.idle && variant.protocol() != Protocol::Program {
            costs.idle = Some(idle::bytes_per_connection(variant, After::OneEcho, IDLE).await?);
        }
        if self.idle && variant.protocol() == Protocol::Http {
            costs.silent = Some(idle::bytes_per_connection(variant, After::Nothing, IDLE).await?);
        }
        Ok(costs)
    }

    async fn counts(&self, variant: Variant, workload: Workload) -> Result<Counts, BoxError> {
        let mut counts = Counts::default();
        let (short_run, long_run) = units(variant, workload);
        let units = long_run - short_run;
        if self.valgrind && !workload.is_bulk() {
            let mut instructions = Vec::new();
            for repetition in 0..self.repetitions {
                let profile = self.profile(variant, workload).filter(|_| repetition == 0);
                let tool = callgrind::command(profile.as_deref());
                let none = callgrind::command(None);
                let long = run(&tool, variant, workload, long_run, callgrind::parse).await?;
                let short = run(&none, variant, workload, short_run, callgrind::parse).await?;
                instructions.push(per_unit(short, long, units));
            }
            counts.instructions = Spread::of(instructions).map(|spread| spread.median);
        }
        // memcheck does not see the allocations of the program, which has an allocator of its own.
        if self.valgrind && !workload.is_bulk() && variant.protocol() != Protocol::Program {
            let tool = memcheck::command();
            let long = run(&tool, variant, workload, long_run, memcheck::parse).await?;
            let short = run(&tool, variant, workload, short_run, memcheck::parse).await?;
            counts.heap = Some(Heap::per_unit(short, long, units));
        }
        if self.strace {
            let tool = strace::command();
            let long = run(&tool, variant, workload, long_run, strace::parse).await?;
            let short = run(&tool, variant, workload, short_run, strace::parse).await?;
            counts.calls = Some(Calls::per_unit(&short, &long, units));
        }
        Ok(counts)
    }

    fn profile(&self, variant: Variant, workload: Workload) -> Option<PathBuf> {
        let name = format!("callgrind.out.{variant}.{}", workload.name());
        Some(self.profiles.as_deref()?.join(Path::new(&name)))
    }
}

/// Runs the workload once under a tool and parses the tool's output.
async fn run<T>(
    tool: &[String],
    variant: Variant,
    workload: Workload,
    count: usize,
    parse: fn(&str) -> Option<T>,
) -> Result<T, BoxError> {
    let backend = Backend::start(variant, workload.is_bulk()).await?;
    let client = async |address, gate| {
        let client = Client::new(address, variant, workload)?;
        workload.run(&client, count, gate).await
    };
    let role = role(variant, BUFFERED, backend.as_ref())?;
    count::run(tool, &role, client, parse).await
}

/// Units of the short and of the long run. A handshake takes a million instructions, a record 160,000.
const fn units(variant: Variant, workload: Workload) -> (usize, usize) {
    match (variant.protocol(), workload) {
        (Protocol::Tls, _) => (HANDSHAKES, HANDSHAKES * 5),
        (_, Workload::ToClient | Workload::ToBackend) => (16, 16 + 64),
        _ => (SHORT, LONG),
    }
}

/// Units of the short run, which holds what is done once: start, growth, end. A multiple of 16, as
/// the other.
const SHORT: usize = 320;

/// Units of the long run.
const LONG: usize = SHORT + 1600;

/// Units of the short run of handshakes.
const HANDSHAKES: usize = 32;

/// Idle connections.
const IDLE: usize = 5000;

/// For one variant. Nothing that the driver waits for may hang it.
const LIMIT: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_runs_divide_by_the_sixteen_connections() {
        assert_eq!((SHORT % 16, LONG % 16), (0, 0));
    }
}
