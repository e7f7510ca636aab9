//! A client for whom nothing happens at the same time: what is counted should not depend on chance.

use super::{Client, client::Wire};
use crate::BoxError;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Units one after the other, on connections that stay or with a connection for each.
#[derive(Debug)]
pub(crate) struct Sequence<'a> {
    client: &'a Client,
    open: Vec<Wire>,
    buffer: Vec<u8>,
}

impl<'a> Sequence<'a> {
    /// With so many connections that stay, each with one exchange behind it; with none, each unit has
    /// one of its own.
    pub(crate) async fn open(client: &'a Client, connections: usize) -> Result<Self, BoxError> {
        let (mut open, mut buffer) = (Vec::new(), Vec::new());
        for _ in 0..connections {
            let mut wire = client.connect().await?;
            client.exchange().run(&mut wire, &mut buffer).await?;
            open.push(wire);
        }
        Ok(Self {
            client,
            open,
            buffer,
        })
    }

    /// Does so many units. Several connections all ask, then all are answered.
    ///
    /// With a `gate` all their messages are there before the server sees the first: how many it finds
    /// at a time would depend on chance otherwise.
    pub(crate) async fn run(&mut self, units: usize, gate: Option<Gate>) -> Result<(), BoxError> {
        let Some(rounds) = units.checked_div(self.open.len()) else {
            for _ in 0..units {
                self.connection().await?;
            }
            return Ok(());
        };
        let gate = gate.filter(|_| self.open.len() > 1);
        let exchange = self.client.exchange();
        for _ in 0..rounds {
            gate.map_or(Ok(()), Gate::close)?;
            for wire in &mut self.open {
                exchange.ask(wire).await?;
            }
            gate.map_or(Ok(()), Gate::open)?;
            for wire in &mut self.open {
                exchange.read_answer(wire, &mut self.buffer).await?;
            }
        }
        Ok(())
    }

    /// One whole connection. The end of our side follows the message at once: whether it came before
    /// or after the server waits again would depend on chance, and cost the server one wait more.
    async fn connection(&mut self) -> Result<(), BoxError> {
        let mut wire = self.client.connect().await?;
        let exchange = self.client.exchange();
        exchange.ask(&mut wire).await?;
        wire.shutdown().await?;
        exchange.read_answer(&mut wire, &mut self.buffer).await?;
        match wire.read(&mut [0]).await? {
            0 => Ok(()),
            _ => Err("more came back than was sent".into()),
        }
    }

    /// Ends all connections and waits until the server has ended them as well.
    pub(crate) async fn close(self) {
        for mut wire in self.open {
            // How they end is not counted.
            let _ = wire.shutdown().await;
            let _ = wire.read(&mut [0]).await;
        }
    }
}

/// The process of a server, which can be made to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate(pub(crate) Pid);

impl Gate {
    fn close(self) -> nix::Result<()> {
        kill(self.0, Signal::SIGSTOP)
    }

    fn open(self) -> nix::Result<()> {
        kill(self.0, Signal::SIGCONT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::echo;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };
    use tokio::{net::TcpListener, spawn};

    /// An echo server that counts its connections.
    async fn server() -> (Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                spawn(echo(stream));
            }
        });
        (Client::echo(address, 64), accepted)
    }

    #[tokio::test]
    async fn each_unit_has_a_connection_of_its_own_where_none_stays() {
        let (client, accepted) = server().await;
        let mut sequence = Sequence::open(&client, 0).await.unwrap();
        sequence.run(7, None).await.unwrap();
        sequence.close().await;
        assert_eq!(accepted.load(SeqCst), 7);
    }

    #[tokio::test]
    async fn connections_that_stay_do_all_units() {
        let (client, accepted) = server().await;
        let mut sequence = Sequence::open(&client, 4).await.unwrap();
        sequence.run(40, None).await.unwrap();
        sequence.close().await;
        assert_eq!(accepted.load(SeqCst), 4);
    }
}
