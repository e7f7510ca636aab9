//! The sockets of listeners: bound here, or opened by another process.

use crate::{
    config::{Config, ListenAddress, Place, Placed, chain},
    view::label,
};
use portcullis::listener::{AnyListener, BindError, TcpOptions};
use std::{collections::HashMap, fmt};
#[cfg(unix)]
use {
    crate::admin::is_admin,
    portcullis::listener::{Listener as _, TcpListener, UnixListener, WeakSocket},
    std::{collections::HashSet, io, os::fd::OwnedFd},
};

/// Sockets that were opened by another process.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Whether listeners have a socket for each core, which share the port.
    per_core: bool,
    /// Those that this process has opened before, by the [label] of the listener.
    open: HashMap<String, AnyListener>,
    /// From the process before, or from another listener, by the [label] of the listener that gets them.
    #[cfg(unix)]
    handed_over: HashMap<String, Vec<OwnedFd>>,
    /// From systemd, by the name of the socket. They stay open, so that a listener can be removed and added again.
    #[cfg(unix)]
    activated: Vec<(String, OwnedFd)>,
    /// What operators have changed in the process before.
    #[cfg(unix)]
    changes: Vec<String>,
    /// Those of them that are used. Their files belong to the process or the listener before until all are open.
    #[cfg(unix)]
    adopted: Vec<WeakSocket>,
}

/// What the process before hands over.
#[cfg(unix)]
#[derive(Debug, Default)]
pub(crate) struct HandedOver {
    /// By the [label] of the listener.
    pub(crate) listening: HashMap<String, Vec<OwnedFd>>,
    /// By the name that systemd gave them.
    pub(crate) activated: Vec<(String, OwnedFd)>,
    /// What operators have changed, in JSON.
    pub(crate) changes: Vec<String>,
}

#[cfg(unix)]
impl HandedOver {
    /// Whether `config` has one of the listeners, or there are none. The admin interface is not one.
    pub(crate) fn serves(&self, config: &Config) -> bool {
        let labels = config.listeners.iter().flat_map(|it| {
            let label = |listen: &Placed<_>| label(&it.name.value, &listen.value);
            it.listen.iter().map(label)
        });
        let labels: HashSet<_> = labels.collect();
        let listeners = self.listening.keys().filter(|it| !is_admin(it));
        let mut listeners = listeners.peekable();
        listeners.peek().is_none() || listeners.any(|it| labels.contains(it))
    }
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
        write!(f, "{}{who}: {error}", place.before())
    }
}

impl Sockets {
    /// Sets whether listeners have a socket for each core.
    pub(crate) const fn set_per_core(&mut self, per_core: bool) {
        self.per_core = per_core;
    }

    /// Adds the open socket of the listener with this label.
    pub(crate) fn add_open(&mut self, label: String, socket: AnyListener) {
        self.open.insert(label, socket);
    }

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
                    sockets: self.open_one(
                        &label(name, &listen.value),
                        &who,
                        listen,
                        self.per_core,
                    )?,
                });
            }
        }
        Ok(bound)
    }

    /// Opens the socket of the admin interface, which one worker serves.
    pub(crate) fn open_admin(
        &mut self,
        label: &str,
        who: &str,
        listen: &Placed<ListenAddress>,
    ) -> Result<Vec<AnyListener>, CannotListen> {
        self.open_one(label, who, listen, false)
    }

    /// Opens the socket with this label, or takes it over.
    fn open_one(
        &mut self,
        label: &str,
        who: &str,
        listen: &Placed<ListenAddress>,
        per_core: bool,
    ) -> Result<Vec<AnyListener>, CannotListen> {
        if let Some(socket) = self.open.remove(label) {
            return Ok(vec![socket]);
        }
        let opened = match (self.take_over(label, &listen.value), &listen.value) {
            (Some(adopted), _) => adopted.map_err(|error| chain(&error)),
            (None, ListenAddress::Activated(name)) => self.activated(name),
            (None, address) => bind(address, per_core).map_err(|error| chain(&error)),
        };
        let opened = opened.and_then(|sockets| match per_core {
            true => splittable(sockets),
            false => Ok(sockets),
        });
        opened.map_err(|error| CannotListen {
            place: listen.place.clone(),
            who: who.into(),
            error,
        })
    }
}

#[cfg(unix)]
impl Sockets {
    /// Takes the sockets that systemd has passed to this process. Call it before other threads start.
    pub(crate) fn from_env() -> Self {
        Self {
            activated: super::activation::sockets(),
            ..Self::default()
        }
    }

