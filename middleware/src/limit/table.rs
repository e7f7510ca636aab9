//! A table of values by key, of a fixed capacity.
//!
//! Peers choose the keys, so the table is bounded and hashes with a random key. It is divided into shards with a
//! lock each. A shard is an array of entries in chains, allocated up to its capacity as keys arrive; entries keep
//! their index, so that a connection can release what it holds without its key.

use super::{
    key::KeyBytes,
    sync::{Mutex, MutexGuard, PoisonError},
};
use crate::meter::Gauge;
use std::{
    hash::{BuildHasher, RandomState},
    mem,
};

/// A value that says when its entry can be removed.
pub(super) trait Value: Copy {
    /// The time from which the entry is unused, in any unit; `u64::MAX` while it is in use.
    fn unused_at(&self) -> u64;
}

pub(super) struct Table<V> {
    shards: Box<[Mutex<Shard<V>>]>,
    hasher: Hasher,
    capacity: usize,
}

/// Where a value is stored, for as long as it is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

/// The table has no capacity for another key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<V: Value> Table<V> {
    /// A table of up to `capacity` keys, and at least one, whose number is added to `entries`.
    pub(super) fn new(capacity: usize, entries: &Gauge) -> Self {
        let capacity = capacity.clamp(1, MAX_CAPACITY);
        let shards = if capacity < SMALL { 1 } else { SHARDS };
        let each = capacity.div_ceil(shards);
        let shards = (0..shards).map(|_| Mutex::new(Shard::new(each, entries.clone())));
        Self {
            shards: shards.collect(),
            hasher: Hasher::new(),
            capacity,
        }
    }

    /// Calls `change` with the value of `key`, or with `new` if there is none, and returns its result and where
    /// the value is.
    ///
    /// If the shard is full, entries that are unused at `now` are removed from a part of it, and the next new key
    /// goes on with the next part. An entry that is unused after the change is removed too.
    pub(super) fn change<T>(
        &self,
        key: KeyBytes,
        now: u64,
        new: V,
        change: impl FnOnce(&mut V) -> T,
    ) -> Result<(T, Place), Full> {
        let (number, hash) = self.hash(key);
        let mut shard = self.shard(number);
        let index = match shard.find(key, hash) {
            Some(index) => index,
            None => shard.insert(key, hash, now, new)?,
        };
        let result = shard.change(index, now, change);
        Ok((result, Place(index * self.shards.len() + number)))
    }

    /// Calls `change` with the value at `place`, which must be in use. The entry is removed if it is unused then.
    pub(super) fn change_at<T>(
        &self,
        place: Place,
        now: u64,
        change: impl FnOnce(&mut V) -> T,
    ) -> T {
        let shards = self.shards.len();
        self.shard(place.0 % shards)
            .change(place.0 / shards, now, change)
    }

    /// The value of `key`, if there is one.
    pub(super) fn get(&self, key: KeyBytes) -> Option<V> {
        let (number, hash) = self.hash(key);
        let shard = self.shard(number);
        shard
            .find(key, hash)
            .map(|index| shard.entries[index].value)
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        let shards = 0..self.shards.len();
        shards.map(|number| self.shard(number).len).sum()
    }

    /// Maximum number of keys.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// The shard of a key, and the hash within it.
    fn hash(&self, key: KeyBytes) -> (usize, u32) {
        let hash = self.hasher.hash(key);
        // The number of shards is a power of two.
        let number = hash as usize & (self.shards.len() - 1);
        (number, (hash >> 32) as u32)
    }

    fn shard(&self, number: usize) -> MutexGuard<'_, Shard<V>> {
        let shard = &self.shards[number];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// As the key of a slot.
    pub(super) const fn to_number(self) -> usize {
        self.0
    }

    /// The place of a slot with this key.
    pub(super) const fn from_number(number: usize) -> Self {
        Self(number)
    }
}

/// Multiply-shift hashing of two words with random factors, which is strongly universal (Thorup, "High Speed
/// Hashing for Integers and Strings", section 3.5). It takes a tenth of the instructions of SipHash.
struct Hasher {
    offset: u128,
    factors: [u128; 2],
}

impl Hasher {
    fn new() -> Self {
        let random = RandomState::new();
        let word = |number: u8| u128::from(random.hash_one(number));
        let [offset, high, low] = [0, 2, 4].map(|first| word(first) << 64 | word(first + 1));
        let factors = [high, low];
        Self { offset, factors }
    }

    fn hash(&self, key: KeyBytes) -> u64 {
        let (high, low) = key.words();
        let high = self.factors[0].wrapping_mul(high.into());
        let low = self.factors[1].wrapping_mul(low.into());
        (self.offset.wrapping_add(high).wrapping_add(low) >> 64) as u64
    }
}

