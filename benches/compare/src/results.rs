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
         Written by `cargo run --release --manifest-path benches/compare/Cargo.toml{features}{}`;\n\
         `benches/compare/README.md` says how it is measured and what the columns mean.\n{INTRODUCTION}\n",
        options.selection(),
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
Each value is the median of the rounds, with the smallest and the largest in brackets; ratios are those of the
same round. The second row of the reference is another process of the same server. Its distance from 1.00 is
noise, and smaller differences mean nothing. Total CPU is mostly the kernel's. Instructions and system calls, which
vary less, are counted at the end; the cost of each layer is in `benches/README.md`.

**Bold** is portcullis. † forwards to another server of this program, whose CPU and memory are not counted. Such a
server has twice as many connections, and is compared with others that do the same.
";
