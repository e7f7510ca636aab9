//! Who may do what.
//!
//! The Unix socket is protected by its mode, so each client of it may do everything. Over TCP, changes always need
//! the token, in a header that no page of another site can send, and never a cookie. Requests with a foreign `Host`
//! are refused, because a browser sends them after DNS rebinding, in which another site's name points here.

use super::{label_of, reply::Refusal};
use crate::config::{self, ListenAddress, Protect, Secret};
use http::{
    StatusCode, Version,
    header::{AUTHORIZATION, HOST},
    request::Parts,
    uri::Authority,
};
use portcullis::{ConnectionInfo, connection::Address};
use std::net::IpAddr;
use subtle::ConstantTimeEq;

/// How far a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Probes and the page itself. `/readyz` names the backends that have no server.
    Public,
    Read,
    Change,
}

pub(super) struct Access {
    protect: Protect,
    hosts: Vec<String>,
    /// The configured address.
    bound: Option<IpAddr>,
    /// The label of the socket that this is for.
    socket: String,
}

impl Access {
    pub(super) fn new(settings: &config::Admin) -> Self {
        Self {
            protect: settings.protect,
            hosts: settings.hosts.clone(),
            bound: match &settings.listen.value {
                ListenAddress::Tcp(address) => Some(address.ip()),
                ListenAddress::Unix(_) | ListenAddress::Activated(_) => None,
            },
            socket: label_of(&settings.listen.value),
        }
    }

    pub(super) fn check(
        &self,
        request: &Parts,
        effect: Effect,
        token: Option<&Secret>,
    ) -> Result<(), Refusal> {
        let info = info(request);
        self.check_socket(info)?;
        if is_trusted(info) {
            return Ok(());
        }
        self.check_host(request, info)?;
        match effect {
            Effect::Public => Ok(()),
            Effect::Read if self.protect == Protect::Changes => Ok(()),
            Effect::Read | Effect::Change => check_token(request, token),
        }
    }

    /// Rejects the requests of a socket that drains, because its clients may be others than those that this is for.
    fn check_socket(&self, info: Option<&ConnectionInfo>) -> Result<(), Refusal> {
        match info.and_then(ConnectionInfo::listener) {
            Some(socket) if socket != self.socket => Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the admin interface has moved to another address",
            )),
            _ => Ok(()),
        }
    }

    fn check_host(&self, request: &Parts, info: Option<&ConnectionInfo>) -> Result<(), Refusal> {
        let mut hosts = request.headers.get_all(HOST).into_iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().ok(),
            // HTTP/1.0 has none, and browsers do not speak it.
            (None, _) if request.version == Version::HTTP_10 => return Ok(()),
            _ => None,
        };
        let authority = host.and_then(|host| host.parse::<Authority>().ok());
        let known = authority.is_some_and(|host| self.knows(host.host(), info));
        if known {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "the Host of this request is not this gate's; call it by its address, or list the name in `admin.hosts`",
        ))
    }

    fn knows(&self, host: &str, info: Option<&ConnectionInfo>) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            let local = info.and_then(|info| info.socket_local().ip());
            return address.is_loopback()
                || self.bound == Some(address)
                || local.is_some_and(|local| local.ip().to_canonical() == address);
        }
        let mut hosts = self.hosts.iter().map(|host| &**host).chain(["localhost"]);
        hosts.any(|known| known.eq_ignore_ascii_case(host))
    }
}

/// The connection of a request.
pub(super) fn info(request: &Parts) -> Option<&ConnectionInfo> {
    request.extensions.get()
}

/// Whether a client needs no token.
pub(super) fn is_trusted(info: Option<&ConnectionInfo>) -> bool {
    // The peer of a Unix socket is usually unnamed, and the socket never is.
    info.is_some_and(|info| matches!(info.socket_local(), Address::Unix(_)))
}

fn check_token(request: &Parts, token: Option<&Secret>) -> Result<(), Refusal> {
    let Some(token) = token else {
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "this needs a token, and none is configured; set `admin.token-file`, or use a Unix socket",
        ));
    };
    let Some(header) = request.headers.get(AUTHORIZATION) else {
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "this needs the header `Authorization: Bearer <token>`",
        ));
    };
    let given = bearer(header.as_bytes()).unwrap_or_default();
    if bool::from(given.ct_eq(token.expose().as_bytes())) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "the token is wrong; `admin.token-file` or `admin.token` says where it is",
    ))
}

/// The token in the header. The scheme has either case (RFC 9110, section 11.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer ";
    let (scheme, token) = header.split_at_checked(SCHEME.len())?;
    scheme
        .eq_ignore_ascii_case(SCHEME)
        .then(|| token.trim_ascii())
}
