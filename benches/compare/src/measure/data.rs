//! Connect–echo–close, and echoes on connections that stay; plain and over TLS.

use crate::{
    load::{
        Client, Outcome, bulk,
        closed::{self, Bounds},
        idle,
    },
    plan::{Bench, Column, FORWARDING, Plan, Row, Sample, Target, column},
    process::{Cpu, Running},
};
use harness::BoxError;
use std::time::Duration;

pub(super) fn plain(bench: &Bench) -> [Plan; 3] {
    let servers = "tokio tokio-per-core portcullis portcullis-stack portcullis-per-core actix rama \
         pingora pingora-unbuffered tokio";
    let churn = Plan::new(
        bench,
        "churn",
        "Connect, one echo of 64 bytes, close",
        "Closed loop, 32 clients.",
        OPERATIONS,
        |bench, row, server| {
            let (outcome, cpu) = churn(bench, row, server, 32, false)?;
            Ok(operations(&outcome, cpu))
        },
    );
    [
        churn.targets(CONNECTION_TARGETS),
        echo(bench, "echo-64", "Echo of 64 bytes", 64).targets(ECHO_64_TARGETS),
        echo(bench, "echo-16k", "Echo of 16 KiB", 16 * 1024).targets(ECHO_TARGETS),
    ]
    .map(|plan| {
        plan.servers(servers)
            .forwarders(SPLICING_FORWARDERS)
            .rounds(bench.many_rounds())
    })
}

/// Bulk data through those that forward, in each direction; plain, also between threads that block, and over TLS.
pub(super) fn forward(bench: &Bench) -> [Plan; 6] {
    let plan = |id, title: &str, download, ends: Ends, servers, targets| {
        let bytes: u64 = match bench.quick {
            true => 16 << 20,
            false => 128 << 20,
        };
        let mut plan = Plan::new(
            bench,
            id,
            title,
            ends.about(),
            BULK,
            move |bench, row, server| {
                let (took, cpu) = match ends {
                    Ends::Threads => {
                        let load = bulk::one_way_by_threads(server.address, 4, bytes, download);
                        bench.watch(server, load)?
                    }
                    Ends::Tasks => {
                        let client = Client::new(server.address, row.entry.job, 64, &bench.folder)?;
                        bench.watch(server, bulk::one_way(&client, 4, bytes, download))?
                    }
                };
                let gib = (4 * bytes) as f64 / f64::from(1 << 30);
                Ok(bulk_sample(gib, took, cpu))
            },
        );
        plan.seconds = 0.3 + 4.0 * bytes as f64 / 8e8;
        plan.servers(servers)
            .backend(ends.backend())
            .rounds(bench.rounds())
            .targets(targets)
    };
    let (plain, tls) = (BULK_FORWARDERS, TLS_FORWARDERS);
    [
        plan(
            "forward-down",
            "Forwarding, from the backend",
            true,
            Ends::Tasks,
            plain,
            FORWARD_TARGETS,
        ),
        plan(
            "forward-up",
            "Forwarding, to the backend",
            false,
            Ends::Tasks,
            plain,
            FORWARD_TARGETS,
        ),
        plan(
            "forward-down-threads",
            "Forwarding, from the backend, between threads",
            true,
            Ends::Threads,
            plain,
            FORWARD_TARGETS,
        ),
        plan(
            "forward-up-threads",
            "Forwarding, to the backend, between threads",
            false,
            Ends::Threads,
            plain,
            FORWARD_TARGETS,
        ),
        plan(
            "tls-forward-down",
            "Terminating TLS, from the backend",
            true,
            Ends::Tasks,
            tls,
            TERMINATE_TARGETS,
        ),
        plan(
            "tls-forward-up",
            "Terminating TLS, to the backend",
            false,
            Ends::Tasks,
            tls,
            TERMINATE_TARGETS,
        ),
    ]
}

/// What the clients of a bulk transfer and its backend are.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Tasks,
    Threads,
}

