//! Instructions of a process in user space, by `valgrind --tool=callgrind`.

use super::number;
use std::path::Path;

pub(crate) const PROGRAM: &str = "valgrind";

/// The command in front of the program; the profile is written to `profile`, if anywhere.
pub(crate) fn command(profile: Option<&Path>) -> Vec<String> {
    let file = profile.unwrap_or(Path::new("/dev/null"));
    vec![
        PROGRAM.to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", file.display()),
    ]
}

/// Instructions in all: `==1== Collected : 8400152`.
pub(crate) fn parse(said: &str) -> Option<f64> {
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected :"))?;
    number(collected.1.split_whitespace().next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_the_instructions_is_found() {
        let said = "\
==412== Callgrind, a call-graph generating cache profiler
==412== Command: server serve bare buffered
==412==
==412== Events    : Ir
==412== Collected : 8400152
==412==
==412== I   refs:      8,400,152
";
        assert_eq!(parse(said), Some(8_400_152.0));
        assert_eq!(parse("==1== Collected : 12 7 9\n"), Some(12.0));
        assert_eq!(parse("valgrind: failed to start\n"), None);
    }
}
