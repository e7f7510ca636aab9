//! Instructions and system calls, which do not depend on the load of the machine.

use super::tls_settings::SETTINGS;
use crate::{
    count::{self, Amount, Tools},
    limits,
    plan::{Bench, Column, Missing, Plan, Sample, Target, column},
};
use harness::{BoxError, tool::strace::Calls};

pub(super) fn plans(bench: &Bench) -> Result<Vec<Plan>, BoxError> {
    let echo = "tokio tokio-per-core portcullis portcullis-stack portcullis-per-core \
         portcullis-timeouts actix rama pingora pingora-unbuffered tokio-io-timeout \
         tokio-timeout tokio";
    let tls_echo = "tokio-rustls portcullis-tls portcullis-tls-stack tls-listener tokio-rustls";
    let http = "hyper-util portcullis-http portcullis-http-stack hyper-util";
    let router = "hyper-util-axum portcullis-http-axum portcullis-http-axum-stack axum axum-server \
         hyper-util-axum";
    let https = "hyper-util-https portcullis-https portcullis-https-axum axum-server-https \
         tls-listener-https hyper-util-https";
    let tools = Tools::find();
    let counters = plan(
        bench,
        tools,
        "counters",
        "Instructions and system calls of an echo",
        "Echo of 64 bytes. A unit is a connection with one echo, or one echo",
    )
    .group(CONNECTION, 0, echo)
    .group(ONE, 1, echo)
    .group(SIXTEEN, 16, echo)
    .targets(TARGETS);
    let counters_tls = plan(
        bench,
        tools,
        "counters-tls",
        "Instructions and system calls of TLS",
        "Echo of 64 bytes. A unit is a connection with a full handshake and one echo, or one echo",
    )
    .group(HANDSHAKE, 0, tls_echo)
    .group("the same by TLS settings", 0, SETTINGS)
    .group(RESUMED, 0, tls_echo)
    .group(RESUMED_SETTINGS, 0, SETTINGS)
    .group(ONE, 1, tls_echo)
    .targets(TLS_TARGETS);
    let counters_http = plan(
        bench,
        tools,
        "counters-http",
        "Instructions and system calls of an HTTP hello world",
        "GET and 13 bytes as answer. A unit is a request on a connection that stays",
    )
    .group(PLAIN, 1, http)
    .group(ROUTER, 1, router)
    .group(TLS, 1, https)
    .targets(HTTP_TARGETS);
    let mut plans = vec![
        counters,
        counters_tls,
        counters_http,
        layers(bench, tools),
        growth(bench, tools)?,
    ];
    for plan in &mut plans {
        plan.missing.extend(missing(tools));
        if !tools.valgrind && !tools.strace {
            plan.rows.clear();
        }
    }
    Ok(plans)
}

/// The cost of each further layer.
fn layers(bench: &Bench, tools: Tools) -> Plan {
    // System calls do not depend on it.
    let tools = Tools {
        strace: false,
        ..tools
    };
    let layers = "portcullis portcullis-layers-1 portcullis-layers-2 portcullis-layers-4 \
         portcullis-layers-8 portcullis-layers-12 portcullis";
    plan(
        bench,
        tools,
        "counters-layers",
        "Instructions by the number of layers",
        "Each layer is a byte count, which wraps the stream. Echo of 64 bytes. A unit is a connection with \
         one echo, or one echo",
    )
    .group(CONNECTION, 0, layers)
    .group(ONE, 1, layers)
}

/// What a connection costs where others are there already.
fn growth(bench: &Bench, tools: Tools) -> Result<Plan, BoxError> {
    // Without strace, because system calls do not depend on it.
    let tools = Tools {
        strace: false,
        ..tools
    };
    let mut growth = plan(
        bench,
        tools,
        "counters-growth",
        "Instructions of a connection where others wait",
        "A unit is a connection with one echo of 64 bytes; so many others stay open meanwhile and say nothing",
    );
    growth.columns = const { &[COSTS[0]] };
    for wanted in [10, 100, 1_000, 10_000] {
        let most = if bench.quick { 100 } else { wanted };
        let others = limits::connections(wanted, 1)?.min(most);
        if growth.rows.last().is_some_and(|row| row.number == others) {
            continue;
        }
        let group = format!("{others} others");
        growth = growth.group(group, others, "tokio portcullis portcullis-stack");
    }
    growth.sample = Box::new(move |bench, row, _| {
        let amount = Amount {
            others: row.number,
            ..amount(bench, false, 0)
        };
        let costs = count::costs(tools, row.entry, &bench.folder, amount);
        let costs = bench.runtime.block_on(costs)?;
        Ok(Sample {
            values: vec![costs.instructions.unwrap_or(f64::NAN)],
            problem: None,
        })
    });
    Ok(growth)
}

