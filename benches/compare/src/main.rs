//! portcullis measured side by side with its peers.
//!
//! The program starts itself again as each of the servers, and is the client of all of them. README.md in
//! this package says what is measured, and how. A module uses only modules above it, and the package
//! `harness`, which it shares with the counters of portcullis' own cost:
//!
//! ```text
//! entry  limits  machine  options  tls  echo  operations
//!                       server                    all servers, by name
//!                       process                   a server in a child process
//!               load      │      plan             the clients; a measurement as data
//!               count     │     runner            counts under tools; takes the samples
//!               measure   │     plot  report      all measurements; SVG, tables
//!                                results          RESULTS.md
//! ```

mod count;
mod echo;
mod entry;
mod limits;
mod load;
mod machine;
mod measure;
mod operations;
mod options;
mod plan;
mod plot;
mod process;
mod report;
mod results;
mod runner;
mod server;
mod tls;

use self::{
    entry::{Setup, WORKERS},
    options::Options,
    plan::{Bench, Plan},
    runner::Progress,
};
use harness::BoxError;
use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self as std_process, Command, ExitCode},
    time::Duration,
};
use tokio::runtime::Builder;

/// For all servers of this program.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portcullis-compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), BoxError> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        [process::SERVE, name, port, backend, folder] => {
            let setup = Setup {
                port: port.parse()?,
                backend: (backend != "-").then(|| backend.parse()).transpose()?,
                folder: folder.into(),
            };
            server::run(name, setup)
        }
        [process::BECOME, program, ref arguments @ ..] => become_program(program, arguments),
        _ => compare(arguments),
    }
}

/// Replaces this process by another program, which ends with its parent.
fn become_program(program: &str, arguments: &[&str]) -> Result<(), BoxError> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
    Err(Command::new(program).args(arguments).exec().into())
}

fn compare(arguments: Vec<String>) -> Result<(), BoxError> {
    let Some(options) = Options::parse(arguments)? else {
        print!("{}", options::USAGE);
        return Ok(());
    };
    limits::raise()?;
    let scratch = Scratch::new()?;
    tls::write_certificate(&scratch.0)?;
    let bench = Bench {
        runtime: Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .enable_all()
            .build()?,
        folder: scratch.0.clone(),
        quick: options.quick,
    };
    let plans = measure::plans(&bench, &options)?;
    announce(&plans);
    if options.list {
        return Ok(());
    }
    let all: Duration = plans.iter().map(Plan::estimate).sum();
    let progress = Progress::new(all);
    let mut tables = Vec::new();
    for plan in &plans {
        let table = runner::run(&bench, plan, &progress);
        progress.print(&report::table(&table));
        tables.push(table);
    }
    progress.finish();
    results::write(&options, &tables)?;
    println!("written: {}", options.folder().join("RESULTS.md").display());
    Ok(())
}

/// Prints the measurements, their duration, and what is missing.
fn announce(plans: &[Plan]) {
    for plan in plans {
        let seconds = plan.estimate().as_secs_f64();
        let servers: BTreeSet<&str> = plan.rows.iter().map(|row| row.entry.name).collect();
        let servers: Vec<&str> = servers.into_iter().collect();
        println!("{:15} {seconds:4.0} s  {}", plan.id, servers.join(" "));
    }
    let missing: BTreeSet<_> = plans.iter().flat_map(|plan| &plan.missing).collect();
    for missing in missing {
        println!("missing: {}, because {}", missing.name, missing.why);
    }
    let all: Duration = plans.iter().map(Plan::estimate).sum();
    println!(
        "about {:.0} minutes in all\n",
        (all.as_secs_f64() / 60.0).ceil()
    );
}

/// A temporary folder for certificates and configuration.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, BoxError> {
        let name = format!("portcullis-compare-{}", std_process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all::<&Path>(&self.0);
    }
}
