//! Resources that a connection holds while it lives.

use std::{fmt, mem, sync::Arc};

/// Resources of a connection that are released by dropping them, such as permits and registry entries.
///
/// Guards are released in the order in which they were added, after the stream.
#[derive(Default)]
pub struct Guards(Option<Box<Held>>);

/// In one allocation, because connections are moved often and this keeps them one word in size.
#[derive(Default)]
struct Held {
    /// Filled only while `more` is empty, which is released afterwards.
    slots: [Option<Slot>; SLOTS],
    more: List,
}

impl Guards {
    /// No guards.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Holds `guard` until these guards are dropped. It takes two allocations, the first guard three.
    pub fn push(&mut self, guard: impl Send + Sync + 'static) {
        let more = &mut self.0.get_or_insert_default().more;
        more.push(Box::new(Opaque(guard)));
    }

    /// Holds `slot` until these guards are dropped. The first four slots share one allocation if they are
    /// added before any other guard.
    #[doc(hidden)]
    pub fn push_slot(&mut self, slot: Slot) {
        let Held { slots, more } = &mut **self.0.get_or_insert_default();
        match slots.iter_mut().find(|free| free.is_none()) {
            Some(free) if more.0.is_none() => *free = Some(slot),
            _ => more.push(Box::new(slot)),
        }
    }

    /// Releases the slots that only a connection in service needs.
    pub(super) fn release_for_linger(&mut self) {
        let Some(held) = self.0.as_deref_mut() else {
            return;
        };
        for slot in &mut held.slots {
            drop(slot.take_if(|slot| slot.is_released_by_linger()));
        }
        held.more.retain(|guard| !guard.is_released_by_linger());
    }

    /// The number of guards.
    pub fn len(&self) -> usize {
        let held = |held: &Held| held.slots.iter().flatten().count() + held.more.iter().count();
        self.0.as_deref().map_or(0, held)
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guards").field("len", &self.len()).finish()
    }
}

/// A pool that hands out [`Slot`]s.
pub trait Slots: Send + Sync {
    /// Returns the slot `key` to the pool, once for each [`Slot`] that was made with it.
    ///
    /// It runs in a drop, possibly during a panic, so it must neither panic nor wait.
    fn release(&self, key: usize);

    /// Whether a slot is released when its connection starts to [linger](super::Connection::linger). By
    /// default it is held until the connection is dropped.
    ///
    /// A lingering connection is no longer served, but still holds its file descriptor.
    fn is_released_by_linger(&self) -> bool {
        false
    }
}

/// A pooled resource held by one connection, such as a limiter permit or a registry entry.
///
/// Dropping it returns it to its [`Slots`]. As a guard it takes less memory than others.
pub struct Slot {
    of: Arc<dyn Slots>,
    key: usize,
}

impl Slot {
    /// The slot `key` of `slots`.
    pub const fn new(slots: Arc<dyn Slots>, key: usize) -> Self {
        Self { of: slots, key }
    }

