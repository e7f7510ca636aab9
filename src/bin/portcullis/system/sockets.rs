//! The sockets of listeners: bound here, or opened by another process.

use super::handed_over::Taken;
#[cfg(unix)]
use super::handed_over::{HandedOver, is_at};
use crate::{
    config::{Buffers, Config, ListenAddress, Place, Placed, Problems, SocketMode, chain},
    view::label,
};
use portcullis::listener::{AnyListener, BindError, Listener as _, TcpOptions};
use std::{
    collections::{BTreeSet, HashMap},
    fmt, iter,
    num::NonZero,
    thread::available_parallelism,
};
#[cfg(unix)]
use {
    portcullis::listener::{TcpListener, UnixListener, UnixOptions, WeakSocket},
    std::{io, os::fd::OwnedFd},
};

/// Sockets that were opened by another process.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// Whether listeners have a socket for each core, which share the port.
    per_core: bool,
    /// Those that this process has opened before.
    open: HashMap<ListenAddress, AnyListener>,
    /// From the process before, or from another listener of this one, by the [label] of their holder.
    #[cfg(unix)]
    handed_over: HashMap<String, Vec<OwnedFd>>,
    /// The names of the listeners of the process before.
    holders: BTreeSet<String>,
    /// Those of `handed_over` that are used.
    taken: Vec<Taken>,
    /// From systemd, by the name of the socket. They stay open, so that a listener can be removed and added again.
    #[cfg(unix)]
    activated: Vec<(String, OwnedFd)>,
    /// What operators have changed in the process before.
    #[cfg(unix)]
    changes: Vec<String>,
    /// Those of `handed_over` that are used, with the mode that their files are to have. The files belong to the process
    /// or the listener before until all are open.
    #[cfg(unix)]
    adopted: Vec<(WeakSocket, u32)>,
}

/// What a new socket gets from the configuration.
#[derive(Clone, Copy, Debug)]
struct Options {
    mode: Option<SocketMode>,
    buffers: Buffers,
    /// Whether there is one for each core, which share the port.
    per_core: bool,
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

    /// Adds the open socket of whatever listens at this address.
    pub(crate) fn add_open(&mut self, address: ListenAddress, socket: AnyListener) {
        self.open.insert(address, socket);
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
                        Options {
                            mode: listener.socket_mode,
                            buffers: listener.buffers,
                            per_core: self.per_core,
                        },
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
        mode: Option<SocketMode>,
    ) -> Result<Vec<AnyListener>, CannotListen> {
        let options = Options {
            mode,
            buffers: Buffers::default(),
            per_core: false,
        };
        self.open_one(label, who, listen, options)
    }

    /// The listener that had one of the sockets of the listener `name`, if that is a new name.
    ///
    /// `is_known` says which listeners there were before.
    pub(crate) fn predecessor(&self, name: &str, is_known: impl Fn(&str) -> bool) -> Option<&str> {
        let renamed = self.taken.iter().filter_map(Taken::renamed);
        let mut renamed = renamed.filter(|(_, to)| *to == name && !is_known(name));
        renamed.next().map(|(from, _)| from)
    }

    /// The names of the listeners of the process before.
    #[cfg(unix)]
    pub(crate) const fn holders(&self) -> &BTreeSet<String> {
        &self.holders
    }

    /// Whether the socket that has this label goes to another user.
    pub(crate) fn is_taken(&self, label: &str) -> bool {
        self.taken.iter().any(|taken| taken.from == label)
    }

    /// Leaves a socket to its holder after all, because the listener with this label cannot serve it.
    pub(crate) fn leave(&mut self, label: &str) {
        self.taken.retain(|taken| taken.to != label);
    }

    /// The labels of the sockets that came from their holders, which are forgotten.
    pub(crate) fn take_taken(&mut self) -> Vec<String> {
        self.holders.clear();
        self.taken.drain(..).map(|taken| taken.from).collect()
    }

