//! The sweeper and the clock, among threads.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use atbr::engine::{Batch, ManualClock, Options, Store, Ttl, Wait, Watch};

use crate::{key_of, make};

/// Nothing here reads the time of day, so setting the wall clock can neither expire nor revive anything: the clock of a store is
/// `CLOCK_BOOTTIME`, which cannot be set, and counts while the machine sleeps. What is left to show is that it is that clock.
#[test]
fn the_clock_of_a_store_is_the_one_that_nobody_can_set() {
    fn boottime() -> u64 {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        #[cfg(target_os = "linux")]
        const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
        #[cfg(not(target_os = "linux"))]
        const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
        // SAFETY: a timespec of this frame.
        assert_eq!(unsafe { libc::clock_gettime(CLOCK, &raw mut time) }, 0);
        time.tv_sec as u64 * 1_000 + time.tv_nsec as u64 / 1_000_000
    }
    let store = Store::new(&Options {
        sweeps: false,
        ..Options::default()
    })
    .unwrap();
    let before = boottime();
    store
        .set_with(b"key", b"", Ttl::Millis(1_000_000), Wait::Block)
        .unwrap();
    let after = boottime();
    for _ in 0..1_000 {
        let first = boottime();
        let left = store
            .time_left(b"key", Wait::Block)
            .unwrap()
            .unwrap()
            .unwrap();
        let last = boottime();
        // Rounding of the epoch and of both readings.
        assert!(left <= 1_000_000 + after - first + 1, "{left}");
        assert!(left + (last - before) + 1 >= 1_000_000, "{left}");
    }
}

#[test]
fn the_sweeper_takes_out_what_four_threads_write() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Millis(50), true);
    let done = AtomicBool::new(false);
    let sets = if cfg!(debug_assertions) {
        40_000
    } else {
        400_000
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..4u64)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || {
                    for i in 0..sets {
                        let key = key_of((writer << 32) | (i % 5_000));
                        let value = [writer as u8; 300];
                        match i % 8 {
                            0..=3 => {
                                let ttl = Ttl::Millis(1 + i % 200);
                                let value = &value[..(i % 300) as usize];
                                store
                                    .set_with(&key, value, ttl, Wait::Block)
                                    .map(drop)
                                    .unwrap();
                            }
                            4 => drop(
                                store
                                    .touch(&key, Ttl::Millis(1 + i % 90), Wait::Block)
                                    .unwrap(),
                            ),
                            5 => drop(store.delete(&key, Wait::Block).unwrap()),
                            6 => drop(store.append(&key, b"tail", Wait::Block).unwrap()),
                            _ => drop(store.persist(&key, Wait::Block).unwrap()),
                        }
                    }
                    for i in 0..5_000 {
                        let key = key_of((writer << 32) | i);
                        store
                            .set_with(&key, &key, Ttl::Millis(100_000), Wait::Block)
                            .unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                clock.advance(7);
                store.compact().unwrap();
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            let mut batch = Batch::default();
            let keys: Vec<_> = (0..5_000).map(key_of).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|k| &k[..]).collect();
            while !done.load(Ordering::Relaxed) {
                store.get_many(&keys, &mut batch).unwrap();
                assert!((0..batch.len()).all(|i| batch.get(i).is_none_or(|v| v.len() < 400_000)));
                store.expire().unwrap();
            }
        });
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    // Those that were written last have a ttl of 100 s, and little of it has passed.
    assert!(store.len() <= 20_000);
    clock.advance(200_000);
    let end = Instant::now() + Duration::from_secs(60);
    while !store.is_empty() {
        assert!(Instant::now() < end, "{} are left", store.len());
        thread::sleep(Duration::from_millis(1));
    }
    let stats = store.stats();
    assert_eq!(
        (
            stats.entries,
            stats.expiring,
            stats.key_bytes,
            stats.value_bytes
        ),
        (0, 0, 0, 0)
    );
}

