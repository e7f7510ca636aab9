//! Addresses to bind, options of some systems, and advice for errors.

use super::BindError;
use crate::listener::{adopt, bind_error::FailedStep};
use socket2::Socket;
use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
};

pub(super) fn resolve(
    address: &(impl ToSocketAddrs + fmt::Debug),
) -> Result<Vec<SocketAddr>, BindError> {
    let resolved = address.to_socket_addrs().map_err(|error| {
        let advice = match error.kind() {
            io::ErrorKind::InvalidInput => {
                "write host:port, with a port from 0 to 65535 (or \
                connect::Target for the name of a service)"
            }
            // An unknown service has its own advice.
            io::ErrorKind::NotFound => "",
            _ => "check the name, or give an IP address",
        };
        BindError::new(format_args!("{address:?}"), "resolve", advice, error)
    })?;
    let mut addresses = Vec::new();
    for address in resolved {
        // A hosts file may name an address twice.
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

pub(super) fn no_address(address: &impl fmt::Debug) -> BindError {
    let none = io::Error::new(io::ErrorKind::InvalidInput, "no address was given");
    BindError::new(format_args!("{address:?}"), "resolve", "", none)
}

#[cfg(not(any(
    windows,
    target_os = "cygwin",
    target_os = "illumos",
    target_os = "solaris"
)))]
pub(super) fn reuse_port(socket: &Socket) -> bool {
    #[cfg(target_os = "freebsd")]
    return socket.reuse_port_lb().unwrap_or(false);
    #[cfg(not(target_os = "freebsd"))]
    socket.reuse_port().unwrap_or(false)
}

#[cfg(not(any(
    windows,
    target_os = "cygwin",
    target_os = "illumos",
    target_os = "solaris"
)))]
pub(super) fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    #[cfg(target_os = "freebsd")]
    return socket.set_reuse_port_lb(true);
    #[cfg(not(target_os = "freebsd"))]
    socket.set_reuse_port(true)
}

#[cfg(any(
    windows,
    target_os = "cygwin",
    target_os = "illumos",
    target_os = "solaris"
))]
pub(super) fn reuse_port(_: &Socket) -> bool {
    false
}

#[cfg(any(
    windows,
    target_os = "cygwin",
    target_os = "illumos",
    target_os = "solaris"
))]
pub(super) fn set_reuse_port(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn explain(failed: FailedStep, address: SocketAddr) -> BindError {
    let advice = advice(failed.step(), failed.kind(), address.port());
    failed.at(address, advice)
}

fn advice(step: &str, kind: io::ErrorKind, port: u16) -> &'static str {
    match (step, kind) {
        ("reuse_port", _) => "this system lacks the option; bind one listener for all workers",
        ("bind" | "listen", io::ErrorKind::AddrInUse) => {
            "another socket has this port (`ss -ltnp` or `netstat` shows whose); \
             end that program, or choose another port"
        }
        ("bind", io::ErrorKind::AddrNotAvailable) => {
            "no interface of this machine has this address; \
             choose one that it has, or 0.0.0.0 or [::] for all"
        }
        ("bind", io::ErrorKind::PermissionDenied) if (1..1024).contains(&port) => {
            "ports below 1024 take a privilege (on Linux CAP_NET_BIND_SERVICE, \
             or the sysctl net.ipv4.ip_unprivileged_port_start); \
             give it, inherit the socket from a supervisor, or choose a port from 1024 up"
        }
        ("bind", io::ErrorKind::PermissionDenied) => "the system's policy forbids it",
        ("adopt", _) => adopt::ADVICE,
        ("socket" | "bind" | "listen" | "nonblocking" | "close_on_exec" | "local_address", _) => "",
        _ => "the system rejects this value of the option; change it or leave it out",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::bind_error::OrFail;

    fn message(step: &'static str, kind: io::ErrorKind, address: &str) -> String {
        let failed = Err::<(), _>(io::Error::from(kind))
            .or_fail(step)
            .unwrap_err();
        explain(failed, address.parse().unwrap()).to_string()
    }

    #[test]
    fn a_missing_privilege_is_explained_for_low_ports_only() {
        let denied = io::ErrorKind::PermissionDenied;
        let low = message("bind", denied, "0.0.0.0:1023");
        assert!(low.contains("CAP_NET_BIND_SERVICE"), "{low}");
        let high = message("bind", denied, "0.0.0.0:1024");
        assert!(high.contains("policy"), "{high}");
    }

    #[test]
    fn errors_name_the_address_the_step_the_cause_and_the_way_out() {
        assert_eq!(
            message("keepalive", io::ErrorKind::InvalidInput, "[::1]:80"),
            "cannot listen on [::1]:80: keepalive failed: invalid input parameter; \
             the system rejects this value of the option; change it or leave it out"
        );
    }
}