    /// Opens the socket with this label, or takes it over.
    fn open_one(
        &mut self,
        label: &str,
        who: &str,
        listen: &Placed<ListenAddress>,
        options: Options,
    ) -> Result<Vec<AnyListener>, CannotListen> {
        if let Some(socket) = self.open.remove(&listen.value) {
            return Ok(vec![socket]);
        }
        let opened = match (
            self.take_over(label, &listen.value, options.mode),
            &listen.value,
        ) {
            (Some(adopted), _) => adopted.map_err(|error| chain(&error)),
            (None, ListenAddress::Activated(name)) => self.activated(name),
            (None, address) => bind(address, options).map_err(|error| chain(&error)),
        };
        let opened = opened.and_then(|sockets| match options.per_core {
            true => for_each_core(sockets),
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
        self.holders = sockets.holders();
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
        mode: Option<SocketMode>,
    ) -> Option<Result<Vec<AnyListener>, BindError>> {
        let own = self.handed_over.contains_key(label).then_some(label);
        let mut held = self.handed_over.keys().map(String::as_str);
        let from = own
            .or_else(|| held.find(|held| is_at(held, address)))?
            .to_owned();
        let sockets = self.handed_over.remove(&from)?;
        let to = label.to_owned();
        self.taken.push(Taken { from, to });
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
            let mode = mode.map_or(UnixOptions::new().mode(), |mode| mode.0);
            self.adopted.push((socket, mode));
        }
        Some(adopted)
    }

    /// Lets another listener use the sockets that the one with this label has.
    pub(crate) fn pass_on(&mut self, label: String, sockets: Vec<OwnedFd>) {
        self.handed_over.insert(label, sockets);
    }

    /// Forgets the sockets that were passed on, and leaves their files to the listeners that have them.
    pub(crate) fn keep(&mut self) {
        self.handed_over.clear();
        self.taken.clear();
        self.adopted.clear();
    }

    /// Closes the sockets that are left without a listener.
    ///
    /// The files of the others get the mode of their new users, before these accept. That of the admin interface may
    /// admit fewer users than the listener that had its address.
    pub(crate) fn settle(&mut self) {
        for (socket, mode) in &self.adopted {
            if let Err(error) = socket.set_mode(*mode) {
                tracing::error!("the file of a socket does not get the mode {mode:04o}: {error}");
            }
        }
        for listener in self.handed_over.drain().map(|(listener, _)| listener) {
            tracing::info!(listener, "the old process keeps this socket, and drains it");
        }
    }

    /// Owns the files of sockets from now on, whose holders before have given them up.
    pub(crate) fn own_files(&mut self) {
        for (socket, _) in self.adopted.drain(..) {
            socket.keep_file(false);
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
        _: Option<SocketMode>,
    ) -> Option<Result<Vec<AnyListener>, BindError>> {
        None
    }

    pub(crate) fn settle(&mut self) {}

    pub(crate) fn own_files(&mut self) {}
}

/// Adds sockets until there is one for each core, which share the port.
///
/// The server would do that, too late for an error to leave everything as it was.
fn for_each_core(mut sockets: Vec<AnyListener>) -> Result<Vec<AnyListener>, String> {
    let is_shared = |socket: &AnyListener| match socket {
        AnyListener::Tcp(tcp) => tcp.options().reuse_port(),
        _ => false,
    };
    if !sockets.iter().all(is_shared) {
        return Err(ONE_QUEUE.into());
    }
    let cores = available_parallelism().map_or(1, NonZero::get);
    let missing = cores.saturating_sub(sockets.len());
    let added = iter::repeat_with(|| sockets[0].shard()).take(missing);
    let added: Vec<_> = added
        .collect::<Result<_, _>>()
        .map_err(|error| chain(&error))?;
    sockets.extend(added);
    Ok(sockets)
}

/// Why a socket that was handed over cannot be used.
const ONE_QUEUE: &str = "this socket was handed over with one accept queue, which `workers = \"per-core\"` cannot split; use \
                         another address, or stop the program first";

fn bind(address: &ListenAddress, options: Options) -> Result<Vec<AnyListener>, BindError> {
    let bound = match address {
        // `[::]` leaves IPv4 to `0.0.0.0`, so that both can be listed.
        ListenAddress::Tcp(address) => TcpOptions::new()
            .with_recv_buffer_size(options.buffers.receive)
            .with_send_buffer_size(options.buffers.send)
            .with_only_v6(address.is_ipv6())
            .with_reuse_port(options.per_core)
            .bind(*address)
            .map(Into::into),
        #[cfg(unix)]
        ListenAddress::Unix(path) => {
            let options = match options.mode {
                Some(mode) => UnixOptions::new().with_mode(mode.0),
                None => UnixOptions::new(),
            };
            options.bind(path).map(Into::into)
        }
        #[cfg(not(unix))]
        ListenAddress::Unix(_) => unreachable!("it is rejected when it is read"),
        ListenAddress::Activated(_) => unreachable!("it is open already"),
    };
    bound.map(|socket| vec![socket])
}

/// Reports Unix sockets that cannot be opened because of what the file system has in their place,
/// except for those that are `open` already. It only looks.
#[cfg(unix)]
pub(crate) fn check_paths(config: &Config, open: &[ListenAddress], problems: &mut Problems) {
    use std::{fs, os::unix::fs::FileTypeExt as _, path::Path};
    let listeners = config.listeners.iter().flat_map(|it| {
        let who = format!("listener \"{}\"", it.name.value);
        it.listen.iter().map(move |listen| (who.clone(), listen))
    });
    let admin = config.admin.iter();
    let admin = admin.map(|it| ("admin".to_owned(), &it.listen));
    let all = listeners.chain(admin);
    for (who, listen) in all.filter(|(_, listen)| !open.contains(&listen.value)) {
        let ListenAddress::Unix(path) = &listen.value else {
            continue;
        };
        if fs::symlink_metadata(path).is_ok_and(|it| !it.file_type().is_socket()) {
            let message = format!("{who}: {} is a file that is not a socket", path.display());
            problems.error(listen.place.clone(), message);
        }
        let folder = path.parent().filter(|it| *it != Path::new(""));
        let Some(folder) = folder.filter(|it| is_missing(it)) else {
            continue;
        };
        let message = format!(
            "{who}: there is no folder {} for its socket",
            folder.display()
        );
        // What is there is made at the start of a service.
        match ["/run", "/var/run"].iter().any(|it| folder.starts_with(it)) {
            true => problems.note(
                listen.place.clone(),
                format!("{message} yet; RuntimeDirectory= of systemd creates it at the start"),
            ),
            false => problems.error(listen.place.clone(), format!("{message}; create it")),
        }
    }
}

/// Whether the folder is certainly missing. A user who may not look does not know.
#[cfg(unix)]
fn is_missing(folder: &std::path::Path) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::metadata(folder) {
        Ok(found) => !found.is_dir(),
        Err(error) => matches!(error.kind(), NotFound | NotADirectory),
    }
}

#[cfg(not(unix))]
pub(crate) fn check_paths(_: &Config, _: &[ListenAddress], _: &mut Problems) {}

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
