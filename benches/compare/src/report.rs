//! Tables, as text that is Markdown too.

use crate::{
    entry::Kind,
    plan::{Against, Target},
    runner::{Line, Table},
};
use harness::{
    stats::{Spread, paired_ratios},
    text::number,
};
use std::fmt::Write;

/// The whole table, with its heading.
pub(crate) fn table(table: &Table) -> String {
    let mut text = format!("## {}\n\n{}\n", table.title, table.about);
    for group in groups(table) {
        let lines: Vec<&Line> = table
            .lines
            .iter()
            .filter(|line| line.group == group)
            .collect();
        text += "\n";
        if !group.is_empty() {
            text += &format!("### {}\n\n", capital(group));
        }
        text += &align(&cells(table, &lines));
        text += &notes(table, &lines);
    }
    text += &targets(table);
    for missing in &table.missing {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\nNot measured: `{}`, because {}.\n",
            missing.name, missing.why
        );
    }
    text
}

/// The groups of a table, in their order.
pub(crate) fn groups(table: &Table) -> Vec<&str> {
    let mut groups: Vec<&str> = table.lines.iter().map(|line| &*line.group).collect();
    groups.dedup();
    groups
}

/// All samples, one in each line.
pub(crate) fn csv(tables: &[Table]) -> String {
    let mut text = "measurement,group,server,round,column,value\n".to_owned();
    for table in tables {
        for line in &table.lines {
            for (round, sample) in (1..).zip(&line.samples) {
                // Names of groups are words with commas.
                let begin = format!("{},\"{}\",{},{round}", table.id, line.group, line.label);
                match sample {
                    Ok(values) => {
                        for (column, value) in table.columns.iter().zip(values) {
                            let title = column.title.replace(',', "");
                            let _ = writeln!(text, "{begin},{title},{value}");
                        }
                    }
                    Err(problem) => {
                        let problem = problem.replace([',', '\n'], " ");
                        let _ = writeln!(text, "{begin},failed,{problem}");
                    }
                }
            }
        }
    }
    text
}

fn cells(table: &Table, lines: &[&Line]) -> Vec<Vec<String>> {
    let mut head = vec!["server".to_owned()];
    let mut rows: Vec<Vec<String>> = lines.iter().map(|line| vec![name(line)]).collect();
    for (index, column) in table.columns.iter().enumerate() {
        head.push(column.title.to_owned());
        if !is_compared(table, index) {
            for (row, line) in rows.iter_mut().zip(lines) {
                let spread = Spread::of(line.column(index).into_iter().flatten());
                row.push(show(spread.map(|s| range(s, column.digits))));
            }
            continue;
        }
        head.extend(["to the reference", "to the best peer"].map(str::to_owned));
        let others = [reference(lines), best_peer(lines, index)];
        for (row, line) in rows.iter_mut().zip(lines) {
            let spread = Spread::of(line.column(index).into_iter().flatten());
            row.push(show(spread.map(|s| range(s, column.digits))));
            for other in others {
                let ratio = other.and_then(|other| ratio(line, other, index));
                row.push(show(ratio.map(|s| range(s, 2))));
            }
        }
    }
    head.push("samples".to_owned());
    for (row, line) in rows.iter_mut().zip(lines) {
        let valid = line.samples.iter().filter(|sample| sample.is_ok()).count();
        row.push(match line.samples.len() - valid {
            0 => valid.to_string(),
            failed => format!("{valid}, **{failed} failed**"),
        });
    }
    rows.insert(0, head);
    rows
}

fn is_compared(table: &Table, column: usize) -> bool {
    column == 0 || table.columns[column].compared
}

fn reference<'a>(lines: &[&'a Line]) -> Option<&'a Line> {
    lines.iter().copied().find(|line| line.reference)
}

/// The one with the smallest median of a column, of those of the same group.
fn best_peer<'a>(lines: &[&'a Line], column: usize) -> Option<&'a Line> {
    let median =
        |line: &Line| Spread::of(line.column(column).into_iter().flatten()).map(|s| s.median);
    let peers = lines.iter().filter(|line| line.peer);
    let measured = peers.filter_map(|line| Some((median(line)?, *line)));
    measured
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, line)| line)
}

fn ratio(line: &Line, other: &Line, column: usize) -> Option<Spread> {
    Spread::of(paired_ratios(&line.column(column), &other.column(column)))
}

