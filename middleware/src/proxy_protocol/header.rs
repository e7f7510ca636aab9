//! The fields of a header besides the addresses.

use std::{fmt, sync::Arc};

/// The PROXY header of a connection, in its [`Extensions`].
///
/// [`ConnectionInfo`] contains the addresses; this type contains the version and the additional fields of
/// version 2. Each field has a type, a length and a value (TLV). A value is as trustworthy as the proxy that
/// sent it, and some values are chosen by the client (the host name).
///
/// A clone is cheap and shares the fields.
///
/// [`Extensions`]: crate::Extensions
/// [`ConnectionInfo`]: crate::ConnectionInfo
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyHeader {
    version: u8,
    proxied: bool,
    /// Well-formed fields, one after the other; `None` if the header has none.
    tlvs: Option<Arc<[u8]>>,
}

impl ProxyHeader {
    pub(super) fn new(version: u8, proxied: bool, tlvs: &[u8]) -> Self {
        let tlvs = (!tlvs.is_empty()).then(|| tlvs.into());
        Self {
            version,
            proxied,
            tlvs,
        }
    }

    /// The version of the protocol: 1 (text) or 2 (binary).
    pub const fn version(&self) -> u8 {
        self.version
    }

    /// Whether the header describes a client.
    ///
    /// False for the proxy's own connections, such as health checks (`LOCAL`), and for clients that the
    /// protocol cannot describe (`UNKNOWN`, `AF_UNSPEC`).
    pub const fn is_proxied(&self) -> bool {
        self.proxied
    }

    /// All fields in order, each with its type and value.
    ///
    /// A header [without a client](Self::is_proxied) may have fields too. The protocol lets a receiver skip
    /// the contents of such a header, so malformed fields are ignored there.
    pub fn tlvs(&self) -> impl Iterator<Item = (u8, &[u8])> {
        fields(self.tlvs.as_deref().unwrap_or_default())
    }

    /// The value of the first field of type `kind`.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        find(self.tlvs.as_deref()?, kind)
    }

    /// The application protocol negotiated between client and proxy (`PP2_TYPE_ALPN`).
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tlv(0x01)
    }

    /// The host name that the client requested (`PP2_TYPE_AUTHORITY`), under TLS the SNI.
    ///
    /// `None` if it is absent or not UTF-8.
    pub fn authority(&self) -> Option<&str> {
        text(self.tlv(0x02)?)
    }

    /// The proxy's id of the connection (`PP2_TYPE_UNIQUE_ID`), for a search in its log.
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.tlv(0x05)
    }

    /// The client's TLS session with the proxy (`PP2_TYPE_SSL`).
    ///
    /// `None` if it is absent or too short.
    pub fn ssl(&self) -> Option<ProxySsl<'_>> {
        ProxySsl::new(self.tlv(0x20)?)
    }

    /// The network namespace of the proxy's listener (`PP2_TYPE_NETNS`).
    pub fn netns(&self) -> Option<&str> {
        text(self.tlv(0x30)?)
    }

    /// The id of the AWS VPC endpoint that the client came through (type 0xEA, subtype 1).
    pub fn aws_vpc_endpoint_id(&self) -> Option<&str> {
        text(self.tlv(0xEA)?.strip_prefix(&[0x01])?)
    }
}

impl fmt::Debug for ProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyHeader")
            .field("version", &self.version)
            .field("proxied", &self.proxied)
            .field("tlvs", &Fields(self.tlvs.as_deref().unwrap_or_default()))
            .finish()
    }
}

/// The client's TLS session with the proxy; see [`ProxyHeader::ssl`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProxySsl<'a> {
    client: u8,
    verify: u32,
    tlvs: &'a [u8],
}

impl<'a> ProxySsl<'a> {
    fn new(value: &'a [u8]) -> Option<Self> {
        let (&[client, a, b, c, d], tlvs) = value.split_first_chunk()?;
        Some(Self {
            client,
            verify: u32::from_be_bytes([a, b, c, d]),
            tlvs,
        })
    }

    /// Whether the client used TLS to the proxy.
    pub const fn is_tls(&self) -> bool {
        self.client & 0x01 != 0
    }

    /// Whether the client presented a certificate, in this connection or session, that the proxy verified.
    pub const fn is_client_verified(&self) -> bool {
        // Zero alone is not enough, because it is also the value without a certificate.
        self.client & (0x02 | 0x04) != 0 && self.verify == 0
    }

    /// The proxy's result of verifying the certificate, zero for success; meaningless without a certificate.
    pub const fn verify_result(&self) -> u32 {
        self.verify
    }

    /// The version of TLS, such as `TLSv1.3` (`PP2_SUBTYPE_SSL_VERSION`).
    pub fn version(&self) -> Option<&'a str> {
        text(self.tlv(0x21)?)
    }

    /// The common name in the client's certificate (`PP2_SUBTYPE_SSL_CN`).
    ///
    /// Only meaningful if [the certificate was verified](Self::is_client_verified).
    pub fn common_name(&self) -> Option<&'a str> {
        text(self.tlv(0x22)?)
    }

    /// The cipher (`PP2_SUBTYPE_SSL_CIPHER`), as the proxy spells it.
    pub fn cipher(&self) -> Option<&'a str> {
        text(self.tlv(0x23)?)
    }

    /// The value of the first field of type `kind` inside.
    pub fn tlv(&self, kind: u8) -> Option<&'a [u8]> {
        find(self.tlvs, kind)
    }
}

impl fmt::Debug for ProxySsl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxySsl")
            .field("client", &self.client)
            .field("verify", &self.verify)
            .field("tlvs", &Fields(self.tlvs))
            .finish()
    }
}

/// Type and value.
type Field<'a> = (u8, &'a [u8]);

/// Splits off the first field; `None` at the end and for malformed bytes.
pub(super) fn split_field(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (&[kind, high, low], rest) = bytes.split_first_chunk()?;
    let length = u16::from_be_bytes([high, low]).into();
    let (value, rest) = rest.split_at_checked(length)?;
    Some(((kind, value), rest))
}

fn fields(mut bytes: &[u8]) -> impl Iterator<Item = Field<'_>> {
    std::iter::from_fn(move || {
        let (field, rest) = split_field(bytes)?;
        bytes = rest;
        Some(field)
    })
}

fn find(bytes: &[u8], kind: u8) -> Option<&[u8]> {
    fields(bytes)
        .find(|field| field.0 == kind)
        .map(|field| field.1)
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

struct Fields<'a>(&'a [u8]);

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = fields(self.0).map(|(kind, value)| (kind, value.escape_ascii().to_string()));
        f.debug_map().entries(fields).finish()
    }
}
