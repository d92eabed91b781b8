use atbr::Error;
use atbr::engine::{Change, Databases, Event, Filter, Page, Ttl, Wait};

use super::{databases, get, set};

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

#[test]
fn a_key_may_be_named_twice_at_any_place_among_others() {
    let databases = databases();
    for i in 0..200u32 {
        let keys = [i, i + 1, i, i + 2, i + 1, i].map(u32::to_le_bytes);
        let named = keys.map(|key| (0, key));
        databases.with_locked(&named, |_| Ok(())).unwrap();
    }
}

#[test]
fn keys_are_asked_for_ahead_without_waiting_and_without_change() {
    let databases = databases();
    let keys: Vec<Vec<u8>> = (0..300_000)
        .map(|i: u32| format!("key:{i}").into_bytes())
        .collect();
    for key in &keys {
        set(&databases, 0, key, key);
    }
    let some: Vec<&[u8]> = keys.iter().step_by(7_001).map(Vec::as_slice).collect();
    // Locks that are held, by this very thread, are passed over.
    let wanted: Vec<_> = some.iter().take(8).map(|key| (0, *key)).collect();
    databases
        .with_locked(&wanted, |locked| {
            databases.prefetch(0, &some);
            locked.set(0, some[0], b"other", Ttl::Default, Event::Set)
        })
        .unwrap();
    for db in [0, 1, Databases::COUNT] {
        databases.prefetch(db, &some);
        databases.prefetch(db, &[b"missing", b""]);
        databases.prefetch(db, &[]);
    }
    assert_eq!(get(&databases, 0, some[0]).unwrap(), b"other");
    for key in &some[1..] {
        assert_eq!(get(&databases, 0, key).unwrap(), *key);
    }
    assert_eq!(databases.get(0).unwrap().len(), keys.len());
    assert!(databases.get(1).is_none());
}

#[test]
fn a_write_into_a_value_leaves_readers_what_they_have() {
    let databases = databases();
    let write = |at: usize, bytes: &[u8]| {
        databases
            .modify_up_to(0, b"key", 0, None, |_| {
                Ok((Change::Write(at, bytes.to_vec().into()), ()))
            })
            .unwrap();
    };
    let share = || {
        databases
            .read(0, b"key", |entry| entry.value.share().unwrap())
            .unwrap()
            .unwrap()
    };
    for len in [3_000, 100_000] {
        let mut value: Vec<u8> = (0..len).map(|i| i as u8).collect();
        set(&databases, 0, b"key", &value);
        let (reader, before) = (share(), value.clone());
        write(10, b"written");
        value[10..17].copy_from_slice(b"written");
        assert_eq!(get(&databases, 0, b"key").unwrap(), value);
        let later = share();
        // Across the end, and beyond it.
        write(len - 3, b"longer");
        value.truncate(len - 3);
        value.extend(b"longer");
        write(len + 100, b"far");
        value.resize(len + 100, 0);
        value.extend(b"far");
        assert_eq!(get(&databases, 0, b"key").unwrap(), value);
        assert_eq!(reader.value(), before);
        assert_eq!(later.value().len(), len);
        assert_eq!(&later.value()[10..17], b"written");
    }
}

#[test]
fn a_write_into_a_large_value_copies_nothing_else() {
    let databases = databases();
    let store = databases.get(0).unwrap();
    set(&databases, 0, b"key", &vec![0; 8 << 20]);
    let copied = || store.stats().bytes_copied;
    let before = copied();
    for at in 0..1_000 {
        databases
            .modify_up_to(0, b"key", 0, None, |_| {
                Ok((Change::Write(at * 8_000, b"bits"[..].into()), ()))
            })
            .unwrap();
    }
    assert!(copied() - before <= 4_000, "{}", copied() - before);
}