    fn activated(&self, name: &str) -> Result<Vec<AnyListener>, String> {
        let named = self.activated.iter().filter(|(known, _)| known == name);
        let adopt = |(_, socket): &(String, OwnedFd)| {
            let socket = socket.try_clone().map_err(|error| chain(&error))?;
            adopt(socket, UnixListener::from_std).map_err(|error| chain(&error))
        };
        let sockets: Vec<_> = named.map(adopt).collect::<Result<_, _>>()?;
        if sockets.is_empty() {
            return Err(format!(
                "no listening socket named \"{name}\" was passed to this process; a systemd socket unit does so \
                 with FileDescriptorName={name}"
            ));
        }
        Ok(sockets)
    }

    /// Uses the sockets that the process before hands over.
    pub(crate) fn add_handed_over(&mut self, mut sockets: HandedOver) {
        self.handed_over = sockets.listening;
        self.changes = sockets.changes;
        // Those that systemd has passed to both are used once.
        let is_new = |(name, _): &(String, OwnedFd)| self.activated.iter().all(|it| it.0 != *name);
        sockets.activated.retain(is_new);
        self.activated.append(&mut sockets.activated);
    }

    /// What operators have changed in the process before.
    pub(crate) fn take_changes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.changes)
    }

    /// Those that systemd has passed to this process, or to one before.
    pub(crate) fn activated_by_name(&self) -> &[(String, OwnedFd)] {
        &self.activated
    }

    fn take_over(
        &mut self,
        label: &str,
        address: &ListenAddress,
    ) -> Option<Result<Vec<AnyListener>, BindError>> {
        let sockets = self.handed_over.remove(label)?;
        if let ListenAddress::Activated(_) = address {
            // Its file belongs to systemd.
            let adopt = |socket| adopt(socket, UnixListener::from_std);
            return Some(sockets.into_iter().map(adopt).collect());
        }
        let adopted: Result<Vec<_>, _> = sockets
            .into_iter()
            .map(|socket| adopt(socket, UnixListener::take_over))
            .collect();
        for socket in adopted.iter().flatten().filter_map(AnyListener::socket) {
            socket.keep_file(true);
            self.adopted.push(socket);
        }
        Some(adopted)
    }

    /// Lets the listener with this label use sockets that another listener of this process has.
    pub(crate) fn pass_on(&mut self, label: String, sockets: Vec<OwnedFd>) {
        self.handed_over.insert(label, sockets);
    }

    /// Forgets the sockets that were passed on, and leaves their files to the listeners that have them.
    pub(crate) fn keep(&mut self) {
        self.handed_over.clear();
        self.adopted.clear();
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
    pub(crate) fn from_env() -> Self {
        Self::default()
    }

    fn activated(&self, _: &str) -> Result<Vec<AnyListener>, String> {
        unreachable!("such an address is rejected when it is read")
    }

    fn take_over(
        &mut self,
        _: &str,
        _: &ListenAddress,
    ) -> Option<Result<Vec<AnyListener>, BindError>> {
        None
    }

    pub(crate) fn settle(&mut self) {}
}

/// Rejects sockets that do not share their port with those of other cores.
fn splittable(sockets: Vec<AnyListener>) -> Result<Vec<AnyListener>, String> {
    let is_shared = |socket: &AnyListener| match socket {
        AnyListener::Tcp(tcp) => tcp.options().reuse_port(),
        _ => false,
    };
    if sockets.iter().all(is_shared) {
        return Ok(sockets);
    }
    Err("the process before has one accept queue here, which `workers = \"per-core\"` cannot split; stop it first".into())
}

fn bind(address: &ListenAddress, reuse_port: bool) -> Result<Vec<AnyListener>, BindError> {
    let bound = match address {
        // `[::]` leaves IPv4 to `0.0.0.0`, so that both can be listed.
        ListenAddress::Tcp(address) => TcpOptions::new()
            .with_only_v6(address.is_ipv6())
            .with_reuse_port(reuse_port)
            .bind(*address)
            .map(Into::into),
        #[cfg(unix)]
        ListenAddress::Unix(path) => UnixListener::bind(path).map(Into::into),
        #[cfg(not(unix))]
        ListenAddress::Unix(_) => unreachable!("it is rejected when it is read"),
        ListenAddress::Activated(_) => unreachable!("it is open already"),
    };
    bound.map(|socket| vec![socket])
}

/// Adopts a TCP socket, or a Unix socket with `adopt_unix`.
#[cfg(unix)]
fn adopt(
    socket: OwnedFd,
    adopt_unix: impl Fn(std::os::unix::net::UnixListener) -> Result<UnixListener, BindError>,
) -> Result<AnyListener, BindError> {
    if is_unix(&socket).unwrap_or(false) {
        adopt_unix(socket.into()).map(Into::into)
    } else {
        TcpListener::from_std(socket.into()).map(Into::into)
    }
}

#[cfg(unix)]
fn is_unix(socket: &OwnedFd) -> io::Result<bool> {
    let address = rustix::net::getsockname(socket)?;
    Ok(address.address_family() == rustix::net::AddressFamily::UNIX)
}
