//! One attempt to open a TCP connection.

#[cfg(any(target_os = "android", target_os = "linux"))]
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use portcullis_middleware::{
    Connection, ConnectionInfo,
    connection::{self, Address, Transport},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{IpAddr, SocketAddr},
};
use tokio::{io::Interest, net::TcpStream};

/// A socket that can connect to `peer`.
pub(super) fn socket(peer: SocketAddr) -> io::Result<Socket> {
    nonblocking(Domain::for_address(peer))
}

/// Begins to connect `socket` to `peer`, from `local` if it is given.
///
/// With [`connected`] it takes a system call less than tokio's `TcpSocket`, which asks each socket for its error.
pub(super) fn connect(socket: &Socket, peer: SocketAddr, local: Option<IpAddr>) -> io::Result<()> {
    if let Some(local) = local {
        bind(socket, local, peer)?;
    }
    match socket.connect(&peer.into()) {
        Err(error) if !is_in_progress(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Waits without a timeout until `stream` is connected.
pub(super) async fn connected(stream: TcpStream) -> io::Result<TcpStream> {
    let ready = stream.ready(Interest::WRITABLE).await?;
    // On Linux, a failed connect also ends the write side (EPOLLERR and EPOLLHUP).
    if (ready.is_write_closed() || !cfg!(any(target_os = "android", target_os = "linux")))
        && let Some(error) = stream.take_error()?
    {
        return Err(error);
    }
    Ok(stream)
}

/// The connection of `stream`, with the information from `describe`. Fails if the socket has connected to itself.
///
/// The system may choose a local port that is also the target, and TCP then connects the socket to itself
/// (RFC 9293, 3.5: simultaneous open).
pub(super) fn connection<Io>(
    stream: TcpStream,
    address: SocketAddr,
    describe: impl FnOnce(Address, Address) -> ConnectionInfo,
) -> io::Result<Connection<connection::Socket<Io>>>
where
    Io: Transport + From<TcpStream>,
{
    let local = stream.local_address();
    let peer = if address.ip().is_unspecified() {
        // This host, at the address that the system has chosen.
        match stream.peer_address() {
            // The server has already reset the connection.
            Address::Unknown => address.into(),
            peer => peer,
        }
    } else {
        address.into()
    };
    if local == peer {
        let message = "nothing listens there: the socket connected to itself";
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, message));
    }
    Ok(Connection::with_info(stream.into(), describe(peer, local)))
}

#[cfg(any(target_os = "android", target_os = "linux"))]
fn nonblocking(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn nonblocking(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether the system goes on connecting.
fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error());
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::WouldBlock;
}

fn bind(socket: &Socket, local: IpAddr, peer: SocketAddr) -> io::Result<()> {
    if local.is_ipv4() != peer.is_ipv4() {
        let message = format!("the local address {local} is of the other IP version");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
    }
    share_ports(socket);
    let bound = socket.bind(&SocketAddr::new(local, 0).into());
    bound.map_err(|error| io::Error::new(error.kind(), format!("local address {local}: {error}")))
}

/// Leaves the choice of the local port to connect, which knows the destination.
///
/// A socket bound to an address alone would reserve a port for all destinations. Linux before 4.2 rejects the
/// option and does that.
#[cfg(any(target_os = "android", target_os = "linux"))]
fn share_ports(socket: &Socket) {
    let _refused = setsockopt(socket, IpBindAddressNoPort, &true);
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
fn share_ports(_: &Socket) {}
