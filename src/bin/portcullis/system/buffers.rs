//! The kernel's buffers of TCP connections: which sizes it allows, and sockets that are open already.

#[cfg(unix)]
use crate::config::Buffers;
use crate::config::{Config, Problems, Size};
#[cfg(unix)]
use {
    portcullis::listener::WeakSocket,
    rustix::net::{AddressFamily, getsockname, sockopt},
    std::io,
};

/// Sets the sizes of a listening socket, which later connections inherit. Unix sockets have none.
#[cfg(unix)]
pub(crate) fn set_buffers(socket: &WeakSocket, buffers: Buffers) -> io::Result<()> {
    if buffers.receive.is_none() && buffers.send.is_none() {
        return Ok(());
    }
    let Some(socket) = socket.duplicate()? else {
        return Ok(());
    };
    if getsockname(&socket)?.address_family() == AddressFamily::UNIX {
        return Ok(());
    }
    let receive = buffers.receive.map_or(Ok(()), |bytes| {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)
    });
    let send = buffers.send.map_or(Ok(()), |bytes| {
        sockopt::set_socket_send_buffer_size(&socket, bytes)
    });
    Ok(receive.and(send)?)
}

/// Notes where buffers of the configuration are larger than the system allows, which sets smaller ones without an error.
pub(crate) fn check_buffers(config: &Config, problems: &mut Problems) {
    check_against(&Largest::of_system(), config, problems);
}

/// In bytes, as far as they are known.
#[derive(Default)]
struct Largest {
    receive: Option<usize>,
    send: Option<usize>,
}

impl Largest {
    /// Asks a socket, because a container may not see the settings.
    #[cfg(target_os = "linux")]
    fn of_system() -> Self {
        use rustix::net::{SocketFlags, SocketType, socket_with};
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let Ok(socket) = socket_with(family, kind, SocketFlags::CLOEXEC, None) else {
            return Self::default();
        };
        let _capped = sockopt::set_socket_recv_buffer_size(&socket, Buffers::MOST);
        let _capped = sockopt::set_socket_send_buffer_size(&socket, Buffers::MOST);
        // The system doubles sizes, for its bookkeeping.
        let half = |size: rustix::io::Result<usize>| size.ok().map(|size| size / 2);
        Self {
            receive: half(sockopt::socket_recv_buffer_size(&socket)),
            send: half(sockopt::socket_send_buffer_size(&socket)),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn of_system() -> Self {
        Self::default()
    }
}

fn check_against(largest: &Largest, config: &Config, problems: &mut Problems) {
    let listeners = config.listeners.iter();
    let listeners = listeners.map(|it| ("listener", &it.name, it.buffers));
    let backends = config.backends.iter();
    let backends = backends.map(|it| ("backend", &it.name, it.buffers));
    for (kind, name, buffers) in listeners.chain(backends) {
        for (key, setting, size, largest) in [
            (
                "receive-buffer",
                "net.core.rmem_max",
                buffers.receive,
                largest.receive,
            ),
            (
                "send-buffer",
                "net.core.wmem_max",
                buffers.send,
                largest.send,
            ),
        ] {
            if let (Some(size), Some(largest)) = (size, largest)
                && size > largest
            {
                let [size, largest] = [size, largest].map(|bytes| Size(bytes as u64));
                let message = format!(
                    "{kind} \"{}\": `{key}` is {size}, and the system allows {largest} ({setting})",
                    name.value
                );
                problems.note(name.place.clone(), message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    #[test]
    fn buffers_that_are_larger_than_the_system_allows_are_noted() {
        let mut problems = Problems::default();
        let text = "version = 1\n[[listener]]\nname = \"a\"\nlisten = \"[::]:1\"\nbackend = \"b\"\n\
                    receive-buffer = \"1 MiB\"\nsend-buffer = \"208 KiB\"\n[[backend]]\nname = \"b\"\n\
                    servers = \"h:1\"\nsend-buffer = \"212993 B\"\n";
        let config = Config::parse(&Source::new("gate.toml", text), &mut problems);
        check_against(&Largest::default(), &config, &mut problems);
        let largest = Largest {
            receive: Some(208 << 10),
            send: Some(208 << 10),
        };
        check_against(&largest, &config, &mut problems);
        assert_eq!(problems.errors(), 0);
        let problems: Vec<_> = problems.sorted().iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "gate.toml:3:8: note: listener \"a\": `receive-buffer` is 1 MiB, and the system allows 208 KiB (net.core.rmem_max)",
                "gate.toml:9:8: note: backend \"b\": `send-buffer` is 212993 B, and the system allows 208 KiB (net.core.wmem_max)",
            ]
        );
    }
}
