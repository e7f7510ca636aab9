//! Paths of Unix sockets, and link-local addresses, which the system would reject later.

use super::section::Reader;
use std::{
    fs,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};
use toml::{Spanned, de::DeValue};

/// The path of a Unix socket, relative to the file that contains it. It is `None` if no socket can have it.
pub(crate) fn socket_path(
    path: &str,
    value: &Spanned<DeValue<'_>>,
    reader: &Reader<'_>,
) -> Option<PathBuf> {
    let resolved = reader.source.resolve(path);
    let problem = match path {
        "" => Some("write the path of a socket after `unix:`".into()),
        _ => no_socket(&resolved),
    };
    if let Some(problem) = problem {
        reader.error(value.span(), problem);
        return None;
    }
    Some(resolved)
}

/// Why a Unix socket cannot have this path.
#[cfg(unix)]
pub(crate) fn no_socket(path: &Path) -> Option<String> {
    use std::os::unix::{ffi::OsStrExt, net::SocketAddr};
    SocketAddr::from_pathname(path).err()?;
    let length = path.as_os_str().as_bytes().len();
    Some(format!(
        "a Unix socket cannot have this path of {length} bytes; write one of up to {LONGEST_PATH} bytes, \
         without a zero byte"
    ))
}

#[cfg(not(unix))]
pub(crate) fn no_socket(_: &Path) -> Option<String> {
    None
}

/// Of a Unix socket, in bytes.
#[cfg(unix)]
const LONGEST_PATH: usize = if cfg!(any(target_os = "linux", target_os = "android")) {
    107
} else {
    103
};

/// What to write if `text` has a link-local address without the index of its interface.
pub(crate) fn no_scope(text: &str) -> Option<String> {
    let (host, rest) = text.strip_prefix('[')?.split_once(']')?;
    let (address, interface) = match host.split_once('%') {
        Some((address, interface)) => (address, Some(interface)),
        None => (host, None),
    };
    let parsed: Ipv6Addr = address.parse().ok()?;
    let index = match interface {
        Some(index) if index.parse::<u32>().is_ok() => return None,
        Some(name) => index_of(name),
        None if parsed.is_unicast_link_local() => None,
        None => return None,
    };
    let (index, which) = match index {
        Some(index) => (index, ""),
        None => ("2".into(), " if it is 2; `ip link` shows it"),
    };
    let (address, rest) = (address.escape_debug(), rest.escape_debug());
    Some(format!(
        "this address needs the index of its interface; write \"[{address}%{index}]{rest}\"{which}"
    ))
}

/// The index of a network interface, where the system shows it as a file.
fn index_of(interface: &str) -> Option<String> {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "-_.@".contains(it);
    let is_name = !interface.starts_with('.') && interface.chars().all(is_plain);
    let path = Path::new("/sys/class/net").join(interface).join("ifindex");
    let index = is_name.then(|| fs::read_to_string(path).ok()).flatten()?;
    let index: u32 = index.trim().parse().ok()?;
    Some(index.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_has_the_index_of_its_interface() {
        let unknown = "if it is 2; `ip link` shows it";
        for text in [
            "[fe80::1]:443",
            "[fe80::1%nosuch0]:443",
            "[fe80::1%../..]:443",
        ] {
            let advice = no_scope(text).expect("it has no index");
            assert!(
                advice.contains("\"[fe80::1%2]:443\"") && advice.ends_with(unknown),
                "{advice}"
            );
        }
        for fine in [
            "[fe80::1%4]:443",
            "[2001:db8::1]:443",
            "127.0.0.1:443",
            "[::1]:80",
        ] {
            assert_eq!(no_scope(fine), None);
        }
        if cfg!(target_os = "linux") && Path::new("/sys/class/net/lo").exists() {
            let advice = no_scope("[fe80::1%lo]:443").expect("it is a name");
            assert!(advice.ends_with("write \"[fe80::1%1]:443\""), "{advice}");
        }
    }
}
