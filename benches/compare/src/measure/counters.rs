//! Instructions and system calls, which no other load on the machine changes.

use super::{Bench, Column, Missing, Plan, Row, Sample, Target, column};
use crate::count::{self, Amount, Tools};

pub(super) fn plans(bench: &Bench) -> [Plan; 2] {
    let echo = &[
        "tokio",
        "tokio-per-core",
        "portcullis",
        "portcullis-stack",
        "portcullis-per-core",
        "portcullis-timeouts",
        "actix",
        "rama",
        "pingora",
        "tokio-io-timeout",
        "tokio",
    ];
    let tls_echo = &[
        "tokio-rustls",
        "portcullis-tls",
        "portcullis-tls-stack",
        "tls-listener",
        "tokio-rustls",
    ];
    let http = &[
        "hyper-util",
        "portcullis-http",
        "portcullis-http-stack",
        "portcullis-http-axum",
        "axum",
        "axum-server",
        "hyper-util",
    ];
    let https = &[
        "hyper-util-https",
        "portcullis-https",
        "portcullis-https-axum",
        "axum-server-https",
        "tls-listener-https",
        "hyper-util-https",
    ];
    let tools = Tools::find();
    let counters = plan(
        bench,
        tools,
        "counters",
        "Instructions and system calls of an echo",
        "Echo of 64 bytes. A unit is a connection with one echo, or one echo",
    )
    .group("connect, one echo, close", 0, echo)
    .group("echo on one connection", 1, echo)
    .group("echo on 16 connections", 16, echo)
    .group("echo over TLS on one connection", 1, tls_echo);
    let counters_http = plan(
        bench,
        tools,
        "counters-http",
        "Instructions and system calls of an HTTP hello world",
        "GET and 13 bytes as answer. A unit is a request on a connection that stays",
    )
    .group(PLAIN, 1, http)
    .group(TLS, 1, https);
    let mut plans = [counters, counters_http];
    plans[1].targets = TARGETS;
    for plan in &mut plans {
        plan.missing.extend(missing(tools));
        if !tools.valgrind && !tools.strace {
            plan.rows.clear();
        }
    }
    plans
}

fn plan(bench: &Bench, tools: Tools, id: &'static str, title: &str, about: &str) -> Plan {
    let about = format!(
        "{about}. One worker; the client does one thing at a time. Instructions: of the whole process in \
         user space, by callgrind. System calls: those that concern connections, and all, by strace. \
         valgrind shows the process a CPU without AVX-512, so cryptography takes more of them than it \
         would outside, for all alike."
    );
    let plan = Plan::new(bench, id, title, about, COSTS, move |bench, row, _| {
        let costs = count::costs(tools, row.entry, &bench.folder, amount(bench, row));
        let costs = bench.runtime.block_on(costs)?;
        let calls = costs.calls;
        let values = [
            costs.instructions,
            calls.map(|calls| calls.of_connections),
            calls.map(|calls| calls.all),
        ];
        Ok(Sample {
            values: values.map(|value| value.unwrap_or(f64::NAN)).into(),
            problem: None,
        })
    });
    let (rounds, seconds) = match bench.quick {
        true => (1, 1.6),
        false => (3, 3.0),
    };
    // The runner's own server has nothing to do; those that are counted run under a tool.
    plan.fresh().repeat(rounds, seconds)
}

/// The row's number is that of the connections that stay. All amounts divide by it.
const fn amount(bench: &Bench, row: &Row) -> Amount {
    Amount {
        connections: row.number,
        few: 160,
        many: if bench.quick { 480 } else { 1760 },
    }
}

/// What cannot be counted, and why.
fn missing(tools: Tools) -> impl Iterator<Item = Missing> {
    let tools = [
        (tools.valgrind, "instructions", "valgrind"),
        (tools.strace, "system calls", "strace"),
    ];
    let absent = tools.into_iter().filter(|(found, ..)| !found);
    absent.map(|(_, what, program)| Missing {
        name: what.to_owned(),
        why: format!("{program} is not installed (apt-get install {program})"),
    })
}

const COSTS: &[Column] = &[
    column("instructions/unit", 0),
    column("system calls/unit", 2).compared(),
    column("all system calls/unit", 2),
];

const PLAIN: &str = "plain";

const TLS: &str = "over TLS";

/// What is asked of `HttpService`.
const TARGETS: &[Target] = &[
    target(PLAIN, "portcullis-http", 0, "hyper-util", 1.03),
    target(PLAIN, "portcullis-http", 1, "hyper-util", 1.0),
    // Less than: the next smaller that a table shows.
    target(TLS, "portcullis-https", 0, "axum-server-https", 0.99),
    // The same with the router that axum-server has.
    target(TLS, "portcullis-https-axum", 0, "axum-server-https", 0.99),
];

const fn target(
    group: &'static str,
    server: &'static str,
    column: usize,
    other: &'static str,
    at_most: f64,
) -> Target {
    Target {
        group,
        server,
        column,
        other,
        at_most,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_tool_is_there_for_is_named() {
        let tools = Tools {
            valgrind: false,
            strace: true,
        };
        let missing: Vec<_> = missing(tools).collect();
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].name, "instructions");
        assert!(missing[0].why.contains("valgrind"));
    }

    #[test]
    fn each_target_names_a_column() {
        for target in TARGETS {
            assert!(target.column < COSTS.len());
        }
    }
}
