//! The store under many threads: what each of them may see, and what holds between keys.

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use atbr::Error;
use atbr::engine::{Batch, BulkLoad, Filter, Keep, Options, Page, Popped, Store, Ttl, Wait};

fn store() -> Store {
    Store::new(&Options::default()).unwrap()
}

fn key(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

/// A value whose every byte tells the same writer and length.
fn value(writer: u8, len: usize) -> Vec<u8> {
    vec![writer; len]
}

#[test]
fn a_reader_never_sees_a_half_written_value() {
    let store = store();
    let done = AtomicBool::new(false);
    let lens = [1, 40, 200, 2500, 70_000];
    thread::scope(|scope| {
        for writer in 1..=3u8 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                for round in 0..3000 {
                    let len = lens[(round + usize::from(writer)) % lens.len()];
                    store
                        .set(&key(round as u64 % 7), &value(writer, len), Wait::Block)
                        .unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            let keys: Vec<_> = (0..7).map(key).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|k| &k[..]).collect();
            let mut batch = Batch::default();
            while !done.load(Ordering::Relaxed) {
                store.get_many(&keys, &mut batch).unwrap();
                for i in 0..keys.len() {
                    let seen = batch.get(i).unwrap_or(&[1]);
                    assert!(lens.contains(&seen.len()), "{} bytes", seen.len());
                    assert!(seen.iter().all(|b| b == &seen[0]), "a mixture");
                }
            }
        });
    });
}

#[test]
fn increments_from_all_threads_add_up() {
    let store = store();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..20_000 {
                    store
                        .incr(&key(i % 3), 1, 0, Ttl::Default, Wait::Block)
                        .unwrap();
                }
            });
        }
    });
    let total: i64 = (0..3)
        .map(|i| {
            store
                .incr(&key(i), 0, 0, Ttl::Default, Wait::Block)
                .unwrap()
        })
        .sum();
    assert_eq!(total, 80_000);
}

#[test]
fn compare_and_set_lets_one_thread_win_each_round() {
    let store = store();
    let wins = AtomicU64::new(0);
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..500u64 {
                    barrier.wait();
                    let expected = round.checked_sub(1).map(u64::to_be_bytes);
                    let expected = expected.as_ref().map(|bytes| &bytes[..]);
                    let won =
                        store.compare_and_set(b"k", expected, &round.to_be_bytes(), Wait::Block);
                    wins.fetch_add(u64::from(won.unwrap()), Ordering::Relaxed);
                    barrier.wait();
                }
            });
        }
    });
    assert_eq!(wins.into_inner(), 500);
}

