//! The machine and the versions of a run.

use harness::version::{of_package, of_program};
use std::{fs, process::Command};

/// A list in Markdown.
pub(crate) fn describe() -> String {
    let mut lines = vec![
        format!("Date: {}.", output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        format!(
            "Machine: {}, {} cores, {} of memory, Linux {}; load average at the end {}.",
            field("/proc/cpuinfo", "model name"),
            std::thread::available_parallelism().map_or(0, usize::from),
            field("/proc/meminfo", "MemTotal"),
            read("/proc/sys/kernel/osrelease"),
            read("/proc/loadavg"),
        ),
        format!(
            "TCP congestion control: {}.",
            read("/proc/sys/net/ipv4/tcp_congestion_control")
        ),
        format!("portcullis at {}.", revision()),
        format!(
            "Built with {}, `lto = \"thin\"`, one codegen unit.",
            output("rustc", &["-V"])
        ),
    ];
    let crates = CRATES
        .iter()
        .filter_map(|name| Some(format!("{name} {}", of_package(LOCK, name)?)));
    lines.push(format!(
        "Crates: {}.",
        crates.collect::<Vec<_>>().join(", ")
    ));
    let programs = PROGRAMS
        .iter()
        .filter_map(|(program, flag)| of_program(program, flag));
    let programs: Vec<String> = programs.collect();
    if !programs.is_empty() {
        lines.push(format!("Programs: {}.", programs.join("; ")));
    }
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

fn revision() -> String {
    let folder = env!("CARGO_MANIFEST_DIR");
    let commit = output("git", &["-C", folder, "rev-parse", "--short", "HEAD"]);
    let changed = output(
        "git",
        &[
            "-C",
            folder,
            "status",
            "--porcelain",
            "--untracked-files=no",
        ],
    );
    match (commit.is_empty(), changed.is_empty()) {
        (true, _) => "an unknown commit".to_owned(),
        (false, true) => format!("commit {commit}"),
        (false, false) => format!("commit {commit}, and changes"),
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn read(file: &str) -> String {
    fs::read_to_string(file)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or("unknown")
        .trim_start_matches([' ', '\t', ':'])
        .to_owned()
}

const LOCK: &str = include_str!("../Cargo.lock");

const CRATES: &[&str] = &[
    "tokio",
    "mio",
    "rustls",
    "tokio-rustls",
    "aws-lc-rs",
    "hyper",
    "hyper-util",
    "axum",
    "axum-server",
    "actix-server",
    "pingora-core",
    #[cfg(feature = "rama")]
    "rama-net",
    #[cfg(feature = "rama")]
    "rama-tcp",
    #[cfg(feature = "mimalloc")]
    "mimalloc",
    "tls-listener",
    "tokio-io-timeout",
];

const PROGRAMS: &[(&str, &str)] = &[
    ("nginx", "-v"),
    ("haproxy", "-v"),
    ("hitch", "--version"),
    ("stunnel4", "-version"),
    ("openssl", "version"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_all_crates_are_known() {
        for name in CRATES {
            assert!(of_package(LOCK, name).is_some(), "{name}");
        }
    }
}
