//! Counts what portcullis itself costs: instructions, system calls, allocations, memory.
//!
//! The counts come from valgrind and strace, so they depend on the code and not on how busy the
//! machine is. The program starts itself again as the server, under a tool, and is the client; see
//! README.md beside this package for what is measured and how.

#![allow(clippy::print_stdout, reason = "it reports to its user")]

mod backend;
mod baseline;
mod forward;
mod http;
mod idle;
mod load;
mod measure;
mod options;
mod program;
mod readme;
mod report;
mod serve;
mod targets;
mod tls;
mod variant;

use self::{
    baseline::Baseline,
    measure::Costs,
    options::Options,
    readme::Part,
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
    if let [role, variant, handler, backend] = &*arguments
        && role == serve::ROLE
    {
        serve::serve(variant, handler, backend)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(options) = Options::parse(arguments)? else {
        print!("{}", options::USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let measure = |options: &Options| runtime.block_on(measure::all(options));
    if options.check {
        return check(options, measure);
    }
    let costs = measure(&options)?;
    println!("{}", report::report(&costs));
    if options.write {
        write(&options, costs)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the baseline, and the tables of all that was measured as a whole.
fn write(options: &Options, costs: Vec<Costs>) -> Result<(), BoxError> {
    let all = options.variants.is_empty();
    let is_program = |costs: &Costs| costs.variant.protocol() == Protocol::Program;
    let (program, others): (Vec<_>, Vec<_>) = costs.into_iter().partition(is_program);
    if program.iter().any(|it| it.variant == Variant::ProgramAdmin) {
        readme::write(Part::Program, &report::program(&program))?;
    }
    if all {
        readme::write(Part::Measured, &report::report(&others))?;
    }
    let asked = |costs: &Costs| all || options.variants.contains(&costs.variant);
    let others = others.into_iter().filter(asked);
    // Both programs, whose difference the table states.
    let written = Baseline::of(&others.chain(program).collect::<Vec<_>>());
    match all {
        true => written.write(),
        false => Baseline::read()?.with(written).write(),
    }
}

/// Compares to the baseline, first quickly, and thoroughly if something has grown.
fn check(
    mut options: Options,
    measure: impl Fn(&Options) -> Result<Vec<Costs>, BoxError>,
) -> Result<ExitCode, BoxError> {
    let baseline = Baseline::read()?;
    let thorough = !options.quick;
    options.quick = true;
    let mut costs = measure(&options)?;
    let mut regressions = baseline.regressions(&Baseline::of(&costs));
    if thorough && !regressions.is_empty() {
        eprintln!("something has grown: once more, to tell it from chance");
        options.quick = false;
        // Only these, with their references: the others take minutes.
        options.variants = baseline::variants(&regressions);
        costs = measure(&options)?;
        regressions = baseline.regressions(&Baseline::of(&costs));
    }
    println!("{}", report::report(&costs));
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

#[cfg(test)]
mod tests {
    use super::*;
    use load::Workload;
    use std::cell::RefCell;

    /// Runs a check in which the first measurement finds so many instructions in an echo of each.
    fn measured(instructions: &[(Variant, f64)]) -> Vec<(bool, Vec<Variant>)> {
        let asked = RefCell::new(Vec::new());
        let options = Options {
            check: true,
            ..Options::default()
        };
        check(options, |options| {
            asked.borrow_mut().push((options.quick, options.variants()));
            let costs = instructions.iter().map(|(variant, instructions)| {
                let mut costs = Costs::new(*variant);
                costs.of_mut(Workload::Echo).instructions = Some(*instructions);
                costs
            });
            Ok(costs.collect())
        })
        .unwrap();
        asked.into_inner()
    }

    #[test]
    fn only_what_has_grown_is_measured_again_with_its_reference() {
        let grown = [
            (Variant::Bare, 1.0),
            (Variant::PortcullisBare, 1.0),
            (Variant::StackPlus, 2.0),
        ];
        let [first, second] = &*measured(&grown) else {
            panic!("not measured twice");
        };
        assert_eq!((first.0, first.1.len()), (true, 7));
        assert_eq!(*second, (false, vec![Variant::Bare, Variant::StackPlus]));
    }

    #[test]
    fn what_has_not_grown_is_measured_once() {
        let same = [(Variant::Bare, 1.0), (Variant::StackPlus, 1.0)];
        assert_eq!(measured(&same).len(), 1);
    }
}
