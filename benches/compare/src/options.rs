//! The command line.

use harness::{BoxError, options::Arguments};
use std::path::PathBuf;

/// What to measure.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) list: bool,
    /// Measurements; all where empty.
    pub(crate) only: Vec<String>,
    /// Servers; all where empty. The references are always there.
    pub(crate) servers: Vec<String>,
    pub(crate) output: Option<PathBuf>,
}

impl Options {
    /// `None` for `--help`.
    pub(crate) fn parse(arguments: Vec<String>) -> Result<Option<Self>, BoxError> {
        let mut options = Self::default();
        let mut arguments = Arguments::new(arguments, USAGE);
        while let Some(option) = arguments.option() {
            let mut names = || Ok::<_, BoxError>(names(&arguments.value()?));
            match &*option {
                "--quick" => options.quick = true,
                "--list" => options.list = true,
                "--only" => options.only.extend(names()?),
                "--servers" => options.servers.extend(names()?),
                "--output" => options.output = Some(arguments.value()?.into()),
                "--help" | "-h" => return Ok(None),
                _ => return Err(arguments.unexpected()),
            }
        }
        Ok(Some(options))
    }

    /// The folder of the results. A partial run does not replace those of a whole run.
    pub(crate) fn folder(&self) -> PathBuf {
        let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        match &self.output {
            Some(folder) => folder.clone(),
            None if self.is_whole() => package.join(".."),
            None => package.join("target/partial"),
        }
    }

    /// Where all samples go, outside of version control.
    pub(crate) fn samples(&self) -> PathBuf {
        let target = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target");
        self.output.clone().unwrap_or(target).join("results.csv")
    }

    /// The arguments that select measurements and servers, with a leading ` --` if there are any.
    pub(crate) fn selection(&self) -> String {
        let lists = [("--only", &self.only), ("--servers", &self.servers)];
        let lists = lists.iter().filter(|(_, names)| !names.is_empty());
        let lists = lists.map(|(option, names)| format!(" {option} {}", names.join(",")));
        let lists: String = lists.collect();
        match lists.is_empty() {
            true => lists,
            false => format!(" --{lists}"),
        }
    }

    const fn is_whole(&self) -> bool {
        !self.quick && self.only.is_empty() && self.servers.is_empty()
    }
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}

pub(crate) const USAGE: &str = "\
Measures portcullis side by side with its peers, on loopback.

usage: cargo run --release --manifest-path benches/compare/Cargo.toml -- [OPTIONS]

  --quick           a few short rounds: shows that all works, the numbers mean little
  --only A,B        only these measurements (--list shows them)
  --servers A,B     only these servers, and the references
  --output DIR      where RESULTS.md, plots/ and results.csv (all samples) go; by default
                    RESULTS.md and plots/ go to benches/ for a whole run and to
                    benches/compare/target/partial for any other, results.csv to
                    benches/compare/target
  --list            show measurements and servers, with what is missing and why
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, BoxError> {
        Options::parse(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn names_are_a_list_and_may_be_given_again() {
        let options = parse("--quick --only churn,http --only idle --servers actix")
            .unwrap()
            .unwrap();
        assert!(options.quick);
        assert_eq!(options.only, ["churn", "http", "idle"]);
        assert_eq!(options.servers, ["actix"]);
        assert_eq!(
            options.selection(),
            " -- --only churn,http,idle --servers actix"
        );
        assert_eq!(parse("").unwrap().unwrap().selection(), "");
    }

    #[test]
    fn only_a_whole_run_replaces_the_results_that_are_committed() {
        let folder = |line| parse(line).unwrap().unwrap().folder();
        assert!(folder("").ends_with(".."));
        for partial in ["--quick", "--only churn", "--servers actix"] {
            assert!(folder(partial).ends_with("target/partial"), "{partial}");
        }
        assert_eq!(folder("--quick --output x"), PathBuf::from("x"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in ["--nonsense", "word", "--only", "--quick=3"] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert_eq!(parse("--help").unwrap(), None);
    }
}
