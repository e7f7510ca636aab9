//! The TLS state of one handshake, before and after its configuration is known.

use super::{
    configs::{ConfigSource, Configs, UnrecognizedName},
    rustls::{
        self, ServerConfig, ServerConnection,
        server::{Accepted, AcceptedAlert, Acceptor},
    },
};
use std::{io, sync::Arc};

/// A fixed configuration has a session from the start, a chosen one after the ClientHello.
pub(super) enum Negotiation {
    Hello(Acceptor, Arc<dyn Configs>),
    Session(Arc<ServerConfig>, ServerConnection),
    /// Failed before there was a session, with the alert for the client.
    Failed(Vec<u8>),
}

impl Negotiation {
    pub(super) fn new(source: &ConfigSource) -> io::Result<Self> {
        Ok(match source {
            ConfigSource::Fixed(config) => {
                let config = config.get().clone();
                let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Self::Session(config, session)
            }
            ConfigSource::Chosen(configs) => Self::Hello(Acceptor::default(), configs.clone()),
        })
    }

    /// The session, which is created once `input` contains the whole ClientHello. The rest stays in `input`.
    pub(super) fn session(
        &mut self,
        input: &mut &[u8],
    ) -> io::Result<Option<&mut ServerConnection>> {
        if let Self::Hello(acceptor, configs) = self {
            let started = match accept(acceptor, input) {
                Ok(None) => return Ok(None),
                Ok(Some(hello)) => start(hello, &**configs),
                Err(failed) => Err(failed),
            };
            match started {
                Ok((config, session)) => *self = Self::Session(config, session),
                Err((error, alert)) => {
                    *self = Self::Failed(alert);
                    return Err(error);
                }
            }
        }
        match self {
            Self::Session(_, session) => Ok(Some(session)),
            Self::Hello(..) | Self::Failed(_) => Ok(None),
        }
    }
}

/// An error, and the alert that reports it to the client.
type Failed = (io::Error, Vec<u8>);

/// Takes a ClientHello from `input`.
fn accept(acceptor: &mut Acceptor, input: &mut &[u8]) -> Result<Option<Accepted>, Failed> {
    while !input.is_empty() {
        if let Err(error) = acceptor.read_tls(input) {
            return Err((error, Vec::new()));
        }
        if let Some(hello) = acceptor.accept().map_err(rejected)? {
            return Ok(Some(hello));
        }
    }
    Ok(None)
}

fn start(
    hello: Accepted,
    configs: &dyn Configs,
) -> Result<(Arc<ServerConfig>, ServerConnection), Failed> {
    let chosen = configs.choose(&hello.client_hello());
    let config = chosen.map_err(unrecognized)?.get().clone();
    let session = hello.into_connection(config.clone()).map_err(rejected)?;
    Ok((config, session))
}

fn unrecognized(name: UnrecognizedName) -> Failed {
    let error = io::Error::new(io::ErrorKind::InvalidData, name);
    (error, UNRECOGNIZED_NAME.to_vec())
}

fn rejected((error, mut alert): (rustls::Error, AcceptedAlert)) -> Failed {
    let mut bytes = Vec::new();
    let _ = alert.write_all(&mut bytes); // A vector takes everything.
    (io::Error::new(io::ErrorKind::InvalidData, error), bytes)
}

/// A fatal alert in its own record (RFC 8446, sections 5.1 and 6.2; RFC 6066, section 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
