//! The sockets of listeners: bound here, or opened by another process.

use crate::config::{Config, ListenAddress, Place, chain};
use portcullis::listener::{AnyListener, BindError, TcpOptions};
#[cfg(unix)]
use portcullis::listener::{TcpListener, UnixListener};
use std::{collections::HashMap, fmt};
#[cfg(unix)]
use std::{io, os::fd::OwnedFd};

/// Sockets that were opened by another process.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// From the process before, by the [label] of the listener.
    #[cfg(unix)]
    handed_over: HashMap<String, Vec<OwnedFd>>,
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
    listener: String,
    error: BindError,
}

impl fmt::Display for CannotListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            listener,
            error,
        } = self;
        write!(f, "{place}: listener \"{listener}\": {}", chain(error))
    }
}

/// The name of a listener's address within the server, and between processes.
pub(crate) fn label(listener: &str, address: &ListenAddress) -> String {
    format!("{listener} {address}")
}

impl Sockets {
    /// Uses the sockets that the process before has handed over.
    #[cfg(unix)]
    pub(crate) fn hand_over(&mut self, sockets: HashMap<String, Vec<OwnedFd>>) {
        self.handed_over = sockets;
    }

    /// Closes the sockets that were handed over and that no listener has.
    #[cfg(unix)]
    pub(crate) fn close_others(&mut self) {
        for listener in std::mem::take(&mut self.handed_over).into_keys() {
            tracing::info!(listener, "the old process keeps this socket, and drains it");
        }
    }

    /// Opens the sockets that are not open yet. On an error, all is as it was.
    pub(crate) fn open(
        &mut self,
        config: &Config,
        open: &HashMap<&str, &[ListenAddress]>,
    ) -> Result<Vec<Bound>, CannotListen> {
        let mut bound = Vec::new();
        let mut inherited = Vec::new();
        for listener in &config.listeners {
            let name = &listener.name.value;
            let known = open.get(&**name).copied().unwrap_or_default();
            for listen in &listener.listen {
                if known.contains(&listen.value) {
                    continue;
                }
                if self.is_handed_over(name, &listen.value) {
                    inherited.push((name, listen));
                    continue;
                }
                let socket = bind(&listen.value).map_err(|error| CannotListen {
                    place: listen.place.clone(),
                    listener: name.clone(),
                    error,
                })?;
                bound.push(Bound {
                    listener: name.clone(),
                    address: listen.value.clone(),
                    sockets: vec![socket],
                });
            }
        }
        // Last, because a listener that adopts a Unix socket removes its file when it is dropped.
        for (name, listen) in inherited {
            let sockets = self.adopt(name, &listen.value);
            bound.push(Bound {
                listener: name.clone(),
                address: listen.value.clone(),
                sockets: sockets.map_err(|error| CannotListen {
                    place: listen.place.clone(),
                    listener: name.clone(),
                    error,
                })?,
            });
        }
        Ok(bound)
    }

    #[cfg(unix)]
    fn is_handed_over(&self, listener: &str, address: &ListenAddress) -> bool {
        self.handed_over.contains_key(&label(listener, address))
    }

    #[cfg(unix)]
    fn adopt(
        &mut self,
        listener: &str,
        address: &ListenAddress,
    ) -> Result<Vec<AnyListener>, BindError> {
        let sockets = self.handed_over.remove(&label(listener, address));
        sockets.unwrap_or_default().into_iter().map(adopt).collect()
    }

    #[cfg(not(unix))]
    fn is_handed_over(&self, _: &str, _: &ListenAddress) -> bool {
        false
    }

    #[cfg(not(unix))]
    fn adopt(&mut self, _: &str, _: &ListenAddress) -> Result<Vec<AnyListener>, BindError> {
        Ok(Vec::new())
    }
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
