//! Memory of idle connections.

use super::data;
use crate::{
    limits,
    load::{Client, idle},
    plan::{Bench, Column, FORWARDING, Missing, Plan, Sample, Target, column},
    process::pause,
};
use harness::BoxError;
use std::time::Duration;

pub(super) fn plans(bench: &Bench) -> Result<Vec<Plan>, BoxError> {
    let wanted = match bench.quick {
        true => 500,
        false => 10_000,
    };
    let after = |wanted| {
        format!(
            "after one echo of 64 bytes on each of {wanted} connections, less that with {WARM_UP}. \
             `tokio-timeout` holds a buffer of its own, which is touched as far as the echo went."
        )
    };
    let before = format!(
        "with {wanted} connections that have not asked for anything yet, less that with {WARM_UP}."
    );
    let mut plans = vec![
        plan(bench, "idle", "plain", wanted, &after(wanted), true)?
            .servers(PLAIN)
            .forwarders(data::FORWARDERS)
            .targets(PLAIN_TARGETS),
        plan(bench, "idle-tls", "TLS", wanted, &after(wanted), true)?
            .servers(data::TLS_SERVERS)
            .forwarders(data::TLS_FORWARDERS)
            .targets(TLS_TARGETS),
        plan(bench, "idle-http", "HTTP", wanted, &before, false)?
            .servers(HTTP)
            .targets(HTTP_TARGETS),
    ];
    // The seconds are those of the handshakes, the client's part included.
    let each = wanted as f64;
    plans[0].seconds = 0.6 + each / 15_000.0;
    plans[1].seconds = 0.6 + each / 2_500.0;
    plans[2].seconds = 0.6 + each / 15_000.0;
    let many = 50_000;
    if !bench.quick && limits::connections(many, 1)? == many {
        let mut plan =
            plan(bench, "idle-50k", "plain", many, &after(many), true)?.servers(ONE_EACH);
        plan.seconds = 6.0;
        plans.push(plan);
    } else if !bench.quick {
        plans[0].missing.push(Missing {
            name: format!("{many} connections"),
            why: "the limit on open files does not allow so many".to_owned(),
        });
    }
    let rounds = bench.few_rounds();
    Ok(plans
        .into_iter()
        .map(|plan| plan.fresh().rounds(rounds))
        .collect())
}

fn plan(
    bench: &Bench,
    id: &'static str,
    what: &str,
    wanted: usize,
    when: &str,
    ask: bool,
) -> Result<Plan, BoxError> {
    let fewer = limits::connections(wanted, 2)?;
    let mut about = format!(
        "Resident memory of all of the server's processes, {when} The kernel's memory is not in it."
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
            let open = |numbers| {
                bench.runtime.block_on(async {
                    match ask {
                        true => idle::open(&client, numbers).await,
                        false => idle::silent(&client, numbers).await,
                    }
                })
            };
            let warm = open(0..WARM_UP)?;
            pause(Duration::from_millis(50));
            let before = server.resident()?;
            let open = open(WARM_UP..WARM_UP + count)?;
            // Without an exchange, some may not be accepted yet.
            pause(Duration::from_millis(200));
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

const PLAIN_TARGETS: &[Target] = &[
    Target::value("portcullis-stack", 1_600.0),
    Target::value("portcullis-forward-stack", 2_100.0).in_group(FORWARDING),
];

const TLS_TARGETS: &[Target] = &[
    Target::value("portcullis-tls-stack", 12_000.0),
    Target::value("portcullis-tls-forward", 6_000.0).in_group(FORWARDING),
];

const HTTP_TARGETS: &[Target] = &[Target::value("portcullis-http", 3_000.0)];

const PLAIN: &str = "tokio tokio-per-core portcullis portcullis-stack portcullis-per-core actix rama pingora \
     pingora-unbuffered tokio-io-timeout tokio-timeout tokio";

const HTTP: &str = "hyper-util portcullis-http portcullis-http-stack axum axum-server nginx-http \
     haproxy-http hyper-util";

const ONE_EACH: &str = "tokio tokio-per-core portcullis portcullis-stack portcullis-per-core actix rama pingora \
     tokio";

/// Connections before the first look at the memory, for what is allocated once.
const WARM_UP: usize = 100;