    fn is_released_by_linger(&self) -> bool {
        self.of.is_released_by_linger()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.of.release(self.key);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// A list of guards of any type. One word in size, because most connections have none.
#[derive(Default)]
struct List(Option<Box<Node>>);

struct Node {
    next: List,
    guard: Box<dyn Guard>,
}

impl List {
    fn push(&mut self, guard: Box<dyn Guard>) {
        let next = Self(None);
        self.append(Box::new(Node { next, guard }));
    }

    fn append(&mut self, node: Box<Node>) {
        let mut last = &mut self.0;
        while let Some(node) = last {
            last = &mut node.next.0;
        }
        *last = Some(node);
    }

    fn pop(&mut self) -> Option<Box<Node>> {
        let mut node = self.0.take()?;
        self.0 = mem::take(&mut node.next.0);
        Some(node)
    }

    /// Drops the guards for which `keep` returns false.
    fn retain(&mut self, keep: impl Fn(&dyn Guard) -> bool) {
        let mut all = mem::take(self);
        while let Some(node) = all.pop() {
            if keep(&*node.guard) {
                self.append(node);
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Node> {
        std::iter::successors(self.0.as_deref(), |node| node.next.0.as_deref())
    }
}

/// A guard of any type.
trait Guard: Send + Sync {
    fn is_released_by_linger(&self) -> bool;
}

impl Guard for Slot {
    fn is_released_by_linger(&self) -> bool {
        self.is_released_by_linger()
    }
}

/// A guard of the application.
struct Opaque<T>(T);

impl<T: Send + Sync> Guard for Opaque<T> {
    fn is_released_by_linger(&self) -> bool {
        false
    }
}

impl Drop for List {
    /// Drops one after the other. The default drop would drop the rest of the list before each guard.
    fn drop(&mut self) {
        while let Some(node) = self.pop() {
            drop(node);
        }
    }
}

/// A server's entry, a limit's permit, and two more, such as those of a limit per key and of a pool.
const SLOTS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    struct Note(u8, Arc<Mutex<Vec<u8>>>);

    impl Drop for Note {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    impl Slots for Mutex<Vec<u8>> {
        fn release(&self, key: usize) {
            self.lock().unwrap().push(key.try_into().unwrap());
        }
    }

    #[test]
    fn all_are_released_in_order() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut guards = Guards::new();
        for number in 0..5 {
            guards.push(Note(number, log.clone()));
        }
        assert_eq!(guards.len(), 5);
        drop(guards);
        assert_eq!(*log.lock().unwrap(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn slots_and_other_guards_are_released_in_order_however_they_are_mixed() {
        for first_is_a_slot in [false, true] {
            let log = Arc::new(Mutex::new(Vec::new()));
            let mut guards = Guards::new();
            assert!(guards.is_empty());
            for number in 0..6 {
                if (number < 3) == first_is_a_slot {
                    guards.push_slot(Slot::new(log.clone(), number.into()));
                } else {
                    guards.push(Note(number, log.clone()));
                }
            }
            assert_eq!(guards.len(), 6);
            drop(guards);
            assert_eq!(*log.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
        }
    }

    /// Slots of a service, besides those of `Mutex`.
    struct ForService(Mutex<Vec<u8>>);

    impl Slots for ForService {
        fn release(&self, key: usize) {
            self.0.release(key);
        }

        fn is_released_by_linger(&self) -> bool {
            true
        }
    }

    #[test]
    fn what_serves_is_released_by_a_linger_wherever_it_lies_and_all_else_is_kept() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let served = Arc::new(ForService(Mutex::default()));
        let mut guards = Guards::new();
        for number in 0..8 {
            match number {
                1 | 2 | 5 | 7 => guards.push_slot(Slot::new(served.clone(), number)),
                0 | 4 => guards.push_slot(Slot::new(log.clone(), number)),
                _ => guards.push(Note(number as u8, log.clone())),
            }
        }
        guards.release_for_linger();
        assert_eq!(*served.0.lock().unwrap(), [1, 2, 5, 7]);
        assert!(log.lock().unwrap().is_empty());
        assert_eq!(guards.len(), 4);
        guards.release_for_linger();
        drop(guards);
        assert_eq!(*served.0.lock().unwrap(), [1, 2, 5, 7]);
        assert_eq!(*log.lock().unwrap(), [0, 3, 4, 6]);
    }

    #[test]
    fn four_slots_share_one_small_allocation() {
        assert_eq!(size_of::<Guards>(), size_of::<usize>());
        assert_eq!(size_of::<Held>(), 13 * size_of::<usize>());
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut guards = Guards::new();
        for number in 0..5 {
            let held = guards.0.as_deref();
            assert!(held.is_none_or(|held| held.more.0.is_none()));
            guards.push_slot(Slot::new(log.clone(), number));
        }
        assert!(guards.0.unwrap().more.0.is_some());
    }

    #[test]
    fn a_slot_is_released_once() {
        let log = Arc::new(Mutex::new(Vec::new()));
        drop(Slot::new(log.clone(), 7));
        assert_eq!(*log.lock().unwrap(), [7]);
    }
}
