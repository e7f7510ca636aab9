//! The command line.

use super::Variant;
use harness::options::Arguments;
use portcullis::BoxError;
use std::path::PathBuf;

/// What to measure, and what to do with the results.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Empty: all.
    pub(crate) variants: Vec<Variant>,
    pub(crate) quick: bool,
    pub(crate) write: bool,
    pub(crate) check: bool,
    /// Where callgrind's profiles go.
    pub(crate) profiles: Option<PathBuf>,
}

impl Options {
    /// `None` for `--help`.
    pub(crate) fn parse(arguments: Vec<String>) -> Result<Option<Self>, BoxError> {
        let mut options = Self::default();
        let mut arguments = Arguments::new(arguments, USAGE);
        while let Some(option) = arguments.option() {
            match &*option {
                "--quick" => options.quick = true,
                "--write" => options.write = true,
                "--check" => options.check = true,
                "--variant" => options.variants.push(Variant::parse(&arguments.value()?)?),
                "--profiles" => options.profiles = Some(arguments.value()?.into()),
                "--help" | "-h" => return Ok(None),
                _ => return Err(arguments.unexpected()),
            }
        }
        if options.write && (options.check || options.quick) {
            return Err("--write measures in full, and checks nothing".into());
        }
        Ok(Some(options))
    }

    /// The variants to measure, the reference first.
    pub(crate) fn variants(&self) -> Vec<Variant> {
        let asked = |variant: &Variant| match &*self.variants {
            [] if self.check => variant.is_checked(),
            [] if self.quick => !variant.is_single_layer(),
            [] => true,
            asked => asked.iter().any(|a| [*a, a.reference()].contains(variant)),
        };
        Variant::ALL.into_iter().filter(asked).collect()
    }
}

pub(crate) const USAGE: &str = "\
Counts what portcullis itself costs, per connection and per echo of 64 bytes.

usage: cargo run --release -p portcullis-benches -- [OPTIONS]

  --quick           fewer repetitions; not the single layers
  --variant NAME    only this one, and `bare`; may be given more than once
  --check           compare the main servers to baseline.toml and fail on a regression
  --write           write baseline.toml and the tables in README.md; with --variant, only these
                    variants in baseline.toml, and the table of the program
  --profiles DIR    leave callgrind's profiles there, for callgrind_annotate
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, BoxError> {
        Options::parse(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn the_reference_is_always_measured_and_comes_first() {
        let options = parse("--variant +trace").unwrap().unwrap();
        assert_eq!(options.variants(), [Variant::Bare, Variant::Trace]);
        let all = parse("").unwrap().unwrap().variants();
        assert_eq!((all[0], all.len()), (Variant::Bare, Variant::ALL.len()));
    }

    #[test]
    fn a_check_measures_the_least_and_the_most_and_what_it_compares_to() {
        let variants = parse("--check").unwrap().unwrap().variants();
        let expected = [
            Variant::Bare,
            Variant::PortcullisBare,
            Variant::StackPlus,
            Variant::HttpHyper,
            Variant::HttpStack,
            Variant::ForwardBare,
            Variant::ForwardStack,
        ];
        assert_eq!(variants, expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--nonsense",
            "--variant",
            "--variant none",
            "--write --quick",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
