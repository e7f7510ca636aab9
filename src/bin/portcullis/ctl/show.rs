//! Answers as text for people.

use super::{
    args::Command,
    client::Answer,
    drain, explain,
    table::{Table, plain},
};
use serde_json::Value;

/// An answer that is an error, for the error output.
pub(super) fn refusal(answer: &Answer) -> String {
    if let Some(error) = &answer.needs_token {
        return format!("portcullis: {error}\n");
    }
    let value: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    let Some(error) = value["error"].as_str() else {
        return answer.text.lines().map(|line| plain(line) + "\n").collect();
    };
    let problems = value["problems"].as_array().into_iter().flatten();
    let problems = problems
        .filter_map(Value::as_str)
        .map(|problem| plain(problem) + "\n");
    format!(
        "portcullis: {}\n{}",
        plain(error),
        problems.collect::<String>()
    )
}

pub(super) fn answer(command: &Command, answer: &Answer) -> String {
    let value: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    match command {
        Command::Ready => answer.text.clone(),
        Command::Status => status(&value),
        Command::Listeners { change: None } => listeners(rows(&value["listeners"])),
        Command::Listeners { change: Some(_) } => listeners(std::slice::from_ref(&value)),
        Command::Connections { .. } => connections(&value),
        Command::Close { .. } => closed(&value),
        Command::Endings { .. } => endings(&value),
        Command::Backends { change: None } => backends(rows(&value["backends"])),
        Command::Backends { change: Some(_) } => backends(std::slice::from_ref(&value)),
        Command::Certificates => certificates(&value),
        Command::Explain(_) => explain::show(&value),
        Command::LogLevel { .. } => format!("log level: {}\n", text(&value["log_level"])),
        Command::Reload | Command::Drain { .. } => format!("{}\n", text(&value["result"])),
    }
}

fn status(status: &Value) -> String {
    let configuration = &status["configuration"];
    let file = match configuration["file"].as_str() {
        Some(file) => format!(
            "{} ({}), loaded {} ago",
            plain(file),
            text(&configuration["hash"]),
            since(&configuration["loaded"], &status["now"])
        ),
        None => "none".into(),
    };
    let state = match status["ready"].as_bool() {
        Some(true) => format!("{}, ready", text(&status["state"])),
        _ => format!("{}, not ready", text(&status["state"])),
    };
    let mut lines = vec![
        ("state", state + &drain(status)),
        (
            "version",
            format!("{} {}", text(&status["name"]), text(&status["version"])),
        ),
        ("process", text(&status["pid"])),
        ("running", since(&status["started"], &status["now"])),
        ("configuration", file),
        (
            "reloads",
            format!(
                "{} completed, {} failed",
                text(&configuration["reloads"]),
                text(&configuration["failed_reloads"])
            ),
        ),
        ("log level", text(&status["log_level"])),
        (
            "connections",
            format!(
                "{} open, {} accepted, {} refused",
                text(&status["connections"]),
                text(&status["accepted"]),
                text(&status["refused"])
            ),
        ),
        (
            "bytes",
            format!(
                "{} in, {} out",
                bytes(&status["bytes_in"]),
                bytes(&status["bytes_out"])
            ),
        ),
    ];
    let more = |name: &'static str, list: &Value| -> Vec<_> {
        rows(list).iter().map(|line| (name, text(line))).collect()
    };
    if status["log_lines_dropped"]
        .as_u64()
        .is_some_and(|it| it > 0)
    {
        let lost = text(&status["log_lines_dropped"]);
        lines.push(("log", format!("{lost} lines dropped since the start")));
    }
    lines.extend(more("not ready", &status["not_ready"]));
    lines.extend(more("warning", &status["warnings"]));
    lines.extend(more(
        "last reload",
        &configuration["last_error"]["problems"],
    ));
    lines
        .iter()
        .map(|(name, value)| format!("{name:14} {value}\n"))
        .collect()
}

/// What a shutdown waits for.
fn drain(status: &Value) -> String {
    match drain::remaining(status) {
        Some(remaining) => format!("; {remaining}"),
        None => String::new(),
    }
}

fn listeners(listeners: &[Value]) -> String {
    let mut table = Table::new(&[
        "name",
        "addresses",
        "state",
        "connections",
        "limit",
        "accepted",
        "refused",
        "timed out",
        "truncated",
        "failed",
        "backends",
        "tls",
    ]);
    for it in listeners {
        table.row([
            text(&it["name"]),
            list(&it["addresses"]),
            text(&it["state"]),
            text(&it["connections"]),
            match &it["limit"] {
                Value::Null => "off".into(),
                limit => text(limit),
            },
            text(&it["accepted"]),
            text(&it["refused"]),
            text(&it["timed_out"]),
            text(&it["truncated"]),
            text(&it["failed"]),
            list(&it["backends"]),
            yes(&it["tls"]),
        ]);
    }
    table.to_text()
}

