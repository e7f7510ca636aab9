//! TLS 1.3 handshakes, full and resumed.

use super::data;
use crate::{
    plan::{Bench, Column, FORWARDING, Plan, Row, Sample, Target, column},
    process::Running,
};
use harness::BoxError;

pub(super) fn plans(bench: &Bench) -> [Plan; 2] {
    [
        plan(bench, "tls-full", "Full TLS 1.3 handshakes", false).targets(FULL_TARGETS),
        plan(bench, "tls-resumed", "Resumed TLS 1.3 handshakes", true),
    ]
}

fn plan(bench: &Bench, id: &'static str, title: &str, resume: bool) -> Plan {
    let about = "Connect, handshake, one echo of 64 bytes, close. Closed loop, 16 clients.";
    Plan::new(
        bench,
        id,
        title,
        about,
        COLUMNS,
        move |bench, row, server| sample(bench, row, server, resume),
    )
    .servers(data::TLS_SERVERS)
    .forwarders(data::TLS_FORWARDERS)
    .rounds(bench.many_rounds())
    .targets(TARGETS)
}

/// One sample of the closed loop with a handshake for each echo.
pub(super) fn sample(
    bench: &Bench,
    row: &Row,
    server: &Running,
    resume: bool,
) -> Result<Sample, BoxError> {
    let (outcome, cpu) = data::churn(bench, row, server, 16, resume)?;
    let mut sample = data::operations(&outcome, cpu);
    let resumed = outcome.resumed as f64 * 100.0 / outcome.count as f64;
    sample.values.push(resumed);
    Ok(sample)
}

pub(super) const COLUMNS: &[Column] = &[
    data::OPERATIONS[0],
    data::OPERATIONS[1],
    data::OPERATIONS[2],
    data::OPERATIONS[3],
    data::OPERATIONS[4],
    column("resumed, %", 0),
];

const FULL_TARGETS: &[Target] = &[
    TARGETS[0],
    TARGETS[1],
    Target::ratio("portcullis-tls-forward", "nginx-tls", 0.58).in_group(FORWARDING),
    Target::ratio("portcullis-tls-forward", "haproxy-tls", 0.58).in_group(FORWARDING),
    Target::ratio("portcullis-tls-forward", "hitch", 0.58).in_group(FORWARDING),
];

const TARGETS: &[Target] = &[
    Target::ratio("portcullis-tls", "tokio-rustls", 1.03),
    Target::ratio("portcullis-tls-stack", "tokio-rustls", 1.03),
];
