//! An accepted connection.

use portcullis_middleware::connection::Address;

/// An accepted connection: its stream, and the peer's address as accept returned it.
#[derive(Debug)]
pub struct Accepted<Io> {
    io: Io,
    peer: Address,
}

impl<Io> Accepted<Io> {
    /// A stream `io` from `peer`; use [`Address::Unknown`] if the listener does not know it.
    pub fn new(io: Io, peer: impl Into<Address>) -> Self {
        let peer = peer.into();
        Self { io, peer }
    }

    /// Returns the stream.
    pub const fn io(&self) -> &Io {
        &self.io
    }

    /// Returns the peer's address.
    pub const fn peer(&self) -> &Address {
        &self.peer
    }

    /// Splits it into stream and address.
    pub fn into_parts(self) -> (Io, Address) {
        (self.io, self.peer)
    }

    /// Transforms the stream.
    pub fn map_io<T>(self, map: impl FnOnce(Io) -> T) -> Accepted<T> {
        Accepted {
            io: map(self.io),
            peer: self.peer,
        }
    }
}
