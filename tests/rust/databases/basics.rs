use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use atbr::Error;
use atbr::engine::{Change, Classes, Databases, Event, Filter, Page, Ttl, Wait};

use super::{databases, get};

const ALL: Classes = Classes::GENERIC
    .and(Classes::STRING)
    .and(Classes::EXPIRED)
    .and(Classes::EVICTED)
    .and(Classes::NEW);

fn set(databases: &Databases, db: u8, key: &[u8], value: &[u8]) {
    databases
        .with_locked(&[(db, key)], |locked| {
            locked.set(db, key, value, Ttl::Default, Event::Set)
        })
        .unwrap();
}

#[test]
fn a_database_is_made_at_its_first_write_and_not_by_a_read() {
    let databases = databases();
    assert_eq!(get(&databases, 5, b"key"), None);
    assert!(databases.get(5).is_none());
    set(&databases, 5, b"key", b"value");
    assert_eq!(databases.get(5).unwrap().len(), 1);
    assert_eq!(get(&databases, 0, b"key"), None);
    assert_eq!(databases.written().collect::<Vec<_>>(), [0, 5]);
}

#[test]
fn numbers_beyond_fifteen_are_refused() {
    let databases = databases();
    assert!(matches!(
        databases.get_or_make(16),
        Err(Error::NoSuchDatabase(16))
    ));
    assert!(databases.get(16).is_none());
}

#[test]
fn a_swap_exchanges_entries_and_leaves_handles_with_their_data() {
    let databases = databases();
    let zero = databases.get(0).unwrap();
    set(&databases, 0, b"key", b"zero");
    set(&databases, 7, b"key", b"seven");
    databases.swap(0, 7).unwrap();
    assert_eq!(get(&databases, 0, b"key").unwrap(), b"seven");
    assert_eq!(get(&databases, 7, b"key").unwrap(), b"zero");
    assert_eq!(zero.get(b"key").unwrap().unwrap(), b"zero");
    databases.swap(7, 7).unwrap();
    databases.swap(3, 0).unwrap();
    assert_eq!(get(&databases, 0, b"key"), None);
    assert_eq!(get(&databases, 3, b"key").unwrap(), b"seven");
}

#[test]
fn a_key_that_was_not_locked_is_refused() {
    let databases = databases();
    let outcome = databases.with_locked(&[(0, b"a"), (2, b"a")], |locked| {
        locked.get(1, b"a").map(|entry| entry.is_some())
    });
    assert!(matches!(outcome, Err(Error::NotLocked)));
}

#[test]
fn all_shards_may_be_held_for_length_scan_random_key_clear_and_swap() {
    let databases = databases();
    for i in 0..1000u32 {
        set(&databases, 1, &i.to_le_bytes(), b"value");
    }
    databases
        .with_all_locked::<&[u8], _>(&[1, 2], &[], |locked| {
            assert_eq!(locked.len(1)?, 1000);
            let mut page = Page::default();
            let (mut seen, mut cursor) = (0, 0);
            loop {
                cursor = locked.scan(1, cursor, &Filter::default(), 100, false, &mut page)?;
                seen += page.len();
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(seen, 1000);
            let mut key = Vec::new();
            assert!(locked.random_key(1, &mut key)?);
            assert!(locked.get(1, &key)?.is_some());
            locked.swap(1, 2)?;
            assert_eq!((locked.len(1)?, locked.len(2)?), (0, 1000));
            locked.clear(2)?;
            assert!(!locked.random_key(2, &mut key)?);
            Ok(())
        })
        .unwrap();
    assert!(databases.get(2).unwrap().is_empty());
}

#[test]
fn random_keys_are_all_the_keys_there_are() {
    let databases = databases();
    let store = databases.get(0).unwrap();
    let mut key = Vec::new();
    assert!(!store.random_key(&mut key).unwrap());
    for i in 0..50u32 {
        store.set(&i.to_le_bytes(), b"", Wait::Block).unwrap();
    }
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5_000 {
        assert!(store.random_key(&mut key).unwrap());
        seen.insert(key.clone());
    }
    assert_eq!(seen.len(), 50);
}

fn watched(databases: &Arc<Databases>, db: u8, key: &[u8], change: impl FnOnce()) -> bool {
    let dirty = Arc::new(AtomicBool::new(false));
    let watch = databases.watch(db, key, &dirty).unwrap();
    change();
    drop(watch);
    dirty.load(Ordering::SeqCst)
}

#[test]
fn a_watch_sees_a_swap_of_what_is_there_in_either() {
    let databases = databases();
    set(&databases, 1, b"there", b"value");
    assert!(watched(&databases, 1, b"there", || databases
        .swap(1, 2)
        .unwrap()));
    assert!(watched(&databases, 1, b"there", || databases
        .swap(1, 2)
        .unwrap()));
    assert!(!watched(&databases, 1, b"other", || databases
        .swap(1, 2)
        .unwrap()));
    // Watches go by the number.
    assert!(watched(&databases, 1, b"other", || {
        databases.swap(1, 2).unwrap();
        set(&databases, 1, b"other", b"value");
    }));
}

#[test]
fn events_come_in_the_order_of_what_happened() {
    let databases = databases();
    databases.set_notify(ALL).unwrap();
    set(&databases, 0, b"a", b"1");
    set(&databases, 3, b"b", b"1");
    databases
        .with_locked(&[(0, b"a"), (3, b"b")], |locked| {
            locked.delete(0, b"a", Event::RenameFrom)?;
            locked.set(3, b"b", b"1", Ttl::Millis(1000), Event::RenameTo)?;
            locked.modify_up_to(3, b"b", 0, None, |_| Ok((Change::Expire(Ttl::Never), ())))
        })
        .unwrap();
    databases
        .get(0)
        .unwrap()
        .incr(b"n", 1, 0, Ttl::Default, Wait::Block)
        .unwrap();
    let mut events = Vec::new();
    databases.take_events(&mut events).unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|e| (e.db, e.event.name(), &*e.key))
        .collect();
    let expected: [(u8, &str, &[u8]); 8] = [
        (0, "new", b"a"),
        (0, "set", b"a"),
        (3, "new", b"b"),
        (3, "set", b"b"),
        (0, "rename_from", b"a"),
        (3, "rename_to", b"b"),
        (3, "persist", b"b"),
        (0, "new", b"n"),
    ];
    assert_eq!(told[..8], expected);
    assert_eq!(told[8], (0, "incrby", &b"n"[..]));
    databases.set_notify(Classes::NONE).unwrap();
    set(&databases, 0, b"a", b"1");
    databases.take_events(&mut events).unwrap();
    assert_eq!(events.len(), 9);
}
