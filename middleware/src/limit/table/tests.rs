use super::*;
use std::{cell::Cell, collections::HashMap};

/// Unused from this time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Until(u64);

impl Value for Until {
    fn unused_at(&self) -> u64 {
        LOOKS.set(LOOKS.get() + 1);
        self.0
    }
}

thread_local! {
    /// How many times this thread has looked at a value.
    static LOOKS: Cell<usize> = const { Cell::new(0) };
}

fn key(number: u64) -> KeyBytes {
    KeyBytes::new(u128::from(number).to_ne_bytes())
}

fn set(table: &Table<Until>, number: u64, now: u64, until: u64) -> Result<Place, Full> {
    let changed = table.change(key(number), now, Until(0), |value| *value = Until(until));
    changed.map(|((), place)| place)
}

#[test]
fn it_holds_what_a_map_holds_after_any_history() {
    // Of one shard and of sixteen.
    for capacity in [100, 5_000] {
        let table = Table::new(capacity, &Gauge::default());
        let mut map = HashMap::new();
        let mut dice = 1_u64;
        for now in 1..100_000 {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let number = (dice >> 33) % 150;
            let until = match (dice >> 50) % 3 {
                0 => 0,
                _ => u64::MAX,
            };
            match set(&table, number, now, until) {
                Ok(place) if until > 0 => {
                    if let Some(before) = map.insert(number, place) {
                        assert_eq!(before, place, "a place changed while it was in use");
                    }
                }
                Ok(_) => {
                    map.remove(&number);
                }
                Err(Full) => {
                    assert_eq!(capacity, 100);
                    assert_eq!((table.len(), map.contains_key(&number)), (100, false));
                }
            }
            assert_eq!(table.len(), map.len());
        }
        for number in 0..150 {
            let expected = map.contains_key(&number).then_some(Until(u64::MAX));
            assert_eq!(table.get(key(number)), expected);
        }
        for place in map.into_values() {
            table.change_at(place, 0, |value| *value = Until(0));
        }
        assert_eq!(table.len(), 0);
    }
}

#[test]
fn the_last_key_of_the_capacity_is_stored_and_the_next_is_not() {
    for capacity in [0, 1, 4, SMALL - 1] {
        let table = Table::new(capacity, &Gauge::default());
        let capacity = capacity.max(1);
        for number in 0..capacity as u64 {
            set(&table, number, 0, 1).unwrap();
        }
        assert_eq!(set(&table, u64::MAX, 0, 1), Err(Full));
        assert!(set(&table, 0, 0, 1).is_ok());
        assert_eq!((table.len(), table.capacity()), (capacity, capacity));
    }
}

#[test]
fn a_full_table_removes_what_is_unused_and_nothing_else() {
    let table = Table::new(10, &Gauge::default());
    for number in 0..10 {
        set(&table, number, 0, 100 + number).unwrap();
    }
    assert_eq!(set(&table, 10, 99, 200), Err(Full));
    assert!(set(&table, 10, 100, 200).is_ok());
    assert_eq!(table.get(key(0)), None);
    assert_eq!(set(&table, 11, 100, 200), Err(Full));
    // One that was renewed is in use for longer.
    set(&table, 1, 100, 300).unwrap();
    assert_eq!(set(&table, 11, 101, 200), Err(Full));
    set(&table, 11, 104, 200).unwrap();
    assert_eq!(table.len(), 8);
    assert_eq!(table.get(key(1)), Some(Until(300)));
}

#[test]
fn a_million_keys_take_no_more_memory_than_the_capacity_allows() {
    let capacity = 65_536;
    let table = Table::new(capacity, &Gauge::default());
    set(&table, u64::MAX, 0, 1).unwrap();
    let stored = (0..1_000_000)
        .filter(|number| set(&table, *number, 0, 1).is_ok())
        .count();
    // Shards are full at slightly different times.
    assert_eq!(stored + 1, table.len());
    assert!(
        (capacity * 9 / 10..=capacity).contains(&table.len()),
        "{}",
        table.len()
    );
    assert!(set(&table, u64::MAX, 0, 1).is_ok(), "a known key stays");
    let shards = table.shards.iter().map(|shard| shard.lock().unwrap());
    let bytes: usize = shards
        .map(|shard| {
            assert_eq!(shard.chains.len(), 4096);
            shard.entries.capacity() * size_of::<Entry<Until>>() + shard.chains.len() * 4
        })
        .sum();
    assert!(
        bytes <= capacity * (size_of::<Entry<Until>>() + 4),
        "{bytes}"
    );
    assert_eq!(size_of::<Entry<Until>>(), 32);
}

#[test]
fn a_new_key_takes_as_long_in_a_full_table_of_a_million_keys_as_in_a_small_one() {
    let capacity = 1_000_000;
    let table = Table::new(capacity, &Gauge::default());
    for number in 0..1_100_000 {
        let _full = set(&table, number, 0, 10);
    }
    let full = table.len();
    assert!(full > capacity * 95 / 100, "{full}");
    // All are unused now, and each key of a second flood is used.
    let (mut most, mut refused) = (0, 0);
    for number in 2_000_000..2_000_000 + capacity as u64 * 9 / 10 {
        LOOKS.set(0);
        refused += usize::from(set(&table, number, 10, 20).is_err());
        most = most.max(LOOKS.get());
    }
    assert!(most < CHAINS_AT_ONCE * 3, "{most}");
    assert_eq!(refused, 0);
}

#[test]
fn every_unused_key_is_found_by_a_round_of_new_ones() {
    // One shard of 4,096 chains, of which one key is unused.
    let capacity = SMALL - 1;
    let table = Table::new(capacity, &Gauge::default());
    for number in 0..capacity as u64 {
        let until = if number == 1_234 { 10 } else { 100 };
        set(&table, number, 0, until).unwrap();
    }
    let round = 4096 / CHAINS_AT_ONCE as u64;
    let found = (0..round).filter(|number| set(&table, 10_000 + number, 10, 100).is_ok());
    assert_eq!(found.count(), 1);
    assert_eq!(table.get(key(1_234)), None);
    // After whole rounds it is known that no other one can be unused.
    for number in 0..2 * round {
        assert_eq!(set(&table, 20_000 + number, 10, 100), Err(Full));
    }
    LOOKS.set(0);
    assert_eq!(set(&table, 30_000, 99, 200), Err(Full));
    assert_eq!(LOOKS.get(), 0);
}
