//! The records of a TLS connection on rustls' unbuffered API, without I/O.

use super::{
    common::invalid,
    rustls::{
        self, CommonState,
        client::{ClientConnectionData, UnbufferedClientConnection},
        server::{ServerConnectionData, UnbufferedServerConnection},
        unbuffered::{
            ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
            UnbufferedStatus, WriteTraffic,
        },
    },
    scratch::{MAX_FLIGHT, MAX_REST},
};
use std::{io, mem, ops::Deref};
use tokio::io::ReadBuf;

/// A session of either side, which holds keys and no bytes.
pub(super) trait UnbufferedSession: Deref<Target: Deref<Target = CommonState>> {
    type Data;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl UnbufferedSession for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

impl UnbufferedSession for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
}

/// A session with the bytes that are between the socket and the application.
///
/// Records are opened where they were received and sealed where they are sent from. Only what is left over is
/// kept here, so an idle connection holds no buffer.
pub(super) struct Records<S> {
    session: S,
    /// The beginning of a record or of a handshake message.
    input: Vec<u8>,
    plaintext: Pending,
    output: Pending,
    peer_has_ended: bool,
    has_ended: bool,
    failure: Option<Box<rustls::Error>>,
}

impl<S: UnbufferedSession> Records<S> {
    pub(super) fn new(session: S) -> Self {
        Self {
            session,
            input: Vec::new(),
            plaintext: Pending::default(),
            output: Pending::default(),
            peer_has_ended: false,
            has_ended: false,
            failure: None,
        }
    }

    pub(super) fn state(&self) -> &CommonState {
        &self.session
    }

    #[cfg(all(test, any(feature = "aws-lc-rs", feature = "ring")))]
    pub(super) fn held_bytes(&self) -> usize {
        let pending = self.plaintext.bytes.capacity() + self.output.bytes.capacity();
        self.input.capacity() + pending
    }

    /// Plaintext that was not read yet.
    pub(super) const fn plaintext(&mut self) -> &mut Pending {
        &mut self.plaintext
    }

    /// Records that were not sent yet.
    pub(super) const fn output(&mut self) -> &mut Pending {
        &mut self.output
    }

    /// The peer has sent `close_notify`.
    pub(super) const fn peer_has_ended(&self) -> bool {
        self.peer_has_ended
    }

