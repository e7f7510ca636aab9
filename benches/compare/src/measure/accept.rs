//! Time between connections if one is served at a time.

use super::data;
use crate::plan::{Bench, Column, Plan, Sample, column};

pub(super) fn plan(bench: &Bench) -> Plan {
    Plan::new(
        bench,
        "accept-limit-1",
        "Accept with a limit of 1",
        "Connect, one echo of 64 bytes, close, by 8 clients at once; the server serves one at a time. \
         `actix-limit-1` has one worker, because its limit is for each.",
        COLUMNS,
        |bench, row, server| {
            let (outcome, cpu) = data::churn(bench, row, server, 8, false)?;
            let (count, took) = (outcome.count as f64, outcome.took.as_secs_f64());
            Ok(Sample {
                values: vec![
                    took * 1e6 / count,
                    count / took,
                    cpu.total.as_secs_f64() * 1e6 / count,
                    outcome.micros(0.5),
                    outcome.micros(0.99),
                ],
                problem: data::problem(&outcome),
            })
        },
    )
    .servers("tokio-limit-1 portcullis-limit-1 actix-limit-1 tokio-limit-1")
}

const COLUMNS: &[Column] = &[
    column("µs between connections", 1),
    column("connections/s", 0),
    column("server CPU, µs/connection", 2),
    column("p50, µs", 0),
    column("p99, µs", 0),
];
