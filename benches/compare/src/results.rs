//! Writes RESULTS.md and the plots, and all samples as results.csv.

use crate::{machine, options::Options, plot, report, runner::Table};
use harness::BoxError;
use std::fs;

pub(crate) fn write(options: &Options, tables: &[Table]) -> Result<(), BoxError> {
    let folder = options.folder();
    let plots = folder.join("plots");
    fs::create_dir_all(&plots)?;
    let features = match cfg!(feature = "rama") {
        true => " --features rama --ignore-rust-version",
        false => "",
    };
    let mut text = format!(
        "# Side by side with others\n\n\
         Written by `cargo run --release --manifest-path benches/compare/Cargo.toml{features}`; its\n\
         [README](compare/README.md) says how it is measured and what the columns mean.\n{INTRODUCTION}\n"
    );
    if options.quick {
        text += "**A quick run: its numbers mean little.**\n\n";
    }
    text += &machine::describe();
    for table in tables {
        text += "\n";
        text += &report::table(table);
        for plot in plot::write(table, &plots)? {
            text += &format!("\n![{}](plots/{})\n", plot.title, plot.file);
        }
    }
    fs::write(folder.join("RESULTS.md"), text)?;
    let samples = options.samples();
    if let Some(folder) = samples.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(samples, report::csv(tables))?;
    Ok(())
}

const INTRODUCTION: &str = "\
Each value is the median of the rounds, with the smallest and the largest in brackets; ratios are those of
the same round. Where the reference stands a second time, it is another process of the same: how far that
is from 1.00 is what chance does, and nothing less than that means anything. Total CPU is mostly the
kernel's. Instructions and system calls, which depend less on chance, are counted at the end; what each
layer adds to them is in [README.md](README.md).

**Bold** is portcullis. † passes the bytes on to an echo server on bare tokio, whose CPU and memory are
not counted: it has twice as many connections, and is compared with others that do the same. portcullis
has no forwarder of its own yet: `portcullis-forward` is tokio's `copy_bidirectional` as its service.
";
