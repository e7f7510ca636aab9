//! Writes RESULTS.md, results.csv and the plots.

use crate::{BoxError, machine, plot, report, runner::Table};
use std::{fs, path::Path};

pub(crate) fn write(folder: &Path, tables: &[Table], quick: bool) -> Result<(), BoxError> {
    let plots = folder.join("plots");
    fs::create_dir_all(&plots)?;
    let mut text = format!("# Side by side with others\n\n{INTRODUCTION}\n");
    if quick {
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
    fs::write(folder.join("results.csv"), report::csv(tables))?;
    Ok(())
}

const INTRODUCTION: &str = "\
Written by `cargo run --release --manifest-path benches/compare/Cargo.toml`; its README says how it is
measured and what the columns mean. Each value is the median of the rounds, with the smallest and the
largest in brackets; ratios are those of the same round. The reference stands in each table twice: how
far the second is from 1.00 is what chance does, and nothing less than that means anything. Total CPU is
mostly the kernel's. Instructions and system calls, which depend less on chance, are counted at the end;
what each layer adds to them is in [README.md](README.md).

**Bold** is portcullis. † passes the bytes on to an echo server on bare tokio, whose CPU and memory are
not counted: it has twice as many connections, and is compared with others that do the same.
";
