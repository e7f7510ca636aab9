//! The report: a table, the targets, and which system calls there are. It is Markdown.

use super::{Costs, Protocol, Variant, load::Workload, measure::Counts, targets};
use harness::{text::number, version};
use std::fmt::Write;

/// Reports `costs`; ratios are to the reference among them.
pub(crate) fn report(costs: &[Costs]) -> String {
    let mut text = String::new();
    for reference in [Variant::Bare, Variant::HttpHyper] {
        let same = |costs: &&Costs| costs.variant.reference() == reference;
        let costs: Vec<_> = costs.iter().filter(same).collect();
        // Writing to a string does not fail.
        let _ = write_table(&mut text, &costs, reference);
    }
    let forwarders = costs
        .iter()
        .filter(|costs| costs.variant.protocol() == Protocol::Forward);
    let _ = write_forwarders(&mut text, &forwarders.collect::<Vec<_>>());
    let _ = write_program(&mut text, costs);
    let _ = write_tls(&mut text, costs);
    let _ = write_targets(&mut text, costs);
    let _ = write_calls(&mut text, costs);
    let _ = writeln!(text, "\n{}", environment());
    text
}

/// Reports what the admin interface adds to the program, if these are its costs.
pub(crate) fn program(costs: &[Costs]) -> String {
    let mut text = String::new();
    let _ = write_program(&mut text, costs);
    let _ = writeln!(text, "\n{}", environment());
    text.trim_start().to_owned()
}

fn write_table(out: &mut String, costs: &[&Costs], reference: Variant) -> std::fmt::Result {
    if costs.is_empty() {
        return Ok(());
    }
    let bare = costs
        .iter()
        .copied()
        .find(|costs| costs.variant == reference);
    let (unit, before, silent) = match reference.protocol() {
        Protocol::Tls => ("echo", "", false),
        Protocol::Http => ("request", "\n", true),
        Protocol::Echo | Protocol::Forward | Protocol::Program => ("echo", "", false),
    };
    writeln!(
        out,
        "{before}| server | connection: instructions | allocations | system calls | \
         {unit}: instructions | system calls | 16 connections: instructions | idle: bytes |{}",
        if silent {
            " before the first: bytes |"
        } else {
            ""
        },
    )?;
    writeln!(
        out,
        "|---|---|---|---|---|---|---|---|{}",
        if silent { "---|" } else { "" }
    )?;
    for costs in costs {
        let instructions = |workload| {
            let of = |costs: &Costs| costs.of(workload).instructions;
            with_ratio(of(costs), bare.and_then(of))
        };
        let connection = costs.of(Workload::Connection);
        writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} |{}",
            costs.variant,
            instructions(Workload::Connection),
            allocations(connection),
            calls(connection),
            instructions(Workload::Echo),
            calls(costs.of(Workload::Echo)),
            instructions(Workload::EchoOf16),
            with_ratio(costs.idle, bare.and_then(|bare| bare.idle)),
            match silent {
                true => {
                    let theirs = bare.and_then(|bare| bare.silent);
                    format!(" {} |", with_ratio(costs.silent, theirs))
                }
                false => String::new(),
            },
        )?;
    }
    Ok(())
}

fn write_forwarders(out: &mut String, costs: &[&Costs]) -> std::fmt::Result {
    if costs.is_empty() {
        return Ok(());
    }
    let bare = costs
        .iter()
        .copied()
        .find(|costs| costs.variant == Variant::ForwardBare);
    writeln!(
        out,
        "\n| forwarder | connection: instructions | allocations | system calls | \
         round trip: instructions | system calls | MiB to the client: system calls | \
         MiB to the backend: system calls | idle: bytes |\n|---|---|---|---|---|---|---|---|---|",
    )?;
    for costs in costs {
        let instructions = |workload| {
            let of = |costs: &Costs| costs.of(workload).instructions;
            with_ratio(of(costs), bare.and_then(of))
        };
        let bulk = |workload| {
            let calls = costs.of(workload).all_calls();
            calls.map_or(NOT_COUNTED.to_owned(), |calls| number(calls, 1))
        };
        let connection = costs.of(Workload::Connection);
        writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} |",
            costs.variant,
            instructions(Workload::Connection),
            allocations(connection),
            calls(connection),
            instructions(Workload::Echo),
            calls(costs.of(Workload::Echo)),
            bulk(Workload::ToClient),
            bulk(Workload::ToBackend),
            with_ratio(costs.idle, bare.and_then(|bare| bare.idle)),
        )?;
    }
    Ok(())
}