fn connections(value: &Value) -> String {
    let connections = rows(&value["connections"]);
    let mut table = Table::new(&[
        "id", "listener", "client", "name", "server", "phase", "age", "in", "out",
    ]);
    for it in connections {
        table.row([
            text(&it["id"]),
            text(&it["listener"]),
            text(&it["peer"]),
            text(&it["name"]),
            text(&it["server"]),
            text(&it["phase"]),
            seconds(&it["age"]),
            bytes(&it["bytes_in"]),
            bytes(&it["bytes_out"]),
        ]);
    }
    format!(
        "{}{} of {}\n",
        table.to_text(),
        connections.len(),
        text(&value["total"])
    )
}

fn endings(value: &Value) -> String {
    let mut table = Table::new(&[
        "id", "listener", "client", "name", "server", "outcome", "duration", "in", "out", "by",
        "observed", "reason",
    ]);
    for it in rows(&value["endings"]) {
        table.row([
            text(&it["id"]),
            text(&it["listener"]),
            text(&it["peer"]),
            text(&it["name"]),
            text(&it["server"]),
            text(&it["outcome"]),
            seconds(&it["duration"]),
            bytes(&it["bytes_in"]),
            bytes(&it["bytes_out"]),
            text(&it["ended_by"]),
            list(&it["notes"]),
            text(&it["reason"]),
        ]);
    }
    table.to_text()
}

fn closed(value: &Value) -> String {
    match (value["matching"].as_u64(), value["closed"].as_u64()) {
        (Some(matching), Some(0)) => format!("{matching} match, none closed\n"),
        (_, closed) => format!("{} closed\n", closed.unwrap_or(0)),
    }
}

fn backends(backends: &[Value]) -> String {
    let mut table = Table::new(&[
        "backend",
        "server",
        "state",
        "usable",
        "weight",
        "connections",
        "connected",
        "failures",
        "connect",
        "certificate days",
        "last check",
    ]);
    for backend in backends {
        for it in rows(&backend["servers"]) {
            table.row([
                text(&backend["name"]),
                text(&it["key"]),
                match &it["progress"] {
                    Value::Null => text(&it["state"]),
                    checks => format!("{} {}", text(&it["state"]), text(checks)),
                },
                match it["last_resort"].as_bool() {
                    Some(true) => "last resort".into(),
                    _ => yes(&it["usable"]),
                },
                text(&it["weight"]),
                text(&it["connections"]),
                text(&it["connected"]),
                text(&it["failures"]),
                seconds(&it["connect_time"]),
                text(&it["certificate_days_left"]),
                match &it["error"] {
                    Value::Null => text(&it["last_check"]),
                    error => text(error),
                },
            ]);
        }
    }
    table.to_text()
}

fn certificates(value: &Value) -> String {
    let mut table = Table::new(&[
        "name",
        "host names",
        "issuer",
        "days left",
        "staple",
        "listeners",
        "default for",
        "backends",
        "problem",
    ]);
    for it in rows(&value["certificates"]) {
        table.row([
            text(&it["name"]),
            list(&it["names"]),
            text(&it["issuer"]),
            text(&it["days_left"]),
            text(&it["staple"]),
            list(&it["listeners"]),
            list(&it["default_for"]),
            list(&it["backends"]),
            text(&it["problem"]),
        ]);
    }
    table.to_text()
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A value in a line of text. Nothing for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

fn list(value: &Value) -> String {
    let parts: Vec<_> = rows(value).iter().map(text).collect();
    parts.join(",")
}

fn yes(value: &Value) -> String {
    if value == true { "yes" } else { "no" }.into()
}

/// `0.4 ms`, `12 s`, `3 h 7 min`.
fn seconds(value: &Value) -> String {
    let Some(seconds) = value.as_f64() else {
        return String::new();
    };
    if seconds < 1.0 {
        return format!("{:.1} ms", seconds * 1_000.0);
    }
    let whole = seconds as u64;
    match (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60) {
        (0, 0, 0) => format!("{seconds:.1} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", whole % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// The time between two points in time, in milliseconds.
fn since(begin: &Value, now: &Value) -> String {
    let millis = now
        .as_u64()
        .unwrap_or(0)
        .saturating_sub(begin.as_u64().unwrap_or(0));
    seconds(&(millis as f64 / 1_000.0).into())
}

fn bytes(value: &Value) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let Some(bytes) = value.as_f64() else {
        return String::new();
    };
    if bytes < 1_024.0 {
        return format!("{bytes} B");
    }
    let (mut amount, mut unit) = (bytes / 1_024.0, 0);
    while amount >= 1_024.0 && unit + 1 < UNITS.len() {
        amount /= 1_024.0;
        unit += 1;
    }
    format!("{amount:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_short() {
        let times = [0.0004, 1.5, 61.0, 3_700.0, 90_000.0].map(|time| seconds(&time.into()));
        assert_eq!(
            times,
            ["0.4 ms", "1.5 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
        );
        let sizes = [0_u64, 1_023, 1_024, 5 << 20, u64::MAX].map(|size| bytes(&size.into()));
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "5.0 MiB", "16384.0 PiB"]
        );
    }
}
