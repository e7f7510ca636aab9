//! TLS 1.3 handshakes, full and resumed.

use super::{Bench, Column, Plan, column, data};
use crate::load::{
    Client,
    closed::{self, Bounds},
};

pub(super) fn plans(bench: &Bench) -> [Plan; 2] {
    [
        plan(bench, "tls-full", "Full TLS 1.3 handshakes", false),
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
        HANDSHAKES,
        move |bench, row, server| {
            let job = row.entry.job;
            let client = Client::new(server.address, job, 64, &bench.folder)?;
            let bounds = Bounds {
                clients: 16,
                time: bench.time(),
                count: 20_000,
            };
            let ready = closed::churn(&client, job, resume, bounds);
            let ready = bench.runtime.block_on(ready)?;
            let (outcome, cpu) = bench.watch(server, ready.run())?;
            let mut sample = data::operations(&outcome, cpu);
            let resumed = outcome.resumed as f64 * 100.0 / outcome.count as f64;
            sample.values.push(resumed);
            Ok(sample)
        },
    )
    .servers(data::TLS_SERVERS)
    .forwarders(data::TLS_FORWARDERS)
}

const HANDSHAKES: &[Column] = &[
    data::OPERATIONS[0],
    data::OPERATIONS[1],
    data::OPERATIONS[2],
    data::OPERATIONS[3],
    data::OPERATIONS[4],
    column("resumed, %", 0),
];
