//! The sockets of listeners: bound here, or opened by another process.

use crate::{
    config::{Config, ListenAddress, Place, Placed, chain},
    view::label,
};
use portcullis::listener::{AnyListener, BindError, TcpOptions};
use std::{collections::HashMap, fmt};
#[cfg(unix)]
use {
    portcullis::listener::{Listener as _, TcpListener, UnixListener, WeakSocket},
    std::{io, os::fd::OwnedFd},
};

/// Sockets that were opened by another process.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// From the process before, by the [label] of the listener.
    #[cfg(unix)]
    handed_over: HashMap<String, Vec<OwnedFd>>,
    /// Those of them that are used. Their files belong to the process before until all are open.
    #[cfg(unix)]
    adopted: Vec<WeakSocket>,
}

/// Sockets that are open and not yet used.
pub(crate) struct Bound {
    pub(crate) listener: String,
    pub(crate) address: ListenAddress,
    pub(crate) sockets: Vec<AnyListener>,
}

/// An address that cannot be listened on.
pub(crate) struct CannotListen {
    place: Place,
    who: String,
    error: String,
}

impl fmt::Display for CannotListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, who, error } = self;
        write!(f, "{place}: {who}: {error}")
    }
}

impl Sockets {
    /// Opens the sockets that are not open yet.
    pub(crate) fn open(
        &mut self,
        config: &Config,
        open: &HashMap<&str, &[ListenAddress]>,
    ) -> Result<Vec<Bound>, CannotListen> {
        let mut bound = Vec::new();
        for listener in &config.listeners {
            let name = &listener.name.value;
            let who = format!("listener \"{name}\"");
            let known = open.get(&**name).copied().unwrap_or_default();
            for listen in listener
                .listen
                .iter()
                .filter(|it| !known.contains(&it.value))
            {
                bound.push(Bound {
                    listener: name.clone(),
                    address: listen.value.clone(),
                    sockets: self.open_one(&label(name, &listen.value), &who, listen)?,
                });
            }
        }
        Ok(bound)
    }

    /// Opens the socket with this label, or takes it over.
    pub(crate) fn open_one(
        &mut self,
        label: &str,
        who: &str,
        listen: &Placed<ListenAddress>,
    ) -> Result<Vec<AnyListener>, CannotListen> {
        let opened = match self.take_over(label) {
            Some(adopted) => adopted,
            None => bind(&listen.value).map(|socket| vec![socket]),
        };
        opened.map_err(|error| CannotListen {
            place: listen.place.clone(),
            who: who.into(),
            error: chain(&error),
        })
    }
}

#[cfg(unix)]
impl Sockets {
    /// Uses the sockets that the process before hands over.
    pub(crate) fn add_handed_over(&mut self, sockets: HashMap<String, Vec<OwnedFd>>) {
        self.handed_over = sockets;
    }

    fn take_over(&mut self, label: &str) -> Option<Result<Vec<AnyListener>, BindError>> {
        let sockets = self.handed_over.remove(label)?;
        let adopted: Result<Vec<_>, _> = sockets.into_iter().map(adopt).collect();
        for socket in adopted.iter().flatten().filter_map(AnyListener::socket) {
            socket.keep_file(true);
            self.adopted.push(socket);
        }
        Some(adopted)
    }

    /// Owns the files of sockets from now on, and closes the sockets that no listener has.
    pub(crate) fn settle(&mut self) {
        for socket in self.adopted.drain(..) {
            socket.keep_file(false);
        }
        for listener in self.handed_over.drain().map(|(listener, _)| listener) {
            tracing::info!(listener, "the old process keeps this socket, and drains it");
        }
    }
}

#[cfg(not(unix))]
impl Sockets {
    fn take_over(&mut self, _: &str) -> Option<Result<Vec<AnyListener>, BindError>> {
        None
    }

    pub(crate) fn settle(&mut self) {}
}

fn bind(address: &ListenAddress) -> Result<AnyListener, BindError> {
    match address {
        // `[::]` leaves IPv4 to `0.0.0.0`, so that both can be listed.
        ListenAddress::Tcp(address) => TcpOptions::new()
            .with_only_v6(address.is_ipv6())
            .bind(*address)
            .map(Into::into),
        #[cfg(unix)]
        ListenAddress::Unix(path) => UnixListener::bind(path).map(Into::into),
        #[cfg(not(unix))]
        ListenAddress::Unix(_) => unreachable!("it is rejected when it is read"),
    }
}

/// Adopts a socket of the process before, with its file.
#[cfg(unix)]
fn adopt(socket: OwnedFd) -> Result<AnyListener, BindError> {
    if is_unix(&socket).unwrap_or(false) {
        UnixListener::take_over(socket.into()).map(Into::into)
    } else {
        TcpListener::from_std(socket.into()).map(Into::into)
    }
}

#[cfg(unix)]
fn is_unix(socket: &OwnedFd) -> io::Result<bool> {
    let address = rustix::net::getsockname(socket)?;
    Ok(address.address_family() == rustix::net::AddressFamily::UNIX)
}
