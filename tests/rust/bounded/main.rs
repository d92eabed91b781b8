//! Bounded stores: neither bound is ever passed, what was just written is there, and what has gone is gone for a reason.

mod full;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use atbr::Error;
use atbr::engine::{
    BulkLoad, Clock, Filter, Keep, Limits, ManualClock, OnFull, Options, Page, Store, Ttl, Wait,
};
use proptest::prelude::*;

fn bounded(entries: u64, bytes: u64, on_full: OnFull) -> Store {
    Store::new(&Options {
        limits: Limits {
            entries,
            bytes,
            on_full,
        },
        ..Options::default()
    })
    .unwrap()
}

fn contents(store: &Store) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (mut map, mut page, mut cursor) = (BTreeMap::new(), Page::default(), 0);
    loop {
        cursor = store
            .scan(cursor, &Filter::default(), 1000, true, &mut page)
            .unwrap();
        map.extend((0..page.len()).map(|i| (page.key(i).to_vec(), page.value(i).to_vec())));
        if cursor == 0 {
            return map;
        }
    }
}

fn key(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

#[derive(Clone, Debug)]
enum Op {
    Set(u64, usize),
    SetTtl(u64, usize, u64),
    Get(u64),
    Delete(u64),
    Append(u64, usize),
    Add(u64, usize),
    Advance(u64),
    Expire,
    Compact,
    Clear,
}

fn op(keys: u64) -> impl Strategy<Value = Op> {
    let len = || prop_oneof![8 => 0usize..100, 2 => 1900usize..2200, 1 => 0usize..20_000];
    prop_oneof![
        20 => (0..keys, len()).prop_map(|(k, l)| Op::Set(k, l)),
        10 => (0..keys, len(), 1u64..5_000).prop_map(|(k, l, t)| Op::SetTtl(k, l, t)),
        20 => (0..keys).prop_map(Op::Get),
        5 => (0..keys).prop_map(Op::Delete),
        5 => (0..keys, len()).prop_map(|(k, l)| Op::Append(k, l)),
        5 => (0..keys, len()).prop_map(|(k, l)| Op::Add(k, l)),
        5 => (0u64..2_000).prop_map(Op::Advance),
        1 => Just(Op::Expire),
        1 => Just(Op::Compact),
        1 => Just(Op::Clear),
    ]
}

/// Runs operations beside a map that never forgets: what the store has is what the map has, and its bounds hold.
fn run(ops: &[Op], entries: u64, bytes: u64) {
    let clock = ManualClock::default();
    let store = Store::new(&Options {
        limits: Limits {
            entries,
            bytes,
            on_full: OnFull::Evict,
        },
        clock: Clock::Manual(clock.clone()),
        sweeps: false,
        ..Options::default()
    })
    .unwrap();
    let mut map: BTreeMap<Vec<u8>, (Vec<u8>, u64)> = BTreeMap::new();
    for (step, op) in ops.iter().enumerate() {
        let value = |len: usize| vec![step as u8; len];
        let mut written = None;
        match *op {
            Op::Set(k, len) => {
                store.set(&key(k), &value(len), Wait::Block).unwrap();
                map.insert(key(k).to_vec(), (value(len), u64::MAX));
                written = Some(k);
            }
            Op::SetTtl(k, len, ttl) => {
                let ttl_ms = Ttl::Millis(ttl);
                store
                    .set_with(&key(k), &value(len), ttl_ms, Wait::Block)
                    .unwrap();
                map.insert(key(k).to_vec(), (value(len), clock.now() + ttl));
                written = Some(k);
            }
            Op::Get(k) => drop(store.get(&key(k)).unwrap()),
            Op::Delete(k) => {
                store.delete(&key(k), Wait::Block).unwrap();
                map.remove(&key(k)[..]);
            }
            Op::Append(k, len) => {
                let before = store.get(&key(k)).unwrap();
                let total = store.append(&key(k), &value(len), Wait::Block).unwrap();
                let joined = [before.clone().unwrap_or_default(), value(len)].concat();
                assert_eq!(total, joined.len());
                let kept = map.get(&key(k)[..]).map_or(u64::MAX, |entry| entry.1);
                let deadline = if before.is_some() { kept } else { u64::MAX };
                map.insert(key(k).to_vec(), (joined, deadline));
                written = Some(k);
            }
            Op::Add(k, len) => {
                if store
                    .add(&key(k), &value(len), Ttl::Never, Wait::Block)
                    .unwrap()
                {
                    map.insert(key(k).to_vec(), (value(len), u64::MAX));
                }
                written = Some(k);
            }
            Op::Advance(by) => clock.advance(by),
            Op::Expire => drop(store.expire().unwrap()),
            Op::Compact => store.compact().unwrap(),
            Op::Clear => {
                store.clear().unwrap();
                map.clear();
            }
        }
        let now = clock.now();
        if let Some(k) = written {
            let expected = map.get(&key(k)[..]).filter(|entry| entry.1 > now);
            let found = store.get(&key(k)).unwrap();
            assert_eq!(found.as_ref(), expected.map(|entry| &entry.0), "{step}");
        }
        let stats = store.stats();
        if entries != 0 {
            assert!(store.len() as u64 <= entries && stats.entries <= entries);
        }
        if bytes != 0 {
            assert!(stats.bytes_allocated <= bytes + bytes / 50, "{stats:?}");
        }
        if step % 16 == 0 {
            for (key, value) in contents(&store) {
                let (expected, deadline) = &map[&key];
                assert!(*deadline > now);
                assert_eq!(&value, expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_store_bounded_in_entries_holds_true_entries_only(
        ops in prop::collection::vec(op(600), 1..800), entries in 1u64..300
    ) {
        run(&ops, entries, 0);
    }

    #[test]
    fn a_store_bounded_in_bytes_holds_true_entries_only(
        ops in prop::collection::vec(op(20_000), 1..3000)
    ) {
        run(&ops, 0, 1 << 20);
    }
}

#[test]
fn as_many_keys_as_the_bound_fit_and_none_more() {
    for bound in [1, 2, 7, 100, 5_000, 300_000] {
        let store = bounded(bound, 0, OnFull::Evict);
        for i in 0..bound {
            store.set(&key(i), b"value", Wait::Block).unwrap();
            assert_eq!(store.len() as u64, (i + 1).min(bound));
        }
        // Overwriting evicts nothing.
        for i in 0..bound {
            store.set(&key(i), b"other", Wait::Block).unwrap();
        }
        assert_eq!(store.stats().evictions, 0);
        for i in bound..bound + 1000 {
            store.set(&key(i), b"value", Wait::Block).unwrap();
            assert_eq!(store.len() as u64, bound);
            assert_eq!(store.get(&key(i)).unwrap().unwrap(), b"value");
        }
        assert_eq!(store.stats().evictions, 1000);
    }
}

/// A store that refuses new entries when it is full.
fn refusing(entries: u64, clock: &ManualClock) -> Store {
    Store::new(&Options {
        limits: Limits {
            entries,
            bytes: 0,
            on_full: OnFull::Error,
        },
        clock: Clock::Manual(clock.clone()),
        sweeps: false,
        ..Options::default()
    })
    .unwrap()
}

#[test]
fn a_full_store_that_must_not_evict_refuses_new_keys_only() {
    let clock = ManualClock::default();
    let store = refusing(100, &clock);
    for i in 0..100 {
        let ttl = if i == 0 { Ttl::Millis(10) } else { Ttl::Never };
        store.set_with(&key(i), b"1", ttl, Wait::Block).unwrap();
    }
    let set = |i| store.set(&key(i), b"2", Wait::Block);
    assert!(matches!(set(100), Err(Error::StoreFull)));
    assert!(!set(99).unwrap());
    clock.advance(10);
    assert!(set(100).unwrap(), "an expired entry makes room");
    assert!(matches!(set(101), Err(Error::StoreFull)));
    assert!(store.delete(&key(5), Wait::Block).unwrap());
    assert!(set(101).unwrap());
    assert_eq!((store.len(), store.stats().evictions), (100, 0));
}

#[test]
fn a_value_that_cannot_fit_is_refused_and_nothing_is_lost() {
    let store = bounded(0, 1 << 20, OnFull::Evict);
    store.set(b"small", b"value", Wait::Block).unwrap();
    let refused = store.set(b"large", &vec![0; 2 << 20], Wait::Block);
    assert!(matches!(refused, Err(Error::StoreFull)));
    assert_eq!(store.get(b"small").unwrap().unwrap(), b"value");
    store
        .set(b"large", &vec![0; 800 << 10], Wait::Block)
        .unwrap();
    store
        .append(b"small", &vec![1; 100 << 10], Wait::Block)
        .unwrap();
    assert!(store.stats().bytes_allocated <= (1 << 20) / 50 * 51);
    assert!(matches!(
        BulkLoad::new(&store, 1, Keep::Last, Ttl::Never),
        Err(Error::Bounded)
    ));
    let too_small = Options {
        limits: Limits {
            bytes: 1000,
            ..Limits::default()
        },
        ..Options::default()
    };
    assert!(matches!(
        Store::new(&too_small),
        Err(Error::BoundTooSmall(1000))
    ));
}

#[test]
fn values_of_every_size_up_to_the_bound_are_taken_or_refused() {
    let store = bounded(0, 1 << 20, OnFull::Evict);
    for i in 0..3000 {
        store.set(&key(i), &[1; 100], Wait::Block).unwrap();
    }
    let mut refused = 0;
    for len in (900_000..1_100_000).step_by(1000) {
        match store.set(b"large", &vec![1; len], Wait::Block) {
            Ok(_) => assert_eq!(store.get(b"large").unwrap().map(|v| v.len()), Some(len)),
            Err(Error::StoreFull) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(store.stats().bytes_allocated <= (1 << 20) / 50 * 51);
    }
    assert!(refused > 50);
    store.set(b"small", b"value", Wait::Block).unwrap();
}

/// Four threads write entries of all sizes; a fifth one looks at the figures all the time.
fn writers_keep_the_bounds(entries: u64, bytes: u64, rounds: u64) {
    let store = bounded(entries, bytes, OnFull::Evict);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..4u64)
            .map(|number| {
                let store = &store;
                scope.spawn(move || {
                    let mut state = number + 1;
                    let mut next = || {
                        state = state
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        state >> 33
                    };
                    let value = vec![7; 40_000];
                    for _ in 0..rounds {
                        let (k, kind) = (key(next() % 200_000), next() % 100);
                        let len = match kind {
                            0 => next() as usize % 40_000,
                            1..=5 => next() as usize % 3_000,
                            _ => next() as usize % 100,
                        };
                        match kind {
                            6..=15 => drop(store.delete(&k, Wait::Block).unwrap()),
                            16..=40 => {
                                let ttl = Ttl::Millis(1 + next() % 300);
                                store.set_with(&k, &value[..len], ttl, Wait::Block).unwrap();
                            }
                            41..=60 => drop(store.get(&k).unwrap()),
                            _ => drop(store.set(&k, &value[..len], Wait::Block).unwrap()),
                        }
                    }
                })
            })
            .collect();
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                if entries != 0 {
                    assert!(store.len() as u64 <= entries);
                }
                most = most.max(store.stats().bytes_allocated);
            }
            most
        });
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        let most = watch.join().unwrap();
        if bytes != 0 {
            assert!(most <= bytes + bytes / 50, "{most} of {bytes}");
            assert!(most > bytes / 10 * 7, "{most} of {bytes} are used");
        }
    });
    // Until the last ttl is over, at most 300 ms.
    while store.stats().expiring > 0 {
        store.expire().unwrap();
        thread::yield_now();
    }
    let stats = store.stats();
    assert!(stats.evictions > 0, "{stats:?}");
    assert_eq!(contents(&store).len(), store.len());
}

