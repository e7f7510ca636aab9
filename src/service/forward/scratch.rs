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
    let taken = BUFFER.try_with(Cell::take).ok().flatten();
    let mut buffer = taken.unwrap_or_else(|| vec![0; BATCH].into());
    let result = with(&mut buffer);
    let _gone_with_the_thread = BUFFER.try_with(|place| place.set(Some(buffer)));
    result
}
