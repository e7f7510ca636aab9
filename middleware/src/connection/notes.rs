//! What guards that only observe would have done to a connection.

use std::{fmt, sync::OnceLock};

/// What a guard that only observes would have done; see [`ConnectionInfo::notes`](super::ConnectionInfo::notes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    by: &'static str,
    reason: &'static str,
}

impl Note {
    pub(crate) const fn new(by: &'static str, reason: &'static str) -> Self {
        Self { by, reason }
    }

    /// The name of the guard, as in [`Refused::by`](crate::error::Refused::by).
    pub const fn by(&self) -> &'static str {
        self.by
    }

    /// The reason of the rejection, or the phase of the timeout.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

/// Writes the guard and the reason.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.by, self.reason)
    }
}

/// A list that only grows. Its length is limited because equal notes are kept once, and guards have few reasons.
#[derive(Debug, Default)]
pub(super) struct Notes(OnceLock<Box<Node>>);

#[derive(Debug)]
struct Node {
    note: Note,
    next: Notes,
}

impl Notes {
    /// Adds `note`; false if it was there already.
    pub(super) fn add(&self, note: Note) -> bool {
        let mut list = self;
        loop {
            let mut added = false;
            let node = list.0.get_or_init(|| {
                added = true;
                let next = Self::default();
                Box::new(Node { note, next })
            });
            if added || node.note == note {
                return added;
            }
            list = &node.next;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Note> {
        let nodes = std::iter::successors(self.0.get(), |node| node.next.0.get());
        nodes.map(|node| &node.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn notes_are_kept_once_in_the_order_in_which_they_came() {
        let notes = Notes::default();
        let [one, other] = ["closed", "full"].map(|reason| Note::new("gate", reason));
        assert!(notes.add(one) && notes.add(other));
        assert!(!notes.add(other) && !notes.add(one));
        assert_eq!(notes.iter().copied().collect::<Vec<_>>(), [one, other]);
        assert_eq!(one.to_string(), "gate: closed");
    }

    #[test]
    fn no_note_of_several_threads_is_lost() {
        const REASONS: [&str; 4] = ["a", "b", "c", "d"];
        for _ in 0..100 {
            let notes = Notes::default();
            let added: usize = thread::scope(|scope| {
                let add_all = || {
                    let added = REASONS.map(|reason| notes.add(Note::new("gate", reason)));
                    added.into_iter().filter(|added| *added).count()
                };
                let threads: Vec<_> = (0..3).map(|_| scope.spawn(add_all)).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .sum()
            });
            assert_eq!((added, notes.iter().count()), (4, 4));
        }
    }
}