    /// This side has sent `close_notify`.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The failure that ended the session.
    pub(super) fn check(&self) -> io::Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(error) => Err(invalid((**error).clone())),
        }
    }

    /// Takes the input that is left over.
    pub(super) fn take_input(&mut self) -> Vec<u8> {
        mem::take(&mut self.input)
    }

    /// Keeps the input that is left over.
    pub(super) fn keep_input(&mut self, rest: &[u8]) {
        debug_assert!(self.input.is_empty(), "it was taken");
        if !self.peer_has_ended && self.failure.is_none() {
            self.input = rest.to_vec();
        }
    }

    /// Processes `input` of a handshake. Plaintext that follows it is kept.
    pub(super) fn handshake(&mut self, input: &[u8]) -> io::Result<()> {
        let mut bytes = self.take_input();
        bytes.extend_from_slice(input);
        let done = self.open(&mut bytes, &mut ReadBuf::new(&mut []));
        self.keep_input(&bytes[done..]);
        self.check()
    }

    /// Opens the whole records of `bytes` into `buf`, and keeps plaintext that does not fit.
    ///
    /// Returns the number of bytes that are no longer needed. The rest goes in front of further input.
    pub(super) fn open(&mut self, bytes: &mut [u8], buf: &mut ReadBuf<'_>) -> usize {
        let done = self.advance(bytes, buf, |_| {});
        let most = match self.session.is_handshaking() {
            true => MAX_FLIGHT,
            false => MAX_REST,
        };
        if bytes.len() - done > most {
            self.refuse(&bytes[done..]);
            return bytes.len();
        }
        done
    }

    /// Ends the session because of a handshake message that is too long, or in too many records.
    fn refuse(&mut self, rest: &[u8]) {
        // The session makes an alert only for input, so it gets a damaged record.
        let mut damaged = rest.to_vec();
        damaged.resize(rest.len() + MAX_FLIGHT, 0xff);
        self.advance(&mut damaged, &mut ReadBuf::new(&mut []), |_| {});
        let too_long = rustls::InvalidMessage::HandshakePayloadTooLarge;
        self.failure = Some(Box::new(too_long.into()));
    }

    /// Seals `plaintext` into `records`. Returns how much was sealed, and the length of the records.
    ///
    /// [`output`](Self::output) must be empty before; what is in there afterwards goes first.
    pub(super) fn seal(
        &mut self,
        mut plaintext: &[u8],
        records: &mut [u8],
    ) -> io::Result<(usize, usize)> {
        loop {
            let mut sealed = None;
            self.write(|traffic| sealed = Some(traffic.encrypt(plaintext, records)));
            self.check()?;
            match sealed {
                Some(Ok(length)) => return Ok((plaintext.len(), length)),
                // The records are smaller than usual, so there are more of them.
                Some(Err(EncryptError::InsufficientSize(_))) if plaintext.len() > 1 => {
                    plaintext = &plaintext[..plaintext.len() / 2];
                }
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    /// Puts `close_notify` into the output.
    pub(super) fn close(&mut self) {
        if mem::replace(&mut self.has_ended, true) || self.failure.is_some() {
            return;
        }
        let mut alert = vec![0; ALERT];
        let mut length = 0;
        self.write(|traffic| match traffic.queue_close_notify(&mut alert) {
            Ok(written) => length = written,
            // It is queued, and the session returns it next.
            Err(_) => length = 0,
        });
        self.output.push(&alert[..length]);
        self.take_output();
    }

    /// Calls `with` if the session can send plaintext.
    fn write(&mut self, with: impl FnMut(&mut WriteTraffic<'_, S::Data>)) {
        let mut input = self.take_input();
        let done = self.advance(&mut input, &mut ReadBuf::new(&mut []), with);
        self.keep_input(&input[done..]);
    }

    /// Processes `bytes` until the session waits for more, and calls `with` if it can send plaintext.
    fn advance(
        &mut self,
        bytes: &mut [u8],
        buf: &mut ReadBuf<'_>,
        mut with: impl FnMut(&mut WriteTraffic<'_, S::Data>),
    ) -> usize {
        let mut done = 0;
        while self.failure.is_none() {
            let UnbufferedStatus { discard, state } = self.session.process(&mut bytes[done..]);
            done += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                done += record.discard;
                                self.plaintext.push_beyond(record.payload, buf);
                            }
                            Err(error) => self.failure = Some(error.into()),
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => self.output.push_encoded(data),
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    // The rest may be early data. Each attempt to open it counts against the limit of rustls.
                    if self.session.is_handshaking() && done < bytes.len() {
                        return done;
                    }
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    with(&mut traffic);
                    return done;
                }
                // Input after `close_notify` is ignored (RFC 8446, section 6.1).
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_has_ended = true;
                    done = bytes.len();
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => return done,
                Ok(other) => {
                    let unexpected = format!("the TLS session is in the state {other:?}");
                    self.failure = Some(rustls::Error::General(unexpected).into());
                }
                Err(error) => self.failure = Some(error.into()),
            }
        }
        self.take_output();
        bytes.len()
    }

    /// Takes the alert of a session that has failed or ended. Its input must not be processed any more.
    fn take_output(&mut self) {
        while self.session.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(data)) = self.session.process(&mut []).state
            else {
                return;
            };
            self.output.push_encoded(data);
        }
    }
}

/// Bytes that wait to be read or sent. It holds no memory once they are.
#[derive(Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    done: usize,
}

impl Pending {
    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.done..]
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.done += bytes;
        if self.done >= self.bytes.len() {
            *self = Self::default();
        }
    }

    /// Copies to `buf` what fits.
    pub(super) fn read(&mut self, buf: &mut ReadBuf<'_>) {
        let bytes = buf.remaining().min(self.rest().len());
        buf.put_slice(&self.rest()[..bytes]);
        self.advance(bytes);
    }

    /// Copies to `buf` what fits, and keeps what does not.
    fn push_beyond(&mut self, bytes: &[u8], buf: &mut ReadBuf<'_>) {
        let fits = match self.is_empty() {
            true => buf.remaining().min(bytes.len()),
            false => 0,
        };
        buf.put_slice(&bytes[..fits]);
        self.push(&bytes[fits..]);
    }

    fn push_encoded<Data>(&mut self, mut data: EncodeTlsData<'_, Data>) {
        let start = self.bytes.len();
        let mut room = 0;
        loop {
            self.bytes.resize(start + room, 0);
            match data.encode(&mut self.bytes[start..]) {
                Ok(length) => return self.bytes.truncate(start + length),
                Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size }))
                    if required_size > room =>
                {
                    room = required_size;
                }
                Err(_) => return self.bytes.truncate(start),
            }
        }
    }
}

/// More than an encrypted alert takes, with a key update in front of it.
const ALERT: usize = 256;
