use std::sync::Arc;

use atbr::Error;
use atbr::engine::{Databases, Event, Limits, OnFull, Options, Room, Ttl, Wait};

use super::{get, set, with};

fn bounded(entries: u64, bytes: u64, on_full: OnFull) -> Arc<Databases> {
    with(&Options {
        limits: Limits {
            entries,
            bytes,
            on_full,
        },
        ..Options::default()
    })
}

#[test]
fn all_databases_share_one_bound() {
    let databases = bounded(1000, 0, OnFull::Evict);
    for i in 0..20_000u32 {
        set(&databases, (i % 3) as u8, &i.to_le_bytes(), b"1");
        let len: usize = databases
            .written()
            .map(|db| databases.get(db).unwrap().len())
            .sum();
        assert!(len <= 1000, "{len}");
    }
}

#[test]
fn a_full_database_makes_room_for_another_one() {
    for (entries, bytes) in [(5000, 0), (0, 4 << 20)] {
        let databases = bounded(entries, bytes, OnFull::Evict);
        for i in 0..100_000u32 {
            databases
                .set(0, &i.to_le_bytes(), &[1; 60], Ttl::Default, Event::Set)
                .unwrap();
        }
        databases
            .set(1, b"key", b"1", Ttl::Default, Event::Set)
            .unwrap();
        assert_eq!(get(&databases, 1, b"key").unwrap(), b"1");
        let value = vec![1; 1 << 20];
        if bytes > 0 {
            databases
                .set(2, b"large", &value, Ttl::Default, Event::Set)
                .unwrap();
            assert_eq!(get(&databases, 2, b"large").unwrap(), value);
        }
    }
}

#[test]
fn room_that_was_taken_before_the_locks_lets_writes_into_empty_shards() {
    for (entries, bytes) in [(4096, 0), (0, 2 << 20)] {
        let databases = bounded(entries, bytes, OnFull::Evict);
        for i in 0..50_000u32 {
            databases
                .set(0, &i.to_le_bytes(), &[1; 60], Ttl::Default, Event::Set)
                .unwrap();
        }
        let large = vec![2; 100_000];
        let keys = [(7, "a"), (7, "b"), (8, "c")];
        let room = keys.iter().fold(Room::NONE, |room, (_, key)| {
            room.and(key.len() + large.len())
        });
        databases
            .with_room_and_locked(room, &[], &keys, |locked| {
                for (db, key) in keys {
                    locked.set(db, key.as_bytes(), &large, Ttl::Default, Event::Set)?;
                }
                Ok(())
            })
            .unwrap();
        for (db, key) in keys {
            let found = get(&databases, db, key.as_bytes());
            assert!(found.as_deref() == Some(&large[..]), "{key}");
        }
    }
}

#[test]
fn a_full_store_that_does_not_evict_refuses_before_anything_is_done() {
    let databases = bounded(0, 1 << 20, OnFull::Error);
    let mut i = 0u32;
    while databases
        .set(0, &i.to_le_bytes(), &[1; 100], Ttl::Default, Event::Set)
        .is_ok()
    {
        i += 1;
    }
    let called = databases.with_room_and_locked(Room::NONE.and(10), &[], &[(0, "key")], |_| Ok(()));
    assert!(matches!(called, Err(Error::StoreFull)));
    databases.with_locked(&[(0, "key")], |_| Ok(())).unwrap();
}

