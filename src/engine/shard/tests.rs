//! The wheel of a shard in its corners: order hashes that several keys share, and entries that stand for nothing.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use crate::engine::hash::{Hasher, HasherKind, Placer};
use crate::engine::{BulkLoad, Clock, Keep, ManualClock, Options, Store, Ttl, Wait};

const HOUR: Ttl = Ttl::Millis(3_600_000);

/// A store of one shard, which nobody sweeps.
fn single(clock: &ManualClock) -> Store {
    let placer = Placer::new(Hasher::new(HasherKind::Fast, Some(1)), 0);
    let options = Options {
        clock: Clock::Manual(clock.clone()),
        sweeps: false,
        ..Options::default()
    };
    Store::with_placer(placer, &options).unwrap()
}

fn key(i: u32) -> [u8; 4] {
    i.to_le_bytes()
}

/// Pairs of keys with one order hash.
fn pairs(store: &Store) -> Vec<[[u8; 4]; 2]> {
    let mut seen = HashMap::new();
    let mut pairs = Vec::new();
    for i in 0..300_000 {
        if let Some(other) = seen.insert(store.place(&key(i)).1, i) {
            pairs.push([key(other), key(i)]);
        }
    }
    assert!(!pairs.is_empty(), "300,000 keys have a pair or more");
    pairs
}

fn load(store: &Store, keys: impl IntoIterator<Item = [u8; 4]>, ttl: Ttl) {
    let mut bulk = BulkLoad::new(store, 1, Keep::Last, ttl).unwrap();
    for key in keys {
        bulk.writers()[0].push(&key, b"loaded").unwrap();
    }
    bulk.merge(&AtomicBool::new(false)).unwrap();
    bulk.finish().unwrap();
}

fn set(store: &Store, key: &[u8], ttl: u64) {
    store
        .set_with(key, b"value", Ttl::Millis(ttl), Wait::Block)
        .unwrap();
}

fn entries_and_records(store: &Store) -> (u64, u64) {
    let shard = store.cells()[0].lock.read();
    (shard.wheel_entries(), shard.expiring_records())
}

#[test]
fn loaded_keys_of_one_order_hash_all_expire() {
    let clock = ManualClock::default();
    let store = single(&clock);
    let pairs = pairs(&store);
    load(&store, pairs.iter().flatten().copied(), Ttl::Millis(1_000));
    clock.advance(1_200);
    assert_eq!(store.expire().unwrap() as usize, 2 * pairs.len());
    assert!(store.is_empty());
}

#[test]
fn keys_of_one_order_hash_expire_in_time_whichever_was_prolonged() {
    for (first, short_first) in [(0, true), (1, true), (0, false), (1, false)] {
        let clock = ManualClock::default();
        let store = single(&clock);
        let pairs = pairs(&store);
        for pair in &pairs {
            if short_first {
                set(&store, &pair[first], 1_000);
            }
            set(&store, &pair[1 - first], 50_000);
            set(&store, &pair[first], 1_000);
            store
                .touch(&pair[first], Ttl::Millis(5_000), Wait::Block)
                .unwrap();
        }
        clock.advance(1_200);
        assert_eq!(store.expire().unwrap(), 0);
        clock.advance(4_000);
        assert_eq!(store.expire().unwrap() as usize, pairs.len());
        clock.advance(45_000);
        assert_eq!(store.expire().unwrap() as usize, pairs.len());
        assert!(store.is_empty());
    }
}

#[test]
fn loaded_keys_of_one_order_hash_outlive_a_change_of_wheels() {
    let clock = ManualClock::default();
    let store = single(&clock);
    let pairs = pairs(&store);
    load(&store, pairs.iter().flatten().copied(), HOUR);
    let shared = 2 * pairs.len();
    for round in 0..4_u32 {
        // Shorter and shorter, so that each enters the wheel and the entries before stand for nothing.
        for i in 0..2_000 {
            set(&store, b"other", 1_000_000 - u64::from(round * 2_000 + i));
        }
    }
    clock.advance(3_600_200);
    assert_eq!(store.expire().unwrap() as usize, shared + 1);
    assert!(store.is_empty());
}

fn assert_tended(store: &Store, what: &str) {
    let (entries, records) = entries_and_records(store);
    // Twice as many, and a third more while a fresh wheel takes over.
    assert!(
        entries <= 2 * records * 4 / 3 + 200,
        "{what}: {entries} entries for {records} records"
    );
}

#[test]
fn entries_of_deleted_and_persistent_keys_do_not_stay() {
    let clock = ManualClock::default();
    let store = single(&clock);
    for what in ["delete", "persist", "set", "pop"] {
        (0..20_000).for_each(|i| set(&store, &key(i), 3_600_000));
        for i in 0..19_900 {
            match what {
                "delete" => drop(store.delete(&key(i), Wait::Block).unwrap()),
                "persist" => drop(store.persist(&key(i), Wait::Block).unwrap()),
                "set" => drop(store.set(&key(i), b"value", Wait::Block).unwrap()),
                _ => drop(store.pop_any().unwrap()),
            }
            assert_tended(&store, what);
        }
    }
}

#[test]
fn entries_of_rows_that_were_loaded_over_do_not_stay() {
    let clock = ManualClock::default();
    let store = single(&clock);
    let keys = || (0..5_000).map(key);
    for round in 0..20 {
        load(&store, keys(), HOUR);
        assert_tended(&store, &format!("round {round}"));
    }
    let bytes = store.stats().expiry_bytes;
    for _ in 0..20 {
        load(&store, keys(), HOUR);
    }
    assert!(store.stats().expiry_bytes <= bytes * 2);
    load(&store, keys().skip(10), Ttl::Never);
    assert_tended(&store, "without a ttl");
    clock.advance(3_600_200);
    assert_eq!(store.expire().unwrap(), 10);
}

#[test]
fn expire_is_exact_at_any_moment_of_a_tick() {
    for ttl in (1..=300).chain([1_000, 8_191, 8_192, 8_193, 3_600_000, 100_000_000_000]) {
        for start in [0, 1, 127, 128, 8_191] {
            let clock = ManualClock::default();
            clock.advance(start);
            let store = single(&clock);
            clock.advance(start * 3);
            set(&store, b"before", ttl);
            set(&store, b"after", ttl + 1);
            clock.advance(ttl);
            assert_eq!(store.expire().unwrap(), 1, "{ttl} ms from {start}");
            assert_eq!(store.len(), 1, "{ttl} ms from {start}");
            assert_eq!(store.expire().unwrap(), 0);
            clock.advance(1);
            assert_eq!(store.expire().unwrap(), 1);
            assert!(store.is_empty());
        }
    }
}

#[test]
fn a_store_that_is_not_swept_is_left_alone_by_the_sweeper_of_others() {
    let clock = ManualClock::default();
    let store = single(&clock);
    set(&store, b"key", 1_000);
    let other = Store::new(&Options {
        clock: Clock::Manual(clock.clone()),
        ..Options::default()
    })
    .unwrap();
    set(&other, b"key", 1_000);
    clock.advance(10_000);
    while !other.is_empty() {
        std::thread::yield_now();
    }
    // A second pass has gone over all stores when it has been through this one.
    set(&other, b"key", 1_000);
    clock.advance(10_000);
    while !other.is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(store.len(), 1);
    assert_eq!(store.expire().unwrap(), 1);
}
