use proptest::prelude::*;

use super::*;
use crate::engine::{Change, Clock, Limits, ManualClock, OnFull, Options, Ttl};

fn check(store: &Store) {
    let (mut entries, mut bytes) = (0, size_of_val(store.cells()));
    for cell in store.cells() {
        let shard = cell.lock.read();
        let mut indexed = Vec::new();
        shard.index().for_each(|offset| indexed.push(offset));
        indexed.sort_unstable();
        let mut live = shard.arena().check();
        live.sort_unstable();
        assert_eq!(indexed, live);
        assert_eq!(shard.len(), live.len() as u64);
        entries += shard.len();
        bytes += shard.bytes();
    }
    let bounds = store.cx().bounds.as_ref().unwrap();
    assert_eq!(bounds.entries(), entries);
    if bounds.bounds_bytes() {
        assert_eq!(bounds.bytes(), bytes as u64);
    }
}

fn run(ops: &[(u8, u16, u16)], limits: Limits) {
    let clock = ManualClock::default();
    let store = Store::new(&Options {
        limits,
        clock: Clock::Manual(clock.clone()),
        sweeps: false,
        ..Options::default()
    })
    .unwrap();
    let mut refused = 0;
    for (step, &(op, key, len)) in ops.iter().enumerate() {
        let key = (key % 2500).to_le_bytes();
        let value = vec![7; usize::from(len) % if op % 8 == 0 { 9000 } else { 120 }];
        let outcome = match op {
            0..=99 => store.set(&key, &value, Wait::Block).map(drop),
            100..=139 => store.get(&key).map(drop),
            140..=159 => store.delete(&key, Wait::Block).map(drop),
            160..=169 => store.append(&key, &value, Wait::Block).map(drop),
            170..=179 => {
                let at = usize::from(len) / 16;
                let end = at + value.len();
                let needed = store.with_entry(&key, |entry| {
                    entry.map_or(end, |entry| entry.value.room_to_write(end))
                });
                store.modify_up_to(&key, needed.unwrap(), Wait::Block, |_| {
                    Ok((Change::Write(at, value.as_slice().into()), ()))
                })
            }
            180..=209 => {
                let ttl = Ttl::Millis(1 + u64::from(len));
                store.set_with(&key, &value, ttl, Wait::Block).map(drop)
            }
            210..=229 => {
                clock.advance(u64::from(len) / 16);
                store.touch(&key, Ttl::Millis(5_000), Wait::Block).map(drop)
            }
            230..=239 => store.expire().map(drop),
            240..=244 => store.compact(),
            245 => store.clear(),
            246..=250 => store.pop_any().map(drop),
            _ => store.with_locked(&[&key, b"other"], |locked| {
                locked.set(&key, &value, Ttl::Never)?;
                locked.delete(b"other").map(drop)
            }),
        };
        match outcome {
            Ok(()) => {}
            Err(Error::StoreFull) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        if step % 32 == 0 {
            check(&store);
        }
    }
    check(&store);
    if limits.on_full == OnFull::Evict {
        assert!(refused == 0 || limits.entries < 4, "{refused} are refused");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_bounds_know_is_what_shards_hold(
        ops in prop::collection::vec(any::<(u8, u16, u16)>(), 1..2500),
        entries in prop_oneof![Just(0), 1u64..3000],
        bytes in prop_oneof![Just(0), Just(1 << 20), Just(3 << 20)],
        error in any::<bool>(),
    ) {
        let on_full = if error { OnFull::Error } else { OnFull::Evict };
        prop_assume!(entries + bytes > 0);
        run(&ops, Limits { entries, bytes, on_full });
    }
}

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

fn key_in(store: &Store, shard: usize, from: u64) -> [u8; 8] {
    let is_there = |key: &[u8; 8]| std::ptr::eq(store.place(key).0, &store.cells()[shard]);
    (from..).map(u64::to_le_bytes).find(is_there).unwrap()
}

#[test]
fn a_cancelled_compaction_leaves_the_account_right() {
    let store = bounded(0, 4 << 20, OnFull::Evict);
    for i in 0..20_000u64 {
        store.set(&i.to_le_bytes(), &[7; 60], Wait::Block).unwrap();
    }
    for i in (0..20_000u64).filter(|i| i % 8 < 1) {
        store.delete(&i.to_le_bytes(), Wait::Block).unwrap();
    }
    assert!(store.compact_while(&mut || false).is_err());
    check(&store);
}

#[test]
fn room_for_a_large_value_comes_from_all_shards() {
    let store = bounded(0, 64 << 20, OnFull::Evict);
    for i in 0..800_000u64 {
        store.set(&i.to_le_bytes(), &[7; 60], Wait::Block).unwrap();
    }
    let lens = || store.cells().iter().map(|cell| cell.lock.read().len());
    let least = lens().min().unwrap();
    store
        .set(b"large", &vec![1; 16 << 20], Wait::Block)
        .unwrap();
    assert!(
        lens().min().unwrap() > least / 3,
        "{:?}",
        lens().collect::<Vec<_>>()
    );
    check(&store);
}

#[test]
fn nobody_takes_the_place_that_a_shard_of_one_entry_has_made() {
    let store = bounded(4096, 0, OnFull::Evict);
    assert_eq!(store.cells().len(), 2);
    store.set(&key_in(&store, 0, 0), b"", Wait::Block).unwrap();
    let mut next = 0;
    while store.len() < 4096 {
        let key = key_in(&store, 1, next);
        next = u64::from_le_bytes(key) + 1;
        store.set(&key, b"", Wait::Block).unwrap();
    }
    thread::scope(|scope| {
        for shard in [0, 1] {
            let store = &store;
            scope.spawn(move || {
                let mut next = 1 << 40;
                for _ in 0..300_000 {
                    let key = key_in(store, shard, next);
                    next = u64::from_le_bytes(key) + 1;
                    store.set(&key, b"", Wait::Block).unwrap();
                }
            });
        }
    });
    check(&store);
}

#[test]
fn what_writes_nothing_into_an_empty_shard_of_a_full_store_has_nothing_evicted() {
    for on_full in [OnFull::Evict, OnFull::Error] {
        let store = bounded(4096, 0, on_full);
        let mut next = 0;
        while store.len() < 4096 {
            let key = key_in(&store, 1, next);
            next = u64::from_le_bytes(key) + 1;
            store.set(&key, b"", Wait::Block).unwrap();
        }
        let missing = key_in(&store, 0, 0);
        assert!(!store.touch(&missing, Ttl::Millis(9), Wait::Block).unwrap());
        let set = store.compare_and_set(&missing, Some(b"1"), b"2", Wait::Block);
        assert!(!set.unwrap());
        let touched = store.with_locked(&[&missing], |locked| {
            locked.modify_up_to(&missing, 0, |_| Ok((Change::Expire(Ttl::Never), ())))
        });
        touched.unwrap();
        assert_eq!((store.len(), store.stats().evictions), (4096, 0));
    }
}

#[test]
fn who_must_not_wait_does_not_wait_for_what_has_expired() {
    let clock = ManualClock::default();
    let store = Store::new(&Options {
        limits: Limits {
            entries: 4096,
            bytes: 0,
            on_full: OnFull::Error,
        },
        clock: Clock::Manual(clock.clone()),
        sweeps: false,
        ..Options::default()
    })
    .unwrap();
    let due = key_in(&store, 1, 0);
    store
        .set_with(&due, b"", Ttl::Millis(1000), Wait::Block)
        .unwrap();
    let mut next = 1;
    while store.len() < 4096 {
        store
            .set(&u64::to_le_bytes(1 << 50 | next), b"", Wait::Block)
            .unwrap();
        next += 1;
    }
    clock.advance(10_000);
    let new = key_in(&store, 0, 1 << 51);
    store
        .with_locked(&[&due], |_| {
            let tried = thread::scope(|scope| {
                let tried = scope.spawn(|| store.set(&new, b"", Wait::Try));
                let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
                while !tried.is_finished() && std::time::Instant::now() < until {
                    thread::yield_now();
                }
                tried.is_finished()
            });
            assert!(tried);
            Ok(())
        })
        .unwrap();
}
