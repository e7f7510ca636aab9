//! Counts what portcullis itself costs: instructions, system calls, allocations, memory.
//!
//! The counts come from valgrind and strace, so they depend on the code and not on how busy the
//! machine is. The program starts itself again as the server, under a tool, and is the client; see
//! README.md beside this package for what is measured and how.

#![allow(clippy::print_stdout, reason = "it reports to its user")]

mod baseline;
mod child;
mod http;
mod idle;
mod load;
mod measure;
mod options;
mod readme;
mod report;
mod serve;
mod targets;
mod tool;
mod variant;

use self::{
    baseline::Baseline,
    measure::Costs,
    options::Options,
    variant::{Protocol, Variant},
};
use portcullis::BoxError;
use std::{env, process::ExitCode};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("portcullis-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, BoxError> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [role, variant, handler] = &*arguments
        && role == serve::ROLE
    {
        serve::serve(variant, handler)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(options) = Options::parse(&arguments)? else {
        print!("{}", options::USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let costs = runtime.block_on(measure::all(&options))?;
    conclude(&options, &costs)
}

/// Reports, and writes or checks what it was asked to.
fn conclude(options: &Options, costs: &[Costs]) -> Result<ExitCode, BoxError> {
    let report = report::report(costs);
    println!("{report}");
    if options.write {
        Baseline::of(costs).write()?;
        readme::write(&report)?;
    }
    if !options.check {
        return Ok(ExitCode::SUCCESS);
    }
    let regressions = Baseline::read()?.regressions(&Baseline::of(costs));
    for regression in &regressions {
        println!("REGRESSION {regression}");
    }
    if regressions.is_empty() {
        println!("no regression against {}", baseline::FILE);
        return Ok(ExitCode::SUCCESS);
    }
    println!("where it is meant, write a new baseline: --write");
    Ok(ExitCode::FAILURE)
}