#[test]
fn four_writers_keep_the_bound_in_entries() {
    writers_keep_the_bounds(5_000, 0, 50_000);
}

#[test]
fn four_writers_keep_a_small_bound_in_bytes() {
    writers_keep_the_bounds(0, 1 << 20, 50_000);
}

#[test]
fn four_writers_keep_a_larger_bound_in_bytes() {
    writers_keep_the_bounds(0, 8 << 20, 100_000);
}

#[test]
fn values_that_fit_one_at_a_time_replace_each_other() {
    for (bound, len) in [(1 << 20, 800 << 10), (4 << 20, 1 << 20), (4 << 20, 3 << 20)] {
        let store = bounded(0, bound, OnFull::Evict);
        for i in 0..60 {
            store.set(&key(i), &vec![1; len], Wait::Block).unwrap();
            assert_eq!(store.get(&key(i)).unwrap().map(|v| v.len()), Some(len));
            assert!(store.stats().bytes_allocated <= bound + bound / 50);
        }
    }
}

/// Sets new keys until the store is full; returns how many there are.
fn fill(store: &Store, len: usize) -> u64 {
    let fits = |&i: &u64| store.set(&key(i), &vec![1; len], Wait::Block).is_ok();
    (0..).take_while(fits).count() as u64
}

#[test]
fn what_only_gives_room_back_needs_none() {
    let store = bounded(0, 1 << 20, OnFull::Error);
    let filled = fill(&store, 100);
    let popped = store.pop(&key(1), Wait::Block, |value| value.len());
    assert_eq!(popped.unwrap(), Some(100));
    assert!(!store.persist(&key(2), Wait::Block).unwrap());
    let locked = store.with_locked(&[&key(3)], |locked| locked.delete(&key(3)));
    assert!(locked.unwrap());
    assert_eq!(store.len() as u64, filled - 2);
}

