//! Instructions of a process in user space, by `valgrind --tool=callgrind`.

use super::number;
use crate::BoxError;
use std::{fs, path::Path};

/// The command in front of the program; the profile is written to `profile`, if there is one.
pub fn command(profile: Option<&Path>) -> Vec<String> {
    let file = profile.unwrap_or(Path::new("/dev/null"));
    vec![
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", file.display()),
    ]
}

/// Like [`command`], with a part of the count in `profile.1`, `profile.2`, … for each
/// [mark](crate::child::Child::mark).
pub fn command_in_parts(profile: &Path) -> Vec<String> {
    let mut command = command(Some(profile));
    command.push("--dump-before=*the_count_ends_here*".to_owned());
    command
}

/// Instructions of the whole run: `==1== Collected : 8400152`.
pub fn parse(output: &str) -> Option<f64> {
    sum(output, |line| Some(line.split_once("Collected :")?.1))
}

/// Instructions of a part, whose file is removed.
pub fn read_part(profile: &Path, part: usize) -> Result<f64, BoxError> {
    let file = format!("{}.{part}", profile.display());
    let profile = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    fs::remove_file(&file)?;
    parse_part(&profile).ok_or_else(|| format!("{file} has no sum").into())
}

/// The sum at the end of a part: `totals: 8400152`.
fn parse_part(profile: &str) -> Option<f64> {
    sum(profile, |line| line.strip_prefix("totals:"))
}

fn sum(text: &str, value: impl Fn(&str) -> Option<&str>) -> Option<f64> {
    let sum = text.lines().rev().find_map(value)?;
    number(sum.split_whitespace().next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_the_instructions_is_found() {
        let output = "\
==412== Callgrind, a call-graph generating cache profiler
==412== Command: server serve bare buffered
==412==
==412== Events    : Ir
==412== Collected : 8400152
==412==
==412== I   refs:      8,400,152
";
        assert_eq!(parse(output), Some(8_400_152.0));
        assert_eq!(parse("==1== Collected : 12 7 9\n"), Some(12.0));
        assert_eq!(parse("valgrind: failed to start\n"), None);
    }

    #[test]
    fn the_sum_of_a_part_is_found() {
        let profile = "version: 1\nevents: Ir\nsummary: 7\n\nfn=(1) totals\n12 7\n\ntotals: 7\n";
        assert_eq!(parse_part(profile), Some(7.0));
        assert_eq!(parse_part("events: Ir\nsummary: 7\n"), None);
    }
}
