//! The buffers that all TLS connections of a thread share.

use std::cell::RefCell;

/// The plaintext of a batch, which is written with one system call.
pub(super) const BATCH: usize = 8 * MAX_PLAINTEXT;

/// The plaintext of the largest record (RFC 8446, section 5.1).
pub(super) const MAX_PLAINTEXT: usize = 16 * 1024;

thread_local! {
    /// A buffer is taken while it is in use, so that TLS within TLS gets one of its own.
    static FREE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `with` with a buffer for a batch of records. What is in there is left over from other connections.
pub(super) fn with_scratch<T>(with: impl FnOnce(&mut [u8]) -> T) -> T {
    let taken = FREE.try_with(|free| free.borrow_mut().pop()).ok().flatten();
    let mut buffer = taken.unwrap_or_else(|| vec![0; SCRATCH].into());
    let result = with(&mut buffer);
    let _gone_with_the_thread = FREE.try_with(|free| {
        let mut free = free.borrow_mut();
        if free.len() < KEPT {
            free.push(buffer);
        }
    });
    result
}

/// A batch with what TLS adds, or the largest record of a peer.
pub(super) const SCRATCH: usize = BATCH + 8 * 1024;

/// What a connection keeps during the handshake: the beginning of its messages.
pub(super) const MAX_FLIGHT: usize = 72 * 1024;

/// What a connection keeps after the handshake: the beginning of the largest record, whose ciphertext rustls
/// accepts up to 18,437 bytes, behind the beginning of a small handshake message.
pub(super) const MAX_REST: usize = 24 * 1024;

/// A vectored write takes two buffers, one for the plaintext and one for the records.
const KEPT: usize = 2;
