//! The client that is asked about.

use crate::config::PROTOCOLS;
use portcullis::{
    ConnectionInfo,
    connection::{Address, Hello, TlsInfo},
    middleware::{
        internal,
        peek::{Detect, Detector, Protocol, ProtocolDetector},
        tls::{
            provider,
            rustls::{
                ClientConfig, ClientConnection, RootCertStore,
                pki_types::{CertificateDer, ServerName, pem::PemObject},
            },
        },
    },
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

/// What is known about a client before it connects.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    pub(crate) via: Via,
    pub(crate) speaks: Speaks,
    pub(crate) certificate: Shown,
}

/// How it reaches a listener that reads PROXY headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// Through a proxy that is trusted.
    TrustedProxy,
    /// Through the proxy at this address, which sends a header.
    Proxy(IpAddr),
    /// Without a proxy, and without a header.
    Direct,
}

impl Via {
    pub(crate) const fn of(proxy: Option<IpAddr>, is_direct: bool) -> Self {
        match (proxy, is_direct) {
            (Some(proxy), _) => Self::Proxy(proxy),
            (None, true) => Self::Direct,
            (None, false) => Self::TrustedProxy,
        }
    }
}

/// What its first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// TLS, with these names in the ClientHello.
    Tls {
        name: Option<String>,
        alpn: Vec<String>,
    },
    Other(Protocol),
    /// As the listener expects it.
    Expected,
}

/// The certificate that it shows on request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    None,
    /// In DER, its own first.
    Chain(Vec<Vec<u8>>),
    /// A valid one with these names, such as `dns:batch.mesh`.
    Names(Vec<String>),
}

impl Client {
    pub(crate) const fn from(address: IpAddr) -> Self {
        Self {
            address,
            via: Via::TrustedProxy,
            speaks: Speaks::Expected,
            certificate: Shown::None,
        }
    }

    /// # Errors
    ///
    /// What is wrong with the words of a user.
    pub(crate) fn speaking(
        mut self,
        name: Option<&str>,
        alpn: Vec<String>,
        protocol: Option<&str>,
    ) -> Result<Self, String> {
        if let Some(name) = name {
            let is_name = ServerName::try_from(name.to_owned());
            if !matches!(is_name, Ok(ServerName::DnsName(_))) {
                let name = name.escape_debug();
                return Err(format!(
                    "\"{name}\" is not a host name, so no client sends it"
                ));
            }
        }
        let protocol = match protocol {
            None => None,
            Some(word) => {
                let known = PROTOCOLS.iter().find(|(known, _)| *known == word);
                let Some((_, protocol)) = known else {
                    let words = PROTOCOLS.map(|(word, _)| word).join(", ");
                    let word = word.escape_debug();
                    return Err(format!(
                        "\"{word}\" is not a protocol; write one of {words}"
                    ));
                };
                Some(*protocol)
            }
        };
        let is_tls = name.is_some() || !alpn.is_empty();
        self.speaks = match protocol {
            Some(protocol) if protocol != Protocol::Tls && is_tls => {
                return Err("a server name and ALPN need TLS; leave the protocol out".into());
            }
            Some(protocol) if protocol != Protocol::Tls => Speaks::Other(protocol),
            None if !is_tls => Speaks::Expected,
            Some(_) | None => Speaks::Tls {
                name: name.map(str::to_owned),
                alpn,
            },
        };
        Ok(self)
    }

    /// # Errors
    ///
    /// Why `pem` is no chain of certificates.
    pub(crate) fn showing_pem(mut self, pem: &[u8]) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(pem);
        let chain: Result<Vec<_>, _> = chain.map(|der| der.map(|der| der.to_vec())).collect();
        let chain = chain.map_err(|error| format!("the certificate is not PEM: {error}"))?;
        if chain.is_empty() {
            return Err("there is no certificate in this PEM file".into());
        }
        self.certificate = Shown::Chain(chain);
        Ok(self)
    }

    /// The connection as a listener sees it, whose client has `address`.
    pub(super) fn info(&self, socket: Address, address: Address, found: &Found) -> ConnectionInfo {
        let info = ConnectionInfo::new(socket.clone(), Address::Unknown);
        if address != socket {
            info.set_effective(address, Address::Unknown);
        }
        internal::describe(&info, found.hello.clone(), None);
        info
    }
}

/// The connection after a handshake in which the client has shown this chain.
pub(super) fn with_chain(info: &ConnectionInfo, chain: &[Vec<u8>]) {
    let mut tls = TlsInfo::new();
    tls.peer_certificates = chain.to_vec();
    let own = chain.first();
    let facts = own.and_then(|der| internal::certificate_facts(der));
    tls.peer_certificate = facts.map(Box::new);
    internal::describe(info, None, Some(tls));
}

pub(super) fn at(address: IpAddr) -> Address {
    Address::Ip(SocketAddr::new(address, 0))
}

/// What the first bytes of a client say.
pub(super) struct Found {
    pub(super) speaks: Speaks,
    pub(super) protocol: Option<Protocol>,
    pub(super) hello: Option<Hello>,
}

impl Found {
    pub(super) fn of_client(client: &Client) -> Self {
        let speaks = client.speaks.clone();
        match &client.speaks {
            Speaks::Tls { name, alpn } => Self::of(&client_hello(name.as_deref(), alpn), speaks),
            Speaks::Other(protocol) => Self::of(first_bytes(*protocol), speaks),
            Speaks::Expected => Self::of(first_bytes(Protocol::Unknown), speaks),
        }
    }

    /// A PROXY header that is not read as one.
    pub(super) fn of_header() -> Self {
        Self::of(b"PROXY ", Speaks::Other(Protocol::Proxy))
    }

    fn of(bytes: &[u8], speaks: Speaks) -> Self {
        let mut detector = ProtocolDetector::new();
        let protocol = match detector.detect(bytes) {
            Detect::Found(protocol) => Some(protocol),
            _ => None,
        };
        Self {
            speaks,
            protocol,
            hello: detector.into_hello(),
        }
    }
}

/// As a client of this protocol sends them.
pub(super) const fn first_bytes(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Http1 => b"GET / HTTP/1.1\r\n",
        Protocol::Http2 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        Protocol::Ssh => b"SSH-2.0-client\r\n",
        Protocol::Postgres => b"\0\0\0\x08\x04\xd2\x16\x2f",
        _ => b"\r\n\r\n\r\n",
    }
}

fn client_hello(name: Option<&str>, alpn: &[String]) -> Vec<u8> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.clone().into_bytes()).collect();
    let named = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    // Clients that connect to an address send no name.
    let name = named.unwrap_or_else(|| IpAddr::V4(Ipv4Addr::LOCALHOST).into());
    let mut bytes = Vec::new();
    let hello = ClientConnection::new(Arc::new(config), name);
    if let Ok(mut client) = hello {
        let _in_memory = client.write_tls(&mut bytes);
    }
    bytes
}
