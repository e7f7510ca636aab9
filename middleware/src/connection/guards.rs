//! What is held for as long as a connection lives.

use std::fmt;

/// What is held while a connection lives and released by dropping it: permits, registry entries.
///
/// Guards are released in the order in which they were added, after the IO.
#[derive(Default)]
pub struct Guards {
    /// A list, so that it takes two words in each connection, and no allocation beside its guards'.
    first: Option<Box<Node<dyn Send + Sync>>>,
}

struct Node<T: ?Sized> {
    next: Guards,
    _guard: T,
}

impl Guards {
    /// No guards.
    pub const fn new() -> Self {
        Self { first: None }
    }

    /// Holds `guard` until these guards are dropped.
    pub fn push(&mut self, guard: impl Send + Sync + 'static) {
        let mut last = &mut self.first;
        while let Some(node) = last {
            last = &mut node.next.first;
        }
        *last = Some(Box::new(Node {
            next: Self::new(),
            _guard: guard,
        }));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let mut len = 0;
        let mut next = &self.first;
        while let Some(node) = next {
            next = &node.next.first;
            len += 1;
        }
        len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl Drop for Guards {
    /// One after the other: left to itself, each node would drop those behind it before its guard.
    fn drop(&mut self) {
        while let Some(mut node) = self.first.take() {
            self.first = node.next.first.take();
        }
    }
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guards").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    struct Note(u8, Arc<Mutex<Vec<u8>>>);

    impl Drop for Note {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0);
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
}
