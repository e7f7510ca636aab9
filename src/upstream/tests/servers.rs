//! Scripted servers, and clients to connect for.

use super::super::{PoolBuilder, Server, dial::Script};
use portcullis_middleware::{
    ConnectionInfo,
    connection::{Address, AnyStream},
};
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

/// Servers with the addresses 192.0.2.1:80, 192.0.2.2:80 and so on.
#[derive(Clone, Debug, Default)]
pub(super) struct Servers(Arc<Mutex<HashMap<String, Scripted>>>);

/// How a server answers a connect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    Accepts,
    AcceptsAfter(Duration),
    Refuses,
    /// The connect fails because of this machine.
    NoDescriptor,
    /// As if this machine had no port left, or no address of the IP version.
    NoAddress,
    /// The connect gets no answer.
    Hangs,
    /// It sends this at the beginning of a connection.
    Sends(&'static str),
    /// It sends a byte every 100 ms.
    Drips,
    /// It sends as long as its bytes are read.
    Floods,
    /// Code of a user panics during the connect, such as a verifier of certificates.
    Panics,
}

#[derive(Debug)]
struct Scripted {
    answer: Answer,
    /// The connects that were begun.
    begun: usize,
    /// The bytes of its floods.
    flooded: usize,
    /// The server's ends of its connections.
    open: Vec<DuplexStream>,
}

impl Servers {
    /// This many servers, which accept connections.
    pub(super) fn new(count: usize) -> Self {
        let servers = Self::default();
        for number in 1..=count {
            servers.set(number, Answer::Accepts);
        }
        servers
    }

    pub(super) fn address(number: usize) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, u8::try_from(number).unwrap()], 80))
    }

    pub(super) fn server(number: usize) -> Server {
        Self::address(number).into()
    }

    pub(super) fn set(&self, number: usize, answer: Answer) {
        let mut servers = self.0.lock().unwrap();
        let server = servers.entry(Self::address(number).to_string());
        let server = server.or_insert_with(|| Scripted {
            answer,
            begun: 0,
            flooded: 0,
            open: Vec::new(),
        });
        server.answer = answer;
    }

    pub(super) fn begun(&self, number: usize) -> usize {
        self.0.lock().unwrap()[&Self::address(number).to_string()].begun
    }

    pub(super) fn flooded(&self, number: usize) -> usize {
        self.0.lock().unwrap()[&Self::address(number).to_string()].flooded
    }

    /// The servers close their connections.
    pub(super) fn close_all(&self) {
        for server in self.0.lock().unwrap().values_mut() {
            server.open.clear();
        }
    }

    /// A builder of pools that connect to these servers.
    pub(super) fn pool(&self) -> PoolBuilder {
        let servers = self.clone();
        let script = move |address: &super::ServerAddress| {
            let address = address.to_string();
            let servers = servers.clone();
            Box::pin(async move { servers.open(address).await }) as _
        };
        PoolBuilder::new().with_script(Script(Arc::new(script)))
    }

    async fn open(&self, address: String) -> io::Result<AnyStream> {
        let answer = {
            let mut servers = self.0.lock().unwrap();
            let server = servers.get_mut(&address).expect("a scripted server");
            server.begun += 1;
            server.answer
        };
        match answer {
            Answer::Accepts | Answer::Sends(_) | Answer::Drips | Answer::Floods => {}
            Answer::AcceptsAfter(time) => tokio::time::sleep(time).await,
            Answer::Refuses => return Err(io::ErrorKind::ConnectionRefused.into()),
            Answer::NoDescriptor => return Err(io::Error::from_raw_os_error(libc::EMFILE)),
            Answer::NoAddress => return Err(io::ErrorKind::AddrNotAvailable.into()),
            Answer::Hangs => std::future::pending().await,
            Answer::Panics => panic!("no such \"key\""),
        }
        let (ours, mut theirs) = duplex(BUFFER);
        match answer {
            Answer::Sends(text) => theirs.write_all(text.as_bytes()).await?,
            Answer::Drips => {
                tokio::spawn(async move {
                    while theirs.write_u8(b'H').await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                });
                return Ok(ours.into());
            }
            Answer::Floods => {
                let servers = self.clone();
                tokio::spawn(async move {
                    while theirs.write_u8(b'H').await.is_ok() {
                        let mut servers = servers.0.lock().unwrap();
                        servers.get_mut(&address).unwrap().flooded += 1;
                    }
                });
                return Ok(ours.into());
            }
            _ => {}
        }
        self.0
            .lock()
            .unwrap()
            .get_mut(&address)
            .unwrap()
            .open
            .push(theirs);
        Ok(ours.into())
    }
}

/// What a server can send before it is read.
pub(super) const BUFFER: usize = 1024;

/// A client without an address.
pub(super) fn client() -> ConnectionInfo {
    ConnectionInfo::new(Address::Unknown, Address::Unknown)
}

pub(super) fn client_at(number: u32) -> ConnectionInfo {
    let [a, b, c, d] = number.to_be_bytes();
    let peer = SocketAddr::from(([a, b, c, d], 4000));
    ConnectionInfo::new(peer, Address::Unknown)
}