#[test]
fn what_only_readers_hold_counts_until_they_let_go() {
    let databases = bounded(0, 64 << 20, OnFull::Evict);
    let store = databases.get(0).unwrap();
    let before = store.stats().bytes_allocated;
    let value = vec![1; 1 << 20];
    let share = |key: &[u8]| {
        databases
            .read(0, key, |entry| entry.value.share().unwrap())
            .unwrap()
            .unwrap()
    };
    set(&databases, 0, b"key", &value);
    let held = share(b"key");
    let second = held.clone();
    store.delete(b"key", Wait::Block).unwrap();
    assert!(store.stats().bytes_allocated - before >= 1 << 20);
    drop(held);
    assert!(store.stats().bytes_allocated - before >= 1 << 20);
    assert_eq!(second.value(), value);
    drop(second);
    assert!(store.stats().bytes_allocated - before < 1 << 19);
    // By overwriting, appending and clearing, too.
    let mut held = Vec::new();
    for i in 0..3 {
        set(&databases, 0, b"key", &value);
        held.push(share(b"key"));
        match i {
            0 => set(&databases, 0, b"key", b"short"),
            1 => drop(store.append(b"key", b"tail", Wait::Block).unwrap()),
            _ => store.clear().unwrap(),
        }
    }
    store.clear().unwrap();
    assert!(store.stats().bytes_allocated - before >= 3 << 20);
    held.clear();
    assert!(store.stats().bytes_allocated - before < 1 << 19);
    // What readers hold is not there for entries.
    for i in 0..40u32 {
        set(&databases, 0, &i.to_le_bytes(), &value);
        held.push(share(&i.to_le_bytes()));
    }
    assert_eq!(store.evictions(), 0);
    store.clear().unwrap();
    for i in 0..40u32 {
        databases
            .set(0, &i.to_le_bytes(), &value, Ttl::Default, Event::Set)
            .unwrap();
    }
    assert!(store.evictions() > 10, "{}", store.evictions());
}

#[test]
fn databases_that_go_give_their_room_back() {
    let databases = bounded(1000, 4 << 20, OnFull::Evict);
    let zero = databases.get(0).unwrap();
    let before = zero.stats().bytes_allocated;
    for i in 0..500u32 {
        set(&databases, 1, &i.to_le_bytes(), &[1; 1000]);
    }
    assert!(databases.stats().0.bytes_allocated > before + 400_000);
    drop(databases);
    assert_eq!(zero.stats().bytes_allocated, before);
    for i in 0..1000u32 {
        zero.set(&i.to_le_bytes(), b"1", Wait::Block).unwrap();
    }
    assert_eq!(zero.evictions(), 0);
}

#[test]
fn a_database_that_is_written_takes_its_share_of_a_full_store() {
    for (entries, bytes) in [(10_000, 0), (0, 4 << 20)] {
        let databases = bounded(entries, bytes, OnFull::Evict);
        for db in [0, 1] {
            for i in 0..60_000u32 {
                databases
                    .set(db, &i.to_le_bytes(), &[1; 60], Ttl::Default, Event::Set)
                    .unwrap();
            }
        }
        let len = |db| databases.get(db).unwrap().len();
        assert!(len(1) > 2 * len(0), "{} and {}", len(0), len(1));
    }
}

#[test]
fn what_all_databases_hold_is_counted_once() {
    const BYTES: u64 = 8 << 20;
    let databases = bounded(0, BYTES, OnFull::Evict);
    let mut entries = [0; 3];
    for i in 0..200_000u32 {
        set(&databases, (i % 3) as u8, &i.to_le_bytes(), &[1; 60]);
    }
    let (total, each) = databases.stats();
    for (db, held) in &mut entries.iter_mut().enumerate() {
        let stats = databases.get(db as u8).unwrap().stats();
        // Each a third of what all may take, about.
        assert!((BYTES / 5..BYTES / 2).contains(&stats.bytes_allocated));
        *held = stats.entries;
    }
    let numbered = each.iter().map(|(db, stats)| (*db, stats.entries));
    assert!(numbered.eq([(0, entries[0]), (1, entries[1]), (2, entries[2])]));
    assert_eq!(total.entries, entries.iter().sum::<u64>());
    assert!((BYTES / 4 * 3..BYTES / 50 * 51).contains(&total.bytes_allocated));
    assert_eq!(databases.max_bytes(), Some(BYTES));
    assert_eq!(bounded(10, 0, OnFull::Evict).max_bytes(), None);
}