#[test]
fn stores_that_come_and_go_are_all_swept() {
    // A store that is dropped gives its number to another one, which must not be left out of the sweeper's pass.
    let clock = ManualClock::default();
    let left = AtomicU64::new(0);
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let (clock, left, barrier) = (&clock, &left, &barrier);
            scope.spawn(move || {
                let mut stores: Vec<Store> = Vec::new();
                for round in 0..300u64 {
                    stores.push(make(clock, Ttl::Millis(10), true));
                    let store = &stores[stores.len() - 1];
                    store.set(&key_of(round), b"", Wait::Block).unwrap();
                    if stores.len() > 5 {
                        stores.swap_remove(((round * 7 + thread) % 5) as usize);
                    }
                }
                barrier.wait();
                clock.advance(1_000);
                let end = Instant::now() + Duration::from_secs(60);
                while stores.iter().any(|store| !store.is_empty()) && Instant::now() < end {
                    thread::yield_now();
                }
                left.fetch_add(
                    stores.iter().map(|s| s.len() as u64).sum(),
                    Ordering::Relaxed,
                );
            });
        }
    });
    assert_eq!(left.into_inner(), 0);
}

#[test]
fn no_deadline_is_slept_over_however_threads_interleave() {
    // In real time: each entry is earlier than all that the sweeper waits for, and nothing comes after it that would wake it up.
    let rounds = if cfg!(debug_assertions) { 30 } else { 300 };
    let later = Store::new(&Options::default()).unwrap();
    later
        .set_with(b"later", b"", Ttl::Millis(1_000_000), Wait::Block)
        .unwrap();
    for _ in 0..rounds {
        let stores: Vec<_> = (0..4)
            .map(|_| Store::new(&Options::default()).unwrap())
            .collect();
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for store in &stores {
                scope.spawn(|| {
                    barrier.wait();
                    store
                        .set_with(b"key", b"", Ttl::Millis(1), Wait::Block)
                        .unwrap();
                });
            }
        });
        let end = Instant::now() + Duration::from_secs(10);
        while stores.iter().any(|store| !store.is_empty()) {
            assert!(Instant::now() < end, "an entry was slept over");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn what_expires_is_told_once_by_whoever_finds_it() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Millis(100), true);
    store.watch_expired(Watch::On);
    let done = AtomicBool::new(false);
    let mut told: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3u64)
            .map(|writer| {
                let (store, clock) = (&store, &clock);
                scope.spawn(move || {
                    for i in 0..10_000 {
                        let key = key_of((writer << 32) | i);
                        store.set(&key, &key, Wait::Block).unwrap();
                        clock.advance(i % 2);
                        if i >= 500 {
                            // Long gone: the write finds it, or the sweeper was here before.
                            let old = key_of((writer << 32) | (i - 500));
                            assert!(!store.delete(&old, Wait::Block).unwrap());
                        }
                    }
                })
            })
            .collect();
        let takes = scope.spawn(|| {
            let mut told: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
            loop {
                let last = done.load(Ordering::SeqCst);
                let taken = store.take_expired(1_000, Duration::from_millis(5));
                if taken.is_empty() && last {
                    return told;
                }
                for entry in taken {
                    assert_eq!(entry.key, entry.value);
                    *told.entry(entry.key).or_default() += 1;
                }
            }
        });
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        clock.advance(1_000);
        store.expire().unwrap();
        done.store(true, Ordering::SeqCst);
        told = takes.join().unwrap();
    });
    assert_eq!(store.stats().expirations_lost, 0);
    assert_eq!(told.len(), 30_000);
    assert!(told.values().all(|&times| times == 1));
    assert_eq!(store.stats().expirations, 30_000);
}

#[test]
fn what_is_due_is_gone_after_expire_whoever_sweeps_besides() {
    let rows = 20_000;
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, true);
    for i in 0..rows {
        store
            .set_with(&key_of(i), b"", Ttl::Millis(i + 1), Wait::Block)
            .unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    store.expire().unwrap();
                }
            });
        }
        let missed = (1..=rows).find(|i| {
            clock.advance(1);
            store.expire().unwrap();
            store.len() as u64 != rows - i
        });
        done.store(true, Ordering::Relaxed);
        assert_eq!(missed, None);
    });
}
