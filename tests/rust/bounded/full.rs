//! Stores that are full: what changes nothing, or fits where it is, neither evicts nor fails; what does not fit is refused before
//! anything goes.

use atbr::Error;
use atbr::engine::{Change, Databases, Event, OnFull, Store, Ttl, Wait};

use super::{bounded, key};

static LARGE: [u8; 300_000] = [3; 300_000];

/// Sets values of 100 bytes until the store is full; returns one that is there.
fn fill(store: &Store) -> [u8; 8] {
    for i in 0..100_000 {
        let set = store.set(&key(i), &[1; 100], Wait::Block);
        if set.is_err() || store.stats().evictions > 500 {
            break;
        }
    }
    let there = (0..).map(key).find(|key| store.get(key).unwrap().is_some());
    there.unwrap()
}

/// Writes that leave a full store as it is, or as long as it is; `there` has 100 bytes.
fn write_without_growing(store: &Store, there: &[u8]) {
    let block = Wait::Block;
    assert!(!store.add(there, &LARGE, Ttl::Default, block).unwrap());
    let found = store.setdefault(there, &LARGE, Ttl::Default, block, |value| value.len());
    assert_eq!(found.unwrap(), Some(100));
    for expected in [None, Some(&b"other"[..])] {
        let set = store.compare_and_set(there, expected, &LARGE, block);
        assert!(!set.unwrap());
    }
    let set = store.compare_and_set(b"missing", Some(b"x"), &LARGE, block);
    assert!(!set.unwrap());
    assert!(!store.touch(b"missing", Ttl::Millis(9000), block).unwrap());
    assert!(!store.touch(b"missing", Ttl::Never, block).unwrap());
    assert!(store.touch(there, Ttl::Never, block).unwrap());
    let refused = store.incr(there, 1, 0, Ttl::Default, block);
    assert!(matches!(refused, Err(Error::NotAnInteger)));
    assert!(!store.set(there, &[2; 100], block).unwrap());
    assert!(!store.set(there, &[2; 99], block).unwrap());
    assert!(!store.set(there, &[1; 99], block).unwrap());
    let shorter = store.get(there).unwrap().unwrap();
    let set = store.compare_and_set(there, Some(&shorter), &[1; 99], block);
    assert!(set.unwrap());
    let keys: [&[u8]; 2] = [there, b"missing"];
    let written = store.with_locked(&keys, |locked| {
        locked.modify_up_to(there, LARGE.len(), |_| Ok((Change::Keep, ())))?;
        locked.modify_up_to(b"missing", LARGE.len(), |_| {
            Ok((Change::Expire(Ttl::Never), ()))
        })?;
        locked.set(there, &[4; 99], Ttl::Never)
    });
    assert!(!written.unwrap());
    assert_eq!(store.get(there).unwrap().unwrap(), [4; 99]);
}

#[test]
fn what_does_not_grow_is_written_into_a_full_store_and_nothing_goes_for_it() {
    for (entries, bytes) in [
        (0, 1 << 20),
        (0, 4 << 20),
        (10, 0),
        (5000, 0),
        (10, 1 << 30),
    ] {
        for on_full in [OnFull::Evict, OnFull::Error] {
            let store = bounded(entries, bytes, on_full);
            let there = fill(&store);
            let before = (store.len(), store.stats().evictions);
            write_without_growing(&store, &there);
            assert_eq!(
                (store.len(), store.stats().evictions),
                before,
                "{entries} {bytes} {on_full:?}"
            );
        }
    }
}

#[test]
fn what_does_not_grow_is_written_into_a_full_database_and_no_other_one_pays() {
    for (entries, bytes) in [(5000, 0), (0, 2 << 20)] {
        let databases = Databases::new(bounded(entries, bytes, OnFull::Evict).into()).unwrap();
        let set = |db: u8, i: u64, byte: u8| {
            databases
                .set(db, &key(i), &[byte; 100], Ttl::Default, Event::Set)
                .unwrap()
        };
        (0..40_000).for_each(|i| assert!(set((i % 2) as u8, i, 0)));
        let lens = || [0, 1].map(|db| databases.get(db).unwrap().len());
        let before = lens();
        let last = 39_999;
        for i in 0..5000 {
            assert!(!set(1, last, i as u8));
            let found = databases.modify_up_to(1, &key(last), 100_000, None, |entry| {
                Ok((Change::Keep, entry.map(|entry| entry.value.len())))
            });
            assert_eq!(found.unwrap(), Some(100));
        }
        assert_eq!(lens(), before);
    }
}

#[test]
fn a_value_near_the_bound_is_taken_or_refused_before_anything_goes() {
    let block = Wait::Block;
    for (mib, len, ttl) in [
        (1, 0, Ttl::Never),
        (4, 30, Ttl::Millis(1_000_000)),
        (4, 0, Ttl::Never),
        (4, 1000, Ttl::Never),
        (8, 3000, Ttl::Millis(1_000_000)),
    ] {
        let bytes = mib << 20;
        let store = bounded(0, bytes, OnFull::Evict);
        let refill = |store: &Store, from: u64| {
            let before = store.stats().evictions;
            for i in from.. {
                store.set_with(&key(i), &vec![1; len], ttl, block).unwrap();
                if i % 256 == 0 && store.stats().evictions > before + 1000 {
                    return i + 1;
                }
            }
            from
        };
        let mut next = refill(&store, 0);
        let mut outcomes = [0; 2];
        let (first, last) = (bytes / 100 * 94, bytes);
        for large in (first..last).step_by((bytes / 150) as usize) {
            let before = (store.len(), store.stats().evictions);
            match store.set(b"large", &vec![2; large as usize], block) {
                Ok(_) => {
                    outcomes[0] += 1;
                    let found = store.get(b"large").unwrap().map(|value| value.len() as u64);
                    assert_eq!(found, Some(large));
                    assert!(store.stats().bytes_allocated <= bytes + bytes / 50);
                    next = refill(&store, next);
                }
                Err(Error::StoreFull) => {
                    outcomes[1] += 1;
                    let after = (store.len(), store.stats().evictions);
                    assert_eq!(after, before, "{mib} MiB, {large} bytes");
                }
                Err(error) => panic!("{error}"),
            }
        }
        // All of the bound but what is left for what comes and goes.
        assert!(
            outcomes[0] > 0 && outcomes[1] > 0,
            "{mib} MiB: {outcomes:?}"
        );
    }
}

#[test]
fn what_an_entry_grows_to_near_the_bound_is_taken_or_refused_before_anything_goes() {
    let block = Wait::Block;
    for mib in [1, 8] {
        let bytes = mib << 20;
        let store = bounded(0, bytes, OnFull::Evict);
        let large = vec![1; bytes as usize / 5 * 2];
        store.set(b"large", &large, block).unwrap();
        let mut next = 0;
        let mut refused = 0;
        for tail in (bytes / 10..bytes).step_by(bytes as usize / 60) {
            let len = large.len() + tail as usize;
            store.set(b"large", &large, block).unwrap();
            for _ in 0..2_000 {
                next += 1;
                store.set(&key(next), &[1; 60], block).unwrap();
                if !store.contains(b"large", block).unwrap() {
                    store.set(b"large", &large, block).unwrap();
                }
            }
            let before = (store.len(), store.stats().evictions);
            match store.append(b"large", &vec![2; tail as usize], block) {
                Ok(grown) => assert_eq!(grown, len),
                Err(Error::StoreFull) => {
                    refused += 1;
                    assert_eq!((store.len(), store.stats().evictions), before, "{len}");
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!((20..90).contains(&refused), "{refused}");
    }
}
