//! What a listener yields.

use portcullis_middleware::connection::Address;

/// A connection as a listener took it: its stream, and the peer's address as accept told it.
#[derive(Debug)]
pub struct Accepted<Io> {
    io: Io,
    peer: Address,
}

impl<Io> Accepted<Io> {
    /// `io` from `peer`; [`Address::Unknown`] where the listener does not know.
    pub fn new(io: Io, peer: impl Into<Address>) -> Self {
        let peer = peer.into();
        Self { io, peer }
    }

    /// The stream.
    pub const fn io(&self) -> &Io {
        &self.io
    }

    /// The address of the other end.
    pub const fn peer(&self) -> &Address {
        &self.peer
    }

    /// Takes stream and address apart.
    pub fn into_parts(self) -> (Io, Address) {
        (self.io, self.peer)
    }

    /// Changes the stream.
    pub fn map_io<T>(self, map: impl FnOnce(Io) -> T) -> Accepted<T> {
        Accepted {
            io: map(self.io),
            peer: self.peer,
        }
    }
}
