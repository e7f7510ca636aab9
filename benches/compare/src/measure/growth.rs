//! Cost by the number of connections and of layers.

use super::data;
use crate::{
    limits,
    plan::{Bench, Plan},
};
use harness::BoxError;

pub(super) fn plans(bench: &Bench) -> Result<[Plan; 2], BoxError> {
    let about = "Echo of 64 bytes, closed loop, all connections at work. On one connection the \
                 threads mostly wait, and to wake costs more than to go on.";
    let title = "Cost by the number of connections";
    let mut connections = data::kept(bench, "growth", title, about, 64);
    for count in [1, 10, 100, 1_000, 10_000] {
        let most = if bench.quick { 1_000 } else { count };
        let count = limits::connections(count, 1)?.min(most);
        if connections
            .rows
            .last()
            .is_some_and(|row| row.number == count)
        {
            continue;
        }
        let group = match count {
            1 => "1 connection".to_owned(),
            more => format!("{more} connections"),
        };
        connections = connections.group(
            group,
            count,
            "tokio portcullis portcullis-stack portcullis-per-core actix pingora",
        );
    }
    connections.rounds = bench.few_rounds();
    // The most take longer, and have to connect first.
    connections.seconds += 0.5;

    let layers = data::kept(
        bench,
        "layers",
        "Cost by the number of layers",
        "Echo of 64 bytes, 64 connections; each layer is a byte count, which wraps the stream.",
        64,
    );
    let layers = layers.servers(
        "portcullis portcullis-layers-1 portcullis-layers-2 portcullis-layers-4 \
         portcullis-layers-8 portcullis-layers-12 portcullis",
    );
    Ok([connections, layers])
}
