//! The buffer that all connections of a thread read into.

use std::cell::Cell;

/// The bytes that are read at most before they are written.
pub(super) const SCRATCH: usize = 64 * 1024;

/// The same if a side is no plain socket, as under TLS. More bytes then never move through a pipe, so fewer system
/// calls are worth the memory that a side that does not read occupies.
pub(super) const BATCH: usize = 2 * SCRATCH;

thread_local! {
    /// Taken while it is in use, so that a stream that forwards within a read gets a buffer of its own.
    static BUFFER: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Calls `with` with the buffer of this thread. What is in there is left over from other connections.
pub(super) fn with_scratch<T>(with: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut with = Some(with);
    let result = BUFFER.try_with(|place| {
        let mut buffer = place.take().unwrap_or_else(allocate);
        let result = with.take().expect(ONCE)(&mut buffer);
        place.set(Some(buffer));
        result
    });
    // A thread that ends may have dropped its buffer.
    result.unwrap_or_else(|_| with.take().expect(ONCE)(&mut allocate()))
}

#[cold]
fn allocate() -> Box<[u8]> {
    vec![0; BATCH].into()
}

const ONCE: &str = "either with the buffer of the thread or with another";
