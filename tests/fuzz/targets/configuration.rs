//! Whatever a configuration file contains, it is read without a panic, and each problem has a place inside of it.
//!
//! The program is a binary, which no other package can depend on, so its module is included here.

#![no_main]

#[allow(dead_code, unused_imports, reason = "the program uses all of it")]
#[allow(unexpected_cfgs, reason = "the program has features")]
#[path = "../../../src/bin/portcullis/config/mod.rs"]
mod config;

use config::{Config, Problems, Source};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::path::Path;

// Relative paths in a file are in its folder, and this one is not there.
const FILE: &str = "/nowhere/gate.toml";

fuzz_target!(|input: &[u8]| -> Corpus {
    let text = String::from_utf8_lossy(input);
    // Reading these might not end.
    if ["/dev", "/proc", "/sys"]
        .iter()
        .any(|path| text.contains(path))
    {
        return Corpus::Reject;
    }
    let mut problems = Problems::default();
    Config::parse(&Source::new(FILE, &*text), &mut problems);

    let lines: Vec<_> = text.split('\n').collect();
    for problem in problems.sorted() {
        let place = &problem.place;
        assert!(!problem.message.is_empty(), "{problem}");
        if *place.file != *Path::new(FILE) {
            // An included file, which cannot be read.
            assert_eq!((place.line, place.column), (1, 1), "{problem}");
            continue;
        }
        assert!((1..=lines.len()).contains(&place.line), "{problem}");
        // The end of a line is a place, too.
        let columns = lines[place.line - 1].chars().count() + 1;
        assert!((1..=columns).contains(&place.column), "{problem}");
    }
    Corpus::Keep
});