impl Ends {
    const fn backend(self) -> &'static str {
        match self {
            Self::Tasks => "tokio-bulk",
            Self::Threads => "threads-bulk",
        }
    }

    const fn about(self) -> &'static str {
        match self {
            Self::Tasks => {
                "Four connections, counted by the side that receives. Clients and backend are tasks of tokio."
            }
            Self::Threads => {
                "Four connections, counted by the side that receives. Clients and backend are threads that block."
            }
        }
    }
}

pub(super) fn tls(bench: &Bench) -> [Plan; 2] {
    let bytes = match bench.quick {
        true => 4 << 20,
        false => 32 << 20,
    };
    let bulk = Plan::new(
        bench,
        "tls-bulk",
        "Bulk over TLS",
        "Four connections, all bytes there and back again, both ways at once; a GiB is one that came back.",
        BULK,
        move |bench, row, server| {
            let client = Client::new(server.address, row.entry.job, 64, &bench.folder)?;
            let streams = bench.runtime.block_on(idle::open(&client, 0..4))?;
            let load = bulk::run(streams, bytes);
            let (took, cpu) = bench.watch(server, load)?;
            let gib = (4 * bytes) as f64 / f64::from(1 << 30);
            Ok(bulk_sample(gib, took, cpu))
        },
    );
    [
        echo(bench, "tls-echo-16k", "Echo of 16 KiB over TLS", 16 * 1024).targets(TLS_ECHO_TARGETS),
        bulk.targets(TLS_TARGETS),
    ]
    .map(|plan| {
        plan.servers(TLS_SERVERS)
            .forwarders(TLS_FORWARDERS)
            .rounds(bench.many_rounds())
    })
}

/// The values of the columns [`BULK`].
fn bulk_sample(gib: f64, took: Duration, cpu: Cpu) -> Sample {
    Sample {
        values: vec![
            cpu.total.as_secs_f64() / gib,
            cpu.user_share() * 100.0,
            gib / took.as_secs_f64(),
        ],
        problem: None,
    }
}

fn echo(bench: &Bench, id: &'static str, title: &str, size: usize) -> Plan {
    let about = "Closed loop, 64 connections that stay.";
    kept(bench, id, title, about, size)
}

/// The closed loop on 64 open connections, or on the number in the row.
pub(super) fn kept(bench: &Bench, id: &'static str, title: &str, about: &str, size: usize) -> Plan {
    let sample = move |bench: &Bench, row: &Row, server: &mut Running| {
        let client = Client::new(server.address, row.entry.job, size, &bench.folder)?;
        let clients = if row.number == 0 { 64 } else { row.number };
        let bounds = Bounds {
            clients,
            // Each of so many takes its turn several times.
            time: bench.time() * u32::try_from(1 + clients / 5_000)?,
            count: 1_000_000,
        };
        let ready = bench.runtime.block_on(closed::kept(&client, bounds))?;
        let (outcome, cpu) = bench.watch(server, ready.run())?;
        Ok(operations(&outcome, cpu))
    };
    Plan::new(bench, id, title, about, OPERATIONS, sample)
}

/// One sample of the closed loop with a connection for each exchange.
pub(super) fn churn(
    bench: &Bench,
    row: &Row,
    server: &Running,
    clients: usize,
    resume: bool,
) -> Result<(Outcome, Cpu), BoxError> {
    let client = Client::new(server.address, row.entry.job, 64, &bench.folder)?;
    let bounds = Bounds {
        clients,
        time: bench.time(),
        count: 20_000,
    };
    let ready = closed::churn(&client, row.entry.job, resume, bounds);
    let ready = bench.runtime.block_on(ready)?;
    bench.watch(server, ready.run())
}

