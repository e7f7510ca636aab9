//! The open loop, which sends requests at fixed times.
//!
//! A latency counts from the time at which its request should have been sent. A stall of the server therefore
//! shows in all requests that it delays, and not only in the one that was under way ("coordinated omission",
//! Gil Tene).
//!
//! Each connection has a separate thread that sleeps until the next time. The timers of a runtime are too
//! coarse for this, and spinning would take the CPU from the server.

use super::{
    client::Client,
    outcome::{Outcome, Part, nanos},
};
use crate::process::pause;
use harness::{BoxError, exchange::Exchange, sequence::Connect};
use nix::sys::prctl;
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};
use tokio::time::Instant;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) connections: u32,
    /// Of all connections together.
    pub(crate) per_second: u32,
    pub(crate) time: Duration,
}

impl Rate {
    /// When a connection has to send its requests, from the start on.
    ///
    /// The connections take turns, so that the requests of all are spread evenly.
    fn times(self, connection: u32) -> impl Iterator<Item = Duration> {
        let between = Duration::from_secs(1) * self.connections / self.per_second;
        let first = between * connection / self.connections;
        (0..)
            .map(move |number| first + between * number)
            .take_while(move |time| *time < self.time)
    }
}

/// Opens idle connections, with one exchange on each.
pub(crate) fn connect(client: &Client, rate: Rate) -> Result<Vec<TcpStream>, BoxError> {
    let mut streams = Vec::new();
    for _ in 0..rate.connections {
        let mut stream = TcpStream::connect(client.address())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STALL))?;
        stream.set_write_timeout(Some(STALL))?;
        ask(client.exchange(), &mut stream, &mut Vec::new())?;
        streams.push(stream);
    }
    Ok(streams)
}

/// Sends on all of `streams`, which stay open.
pub(crate) fn run(client: &Client, streams: &[TcpStream], rate: Rate) -> Result<Outcome, BoxError> {
    let streams: Vec<_> = streams
        .iter()
        .map(TcpStream::try_clone)
        .collect::<Result<_, _>>()?;
    let ready = Arc::new(Barrier::new(streams.len()));
    let begun = Instant::now() + Duration::from_millis(20);
    let threads: Vec<_> = (0..)
        .zip(streams)
        .map(|(number, stream)| {
            let (exchange, ready) = (client.exchange().clone(), ready.clone());
            thread::spawn(move || {
                // Else the kernel may wake it 50 µs late, for all servers alike.
                let _ = prctl::set_timerslack(1);
                ready.wait();
                send(&exchange, stream, begun, rate.times(number))
            })
        })
        .collect();
    let mut outcome = Outcome::new();
    for thread in threads {
        outcome.add(thread.join().map_err(|_| "a client panicked")?);
    }
    outcome.took = begun.elapsed();
    Ok(outcome)
}

fn send(
    exchange: &Exchange,
    mut stream: TcpStream,
    begun: Instant,
    times: impl Iterator<Item = Duration>,
) -> Part {
    let mut part = Part::default();
    let mut buffer = Vec::new();
    for time in times {
        let intended = begun + time;
        pause(intended.saturating_duration_since(Instant::now()));
        if let Err(error) = ask(exchange, &mut stream, &mut buffer) {
            part.error = Some(error.to_string());
            break;
        }
        part.latencies.push(nanos(intended.elapsed()));
    }
    part
}

/// As [`Exchange::run`], blocking.
fn ask(exchange: &Exchange, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    stream.write_all(exchange.request())?;
    buffer.clear();
    let mut space = [0; 4096];
    while exchange.missing(buffer)? {
        match stream.read(&mut space)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => buffer.extend_from_slice(&space[..read]),
        }
    }
    Ok(())
}

/// Timeout of an answer.
const STALL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const RATE: Rate = Rate {
        connections: 4,
        per_second: 1000,
        time: Duration::from_millis(100),
    };

    #[test]
    fn the_requests_of_all_connections_are_spread_evenly() {
        let mut all: Vec<_> = (0..4).flat_map(|number| RATE.times(number)).collect();
        all.sort();
        let evenly: Vec<_> = (0..100).map(Duration::from_millis).collect();
        assert_eq!(all, evenly);
    }

    #[test]
    fn a_stall_is_seen_by_all_requests_that_it_holds_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut message = [0; 64];
            for number in 0.. {
                if stream.read_exact(&mut message).is_err() {
                    return;
                }
                // After the first one, which only warms up.
                if number == 1 {
                    pause(Duration::from_millis(60));
                }
                stream.write_all(&message).unwrap();
            }
        });
        let client = Client::echo(address, 64);
        let rate = Rate {
            connections: 1,
            per_second: 100,
            time: Duration::from_millis(100),
        };
        let streams = connect(&client, rate).unwrap();
        let outcome = run(&client, &streams, rate).unwrap();
        assert_eq!((outcome.count, outcome.errors), (10, 0));
        // Those of 0, 10, 20, 30 and 40 ms wait until 60 ms: at least 20 ms each.
        let late = outcome.latency.count_between(19_000_000, u64::MAX / 2);
        assert!(late >= 5, "{late}");
    }
}
