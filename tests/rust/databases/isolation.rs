use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use atbr::engine::{Change, Event, Ttl, Wait};

use super::{databases, set};

const KEYS: u32 = 64;
/// Between exchanges, which take every lock there is.
const PAUSE: Duration = Duration::from_micros(500);

fn number(value: Option<&[u8]>) -> i64 {
    value.map_or(0, |value| i64::from_le_bytes(value.try_into().unwrap()))
}

/// A step of a generator of numbers.
fn next(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Rounds of all writers together.
const ROUNDS: u64 = if cfg!(debug_assertions) {
    30_000
} else {
    200_000
};
const MANY: u64 = 1_000_000;

#[test]
fn what_moves_between_keys_is_never_seen_twice_or_not_at_all() {
    move_between_keys(ROUNDS / 3);
}

#[test]
#[ignore = "takes minutes"]
fn what_moves_between_keys_is_never_seen_twice_or_not_at_all_for_long() {
    move_between_keys(MANY / 3 + 1);
}

#[test]
fn pairs_are_written_together_while_single_keys_and_the_number_change() {
    write_pairs(ROUNDS / 2);
}

#[test]
#[ignore = "takes minutes"]
fn pairs_are_written_together_while_single_keys_and_the_number_change_for_long() {
    write_pairs(MANY / 2);
}

/// Amounts move between keys in different shards and databases while databases are exchanged: their sum stays, for everybody who
/// looks at all of them at once.
fn move_between_keys(rounds: u64) {
    let databases = databases();
    let key = |i: u64| (i as u32 % KEYS).to_le_bytes();
    for db in [0, 4] {
        for i in 0..u64::from(KEYS) {
            set(&databases, db, &key(i), &100i64.to_le_bytes());
        }
    }
    let total = 2 * 100 * i64::from(KEYS);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let movers: Vec<_> = (1..=3u64)
            .map(|mut state| {
                let databases = &databases;
                scope.spawn(move || {
                    for _ in 0..rounds {
                        let (from, to) = (key(next(&mut state)), key(next(&mut state)));
                        let (a, b) = if next(&mut state).is_multiple_of(2) {
                            (0, 4)
                        } else {
                            (4, 0)
                        };
                        databases
                            .with_locked(&[(a, from), (b, to)], |locked| {
                                let old =
                                    locked.get(a, &from)?.map(|e| e.value.as_slice().to_vec());
                                let left = number(old.as_deref()) - 1;
                                locked.set(
                                    a,
                                    &from,
                                    &left.to_le_bytes(),
                                    Ttl::Never,
                                    Event::Set,
                                )?;
                                locked.modify_up_to(b, &to, 8, None, |old| {
                                    let more = number(old.map(|e| e.value.as_slice())) + 1;
                                    Ok((Change::Put(more.to_le_bytes().to_vec().into()), ()))
                                })
                            })
                            .unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                databases.swap(0, 4).unwrap();
                thread::sleep(PAUSE);
            }
        });
        scope.spawn(|| {
            let keys: Vec<_> = (0..u64::from(KEYS))
                .flat_map(|i| [(0, key(i)), (4, key(i))])
                .collect();
            while !done.load(Ordering::Relaxed) {
                let mut sum = 0;
                databases
                    .with_locked(&keys, |locked| {
                        for (db, key) in &keys {
                            sum += number(locked.get(*db, key)?.map(|e| e.value.as_slice()));
                        }
                        Ok(())
                    })
                    .unwrap();
                assert_eq!(sum, total);
            }
        });
        movers.into_iter().for_each(|mover| mover.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
}

/// Two keys hold the same value for everybody, whoever writes: single writers of either door keep to their own keys.
fn write_pairs(rounds: u64) {
    let databases = databases();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..2u64)
            .map(|writer| {
                let databases = &databases;
                scope.spawn(move || {
                    for i in 0..rounds {
                        let value = (writer << 32 | i).to_le_bytes();
                        databases
                            .with_locked(&[(1, "left"), (1, "right")], |locked| {
                                locked.set(1, b"left", &value, Ttl::Never, Event::Set)?;
                                locked.set(1, b"right", &value, Ttl::Never, Event::Set)
                            })
                            .unwrap();
                        databases
                            .set(1, b"single", &value, Ttl::Never, Event::Set)
                            .unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let store = databases.get_or_make(2).unwrap();
            while !done.load(Ordering::Relaxed) {
                store.set(b"by handle", b"1", Wait::Block).unwrap();
                databases.swap(1, 3).unwrap();
                databases.swap(3, 1).unwrap();
                thread::sleep(PAUSE);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                databases
                    .with_locked(&[(1, "right"), (1, "left")], |locked| {
                        let left = locked.get(1, b"left")?.map(|e| e.value.as_slice().to_vec());
                        let right = locked
                            .get(1, b"right")?
                            .map(|e| e.value.as_slice().to_vec());
                        assert_eq!(left, right);
                        Ok(())
                    })
                    .unwrap();
            }
        });
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
}
