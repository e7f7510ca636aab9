//! Time of a graceful shutdown with idle connections, after SIGTERM.

use crate::{
    limits,
    load::{Client, idle},
    plan::{Bench, Column, Plan, Sample, column},
};
use harness::BoxError;
use tokio::time::Instant;

pub(super) fn plans(bench: &Bench) -> Result<[Plan; 2], BoxError> {
    let wanted = match bench.quick {
        true => 500,
        false => 10_000,
    };
    let count = limits::connections(wanted, 1)?;
    let echo = "tokio-drain portcullis-drain actix-drain tokio-drain";
    let http = "hyper-util-drain portcullis-http-drain portcullis-http-drain-at-once axum-drain \
         axum-server-drain hyper-util-drain";
    let about = format!(
        "{count} connections after one echo each, then SIGTERM. The handlers of the echo servers watch \
         the server's own signal (bare tokio: `CancellationToken` and `TaskTracker`)."
    );
    let about_http = format!("{count} kept connections after one request each, then SIGTERM.");
    Ok([
        plan(bench, "drain", "Drain of an echo server", about, count).servers(echo),
        plan(
            bench,
            "drain-http",
            "Drain of an HTTP server",
            about_http,
            count,
        )
        .servers(http),
    ])
}

fn plan(bench: &Bench, id: &'static str, title: &'static str, about: String, count: usize) -> Plan {
    let plan = Plan::new(bench, id, title, about, DRAIN, move |bench, row, server| {
        let client = Client::new(server.address, row.entry.job, 64, &bench.folder)?;
        let open = bench.runtime.block_on(idle::open(&client, 0..count))?;
        let before = server.cpu()?;
        let begun = Instant::now();
        server.terminate()?;
        bench.runtime.block_on(idle::ended(open))?;
        let told = begun.elapsed();
        let cpu = server.drain(before)?;
        let took = begun.elapsed();
        Ok(Sample {
            values: vec![
                took.as_secs_f64() * 1e3,
                told.as_secs_f64() * 1e3,
                cpu.total.as_secs_f64() * 1e3,
            ],
            problem: None,
        })
    });
    plan.fresh()
        .repeat(bench.few_rounds(), 0.3 + count as f64 / 8_000.0)
}

const DRAIN: &[Column] = &[
    column("until the process ended, ms", 1),
    column("until all clients knew, ms", 1),
    column("server CPU, ms", 0),
];
