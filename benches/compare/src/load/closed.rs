//! The closed loop, in which each client sends its next request after the answer to the last.
//!
//! It measures the cost of an operation. Its latencies are those of a machine under full load, and mostly time
//! in queues.

use super::{
    client::{Client, is_resumed},
    idle,
    outcome::{Outcome, PATIENCE, Part, nanos},
};
use crate::entry::Job;
use harness::{BoxError, sequence::Connect};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt,
    sync::Barrier,
    task::JoinSet,
    time::{Instant, timeout},
};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) clients: usize,
    pub(crate) time: Duration,
    /// The most operations of all clients together.
    pub(crate) count: usize,
}

impl Bounds {
    const fn per_client(self) -> usize {
        self.count.div_ceil(self.clients)
    }
}

/// Connected clients that have received one answer each and wait for the start.
#[derive(Debug)]
pub(crate) struct Ready {
    clients: JoinSet<Part>,
    start: Arc<Barrier>,
    bounds: Bounds,
}

impl Ready {
    /// Runs all clients until they finish.
    pub(crate) async fn run(mut self) -> Result<Outcome, BoxError> {
        let mut outcome = Outcome::new();
        self.start.wait().await;
        let begun = Instant::now();
        timeout(self.bounds.time + PATIENCE, async {
            while let Some(part) = self.clients.join_next().await {
                outcome.add(part?);
            }
            Ok::<_, BoxError>(())
        })
        .await??;
        outcome.took = begun.elapsed();
        Ok(outcome)
    }
}

/// Requests on connections that stay open.
pub(crate) async fn kept(client: &Client, bounds: Bounds) -> Result<Ready, BoxError> {
    let start = Arc::new(Barrier::new(bounds.clients + 1));
    let mut clients = JoinSet::new();
    for mut stream in idle::open(client, 0..bounds.clients).await? {
        let (client, start) = (client.clone(), start.clone());
        clients.spawn(async move {
            start.wait().await;
            let mut buffer = Vec::new();
            let mut part = Part::default();
            let mut now = Instant::now();
            let end = now + bounds.time;
            while now < end && part.latencies.len() < bounds.per_client() {
                if let Err(error) = client.exchange().run(&mut stream, &mut buffer).await {
                    part.error = Some(error.to_string());
                    break;
                }
                let then = Instant::now();
                part.latencies.push(nanos(then - now));
                now = then;
            }
            part.open = Some(stream);
            part
        });
    }
    Ok(Ready {
        clients,
        start,
        bounds,
    })
}

/// A connection for each request: connect, handshake if there is TLS, one exchange, close.
///
/// With `resume` each client resumes its own last TLS session.
pub(crate) async fn churn(
    client: &Client,
    job: Job,
    resume: bool,
    bounds: Bounds,
) -> Result<Ready, BoxError> {
    let start = Arc::new(Barrier::new(bounds.clients + 1));
    let mut clients = JoinSet::new();
    for _ in 0..bounds.clients {
        let client = match resume {
            true => client.resuming(),
            false => client.clone(),
        };
        let start = start.clone();
        let mut buffer = Vec::new();
        let mut part = Part::default();
        timeout(PATIENCE, once(&client, job, &mut buffer, &mut part)).await??;
        part = Part::default();
        clients.spawn(async move {
            start.wait().await;
            let mut now = Instant::now();
            let end = now + bounds.time;
            while now < end && part.latencies.len() < bounds.per_client() {
                if let Err(error) = once(&client, job, &mut buffer, &mut part).await {
                    part.error = Some(error.to_string());
                    break;
                }
                let then = Instant::now();
                part.latencies.push(nanos(then - now));
                now = then;
            }
            part
        });
    }
    Ok(Ready {
        clients,
        start,
        bounds,
    })
}

async fn once(client: &Client, job: Job, buffer: &mut Vec<u8>, part: &mut Part) -> io::Result<()> {
    let mut stream = client.connect().await?;
    part.resumed += u64::from(is_resumed(&stream));
    client.exchange().run(&mut stream, buffer).await?;
    if job.is_tls() {
        // Sends `close_notify`.
        stream.shutdown().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::echo;
    use tokio::{io::AsyncReadExt, net::TcpListener, spawn};

    const FEW: Bounds = Bounds {
        clients: 4,
        time: Duration::from_secs(5),
        count: 40,
    };

    async fn server() -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn(echo(stream));
            }
        });
        Client::echo(address, 64)
    }

    #[tokio::test]
    async fn as_many_operations_are_done_as_were_asked_for() {
        let client = server().await;
        let kept = kept(&client, FEW).await.unwrap().run().await.unwrap();
        assert_eq!((kept.count, kept.errors), (40, 0));
        let churn = churn(&client, Job::Echo, false, FEW).await.unwrap();
        let churn = churn.run().await.unwrap();
        assert_eq!((churn.count, churn.errors), (40, 0));
    }

    #[tokio::test]
    async fn a_server_that_lies_is_found_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                spawn(async move {
                    let mut message = [0; 64];
                    for number in 0.. {
                        stream.read_exact(&mut message).await.unwrap();
                        // The first answer is right, the next is not.
                        message[63] += number;
                        stream.write_all(&message).await.unwrap();
                    }
                });
            }
        });
        let client = Client::echo(address, 64);
        let outcome = kept(&client, FEW).await.unwrap().run().await.unwrap();
        assert_eq!((outcome.count, outcome.errors), (0, 4));
    }
}
