//! The TLS state of one handshake, before and after its configuration is known.

use super::{
    common::invalid,
    configs::{ConfigSource, HandshakeConfig, UnrecognizedName},
    records::Records,
    rustls::{
        self, ServerConfig, ServerConnection,
        server::{Accepted, AcceptedAlert, Acceptor, ClientHello, UnbufferedServerConnection},
    },
};
use std::{
    io::{self, Write},
    mem,
    sync::Arc,
};

/// A fixed configuration has a buffered session from the start, everything else after the ClientHello.
pub(super) enum Negotiation {
    Hello(HelloAcceptor),
    Session(Arc<ServerConfig>, Session),
    /// Failed before there was a session, with the alert for the client.
    Failed(Vec<u8>),
}

/// Waits for the ClientHello.
pub(super) struct HelloAcceptor {
    acceptor: Acceptor,
    source: ConfigSource,
    /// The input so far, for an unbuffered session, which cannot continue after an `Acceptor`.
    unbuffered: Option<Vec<u8>>,
}

/// The session of a server.
pub(super) enum Session {
    Buffered(ServerConnection),
    Unbuffered(UnbufferedHandshake),
}

pub(super) struct UnbufferedHandshake {
    pub(super) records: Records<UnbufferedServerConnection>,
    /// The requested name, which an unbuffered session does not expose.
    pub(super) server_name: Option<String>,
}

impl Negotiation {
    pub(super) fn new(source: &ConfigSource, is_unbuffered: bool) -> io::Result<Self> {
        if let ConfigSource::Fixed(config) = source
            && !is_unbuffered
        {
            let config = config.get().clone();
            let session = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            return Ok(Self::Session(config, Session::Buffered(session)));
        }
        Ok(Self::Hello(HelloAcceptor {
            acceptor: Acceptor::default(),
            source: source.clone(),
            unbuffered: is_unbuffered.then(Vec::new),
        }))
    }

    /// Processes all of `input`; true if the client has sent `close_notify`.
    pub(super) fn process(&mut self, mut input: &[u8]) -> io::Result<bool> {
        if let Self::Hello(hello) = self {
            match hello.accept(&mut input) {
                Ok(None) => return Ok(false),
                Ok(Some((config, session))) => *self = Self::Session(config, session),
                Err((error, alert)) => {
                    *self = Self::Failed(alert);
                    return Err(error);
                }
            }
        }
        match self {
            Self::Session(_, session) => session.process(input),
            Self::Hello(_) | Self::Failed(_) => Ok(false),
        }
    }
}

impl Session {
    fn process(&mut self, mut input: &[u8]) -> io::Result<bool> {
        let session = match self {
            Self::Unbuffered(handshake) => {
                handshake.records.handshake(input)?;
                return Ok(handshake.records.peer_has_ended());
            }
            Self::Buffered(session) => session,
        };
        while !input.is_empty() {
            if session.read_tls(&mut input)? == 0 {
                // Input after `close_notify` is ignored.
                return Ok(true);
            }
            session.process_new_packets().map_err(invalid)?;
        }
        Ok(false)
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match self {
            Self::Buffered(session) => session.is_handshaking(),
            Self::Unbuffered(handshake) => handshake.records.state().is_handshaking(),
        }
    }

    pub(super) fn wants_write(&mut self) -> bool {
        match self {
            Self::Buffered(session) => session.wants_write(),
            Self::Unbuffered(handshake) => !handshake.records.output().is_empty(),
        }
    }

    pub(super) fn write_tls(&mut self, to: &mut impl Write) -> io::Result<usize> {
        match self {
            Self::Buffered(session) => session.write_tls(to),
            Self::Unbuffered(handshake) => {
                let output = handshake.records.output();
                let written = to.write(output.rest())?;
                output.advance(written);
                Ok(written)
            }
        }
    }
}

/// An error, and the alert that reports it to the client.
type Failed = (io::Error, Vec<u8>);

impl HelloAcceptor {
    /// Takes a ClientHello from `input`. The rest stays there.
    fn accept(
        &mut self,
        input: &mut &[u8],
    ) -> Result<Option<(Arc<ServerConfig>, Session)>, Failed> {
        if let Some(bytes) = &mut self.unbuffered {
            bytes.extend_from_slice(input);
        }
        while !input.is_empty() {
            if let Err(error) = self.acceptor.read_tls(input) {
                return Err((error, Vec::new()));
            }
            if let Some(hello) = self.acceptor.accept().map_err(rejected)? {
                return self.start(hello, input).map(Some);
            }
        }
        Ok(None)
    }

    fn start(
        &mut self,
        accepted: Accepted,
        input: &mut &[u8],
    ) -> Result<(Arc<ServerConfig>, Session), Failed> {
        let hello = accepted.client_hello();
        let config = self.choose(&hello).map_err(unrecognized)?.get().clone();
        let Some(bytes) = &mut self.unbuffered else {
            let session = accepted.into_connection(config.clone()).map_err(rejected)?;
            return Ok((config, Session::Buffered(session)));
        };
        let server_name = hello.server_name().map(Into::into);
        let session = UnbufferedServerConnection::new(config.clone());
        let session = session.map_err(|error| (io::Error::other(error), Vec::new()))?;
        let mut records = Records::new(session);
        // The session reads it again, together with what follows.
        records.keep_input(&mem::take(bytes));
        *input = &[];
        let handshake = UnbufferedHandshake {
            records,
            server_name,
        };
        Ok((config, Session::Unbuffered(handshake)))
    }

    fn choose(&self, hello: &ClientHello<'_>) -> Result<HandshakeConfig, UnrecognizedName> {
        match &self.source {
            ConfigSource::Fixed(config) => Ok(config.clone()),
            ConfigSource::Chosen(configs) => configs.choose(hello),
        }
    }
}

fn unrecognized(name: UnrecognizedName) -> Failed {
    let error = io::Error::new(io::ErrorKind::InvalidData, name);
    (error, UnrecognizedName::ALERT.to_vec())
}

fn rejected((error, mut alert): (rustls::Error, AcceptedAlert)) -> Failed {
    let mut bytes = Vec::new();
    let _ = alert.write_all(&mut bytes); // A vector takes everything.
    if bytes.is_empty() {
        // rustls has none for a message that is no ClientHello.
        bytes.extend(UNEXPECTED_MESSAGE);
    }
    (invalid(error), bytes)
}

/// A fatal alert in its own record (RFC 8446, sections 5.1 and 6.2).
const UNEXPECTED_MESSAGE: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];
