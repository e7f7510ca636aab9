//! The cost of layers per operation, without the kernel.

use crate::{
    operations::Costs,
    plan::{Bench, Column, Plan, Sample, Target, column},
};
use harness::BoxError;
use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

pub(super) fn plan(bench: &Bench) -> Plan {
    let plan = Plan::new(
        bench,
        "operations",
        "Nanoseconds of an operation without the kernel",
        "One read and one write of 64 bytes, over a stream in memory whose every read waits once; 64 \
         tasks on one thread of tokio, CPU time. \"Added\" is the column to compare: the difference to \
         nothing around the stream, which each process measures too, in turn with its own, 21 times; \
         its median and quartiles. Timeouts are 60 s for each read and each write. `mock-portcullis` is \
         `PeerAddrLayer`, which every connection has; timeouts, byte counts and box stand alone; the \
         stack is all that is recommended, `PeerAddrLayer` in it.",
        COSTS,
        |_, _, server| {
            let Costs { all, added } = ask(server.address)?;
            let [low, median, high] = added;
            Ok(Sample {
                values: vec![all, median, low, high],
                problem: None,
            })
        },
    )
    .servers("mock mock-portcullis mock-portcullis-timeouts mock-portcullis-count-1 \
         mock-portcullis-count-4 mock-portcullis-box mock-portcullis-stack \
         mock-tokio-io-timeout mock-tokio-timeout mock");
    // Each sample is a separate process, because its memory layout affects the time.
    Plan {
        targets: TARGETS,
        seconds: 0.35,
        ..plan.fresh()
    }
}

/// The result of a process that measures a stack.
fn ask(address: SocketAddr) -> Result<Costs, BoxError> {
    let mut server = TcpStream::connect(address)?;
    server.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    answer.parse()
}

const COSTS: &[Column] = &[
    column("ns/op", 1),
    column("added ns/op", 1),
    column("lower quartile", 1),
    column("upper quartile", 1),
];

const TARGETS: &[Target] = &[Target::value("mock-portcullis-timeouts", 32.0).in_column(1)];

/// How long a process may measure itself.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server;

    #[test]
    fn each_target_names_a_server_and_a_column() {
        for target in TARGETS {
            assert!(server::find(target.server).is_some(), "{}", target.server);
            assert!(target.column < COSTS.len());
        }
    }
}