/// Whether the results are as they are wanted; nothing of what was not measured.
fn targets(table: &Table) -> String {
    let mut text = String::new();
    for target in table.targets {
        let Some((measured, digits)) = measured(table, target) else {
            continue;
        };
        // Rounded as it is shown.
        let scale = 10_f64.powi(i32::try_from(digits).unwrap_or(0));
        let measured = (measured * scale).round() / scale;
        let verdict = match measured <= target.at_most {
            true => "met",
            false => "**missed**",
        };
        let group = match target.group {
            "" => String::new(),
            group => format!("{}: ", capital(group)),
        };
        let against = match target.against {
            Against::Nothing => String::new(),
            Against::Ratio(other) => format!(" to `{other}`"),
            Against::Difference(other) => format!(" more than `{other}`"),
        };
        let _ = writeln!(
            text,
            "- {group}`{}`{against}, {}: {}, wanted at most {}: {verdict}",
            target.server,
            table.columns[target.column].title,
            number(measured, digits),
            number(target.at_most, digits),
        );
    }
    match text.is_empty() {
        true => text,
        false => format!("\n{text}"),
    }
}

/// What a target is about, and with how many digits it is shown.
fn measured(table: &Table, target: &Target) -> Option<(f64, usize)> {
    let find = |name| {
        let mut lines = table.lines.iter();
        lines.find(|line| line.group == target.group && line.label == name)
    };
    let median = |line: &Line| {
        let values = line.column(target.column).into_iter().flatten();
        Spread::of(values).map(|spread| spread.median)
    };
    let line = find(target.server)?;
    let digits = table.columns[target.column].digits;
    Some(match target.against {
        Against::Nothing => (median(line)?, digits),
        Against::Ratio(other) => (ratio(line, find(other)?, target.column)?.median, 3),
        Against::Difference(other) => (median(line)? - median(find(other)?)?, digits),
    })
}

fn notes(table: &Table, lines: &[&Line]) -> String {
    let mut text = String::new();
    if let Some(reference) = reference(lines) {
        let _ = write!(text, "\nReference: `{}`.", reference.label);
        for (index, column) in table.columns.iter().enumerate() {
            let compared = is_compared(table, index);
            let Some(best) = best_peer(lines, index).filter(|_| compared) else {
                continue;
            };
            let of = match index {
                0 => String::new(),
                _ => format!(" in {}", column.title),
            };
            let _ = write!(text, " Best peer{of}: `{}`.", best.label);
        }
        text += "\n";
    }
    for line in lines {
        if let Some(problem) = line.problem() {
            let _ = write!(text, "\n**`{}` failed:** {problem}.\n", line.label);
        }
    }
    text
}

fn name(line: &Line) -> String {
    match line.kind {
        Kind::Ours => format!("**{}**", line.name()),
        Kind::Bare | Kind::Peer => line.name(),
    }
}

fn show(value: Option<String>) -> String {
    value.unwrap_or_else(|| "–".to_owned())
}

fn range(spread: Spread, digits: usize) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(|x| number(x, digits));
    match min == max {
        true => median,
        false => format!("{median} ({min}–{max})"),
    }
}