/// The values of the columns [`OPERATIONS`].
pub(super) fn operations(outcome: &Outcome, cpu: Cpu) -> Sample {
    let count = outcome.count as f64;
    Sample {
        values: vec![
            cpu.total.as_secs_f64() * 1e6 / count,
            cpu.user_share() * 100.0,
            count / outcome.took.as_secs_f64(),
            outcome.micros(0.5),
            outcome.micros(0.99),
        ],
        problem: problem(outcome),
    }
}

/// Why an outcome is invalid.
pub(super) fn problem(outcome: &Outcome) -> Option<String> {
    if outcome.count == 0 && outcome.error.is_none() {
        return Some("nothing was done".to_owned());
    }
    let error = outcome.error.as_ref()?;
    Some(format!("{} errors, the first: {error}", outcome.errors))
}

pub(super) const OPERATIONS: &[Column] = &[
    column("server CPU, µs/op", 2),
    column("of that in user space, %", 0),
    column("op/s", 0),
    column("p50, µs", 0),
    column("p99, µs", 0),
];

const CONNECTION_TARGETS: &[Target] = &[
    Target::ratio("portcullis-stack", "tokio", 1.05),
    Target::ratio("portcullis-stack", "actix", 0.92),
    Target::ratio("portcullis-per-core", "portcullis", 1.05),
];

const ECHO_64_TARGETS: &[Target] = &[
    ECHO_TARGETS[0],
    ECHO_TARGETS[1],
    Target::ratio("portcullis-forward-stack", "tokio-forward", 1.05).in_group(FORWARDING),
];

const ECHO_TARGETS: &[Target] = &[
    Target::ratio("portcullis-stack", "tokio", 1.05),
    Target::ratio("portcullis-per-core", "portcullis", 1.05),
];

const TLS_TARGETS: &[Target] = &[
    Target::ratio("portcullis-tls", "tokio-rustls", 1.03),
    Target::ratio("portcullis-tls-stack", "tokio-rustls", 1.03),
];

const TLS_ECHO_TARGETS: &[Target] = &[
    TLS_TARGETS[0],
    TLS_TARGETS[1],
    Target::ratio("portcullis-tls-forward", "nginx-tls", 0.90).in_group(FORWARDING),
    Target::ratio("portcullis-tls-forward", "haproxy-tls", 1.0).in_group(FORWARDING),
];

const FORWARD_TARGETS: &[Target] = &[
    Target::ratio("portcullis-forward-stack", "tokio-forward", 0.18),
    Target::ratio("portcullis-forward-stack", "nginx", 0.25),
    Target::ratio("portcullis-forward-stack", "haproxy-splice", 0.50),
];

const TERMINATE_TARGETS: &[Target] = &[
    Target::ratio("portcullis-tls-forward", "nginx-tls", 0.65),
    Target::ratio("portcullis-tls-forward", "haproxy-tls", 0.65),
];

const BULK: &[Column] = &[
    column("server CPU, s/GiB", 3),
    column("of that in user space, %", 0),
    column("GiB/s", 2),
];

pub(super) const TLS_SERVERS: &str =
    "tokio-rustls portcullis-tls portcullis-tls-stack tls-listener tokio-rustls";

pub(super) const FORWARDERS: &str = "tokio-forward tokio-forward-64k portcullis-forward portcullis-forward-stack nginx \
     haproxy rama-forward tokio-forward";

/// Also with the splices of HAProxy, which cost small data more than copies.
const SPLICING_FORWARDERS: &str = "tokio-forward tokio-forward-64k portcullis-forward portcullis-forward-stack nginx \
     haproxy haproxy-splice rama-forward tokio-forward";

/// Also with one that only splices.
const BULK_FORWARDERS: &str = "tokio-forward tokio-forward-64k portcullis-forward portcullis-forward-stack nginx \
     haproxy haproxy-splice rama-forward threads-splice tokio-forward";

pub(super) const TLS_FORWARDERS: &str = "tokio-rustls-forward portcullis-tls-forward portcullis-tls-buffered \
     nginx-tls haproxy-tls hitch stunnel tokio-rustls-forward";
