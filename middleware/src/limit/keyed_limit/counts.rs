//! The number of connections of each key.

use crate::{
    connection::{Slot, Slots},
    limit::{
        key::KeyBytes,
        sync::{AtomicUsize, Ordering},
        table::{Full, Place, Table, Value},
    },
    meter::Gauge,
};
use std::{fmt, sync::Arc};

/// Counts connections by key. A key is in the table while it has connections.
pub(super) struct Counts {
    table: Table<Count>,
    limit: AtomicUsize,
    active: AtomicUsize,
}

#[derive(Clone, Copy)]
struct Count(u32);

impl Value for Count {
    /// There is no time here; an entry is in use or not.
    fn unused_at(&self) -> u64 {
        match self.0 {
            0 => 0,
            _ => u64::MAX,
        }
    }
}

/// Result of [`Counts::take`].
#[derive(Debug)]
pub(super) enum Taken {
    Within(Slot),
    /// The key has reached the limit. With a slot if the connection is counted all the same.
    Beyond(Option<Slot>),
    TableFull,
}

impl Counts {
    pub(super) fn new(limit: usize, capacity: usize, entries: &Gauge) -> Self {
        Self {
            table: Table::new(capacity, entries),
            limit: AtomicUsize::new(limit),
            active: AtomicUsize::new(0),
        }
    }

    /// Counts a connection of `key` if it is within the limit, or if `always` is set.
    pub(super) fn take(self: &Arc<Self>, key: KeyBytes, always: bool) -> Taken {
        let count = |count: &mut Count| {
            let within = (count.0 as usize) < self.limit();
            let counted = within || always;
            count.0 += u32::from(counted);
            (within, counted)
        };
        let ((within, counted), place) = match self.table.change(key, NOW, Count(0), count) {
            Ok(changed) => changed,
            Err(Full) => return Taken::TableFull,
        };
        let slot = counted.then(|| {
            self.active.fetch_add(1, Ordering::Relaxed);
            Slot::new(self.clone(), place.to_number())
        });
        match slot {
            Some(slot) if within => Taken::Within(slot),
            slot => Taken::Beyond(slot),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Number of connections that are counted.
    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Number of connections of one key.
    pub(super) fn active_of(&self, key: KeyBytes) -> usize {
        self.table.get(key).map_or(0, |count| count.0 as usize)
    }

    /// Number of keys.
    pub(super) fn keys(&self) -> usize {
        self.table.len()
    }

    /// Maximum number of keys.
    pub(super) fn capacity(&self) -> usize {
        self.table.capacity()
    }
}

impl Slots for Counts {
    fn release(&self, place: usize) {
        let place = Place::from_number(place);
        self.table.change_at(place, NOW, |count| count.0 -= 1);
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// Lingering connections are no longer served, so they release their slots.
    fn is_released_by_linger(&self) -> bool {
        true
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counts")
            .field("limit", &self.limit())
            .field("active", &self.active())
            .field("keys", &self.keys())
            .finish()
    }
}

/// The time, which does not matter here.
const NOW: u64 = 0;
