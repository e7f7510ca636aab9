//! Instructions of a process in user space, by `valgrind --tool=callgrind`.

use crate::BoxError;
use std::{fs, path::Path};

/// The command in front of the program. Parts of the count go to `profile.1`, `profile.2` and so on.
pub(super) fn command(profile: &Path) -> Vec<String> {
    vec![
        "valgrind".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", profile.display()),
        "--dump-before=*the_count_ends_here*".to_owned(),
    ]
}

/// What a part counted.
pub(super) fn read(profile: &Path, part: usize) -> Result<f64, BoxError> {
    let file = format!("{}.{part}", profile.display());
    let said = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    fs::remove_file(&file)?;
    parse(&said).ok_or_else(|| format!("{file} has no sum").into())
}

/// The sum stands at the end: `totals: 8400152`.
fn parse(profile: &str) -> Option<f64> {
    let sum = profile
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals:"))?;
    sum.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_the_instructions_is_found() {
        let profile = "version: 1\nevents: Ir\nsummary: 7\n\nfn=(1) totals\n12 7\n\ntotals: 7\n";
        assert_eq!(parse(profile), Some(7.0));
        assert_eq!(parse("events: Ir\nsummary: 7\n"), None);
    }
}