/// A Markdown table whose columns are as wide as their widest cell.
fn align(cells: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let widths = cells.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..cells[0].len()).map(width).collect();
    let mut text = String::new();
    for (index, row) in cells.iter().enumerate() {
        let padded = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "| {} |", padded.collect::<Vec<_>>().join(" | "));
        if index == 0 {
            let lines = widths.iter().map(|width| "-".repeat(*width));
            let _ = writeln!(text, "| {} |", lines.collect::<Vec<_>>().join(" | "));
        }
    }
    text
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Column;

    fn line(label: &str, kind: Kind, samples: &[Result<f64, &str>]) -> Line {
        let samples = samples.iter().map(|sample| match sample {
            Ok(value) => Ok(vec![*value]),
            Err(problem) => Err((*problem).to_owned()),
        });
        Line {
            label: label.to_owned(),
            group: String::new(),
            number: 0,
            kind,
            forwards: false,
            reference: kind == Kind::Bare,
            peer: kind == Kind::Peer,
            samples: samples.collect(),
        }
    }

    fn example() -> Table {
        let mut proxy = line("proxy", Kind::Peer, &[Ok(1.0), Ok(1.0), Ok(1.0)]);
        proxy.group = "forwarding".to_owned();
        Table {
            id: "example",
            title: "Example".to_owned(),
            about: "What it is.".to_owned(),
            columns: const {
                &[Column {
                    title: "µs",
                    digits: 1,
                    compared: false,
                }]
            },
            targets: &[],
            lines: vec![
                line("tokio", Kind::Bare, &[Ok(10.0), Ok(20.0), Ok(30.0)]),
                line("ours", Kind::Ours, &[Ok(5.0), Ok(30.0), Ok(30.0)]),
                line("good", Kind::Peer, &[Ok(20.0), Ok(20.0), Ok(20.0)]),
                line("broken", Kind::Peer, &[Ok(1.0), Err("it broke"), Ok(90.0)]),
                proxy,
            ],
            missing: Vec::new(),
        }
    }

    #[test]
    fn ratios_are_paired_and_the_best_peer_does_the_same_job() {
        let text = table(&example());
        let ours = text.lines().find(|line| line.contains("**ours**")).unwrap();
        assert!(ours.contains("30.0 (5.0–30.0)"), "{ours}");
        assert!(ours.contains("1.00 (0.50–1.50)"), "{ours}");
        // 5/20, 30/20, 30/20: `good`, and not the faster proxy.
        assert!(ours.contains("1.50 (0.25–1.50)"), "{ours}");
        assert!(text.contains("Best peer: `good`."), "{text}");
    }

    #[test]
    fn failed_samples_are_marked_and_in_no_median() {
        let text = table(&example());
        let broken = text.lines().find(|line| line.contains("broken")).unwrap();
        assert!(broken.contains("2, **1 failed**"), "{broken}");
        assert!(broken.contains("45.5 (1.0–90.0)"), "{broken}");
        assert!(text.contains("**`broken` failed:** it broke."), "{text}");
    }

    #[test]
    fn all_samples_are_in_the_csv() {
        let text = csv(&[example()]);
        assert!(text.contains("example,\"\",ours,2,µs,30\n"), "{text}");
        assert!(
            text.contains("example,\"\",broken,2,failed,it broke\n"),
            "{text}"
        );
    }

    /// Two columns, the second compared as well.
    fn counted() -> Table {
        let two = |label, kind, first, second| {
            let mut line = line(label, kind, &[]);
            line.samples = vec![Ok(vec![first, second])];
            line
        };
        let column = |title| Column {
            title,
            digits: 0,
            compared: true,
        };
        Table {
            columns: Box::leak(Box::new([column("instructions"), column("calls")])),
            lines: vec![
                two("tokio", Kind::Bare, 1000.0, 4.0),
                two("ours", Kind::Ours, 1034.0, 4.0),
                two("lean", Kind::Peer, 2000.0, 8.0),
                two("quiet", Kind::Peer, 4000.0, f64::NAN),
            ],
            ..example()
        }
    }

    #[test]
    fn each_compared_column_has_its_own_ratios_and_best_peer() {
        let mut counted = counted();
        counted.lines[3].samples = vec![Ok(vec![4000.0, 2.0])];
        let text = table(&counted);
        let ours = text.lines().find(|line| line.contains("**ours**")).unwrap();
        let ours: Vec<_> = ours.split('|').map(str::trim).collect();
        assert_eq!(ours[2..8], ["1,034", "1.03", "0.52", "4", "1.00", "2.00"]);
        assert!(
            text.contains("Best peer: `lean`. Best peer in calls: `quiet`."),
            "{text}"
        );
    }

    #[test]
    fn what_no_tool_counted_is_a_dash_and_nobodys_best() {
        let text = table(&counted());
        let quiet = text.lines().find(|line| line.contains("quiet")).unwrap();
        assert!(quiet.contains("| 4,000"), "{quiet}");
        assert_eq!(quiet.matches("| –").count(), 3, "{quiet}");
        assert!(text.contains("Best peer in calls: `lean`."), "{text}");
    }

    #[test]
    fn a_target_is_a_value_a_ratio_or_a_difference() {
        let target = |server, against, at_most| Target {
            group: "",
            server,
            column: 0,
            against,
            at_most,
        };
        let targets = [
            target("ours", Against::Ratio("tokio"), 1.034),
            target("ours", Against::Ratio("tokio"), 1.03),
            target("ours", Against::Ratio("absent"), 1.0),
            target("absent", Against::Nothing, 1.0),
            target("ours", Against::Nothing, 1034.0),
            target("ours", Against::Nothing, 1033.9),
            target("ours", Against::Difference("tokio"), 34.0),
            target("ours", Against::Difference("tokio"), 33.0),
        ];
        let text = table(&Table {
            targets: Box::leak(Box::new(targets)),
            ..counted()
        });
        for expected in [
            "1.034, wanted at most 1.034: met",
            "1.034, wanted at most 1.030: **missed**",
            "1,034, wanted at most 1,034: met",
            "1,034, wanted at most 1,034: **missed**",
            "more than `tokio`, instructions: 34, wanted at most 34: met",
            "34, wanted at most 33: **missed**",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        assert!(!text.contains("absent"), "{text}");
    }
}