/// What the admin interface adds to the program.
fn write_program(out: &mut String, costs: &[Costs]) -> std::fmt::Result {
    let Some(without) = costs.iter().find(|it| it.variant == Variant::Program) else {
        return Ok(());
    };
    writeln!(
        out,
        "\n| program | connection: instructions | system calls | round trip: instructions | \
         system calls |\n|---|---|---|---|---|",
    )?;
    let program = |costs: &&Costs| costs.variant.protocol() == Protocol::Program;
    for costs in costs.iter().filter(program) {
        let instructions = |workload| {
            let of = |costs: &Costs| costs.of(workload).instructions;
            with_difference(of(costs), of(without))
        };
        writeln!(
            out,
            "| `{}` | {} | {} | {} | {} |",
            costs.variant,
            instructions(Workload::Connection),
            calls(costs.of(Workload::Connection)),
            instructions(Workload::Echo),
            calls(costs.of(Workload::Echo)),
        )?;
    }
    Ok(())
}

/// Handshakes, and echoes of whole records.
fn write_tls(out: &mut String, costs: &[Costs]) -> std::fmt::Result {
    let costs: Vec<_> = costs
        .iter()
        .filter(|costs| costs.variant.protocol() == Protocol::Tls)
        .collect();
    let Some(bare) = costs.iter().find(|costs| costs.variant == Variant::TlsBare) else {
        return Ok(());
    };
    writeln!(
        out,
        "\n| server over TLS | full handshake: instructions | allocations | system calls | \
         resumed handshake: instructions | echo of 16 KiB: instructions | system calls | idle: bytes |\n\
         |---|---|---|---|---|---|---|---|"
    )?;
    for costs in &costs {
        let instructions = |workload| {
            let of = |costs: &Costs| costs.of(workload).instructions;
            with_ratio(of(costs), of(bare))
        };
        let full = costs.of(Workload::Connection);
        writeln!(
            out,
            "| `{}` | {} | {} | {} | {} | {} | {} | {} |",
            costs.variant,
            instructions(Workload::Connection),
            allocations(full),
            calls(full),
            instructions(Workload::Resumed),
            instructions(Workload::Echo),
            calls(costs.of(Workload::Echo)),
            with_ratio(costs.idle, bare.idle),
        )?;
    }
    Ok(())
}

fn write_targets(out: &mut String, costs: &[Costs]) -> std::fmt::Result {
    writeln!(out, "\n| target | measured | |\n|---|---|---|")?;
    for target in targets::targets(costs) {
        let verdict = if target.is_met() { "met" } else { "**missed**" };
        writeln!(
            out,
            "| {} | {:.2} | {verdict} |",
            target.text, target.measured
        )?;
    }
    Ok(())
}

fn write_calls(out: &mut String, costs: &[Costs]) -> std::fmt::Result {
    writeln!(
        out,
        "\n| server | system calls per connection | per echo |\n|---|---|---|"
    )?;
    for costs in costs {
        let [connection, echo] =
            [Workload::Connection, Workload::Echo].map(|workload| list(costs.of(workload)));
        writeln!(out, "| `{}` | {connection} | {echo} |", costs.variant)?;
    }
    Ok(())
}

