//! Latency at a fixed rate far below the capacity of the servers.

use super::data;
use crate::{
    load::{
        Client,
        open::{self, Rate},
    },
    plan::{Bench, Column, Plan, Sample, column},
};
use std::time::Duration;

pub(super) fn plans(bench: &Bench) -> [Plan; 2] {
    let echo = "tokio tokio-per-core portcullis portcullis-stack portcullis-per-core actix rama \
         pingora tokio";
    let http = "hyper-util portcullis-http portcullis-http-stack portcullis-http-axum axum \
         axum-server nginx-http haproxy-http hyper-util";
    [
        plan(bench, "latency", "Latency of an echo of 64 bytes")
            .servers(echo)
            .forwarders(data::FORWARDERS),
        plan(bench, "latency-http", "Latency of an HTTP hello world").servers(http),
    ]
}

fn plan(bench: &Bench, id: &'static str, title: &str) -> Plan {
    let time = match bench.quick {
        true => Duration::from_millis(250),
        false => Duration::from_millis(1200),
    };
    let about = format!(
        "Open loop: {RATE} requests a second over {CONNECTIONS} connections, at times fixed \
         beforehand; a latency counts from the time intended."
    );
    let title = format!("{title} at {RATE}/s");
    let plan = Plan::new(
        bench,
        id,
        title,
        about,
        LATENCY,
        move |bench, row, server| {
            let client = Client::new(server.address, row.entry.job, 64, &bench.folder)?;
            let rate = Rate {
                connections: CONNECTIONS,
                per_second: RATE,
                time,
            };
            let streams = open::connect(&client, rate)?;
            let load = async { open::run(&client, &streams, rate) };
            let (outcome, cpu) = bench.watch(server, load)?;
            let values = vec![
                outcome.micros(0.99),
                outcome.micros(0.5),
                outcome.micros(0.999),
                outcome.micros(1.0),
                cpu.total.as_secs_f64() * 1e6 / outcome.count as f64,
            ];
            Ok(Sample {
                values,
                problem: data::problem(&outcome),
            })
        },
    );
    let rounds = bench.few_rounds();
    plan.repeat(rounds, time.as_secs_f64() + 0.1)
}

/// About a tenth of what two cores, shared with the clients, can do.
const RATE: u32 = 8_000;

const CONNECTIONS: u32 = 64;

const LATENCY: &[Column] = &[
    column("p99, µs", 0),
    column("p50, µs", 0),
    column("p99.9, µs", 0),
    column("most, µs", 0),
    column("server CPU, µs/op", 2),
];