#[test]
fn popped_entries_are_popped_once() {
    let store = store();
    for i in 0..40_000 {
        store.set(&key(i), b"", Wait::Block).unwrap();
    }
    let all: Vec<HashSet<Vec<u8>>> = thread::scope(|scope| {
        let pop = || {
            let mut popped = HashSet::new();
            while let Some(Popped { key, .. }) = store.pop_any().unwrap() {
                popped.insert(key);
            }
            popped
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(pop)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(all.iter().map(HashSet::len).sum::<usize>(), 40_000);
    assert_eq!(all.iter().flatten().collect::<HashSet<_>>().len(), 40_000);
}

#[test]
fn transfers_under_locks_keep_the_sum_for_every_observer() {
    const ACCOUNTS: u64 = 16;
    let store = store();
    for i in 0..ACCOUNTS {
        store.set(&key(i), b"1000", Wait::Block).unwrap();
    }
    let done = AtomicBool::new(false);
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse::<i64>().unwrap();
    thread::scope(|scope| {
        for seed in 0..3u64 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                for i in 0..5000 {
                    let (from, to) = (
                        key((i * 7 + seed) % ACCOUNTS),
                        key((i * 11 + 3 * seed + 1) % ACCOUNTS),
                    );
                    if from == to {
                        continue;
                    }
                    let moved = store.with_locked(&[&from, &to], |locked| {
                        for (account, delta) in [(&from, -7), (&to, 7)] {
                            let old = number(locked.get(account)?.expect("an account").as_slice());
                            locked.set(
                                account,
                                (old + delta).to_string().as_bytes(),
                                Ttl::Default,
                            )?;
                        }
                        Ok(())
                    });
                    moved.unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            let keys: Vec<_> = (0..ACCOUNTS).map(key).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|k| &k[..]).collect();
            while !done.load(Ordering::Relaxed) {
                let sum = store.with_locked(&keys, |locked| {
                    let mut sum = 0;
                    for key in &keys {
                        sum += number(locked.get(key)?.expect("an account").as_slice());
                    }
                    Ok(sum)
                });
                assert_eq!(sum.unwrap(), 1000 * ACCOUNTS as i64);
            }
        });
    });
    let foreign = (100..).map(key).find(|k| {
        store
            .with_locked(&[&key(0)], |l| l.get(k).map(drop))
            .is_err()
    });
    assert!(foreign.is_some(), "a key of another shard is refused");
    let refused = store.with_locked(&[&key(0)], |l| l.set(&foreign.unwrap(), b"", Ttl::Default));
    assert!(matches!(refused, Err(Error::NotLocked)));
}

#[test]
fn loads_scans_clears_and_compactions_leave_a_whole_store() {
    let store = store();
    for i in 0..20_000 {
        store.set(&key(i), b"stays", Wait::Block).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..6u8 {
                let mut bulk = BulkLoad::new(&store, 2, Keep::Last, Ttl::Default).unwrap();
                for i in 0..30_000 {
                    let row = key(100_000 + i % 20_000);
                    bulk.writers()[(i / 15_000) as usize]
                        .push(&row, &value(round + 1, 30))
                        .unwrap();
                }
                bulk.merge(&AtomicBool::new(false)).unwrap();
                bulk.finish().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        scope.spawn(|| {
            let mut i = 0;
            while !done.load(Ordering::Relaxed) {
                i += 1;
                let _ = store
                    .delete(&key(100_000 + i % 20_000), Wait::Block)
                    .unwrap();
                store
                    .set(
                        &key(200_000 + i % 5000),
                        &value(9, i as usize % 3000),
                        Wait::Block,
                    )
                    .unwrap();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.compact().unwrap();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let (mut page, mut cursor, mut seen) = (Page::default(), 0, 0);
                loop {
                    cursor = store
                        .scan(cursor, &Filter::default(), 500, true, &mut page)
                        .unwrap();
                    seen += (0..page.len())
                        .filter(|&i| page.value(i) == b"stays")
                        .count();
                    if cursor == 0 {
                        break;
                    }
                }
                assert_eq!(seen, 20_000);
            }
        });
    });
    let stats = store.stats();
    assert_eq!(stats.entries, store.len() as u64);
    store.clear().unwrap();
    assert_eq!(store.stats().entries, 0);
}

#[test]
fn a_load_into_a_store_that_is_cleared_meanwhile_stays_whole() {
    let store = store();
    for _ in 0..20 {
        let mut bulk = BulkLoad::new(&store, 1, Keep::Last, Ttl::Default).unwrap();
        for round in 0..3u64 {
            for i in 0..3000 {
                bulk.writers()[0]
                    .push(
                        &key(round * 2000 + i),
                        &value(1, 20 + (i as usize % 9) * 300),
                    )
                    .unwrap();
            }
            bulk.merge(&AtomicBool::new(false)).unwrap();
            if round == 1 {
                store.clear().unwrap();
            }
        }
        bulk.finish().unwrap();
        assert_eq!(store.len(), 3000);
        for i in 0..3000 {
            assert!(store.contains(&key(4000 + i), Wait::Block).unwrap());
        }
    }
}

#[test]
fn a_try_gives_up_where_another_thread_holds_the_shard() {
    let store = store();
    store.set(b"k", b"v", Wait::Block).unwrap();
    let (held, release) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            store.with_locked(&[b"k"], |_| {
                held.wait();
                release.wait();
                Ok(())
            })
        });
        held.wait();
        assert!(matches!(
            store.read(b"k", Wait::Try, |_| ()),
            Err(Error::WouldBlock)
        ));
        assert!(matches!(
            store.set(b"k", b"", Wait::Try),
            Err(Error::WouldBlock)
        ));
        assert!(matches!(
            store.delete(b"k", Wait::Try),
            Err(Error::WouldBlock)
        ));
        release.wait();
        assert_eq!(store.read(b"k", Wait::Block, |v| v.len()).unwrap(), Some(1));
    });
}