struct Shard<V> {
    /// Numbers of the first entry of each chain; the length is a power of two.
    chains: Box<[Number]>,
    entries: Vec<Entry<V>>,
    /// The first free entry; they form a chain too.
    free: Number,
    len: usize,
    /// Shows `len`.
    gauge: Gauge,
    capacity: usize,
    /// All entries are in use until this time.
    unused_from: u64,
    /// The chain from which unused entries are removed next.
    next_chain: usize,
    /// The entries of the chains before it are in use until this time.
    unused_from_behind: u64,
}

struct Entry<V> {
    key: KeyBytes,
    value: V,
    hash: u32,
    next: Number,
}

/// The index of an entry plus one, or `END`.
type Number = u32;

const END: Number = 0;

impl<V: Value> Shard<V> {
    fn new(capacity: usize, gauge: Gauge) -> Self {
        Self {
            // Zeroed memory, which the system provides when it is used.
            chains: vec![END; capacity.next_power_of_two()].into(),
            entries: Vec::new(),
            free: END,
            len: 0,
            gauge,
            capacity,
            unused_from: u64::MAX,
            next_chain: 0,
            unused_from_behind: u64::MAX,
        }
    }

    fn chain(&self, hash: u32) -> usize {
        hash as usize & (self.chains.len() - 1)
    }

    fn find(&self, key: KeyBytes, hash: u32) -> Option<usize> {
        let mut next = self.chains[self.chain(hash)];
        while let Some(index) = index_of(next) {
            let entry = &self.entries[index];
            if entry.key == key {
                return Some(index);
            }
            next = entry.next;
        }
        None
    }

    fn insert(&mut self, key: KeyBytes, hash: u32, now: u64, value: V) -> Result<usize, Full> {
        if self.len == self.capacity {
            self.remove_unused(now);
        }
        if self.len == self.capacity {
            return Err(Full);
        }
        let chain = self.chain(hash);
        let next = self.chains[chain];
        let entry = Entry {
            key,
            value,
            hash,
            next,
        };
        let index = match index_of(self.free) {
            Some(index) => {
                self.free = self.entries[index].next;
                self.entries[index] = entry;
                index
            }
            None => {
                if self.entries.len() == self.entries.capacity() {
                    let more = self.entries.len().max(FIRST);
                    self.entries
                        .reserve_exact(more.min(self.capacity - self.len));
                }
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.chains[chain] = index as Number + 1;
        self.len += 1;
        self.gauge.add(1.0);
        Ok(index)
    }

    fn change<T>(&mut self, index: usize, now: u64, change: impl FnOnce(&mut V) -> T) -> T {
        let value = &mut self.entries[index].value;
        let result = change(value);
        let unused_at = value.unused_at();
        if unused_at <= now {
            self.remove(index);
        } else {
            self.unused_from = self.unused_from.min(unused_at);
            self.unused_from_behind = self.unused_from_behind.min(unused_at);
        }
        result
    }

    /// Removes unused entries from the next chains. It takes as long for a large table as for a small one, because
    /// clients choose how many new keys there are, and other connections wait for the lock.
    fn remove_unused(&mut self, now: u64) {
        if now < self.unused_from {
            return;
        }
        for _ in 0..self.chains.len().min(CHAINS_AT_ONCE) {
            let mut next = self.chains[self.next_chain];
            while let Some(index) = index_of(next) {
                next = self.entries[index].next;
                let unused_at = self.entries[index].value.unused_at();
                if unused_at <= now {
                    self.remove(index);
                } else {
                    self.unused_from_behind = self.unused_from_behind.min(unused_at);
                }
            }
            self.next_chain += 1;
            if self.next_chain == self.chains.len() {
                self.next_chain = 0;
                self.unused_from = mem::replace(&mut self.unused_from_behind, u64::MAX);
            }
        }
    }

    fn remove(&mut self, index: usize) {
        let Entry { hash, next, .. } = self.entries[index];
        let number = index as Number + 1;
        let chain = self.chain(hash);
        let mut before = None;
        let mut at = self.chains[chain];
        while at != number {
            before = index_of(at);
            at = self.entries[at as usize - 1].next;
        }
        match before {
            None => self.chains[chain] = next,
            Some(before) => self.entries[before].next = next,
        }
        self.entries[index].next = mem::replace(&mut self.free, number);
        self.len -= 1;
        self.gauge.add(-1.0);
    }
}

impl<V> Drop for Shard<V> {
    fn drop(&mut self) {
        if self.len > 0 {
            self.gauge.add(-(self.len as f64));
        }
    }
}

fn index_of(number: Number) -> Option<usize> {
    (number as usize).checked_sub(1)
}

/// Number of shards, which allows as many threads to use the table concurrently.
const SHARDS: usize = 16;

/// Smaller tables have one shard. Keys are not distributed evenly, so small shards would be full too early.
const SMALL: usize = 4096;

/// Number of chains from which a new key in a full shard removes unused entries; each has up to one on average.
const CHAINS_AT_ONCE: usize = 128;

/// Number of entries that a shard allocates first.
const FIRST: usize = 16;

/// Keeps the numbers of entries within 32 bits.
const MAX_CAPACITY: usize = 1 << 28;

#[cfg(test)]
mod tests;