fn with_ratio(value: Option<f64>, bare: Option<f64>) -> String {
    match (value, bare) {
        (Some(value), Some(bare)) if bare > 0.0 => {
            format!("{} (x{:.2})", number(value, 0), value / bare)
        }
        (Some(value), _) => number(value, 0),
        (None, _) => NOT_COUNTED.to_owned(),
    }
}

fn with_difference(value: Option<f64>, without: Option<f64>) -> String {
    match (value, without) {
        (Some(value), Some(without)) => {
            format!("{} ({:+.0})", number(value, 0), value - without)
        }
        _ => NOT_COUNTED.to_owned(),
    }
}

fn allocations(counts: &Counts) -> String {
    counts.heap.map_or(NOT_COUNTED.to_owned(), |heap| {
        format!("{:.1} ({} B)", heap.allocations, number(heap.bytes, 0))
    })
}

/// Those of connections, and those of the runtime's threads after the plus.
fn calls(counts: &Counts) -> String {
    match (counts.connection_calls(), counts.all_calls()) {
        (Some(connection), Some(all)) => format!("{connection:.1} + {:.1}", all - connection),
        _ => NOT_COUNTED.to_owned(),
    }
}

fn list(counts: &Counts) -> String {
    let Some(calls) = &counts.calls else {
        return NOT_COUNTED.to_owned();
    };
    let mut calls: Vec<_> = calls
        .0
        .iter()
        .filter(|(_, count)| **count >= 0.05)
        .collect();
    calls.sort_by(|one, other| other.1.total_cmp(one.1));
    let calls: Vec<_> = calls
        .iter()
        .map(|(name, count)| format!("{name} {count:.1}"))
        .collect();
    calls.join(", ")
}

/// What the counts depend on, besides the code.
fn environment() -> String {
    let versions = ["rustc", "valgrind", "strace"].map(|program| {
        let version =
            version::of_program(program, "--version").unwrap_or_else(|| format!("no {program}"));
        let words: Vec<_> = version.split_whitespace().collect();
        // "strace -- version 6.1"
        words.join(" ").replace("-- version ", "")
    });
    let [rustc, valgrind, strace] = versions;
    format!(
        "Measured on {} {}, with {rustc}, tokio {}, {valgrind}, {strace}.",
        std::env::consts::OS,
        std::env::consts::ARCH,
        version::of_package(LOCK, "tokio").unwrap_or("of some version"),
    )
}

/// The dependencies that this was built with.
const LOCK: &str = include_str!("../../Cargo.lock");

const NOT_COUNTED: &str = "-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_counted_leaves_its_column_empty() {
        let mut costs = Costs::new(Variant::Bare);
        costs.of_mut(Workload::Echo).instructions = Some(2400.0);
        let report = report(&[costs]);
        let row = "| `bare` | - | - | - | 2,400 (x1.00) | - | - | - |";
        assert!(report.contains(row), "{report}");
    }

    #[test]
    fn forwarders_have_a_table_of_their_own() {
        let mut costs = [Variant::ForwardBare, Variant::Forward].map(Costs::new);
        costs[0].of_mut(Workload::Echo).instructions = Some(6000.0);
        costs[1].of_mut(Workload::Echo).instructions = Some(6300.0);
        let row = "| `forward-portcullis` | - | - | - | 6,300 (x1.05) | - | - | - | - |";
        let report = report(&costs);
        assert!(report.contains(row), "{report}");
    }

    #[test]
    fn the_program_has_a_table_of_what_the_admin_interface_adds() {
        let mut costs = [Variant::Program, Variant::ProgramAdmin].map(Costs::new);
        costs[0].of_mut(Workload::Echo).instructions = Some(6000.0);
        costs[1].of_mut(Workload::Echo).instructions = Some(6003.0);
        let row = "| `program+admin` | - | - | 6,003 (+3) | - |";
        let report = report(&costs);
        assert!(report.contains(row), "{report}");
    }

    #[test]
    fn the_version_of_tokio_is_known() {
        assert!(
            version::of_package(LOCK, "tokio").is_some_and(|version| version.starts_with("1."))
        );
    }
}
