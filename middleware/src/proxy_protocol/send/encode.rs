//! Writes headers of both versions.

use super::super::parse::{CRC32C_LEN, TYPE_CRC32C, V2_SIGNATURE, crc32c};
use crate::{
    ConnectionInfo,
    connection::{Address, TlsInfo, UnixAddress},
};
use std::net::{IpAddr, SocketAddr};

/// Encodes the PROXY header that describes a client to another server.
///
/// By default a header contains the client's address and the address that it connected to. The fields of version 2
/// are off, because some servers reject what they do not know. Send the bytes before anything else, also before
/// TLS; [`SendProxyHeaderLayer`](super::SendProxyHeaderLayer) does that.
///
/// The receiver believes each header, so do not copy values from a client that are not checked. Addresses come from
/// [`ConnectionInfo::peer`] and [`local`](ConnectionInfo::local), which a trusted proxy may have set.
///
/// ```
/// use portcullis_middleware::{ConnectionInfo, proxy_protocol::ProxyHeaderEncoder};
/// use std::net::SocketAddr;
///
/// let peer: SocketAddr = "198.51.100.7:40000".parse()?;
/// let local: SocketAddr = "192.0.2.1:443".parse()?;
/// let info = ConnectionInfo::new(peer, local);
/// let header = ProxyHeaderEncoder::v1().encode(&info);
/// assert_eq!(header, b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 443\r\n");
/// # Ok::<_, std::net::AddrParseError>(())
/// ```
///
/// The protocol is specified in `proxy-protocol.txt` of HAProxy's documentation.
#[derive(Clone, Copy, Debug)]
pub struct ProxyHeaderEncoder {
    version: Version,
    authority: bool,
    alpn: bool,
    ssl: bool,
    unique_id: bool,
    crc32c: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl ProxyHeaderEncoder {
    /// Version 1, a line of text. It has no fields, and describes only clients with IP addresses.
    pub const fn v1() -> Self {
        Self::new(Version::V1)
    }

    /// Version 2, a binary header, without fields.
    pub const fn v2() -> Self {
        Self::new(Version::V2)
    }

    const fn new(version: Version) -> Self {
        Self {
            version,
            authority: false,
            alpn: false,
            ssl: false,
            unique_id: false,
            crc32c: false,
        }
    }

    /// Adds the requested host name (`PP2_TYPE_AUTHORITY`), from TLS that is terminated here or else from the
    /// ClientHello.
    #[must_use]
    pub const fn with_authority(mut self, authority: bool) -> Self {
        self.authority = authority;
        self
    }

    /// Adds the application protocol that TLS negotiated here (`PP2_TYPE_ALPN`).
    #[must_use]
    pub const fn with_alpn(mut self, alpn: bool) -> Self {
        self.alpn = alpn;
        self
    }

    /// Adds the client's TLS (`PP2_TYPE_SSL`): its version, and the common name of a verified certificate.
    ///
    /// It is left out for clients without TLS, and where TLS is passed through.
    #[must_use]
    pub const fn with_ssl(mut self, ssl: bool) -> Self {
        self.ssl = ssl;
        self
    }

    /// Adds the number of the connection (`PP2_TYPE_UNIQUE_ID`), as decimal text.
    #[must_use]
    pub const fn with_unique_id(mut self, unique_id: bool) -> Self {
        self.unique_id = unique_id;
        self
    }

    /// Adds a checksum of the header (`PP2_TYPE_CRC32C`).
    #[must_use]
    pub const fn with_crc32c(mut self, crc32c: bool) -> Self {
        self.crc32c = crc32c;
        self
    }

    /// The header for the connection of `info`.
    ///
    /// An IPv4 address beside an IPv6 address is mapped to IPv6. Without addresses the header names no client
    /// (`UNKNOWN`, `AF_UNSPEC`). For Unix domain sockets version 1 does the same, and version 2 for a path above
    /// 108 bytes.
    pub fn encode(&self, info: &ConnectionInfo) -> Vec<u8> {
        let (peer, local) = (info.peer(), info.local());
        match self.version {
            Version::V1 => v1(peer, local),
            Version::V2 => {
                let (family, mut block) = addresses(peer, local);
                self.add_fields(info, &mut block);
                self.binary(PROXY, family, block)
            }
        }
    }

    /// The header of a connection on this server's own behalf, such as a health check (`LOCAL`).
    pub fn encode_local(&self) -> Vec<u8> {
        match self.version {
            Version::V1 => v1(&Address::Unknown, &Address::Unknown),
            Version::V2 => self.binary(LOCAL, UNSPECIFIED, Vec::new()),
        }
    }

    fn add_fields(&self, info: &ConnectionInfo, block: &mut Vec<u8>) {
        let tls = info.tls();
        if self.alpn {
            add_field(block, TYPE_ALPN, tls.and_then(|tls| tls.alpn.as_deref()));
        }
        if self.authority {
            let requested = || info.hello()?.server_name();
            let name = tls.and_then(|tls| tls.server_name.as_deref());
            let name = name.or_else(requested).map(str::as_bytes);
            add_field(block, TYPE_AUTHORITY, name);
        }
        if self.unique_id {
            let id = info.id().to_string();
            add_field(block, TYPE_UNIQUE_ID, Some(id.as_bytes()));
        }
        if self.ssl {
            add_field(block, TYPE_SSL, tls.map(ssl).as_deref());
        }
    }

    fn binary(&self, command: u8, family: u8, mut block: Vec<u8>) -> Vec<u8> {
        if self.crc32c {
            add_field(&mut block, TYPE_CRC32C, Some(&[0; CRC32C_LEN]));
        }
        let [.., high, low] = block.len().to_be_bytes();
        let fixed = [command, family, high, low];
        let mut header = [V2_SIGNATURE, &fixed, &block].concat();
        if self.crc32c {
            let sum = crc32c(header.iter()).to_be_bytes();
            let end = header.len();
            header[end - CRC32C_LEN..].copy_from_slice(&sum);
        }
        header
    }
}

fn v1(peer: &Address, local: &Address) -> Vec<u8> {
    let Some((peer, local)) = ip_addresses(peer, local) else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let family = if peer.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (peer.ip(), local.ip());
    let (peer, local) = (peer.port(), local.port());
    format!("PROXY {family} {from} {to} {peer} {local}\r\n").into_bytes()
}

/// Both addresses in one family.
fn ip_addresses(peer: &Address, local: &Address) -> Option<(SocketAddr, SocketAddr)> {
    // A dual-stack listener sees IPv4 clients as IPv4-mapped addresses.
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    let (peer, local) = (canonical(peer.ip()?), canonical(local.ip()?));
    let in_v6 = |(ip, port): (IpAddr, u16)| match ip {
        IpAddr::V4(ip) => SocketAddr::from((ip.to_ipv6_mapped(), port)),
        IpAddr::V6(ip) => SocketAddr::from((ip, port)),
    };
    Some(match peer.0.is_ipv4() == local.0.is_ipv4() {
        true => (peer.into(), local.into()),
        false => (in_v6(peer), in_v6(local)),
    })
}

/// The family and transport protocol, and the block of addresses of version 2.
fn addresses(peer: &Address, local: &Address) -> (u8, Vec<u8>) {
    let mut block = Vec::with_capacity(BLOCK);
    if let Some((peer, local)) = ip_addresses(peer, local) {
        for address in [peer, local] {
            match address.ip() {
                IpAddr::V4(ip) => block.extend(ip.octets()),
                IpAddr::V6(ip) => block.extend(ip.octets()),
            }
        }
        block.extend(peer.port().to_be_bytes());
        block.extend(local.port().to_be_bytes());
        return (if peer.is_ipv4() { TCP4 } else { TCP6 }, block);
    }
    if let (Address::Unix(peer), Address::Unix(local)) = (peer, local)
        && let (Some(peer), Some(local)) = (unix_path(peer), unix_path(local))
    {
        block.extend(peer);
        block.extend(local);
        return (UNIX_STREAM, block);
    }
    (UNSPECIFIED, block)
}

/// The path, filled up with zeros; all zeros for an unnamed socket.
fn unix_path(address: &UnixAddress) -> Option<[u8; UNIX_LEN]> {
    let path = address.as_pathname();
    let path = path.map_or(&[][..], |path| path.as_os_str().as_encoded_bytes());
    let mut block = [0; UNIX_LEN];
    block.get_mut(..path.len())?.copy_from_slice(path);
    Some(block)
}

/// The value of `PP2_TYPE_SSL`.
fn ssl(tls: &TlsInfo) -> Vec<u8> {
    let certificate = tls.peer_certificates.first();
    let client = match (certificate, tls.resumed) {
        (None, _) => CLIENT_SSL,
        (Some(_), false) => CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS,
        (Some(_), true) => CLIENT_SSL | CLIENT_CERT_SESS,
    };
    // Zero for success. It also has to be nonzero where no certificate was verified.
    let verify = u32::from(certificate.is_none()).to_be_bytes();
    let mut value = [&[client], &verify[..]].concat();
    // `TLSv1.3`, as OpenSSL and HAProxy write it.
    let version = tls.version.map(|version| version.replace('_', "."));
    add_field(
        &mut value,
        SUBTYPE_VERSION,
        version.as_deref().map(str::as_bytes),
    );
    // The verified subject, which is absent where a certificate has several common names.
    let facts = tls.peer_certificate.as_ref();
    let name = facts.and_then(|facts| facts.subject.as_deref());
    let name = name.filter(|name| name.len() <= MAX_CN);
    add_field(&mut value, SUBTYPE_CN, name.map(str::as_bytes));
    value
}

/// Adds a field, unless its value is absent or longer than any of those above can be.
fn add_field(block: &mut Vec<u8>, kind: u8, value: Option<&[u8]>) {
    let Some(value) = value.filter(|value| value.len() <= MAX_VALUE) else {
        return;
    };
    let [.., high, low] = value.len().to_be_bytes();
    block.extend([kind, high, low]);
    block.extend(value);
}

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
const UNIX_LEN: usize = 108;
/// Of IPv6 addresses with ports.
const BLOCK: usize = 36;
const TYPE_ALPN: u8 = 0x01;
const TYPE_AUTHORITY: u8 = 0x02;
const TYPE_UNIQUE_ID: u8 = 0x05;
const TYPE_SSL: u8 = 0x20;
const SUBTYPE_VERSION: u8 = 0x21;
const SUBTYPE_CN: u8 = 0x22;
const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;
/// In bytes; 64 characters by RFC 5280, appendix A.
const MAX_CN: usize = 256;
/// So that all fields together stay below common limits of receivers (4 KiB here and in nginx).
const MAX_VALUE: usize = 512;
