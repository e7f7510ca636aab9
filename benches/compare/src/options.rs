//! The command line.

use crate::BoxError;
use lexopt::{Arg, Parser, ValueExt};
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
    /// `None` when only the usage is asked for.
    pub(crate) fn parse(mut parser: Parser) -> Result<Option<Self>, BoxError> {
        let mut options = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("quick") => options.quick = true,
                Arg::Long("list") => options.list = true,
                Arg::Long("only") => options.only.extend(names(&mut parser)?),
                Arg::Long("servers") => options.servers.extend(names(&mut parser)?),
                Arg::Long("output") => options.output = Some(parser.value()?.into()),
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(format!("{}\n\n{USAGE}", other.unexpected()).into()),
            }
        }
        Ok(Some(options))
    }

    /// Where the results go. What is not the whole goes where it replaces nothing.
    pub(crate) fn folder(&self) -> PathBuf {
        let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        match &self.output {
            Some(folder) => folder.clone(),
            None if self.is_whole() => package.join(".."),
            None => package.join("target/partial"),
        }
    }

    const fn is_whole(&self) -> bool {
        !self.quick && self.only.is_empty() && self.servers.is_empty()
    }
}

fn names(parser: &mut Parser) -> Result<Vec<String>, BoxError> {
    let value: String = parser.value()?.string()?;
    Ok(value.split(',').map(str::to_owned).collect())
}

pub(crate) const USAGE: &str = "\
Measures portcullis side by side with its peers, on loopback.

usage: cargo run --release --manifest-path benches/compare/Cargo.toml -- [OPTIONS]

  --quick           a few short rounds: shows that all works, the numbers mean little
  --only A,B        only these measurements (--list shows them)
  --servers A,B     only these servers, and the references
  --output DIR      where RESULTS.md, results.csv and plots/ go; by default benches/ for a whole
                    run and benches/compare/target/partial for any other
  --list            show measurements and servers, with what is missing and why
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, BoxError> {
        Options::parse(Parser::from_args(line.split_whitespace()))
    }

    #[test]
    fn names_are_a_list_and_may_be_given_again() {
        let options = parse("--quick --only churn,http --only idle --servers actix")
            .unwrap()
            .unwrap();
        assert!(options.quick);
        assert_eq!(options.only, ["churn", "http", "idle"]);
        assert_eq!(options.servers, ["actix"]);
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
