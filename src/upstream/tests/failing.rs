//! Servers that fail in each way, for clients that are forwarded.

use super::{SECOND, seeds::Random};
use crate::upstream::balance::mix;
use portcullis_middleware::connection::AnyStream;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep, sleep_until},
};

/// How a server behaves at the moment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behavior {
    /// Returns each byte, and ends after its client.
    Echoes,
    EchoesAfter(Duration),
    Refuses,
    /// A connect gets no answer.
    Hangs,
    /// Accepts and says nothing.
    IsSilent,
    /// Ends the connection after so many bytes.
    Cuts(usize),
    /// Echoes for a second, then refuses for one and ends what it has.
    Flaps,
}

impl Random {
    pub(super) fn behavior(&mut self) -> Behavior {
        match self.below(9) {
            0 => Behavior::Refuses,
            1 => Behavior::Hangs,
            2 => Behavior::IsSilent,
            3 => Behavior::Cuts(self.below(1500) as usize),
            4 => Behavior::Flaps,
            5 => Behavior::EchoesAfter(self.time(4 * SECOND)),
            _ => Behavior::Echoes,
        }
    }
}

/// What servers and clients share.
#[derive(Clone)]
pub(super) struct Servers(pub(super) Arc<Mutex<State>>);

pub(super) struct State {
    pub(super) behaviors: HashMap<SocketAddr, Behavior>,
    /// The addresses of the name.
    pub(super) named: Vec<SocketAddr>,
    /// The clients whose bytes a server has returned up to their end.
    pub(super) finished: Vec<u32>,
    pub(super) begun: Instant,
}

pub(super) fn address(number: u64) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, u8::try_from(number).unwrap()], 80))
}

/// A byte that a client sends.
pub(super) fn byte(client: u32, position: usize) -> u8 {
    mix(u64::from(client) << 32 | position as u64) as u8
}

impl Servers {
    pub(super) fn set(&self, server: SocketAddr, behavior: Behavior) {
        let mut state = self.0.lock().unwrap();
        state.behaviors.insert(server, behavior);
    }

    fn now(&self, address: SocketAddr) -> Behavior {
        let state = self.0.lock().unwrap();
        match state.behaviors[&address] {
            Behavior::Flaps if state.begun.elapsed().as_secs() % 2 == 1 => Behavior::Refuses,
            other => other,
        }
    }

    pub(super) async fn open(self, address: SocketAddr) -> io::Result<AnyStream> {
        let behavior = self.now(address);
        match behavior {
            Behavior::Refuses => return Err(io::ErrorKind::ConnectionRefused.into()),
            Behavior::Hangs => std::future::pending().await,
            Behavior::EchoesAfter(time) => sleep(time).await,
            _ => {}
        }
        let (ours, theirs) = duplex(256);
        tokio::spawn(self.serve(theirs, behavior));
        Ok(ours.into())
    }

    async fn serve(self, io: DuplexStream, behavior: Behavior) {
        match behavior {
            Behavior::IsSilent => {
                let mut io = io;
                let mut nothing = Vec::new();
                let _end = io.read_to_end(&mut nothing).await;
            }
            Behavior::Cuts(after) => self.echo(io, after).await,
            Behavior::Flaps => {
                let elapsed = self.0.lock().unwrap().begun.elapsed();
                let end = Instant::now() + Duration::from_secs(elapsed.as_secs() + 1) - elapsed;
                tokio::select! {
                    biased;
                    () = self.echo(io, usize::MAX) => {}
                    () = sleep_until(end) => {}
                }
            }
            _ => self.echo(io, usize::MAX).await,
        }
    }

    /// Returns `most` bytes, and verifies them.
    async fn echo(&self, mut io: DuplexStream, most: usize) {
        let mut head = [0; 4];
        if io.read_exact(&mut head).await.is_err() || io.write_all(&head).await.is_err() {
            return;
        }
        // A health check sends as many bytes.
        let client = (&head != CHECK).then(|| u32::from_be_bytes(head));
        let (mut position, mut buffer) = (0, [0; 200]);
        while position < most {
            let Ok(read) = io.read(&mut buffer).await else {
                return;
            };
            if read == 0 {
                self.0.lock().unwrap().finished.extend(client);
                return;
            }
            let client = client.expect("a check sends nothing more");
            for (offset, received) in buffer[..read].iter().enumerate() {
                assert_eq!(*received, byte(client, position + offset), "at the server");
            }
            if io.write_all(&buffer[..read]).await.is_err() {
                return;
            }
            position += read;
        }
    }
}

/// Sent by health checks, as long as the number of a client.
pub(super) const CHECK: &[u8; 4] = b"PING";
