//! How much input a direction has had lately, which decides how its bytes move.

use super::scratch::SCRATCH;

/// Full reads in a row, first of the scratch and then of a pipe.
#[derive(Debug, Default)]
pub(super) struct Streak(u8);

impl Streak {
    /// Whether a pipe is worth its two calls more.
    pub(super) const fn is_bulk(&self) -> bool {
        self.0 >= BULK
    }

    /// The bytes that a pipe takes at a time.
    pub(super) const fn fill(&self) -> usize {
        if self.0 < SUSTAINED {
            FIRST_FILLS
        } else {
            usize::MAX
        }
    }

    /// Notes a read into the scratch.
    pub(super) const fn copied(&mut self, is_full: bool) {
        self.0 = if is_full { self.0.saturating_add(1) } else { 0 };
    }

    /// Notes a move of `bytes` into a pipe.
    pub(super) const fn spliced(&mut self, bytes: usize) {
        if bytes < SCRATCH / 2 {
            // Little input is cheaper to copy, with two calls in place of four.
            self.0 = 0;
        } else if bytes >= FIRST_FILLS {
            self.0 = self.0.saturating_add(1);
        }
    }

    /// Notes that the other side does not accept more for now.
    pub(super) fn blocked(&mut self) {
        self.0 = self.0.min(BULK);
    }

    /// Copies for a while, because no pipe is available.
    pub(super) const fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Reads that fill the scratch, after which bytes move through a pipe.
const BULK: u8 = 2;

/// Full moves into a pipe, after which it is filled whole: 8 MiB that the other side accepted immediately, which is more
/// than the kernel buffers for a side that does not read.
const SUSTAINED: u8 = BULK + 32;

/// The bytes that a pipe takes before that. The kernel enlarges the receive buffer of a socket that is read in large
/// steps, so otherwise a client would send 20 MiB to a backend that never reads.
const FIRST_FILLS: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn bulk() -> Streak {
        let mut streak = Streak::default();
        streak.copied(true);
        assert!(!streak.is_bulk());
        streak.copied(true);
        assert!(streak.is_bulk());
        streak
    }

    fn sustained() -> Streak {
        let mut streak = bulk();
        for _ in 0..32 {
            assert_eq!(streak.fill(), 256 * 1024);
            streak.spliced(256 * 1024);
        }
        assert!(streak.fill() > MIB);
        streak
    }

    #[test]
    fn two_full_reads_begin_a_bulk_transfer_and_one_that_is_not_full_ends_it() {
        let mut streak = bulk();
        streak.copied(false);
        assert!(!streak.is_bulk());
    }

    #[test]
    fn pipes_are_filled_whole_after_8_mib_until_the_other_side_blocks() {
        let mut streak = sustained();
        streak.blocked();
        assert!(streak.is_bulk());
        assert_eq!(streak.fill(), 256 * 1024);
    }

    #[test]
    fn a_move_below_32_kib_ends_a_bulk_transfer_and_one_that_is_not_full_changes_nothing() {
        for (bytes, goes_on) in [(32 * 1024 - 1, false), (32 * 1024, true)] {
            let mut streak = sustained();
            streak.spliced(bytes);
            assert_eq!(streak.is_bulk(), goes_on);
            assert_eq!(streak.fill() > MIB, goes_on);
        }
    }

    #[test]
    fn a_long_transfer_stays_one() {
        let mut streak = sustained();
        for _ in 0..1000 {
            streak.spliced(MIB);
        }
        assert!(streak.is_bulk() && streak.fill() > MIB);
    }
}