#[test]
fn appending_refuses_rather_than_drop_what_it_appends_to() {
    let store = bounded(0, 1 << 20, OnFull::Evict);
    let mut len = 0;
    loop {
        match store.append(b"key", &[1; 5000], Wait::Block) {
            Ok(total) => len += total - len.min(total),
            Err(Error::StoreFull) => break,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(store.get(b"key").unwrap().map(|v| v.len()), Some(len));
        for i in 0..100 {
            store.set(&key(i), &[2; 1000], Wait::Block).unwrap();
        }
        assert_eq!(store.get(b"key").unwrap().map(|v| v.len()), Some(len));
    }
    assert_eq!(store.get(b"key").unwrap().map(|v| v.len()), Some(len));
    assert!(len > 300_000, "{len}");
}

#[test]
fn a_write_to_a_full_store_takes_out_no_more_of_what_has_expired_than_it_needs() {
    let clock = ManualClock::default();
    let store = refusing(100_000, &clock);
    for i in 0..100_000 {
        let ttl = Ttl::Millis(1000);
        store.set_with(&key(i), b"1", ttl, Wait::Block).unwrap();
    }
    clock.advance(1000);
    store.set(b"new", b"1", Wait::Block).unwrap();
    let expirations = store.stats().expirations;
    assert!((1..1000).contains(&expirations), "{expirations}");
}

#[test]
fn many_threads_with_values_of_half_the_bound_find_room() {
    let store = bounded(0, 1 << 20, OnFull::Evict);
    thread::scope(|scope| {
        for number in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..300 {
                    let value = vec![1; 450 << 10];
                    store
                        .set(&key(number * 1000 + i), &value, Wait::Block)
                        .unwrap();
                }
            });
        }
    });
}