fn plan(bench: &Bench, tools: Tools, id: &'static str, title: &str, about: &str) -> Plan {
    let about = format!(
        "{about}. One worker; the client does one thing at a time. Instructions: of the whole process in \
         user space, by callgrind. System calls: those that concern connections, and all, by strace. \
         valgrind shows the process a CPU without AVX-512, so cryptography takes more of them than it \
         would outside, for all alike; and it counts each byte that is cleared at once as an instruction, \
         which are 65,560 of `pingora`'s connection, for its buffers."
    );
    let plan = Plan::new(bench, id, title, about, COSTS, move |bench, row, _| {
        let amount = Amount {
            resume: [RESUMED, RESUMED_SETTINGS].contains(&&*row.group),
            ..amount(bench, row.entry.job.is_tls(), row.number)
        };
        let costs = count::costs(tools, row.entry, &bench.folder, amount);
        let costs = bench.runtime.block_on(costs)?;
        let calls = costs.calls;
        let values = [
            costs.instructions,
            calls.as_ref().map(Calls::of_connections),
            calls.as_ref().map(Calls::all),
        ];
        Ok(Sample {
            values: values.map(|value| value.unwrap_or(f64::NAN)).into(),
            problem: None,
        })
    });
    let (rounds, seconds) = match bench.quick {
        true => (1, 1.6),
        false => (3, 2.2),
    };
    // The runner's own server has nothing to do; those that are counted run under a tool.
    plan.fresh().repeat(rounds, seconds)
}

/// For so many connections that stay; all amounts divide by them.
const fn amount(bench: &Bench, tls: bool, connections: usize) -> Amount {
    let (few, many) = match (tls && connections == 0, bench.quick) {
        // A handshake is worth a hundred connections without.
        (true, true) => (16, 32),
        (true, false) => (16, 144),
        (false, true) => (160, 480),
        (false, false) => (160, 1760),
    };
    Amount {
        connections,
        others: 0,
        resume: false,
        few,
        many,
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

const CONNECTION: &str = "connect, one echo, close";
const HANDSHAKE: &str = "connect, full handshake, one echo, close";
const RESUMED: &str = "connect, resumed handshake, one echo, close";
const RESUMED_SETTINGS: &str = "the same by TLS settings, where they allow it";
const ONE: &str = "echo on one connection";
const SIXTEEN: &str = "echo on 16 connections";
const PLAIN: &str = "plain";
const ROUTER: &str = "plain, with axum's router";
const TLS: &str = "over TLS";

const TARGETS: &[Target] = &[
    Target::value("portcullis-stack", 12_000.0).in_group(CONNECTION),
    Target::ratio("portcullis-stack", "tokio", 1.0)
        .in_group(CONNECTION)
        .in_column(1),
    Target::ratio("portcullis-stack", "tokio", 1.0)
        .in_group(CONNECTION)
        .in_column(2),
    Target::difference("portcullis-timeouts", "portcullis", 200.0).in_group(ONE),
    Target::ratio("portcullis-stack", "tokio", 1.1).in_group(ONE),
    Target::ratio("portcullis-stack", "tokio", 1.0)
        .in_group(ONE)
        .in_column(1),
    Target::ratio("portcullis-stack", "tokio", 1.06).in_group(SIXTEEN),
    Target::ratio("portcullis-per-core", "portcullis", 1.0).in_group(CONNECTION),
    Target::ratio("portcullis-per-core", "portcullis", 1.0).in_group(ONE),
];

const TLS_TARGETS: &[Target] = &[
    Target::ratio("portcullis-tls", "tokio-rustls", 1.03).in_group(HANDSHAKE),
    Target::ratio("portcullis-tls-stack", "tokio-rustls", 1.03).in_group(HANDSHAKE),
    Target::ratio("portcullis-tls", "tokio-rustls", 1.03).in_group(RESUMED),
    Target::ratio("portcullis-tls-stack", "tokio-rustls", 1.03).in_group(RESUMED),
];

/// The targets of `HttpService`.
const HTTP_TARGETS: &[Target] = &[
    Target::ratio("portcullis-http", "hyper-util", 1.03).in_group(PLAIN),
    Target::ratio("portcullis-http", "hyper-util", 1.0)
        .in_group(PLAIN)
        .in_column(1),
    Target::ratio("portcullis-http-axum", "hyper-util-axum", 1.03).in_group(ROUTER),
    Target::value("portcullis-http-axum-stack", 13_550.0).in_group(ROUTER),
    Target::ratio("portcullis-https-axum", "axum-server-https", 1.0).in_group(TLS),
];

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
        for target in [TARGETS, TLS_TARGETS, HTTP_TARGETS].concat() {
            assert!(target.column < COSTS.len());
        }
    }
}
