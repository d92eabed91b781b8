use std::panic::{AssertUnwindSafe, catch_unwind};

use atbr::Error;
use atbr::engine::{Batch, Databases, Event, Filter, Kind, Page, Ttl, Wait, failpoint};

use super::{databases, get, set};

/// A panic in the middle of a write of the key.
fn break_shard_of(databases: &Databases, key: &[u8]) {
    failpoint::arm_panic();
    let broken = catch_unwind(AssertUnwindSafe(|| {
        databases.set(0, key, &[7; 100], Ttl::Default, Event::Set)
    }));
    assert!(broken.is_err());
}

#[test]
fn a_panic_in_the_middle_of_a_write_breaks_that_shard_alone() {
    let databases = databases();
    let store = databases.get(0).unwrap();
    for i in 0..2000u32 {
        set(&databases, 0, &i.to_le_bytes(), b"1");
    }
    assert!(!databases.is_broken());
    break_shard_of(&databases, &0u32.to_le_bytes());
    assert!(databases.is_broken());
    let (mut fine, mut broken) = (0, 0);
    let mut batch = Batch::default();
    for i in 0..2000u32 {
        let key = i.to_le_bytes();
        match store.get(&key) {
            Ok(value) => {
                assert_eq!(value.unwrap(), b"1");
                store.set(&key, b"2", Wait::Block).unwrap();
                store.get_many(&[&key], &mut batch).unwrap();
                fine += 1;
            }
            Err(error) => {
                assert!(matches!(error, Error::Broken));
                let write = store.set(&key, b"2", Wait::Block);
                assert!(matches!(write, Err(Error::Broken)));
                assert!(matches!(
                    store.delete(&key, Wait::Block),
                    Err(Error::Broken)
                ));
                assert!(matches!(
                    store.contains(&key, Wait::Block),
                    Err(Error::Broken)
                ));
                assert!(matches!(
                    store.get_many(&[&key], &mut batch),
                    Err(Error::Broken)
                ));
                let locked = databases.with_locked(&[(0, key)], |l| l.get(0, &key).map(drop));
                assert!(matches!(locked, Err(Error::Broken)));
                broken += 1;
            }
        }
    }
    assert!(broken > 0 && broken < 100, "{broken}");
    assert_eq!(fine + broken, 2000);
    // What concerns all shards goes on, or says so.
    let mut page = Page::default();
    let mut cursor = 0;
    let scanned = loop {
        match store.scan(cursor, &Filter::default(), 1000, true, &mut page) {
            Ok(0) => break Ok(()),
            Ok(next) => cursor = next,
            Err(error) => break Err(error),
        }
    };
    assert!(matches!(scanned, Err(Error::Broken)));
    store.stats();
    store.expire().unwrap();
    assert!(matches!(store.clear(), Err(Error::Broken)));
    assert!(databases.is_broken());
    store.close();
}

#[test]
fn a_panic_under_the_locks_that_changes_nothing_breaks_nothing() {
    let databases = databases();
    set(&databases, 0, b"a", b"1");
    let keys = [(0, "a"), (2, "b")];
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        databases.with_locked(&keys, |locked| {
            locked.set(0, b"a", b"2", Ttl::Default, Event::Set)?;
            if locked.get(2, b"b")?.is_none() {
                panic!("in a handler");
            }
            Ok(())
        })
    }));
    assert!(panicked.is_err());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        databases.modify_up_to::<()>(0, b"a", 0, None, |_| panic!("in a decision"))
    }));
    assert!(panicked.is_err());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        databases.read::<()>(0, b"a", |_| panic!("in a reader"))
    }));
    assert!(panicked.is_err());
    assert!(!databases.is_broken());
    assert_eq!(get(&databases, 0, b"a").unwrap(), b"2");
    set(&databases, 2, b"b", b"1");
}

#[test]
fn a_type_of_tests_is_told_kept_by_changes_of_its_time_and_replaced_by_a_string() {
    let databases = databases();
    let kind = |key: &[u8]| databases.read(0, key, |entry| entry.kind).unwrap();
    for len in [3, 100, 5000] {
        let value = vec![1; len];
        databases
            .with_locked(&[(0, "key")], |l| {
                l.set_kind(0, b"key", &value, Kind::OF_TESTS)
            })
            .unwrap();
        assert_eq!(kind(b"key"), Some(Kind::OF_TESTS));
        let store = databases.get(0).unwrap();
        for ttl in [Ttl::Millis(99_999), Ttl::Never, Ttl::At(i64::MAX)] {
            store.touch(b"key", ttl, Wait::Block).unwrap();
            assert_eq!(kind(b"key"), Some(Kind::OF_TESTS));
            assert_eq!(get(&databases, 0, b"key").unwrap(), value);
        }
        store.compact().unwrap();
        assert_eq!(kind(b"key"), Some(Kind::OF_TESTS));
        set(&databases, 0, b"key", b"1");
        assert_eq!(kind(b"key"), Some(Kind::STRING));
    }
}
