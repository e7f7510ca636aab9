//! Memory of connections that wait.

use super::{Bench, Column, Plan, Sample, column, data};
use crate::{
    BoxError, limits,
    load::{Client, idle},
    process::pause,
};
use std::time::Duration;

pub(super) fn plans(bench: &Bench) -> Result<Vec<Plan>, BoxError> {
    let wanted = match bench.quick {
        true => 500,
        false => 10_000,
    };
    let mut plans = vec![
        plan(bench, "idle", "plain", wanted)?
            .servers(PLAIN)
            .forwarders(data::FORWARDERS)
            .fresh(),
        plan(bench, "idle-tls", "TLS", wanted)?
            .servers(data::TLS_SERVERS)
            .forwarders(data::TLS_FORWARDERS)
            .fresh(),
    ];
    // The seconds are those of the handshakes, the client's part included.
    let each = wanted as f64;
    plans[0].seconds = 0.5 + each / 15_000.0;
    plans[1].seconds = 0.5 + each / 2_500.0;
    let many = 50_000;
    if !bench.quick && limits::connections(many, 1)? == many {
        let mut plan = plan(bench, "idle-50k", "plain", many)?
            .servers(ONE_EACH)
            .fresh();
        plan.seconds = 6.0;
        plans.push(plan);
    }
    for plan in &mut plans {
        plan.rounds = bench.few_rounds();
    }
    Ok(plans)
}

fn plan(bench: &Bench, id: &'static str, what: &str, wanted: usize) -> Result<Plan, BoxError> {
    let fewer = limits::connections(wanted, 2)?;
    let mut about = format!(
        "Resident memory of all of the server's processes, after one echo of 64 bytes on each of \
         {wanted} connections, less that with {WARM_UP}; the kernel's memory is not in it. `tokio-timeout` holds a buffer \
         of its own, which is touched as far as the echo went."
    );
    if fewer < wanted {
        about += &format!(
            " Descriptors here allow only {fewer} for those that forward, which take two for each."
        );
    }
    let title = format!("Memory of an idle connection, {what}, {wanted} of them");
    Ok(Plan::new(
        bench,
        id,
        title,
        about,
        IDLE,
        move |bench, row, server| {
            let descriptors = if row.entry.forwards { 2 } else { 1 };
            let count = limits::connections(wanted, descriptors)?;
            let client = Client::new(server.address, row.entry.job, 64, &bench.folder)?;
            let warm = bench.runtime.block_on(idle::open(&client, 0..WARM_UP))?;
            pause(Duration::from_millis(50));
            let before = server.resident()?;
            let open = idle::open(&client, WARM_UP..WARM_UP + count);
            let open = bench.runtime.block_on(open)?;
            pause(Duration::from_millis(100));
            let grown = server.resident()? - before;
            drop((warm, open));
            Ok(Sample {
                values: vec![grown / count as f64],
                problem: None,
            })
        },
    ))
}

const IDLE: &[Column] = &[column("bytes/connection", 0)];

const PLAIN: &[&str] = &[
    "tokio",
    "tokio-per-core",
    "portcullis",
    "portcullis-stack",
    "portcullis-per-core",
    "actix",
    "rama",
    "pingora",
    "tokio-io-timeout",
    "tokio-timeout",
    "tokio",
];

const ONE_EACH: &[&str] = &[
    "tokio",
    "tokio-per-core",
    "portcullis",
    "portcullis-stack",
    "portcullis-per-core",
    "actix",
    "rama",
    "pingora",
    "tokio",
];

/// Connections before the first look, so that what is allocated once is there.
const WARM_UP: usize = 100;
