//! Entries that expire, against a map with deadlines; what their wheels cost, and what a step of sweeping does. Time is moved.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use atbr::Error;
use atbr::engine::{
    Batch, BulkLoad, Change, Clock, Filter, Keep, ManualClock, Options, Page, Popped, Store, Ttl,
    Wait, Watch,
};
use proptest::prelude::*;

const NEVER: u64 = u64::MAX;
const TEN_YEARS: u64 = 315_576_000_000;
/// A store can tell deadlines for 34 years.
const LAST: u64 = 2 * TEN_YEARS;

/// Values and deadlines, some of which have passed.
type Entry = (Vec<u8>, u64);
type Map = BTreeMap<Vec<u8>, Entry>;
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn make(clock: &ManualClock, ttl: Ttl, sweeps: bool) -> Store {
    Store::new(&Options {
        clock: Clock::Manual(clock.clone()),
        ttl,
        sweeps,
        ..Options::default()
    })
    .unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Set(Vec<u8>, Vec<u8>, Ttl),
    SetMany(Rows, Ttl),
    Add(Vec<u8>, Vec<u8>, Ttl),
    Incr(Vec<u8>, Ttl),
    Append(Vec<u8>, Vec<u8>),
    Swap(Vec<u8>, Vec<u8>, Vec<u8>),
    Touch(Vec<u8>, Ttl),
    TouchAll(Ttl),
    Persist(Vec<u8>),
    /// What [`Store::modify`] does, by number.
    Modify(Vec<u8>, u8, Vec<u8>, Ttl),
    Locked(Vec<u8>, Vec<u8>, Ttl),
    Delete(Vec<u8>),
    DeleteMany(Vec<Vec<u8>>),
    PopAny,
    /// Rounds of rows, with time passing after each.
    Load(Vec<(Rows, u64)>, bool, Ttl),
    Wait(u64),
    /// To the deadline of an entry, or a millisecond before.
    WaitFor(usize, bool),
    Expire,
    Compact,
    Clear,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0u32..60).prop_map(|n| format!("k{n}").into_bytes()),
        1 => Just(Vec::new()),
        2 => (61usize..66).prop_map(|n| vec![b'x'; n]),
        1 => prop_oneof![Just(2000usize), Just(2035), Just(2046), Just(65536)].prop_map(|n| vec![b'y'; n]),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let filled = |len: usize| any::<u8>().prop_map(move |b| vec![b; len]);
    prop_oneof![
        8 => (0usize..40).prop_flat_map(filled),
        2 => (125usize..130).prop_flat_map(filled),
        3 => (1960usize..2060).prop_flat_map(filled),
        1 => (16000usize..17000).prop_flat_map(filled),
    ]
}

fn span() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 1u64..300,
        2 => prop_oneof![Just(128u64), Just(8192), Just(524_288), Just(33_554_432), Just(TEN_YEARS)],
        2 => (0u32..38).prop_flat_map(|bits| (1u64 << bits)..(2u64 << bits)).prop_map(|ms| ms.min(TEN_YEARS)),
    ]
}

fn ttl() -> impl Strategy<Value = Ttl> {
    prop_oneof![
        2 => Just(Ttl::Default),
        1 => Just(Ttl::Never),
        5 => span().prop_map(Ttl::Millis),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let pairs = || prop::collection::vec((key(), value()), 0..40);
    let rounds = prop::collection::vec((pairs(), prop_oneof![Just(0), span()]), 1..4);
    prop_oneof![
        15 => (key(), value(), ttl()).prop_map(|(k, v, t)| Op::Set(k, v, t)),
        4 => (pairs(), ttl()).prop_map(|(p, t)| Op::SetMany(p, t)),
        4 => (key(), value(), ttl()).prop_map(|(k, v, t)| Op::Add(k, v, t)),
        3 => ((0u32..5).prop_map(|n| format!("n{n}").into_bytes()), ttl()).prop_map(|(k, t)| Op::Incr(k, t)),
        4 => (key(), value()).prop_map(|(k, v)| Op::Append(k, v)),
        4 => (key(), value(), value()).prop_map(|(k, a, b)| Op::Swap(k, a, b)),
        10 => (key(), ttl()).prop_map(|(k, t)| Op::Touch(k, t)),
        3 => ttl().prop_map(Op::TouchAll),
        4 => key().prop_map(Op::Persist),
        6 => (key(), 0u8..6, value(), ttl()).prop_map(|(k, n, v, t)| Op::Modify(k, n, v, t)),
        3 => (key(), value(), ttl()).prop_map(|(k, v, t)| Op::Locked(k, v, t)),
        6 => key().prop_map(Op::Delete),
        2 => prop::collection::vec(key(), 0..40).prop_map(Op::DeleteMany),
        4 => Just(Op::PopAny),
        4 => (rounds, any::<bool>(), ttl()).prop_map(|(r, last, t)| Op::Load(r, last, t)),
        8 => span().prop_map(Op::Wait),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(n, early)| Op::WaitFor(n, early)),
        6 => Just(Op::Expire),
        2 => Just(Op::Compact),
        1 => Just(Op::Clear),
    ]
}

/// A store and the map that it should be as.
struct Pair {
    clock: ManualClock,
    default: Ttl,
    store: Rc<Store>,
    map: Map,
    /// Entries that were taken out after their deadlines.
    expirations: u64,
}

impl Pair {
    fn deadline(&self, ttl: Ttl) -> u64 {
        match if ttl == Ttl::Default {
            self.default
        } else {
            ttl
        } {
            Ttl::Millis(ttl) => self.clock.now() + ttl,
            _ => NEVER,
        }
    }

    /// The entry of a key that is there.
    fn live(&self, key: &[u8]) -> Option<&Entry> {
        self.map.get(key).filter(|(_, at)| *at > self.clock.now())
    }

    /// A write or a delete meets the key: what has expired is gone then, and was taken out.
    fn meet(&mut self, key: &[u8]) -> Option<Entry> {
        if self.map.contains_key(key) && self.live(key).is_none() {
            self.map.remove(key);
            self.expirations += 1;
        }
        self.map.get(key).cloned()
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>, deadline: u64) -> bool {
        let new = self.meet(&key).is_none();
        self.map.insert(key, (value, deadline));
        new
    }

    fn live_len(&self) -> usize {
        self.map
            .values()
            .filter(|(_, at)| *at > self.clock.now())
            .count()
    }

    fn touch(&mut self, key: &[u8], ttl: Ttl) {
        let there = self.live(key).is_some();
        assert_eq!(self.store.touch(key, ttl, Wait::Block).unwrap(), there);
        let deadline = self.deadline(ttl);
        if there && let Some(entry) = self.map.get_mut(key) {
            entry.1 = deadline;
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Set(k, v, ttl) => {
                let new = self.store.set_with(&k, &v, ttl, Wait::Block).unwrap();
                let deadline = self.deadline(ttl);
                assert_eq!(new, self.put(k, v, deadline));
            }
            Op::SetMany(pairs, ttl) => {
                let borrowed: Vec<(&[u8], &[u8])> =
                    pairs.iter().map(|(k, v)| (&k[..], &v[..])).collect();
                let new = self.store.set_many(&borrowed, ttl).unwrap();
                let deadline = self.deadline(ttl);
                let put = |(k, v)| usize::from(self.put(k, v, deadline));
                assert_eq!(new, pairs.into_iter().map(put).sum::<usize>());
            }
            Op::Add(k, v, ttl) => {
                let there = self.live(&k).is_some();
                assert_eq!(self.store.add(&k, &v, ttl, Wait::Block).unwrap(), !there);
                let deadline = self.deadline(ttl);
                if !there {
                    self.put(k, v, deadline);
                }
            }
            Op::Incr(k, ttl) => {
                let (old, deadline) = match self.live(&k) {
                    Some((value, at)) => {
                        (std::str::from_utf8(value).unwrap().parse().unwrap(), *at)
                    }
                    None => (5, self.deadline(ttl)),
                };
                let sum = self.store.incr(&k, 7, 5, ttl, Wait::Block).unwrap();
                assert_eq!(sum, old + 7);
                self.put(k, sum.to_string().into_bytes(), deadline);
            }
            Op::Append(k, v) => {
                let (mut value, at) = match self.live(&k) {
                    Some(entry) => entry.clone(),
                    None => (Vec::new(), self.deadline(Ttl::Default)),
                };
                value.extend_from_slice(&v);
                let len = self.store.append(&k, &v, Wait::Block).unwrap();
                assert_eq!(len, value.len());
                self.put(k, value, at);
            }
            Op::Swap(k, other, new) => {
                // As often with the right value as with a wrong one, or with none.
                let there = self.live(&k).cloned();
                let expected = match (other.len() % 3, &there) {
                    (0, Some((value, _))) => Some(value.clone()),
                    (1, _) => Some(other),
                    _ => None,
                };
                let is = there.as_ref().map(|(value, _)| value) == expected.as_ref();
                let swapped =
                    self.store
                        .compare_and_set(&k, expected.as_deref(), &new, Wait::Block);
                assert_eq!(swapped.unwrap(), is);
                if is {
                    let deadline = there.map_or(self.deadline(Ttl::Default), |(_, at)| at);
                    self.put(k, new, deadline);
                }
            }
            Op::Touch(k, ttl) => self.touch(&k, ttl),
            Op::TouchAll(ttl) => {
                let keys: Vec<_> = self.map.keys().cloned().collect();
                keys.iter().for_each(|key| self.touch(key, ttl));
            }
            Op::Persist(k) => {
                let expires = self.live(&k).is_some_and(|(_, at)| *at != NEVER);
                assert_eq!(self.store.persist(&k, Wait::Block).unwrap(), expires);
                if expires && let Some(entry) = self.map.get_mut(&k) {
                    entry.1 = NEVER;
                }
            }
            Op::Modify(k, number, v, ttl) => self.modify(k, number, v, ttl),
            Op::Locked(k, v, ttl) => {
                let there = self.live(&k).cloned();
                self.store
                    .with_locked(&[&k], |locked| {
                        let seen = locked.get(&k)?.map(|value| value.as_slice().to_vec());
                        assert_eq!(seen, there.as_ref().map(|(value, _)| value.clone()));
                        assert_eq!(locked.delete(&k)?, there.is_some());
                        assert!(locked.set(&k, &v, ttl)?);
                        Ok(())
                    })
                    .unwrap();
                let deadline = self.deadline(ttl);
                self.put(k, v, deadline);
            }
            Op::Delete(k) => {
                let there = self.meet(&k).is_some();
                assert_eq!(self.store.delete(&k, Wait::Block).unwrap(), there);
                self.map.remove(&k);
            }
            Op::DeleteMany(keys) => {
                let borrowed: Vec<&[u8]> = keys.iter().map(|k| &k[..]).collect();
                let mut batch = Batch::default();
                self.store.get_many(&borrowed, &mut batch).unwrap();
                for (i, key) in keys.iter().enumerate() {
                    assert_eq!(batch.get(i), self.live(key).map(|(value, _)| &value[..]));
                }
                let deleted = self.store.delete_many(&borrowed).unwrap();
                let gone = keys.iter().filter(|key| {
                    let there = self.meet(key).is_some();
                    self.map.remove(*key);
                    there
                });
                assert_eq!(deleted, gone.count());
            }
            Op::PopAny => match self.store.pop_any().unwrap() {
                Some(Popped {
                    key,
                    value,
                    time_left,
                    ..
                }) => {
                    let (expected, at) = self.map.remove(&key).unwrap();
                    assert_eq!(value, expected);
                    assert_eq!(time_left, (at != NEVER).then(|| at - self.clock.now()));
                    assert_ne!(time_left, Some(0));
                }
                None => assert_eq!(self.live_len(), 0),
            },
            Op::Load(rounds, last, ttl) => {
                let keep = if last { Keep::Last } else { Keep::First };
                self.load(rounds, keep, ttl);
            }
            Op::Wait(span) => {
                if self.clock.now() + span < LAST {
                    self.clock.advance(span);
                }
            }
            Op::WaitFor(pick, early) => {
                let now = self.clock.now();
                let later: Vec<u64> = self
                    .map
                    .values()
                    .map(|entry| entry.1)
                    .filter(|at| (now + 1..NEVER).contains(at))
                    .collect();
                if !later.is_empty() {
                    let at = later[pick % later.len()];
                    if at < LAST {
                        self.clock.advance(at - now - u64::from(early));
                    }
                }
            }
            Op::Expire => self.expire(),
            Op::Compact => self.store.compact().unwrap(),
            Op::Clear => {
                self.store.clear().unwrap();
                self.map.clear();
            }
        }
    }

    fn modify(&mut self, k: Vec<u8>, number: u8, v: Vec<u8>, ttl: Ttl) {
        let there = self.live(&k).cloned();
        let now = self.clock.now();
        self.store
            .modify(&k, Wait::Block, |entry| {
                let seen = entry.map(|e| (e.value.as_slice().to_vec(), e.time_left));
                let left = |at: u64| (at != NEVER).then(|| at - now);
                assert_eq!(seen, there.clone().map(|(value, at)| (value, left(at))));
                let change = match number {
                    0 => Change::Keep,
                    1 => Change::Put((&v).into()),
                    2 => Change::Set((&v).into(), ttl),
                    3 => Change::Append(&v),
                    4 => Change::Expire(ttl),
                    _ => Change::Delete,
                };
                Ok((change, ()))
            })
            .unwrap();
        let kept = there
            .as_ref()
            .map_or(self.deadline(Ttl::Default), |(_, at)| *at);
        let deadline = self.deadline(ttl);
        match (number, there) {
            (1, _) => drop(self.put(k, v, kept)),
            (2, _) => drop(self.put(k, v, deadline)),
            (3, there) => {
                let mut value = there.map(|(value, _)| value).unwrap_or_default();
                value.extend(v);
                self.put(k, value, kept);
            }
            (4, Some((value, _))) => drop(self.put(k, value, deadline)),
            (5, Some(_)) => drop(self.map.remove(&k)),
            _ => {}
        }
    }

    /// A deadline counts from the beginning of the round that a row is in.
    fn load(&mut self, rounds: Vec<(Rows, u64)>, keep: Keep, ttl: Ttl) {
        let store = Rc::clone(&self.store);
        let mut bulk = BulkLoad::new(&store, 3, keep, ttl).unwrap();
        for (rows, pause) in rounds {
            let deadline = self.deadline(ttl);
            let share = rows.len().div_ceil(3).max(1);
            for (writer, part) in bulk.writers().iter_mut().zip(rows.chunks(share)) {
                for (key, value) in part {
                    writer.push(key, value).unwrap();
                }
            }
            // No round takes as long as its rows live.
            let now = self.clock.now();
            let pause = pause % (deadline.min(LAST).max(now + 1) - now);
            self.clock.advance(pause);
            let merged = bulk.merge(&AtomicBool::new(false)).unwrap();
            let (mut new, mut replaced, count) = (0, 0, rows.len() as u64);
            for (k, v) in rows {
                let there = self.meet(&k).is_some();
                new += u64::from(!there);
                if !there || keep == Keep::Last {
                    replaced += u64::from(there);
                    self.map.insert(k, (v, deadline));
                }
            }
            let expected = (count, new, replaced);
            assert_eq!((merged.rows, merged.new, merged.replaced), expected);
        }
        bulk.finish().unwrap();
    }

    fn expire(&mut self) {
        let live = self.live_len();
        let due = (self.map.len() - live) as u64;
        assert_eq!(self.store.expire().unwrap(), due);
        self.expirations += due;
        let now = self.clock.now();
        self.map.retain(|_, (_, at)| *at > now);
        assert_eq!(self.store.len(), live);
        assert_eq!(self.store.is_empty(), live == 0);
    }

    fn check(&self) {
        let now = self.clock.now();
        let mut found = BTreeMap::new();
        let (mut page, mut cursor) = (Page::default(), 0);
        loop {
            cursor = self
                .store
                .scan(cursor, &Filter::default(), 100, true, &mut page)
                .unwrap();
            for i in 0..page.len() {
                let at = page.time_left(i).map_or(NEVER, |left| now + left);
                let entry = (page.value(i).to_vec(), at);
                assert!(found.insert(page.key(i).to_vec(), entry).is_none());
            }
            if cursor == 0 {
                break;
            }
        }
        let live: Map = self
            .map
            .iter()
            .filter(|(_, (_, at))| *at > now)
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        assert_eq!(found, live);
        for (key, (value, at)) in &self.map {
            let there = *at > now;
            assert_eq!(
                self.store.get(key).unwrap().as_ref(),
                there.then_some(value)
            );
            assert_eq!(self.store.contains(key, Wait::Block).unwrap(), there);
            let left = (*at != NEVER).then(|| at.saturating_sub(now));
            assert_eq!(
                self.store.time_left(key, Wait::Block).unwrap(),
                there.then_some(left)
            );
        }
        // Nobody sweeps but this thread, so the map has what the store has, expired entries included.
        let stats = self.store.stats();
        assert_eq!(self.store.len(), self.map.len());
        assert_eq!(stats.entries as usize, self.map.len());
        let expiring = self.map.values().filter(|(_, at)| *at != NEVER).count();
        assert_eq!(stats.expiring as usize, expiring);
        assert_eq!(stats.expirations, self.expirations);
        let bytes =
            |of: fn((&Vec<u8>, &Entry)) -> usize| self.map.iter().map(of).sum::<usize>() as u64;
        assert_eq!(stats.key_bytes, bytes(|(key, _)| key.len()));
        assert_eq!(stats.value_bytes, bytes(|(_, (value, _))| value.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_agrees_with_a_map_with_deadlines(
        ops in prop::collection::vec(op(), 1..120),
        default in prop_oneof![Just(Ttl::Never), span().prop_map(Ttl::Millis)],
        start in 0u64..100_000,
    ) {
        let clock = ManualClock::default();
        clock.advance(start);
        let store = Rc::new(make(&clock, default, false));
        let mut pair = Pair { clock, default, store, map: Map::new(), expirations: 0 };
        for op in ops {
            let settles = matches!(op, Op::Expire | Op::Load(..) | Op::Compact | Op::TouchAll(_));
            pair.apply(op);
            if settles {
                pair.check();
            }
        }
        pair.check();
        pair.expire();
        pair.check();
        // The last deadline is in ten years at most.
        pair.clock.advance(TEN_YEARS);
        pair.expire();
        pair.check();
        prop_assert_eq!(pair.store.stats().expiring, 0);
    }
}

fn key_of(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

fn rounds() -> u64 {
    if cfg!(debug_assertions) {
        1_000_000
    } else {
        10_000_000
    }
}

/// Fails where the bytes of a store rise while `write` is called ten million times.
fn stays_flat(what: &str, store: &Store, mut write: impl FnMut(u64)) {
    (0..200_000).for_each(&mut write);
    let most = store.stats().bytes_allocated;
    for part in 0..10 {
        let share = rounds() / 10;
        (part * share..(part + 1) * share).for_each(&mut write);
        let now = store.stats().bytes_allocated;
        assert!(
            now <= most + most / 4,
            "{what}: {most} bytes before, {now} after part {part}"
        );
    }
}

#[test]
fn ten_million_touches_of_one_key_leave_the_memory_flat() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    store.set(b"session", b"data", Wait::Block).unwrap();
    stays_flat("touches", &store, |i| {
        clock.advance(i % 2);
        store
            .touch(b"session", Ttl::Millis(1_800_000), Wait::Block)
            .unwrap();
    });
    // Each touch a little earlier, so that each is news for the wheel.
    stays_flat("earlier and earlier", &store, |i| {
        let ttl = Ttl::Millis(1_800_000 - i % 1_700_000);
        store.touch(b"session", ttl, Wait::Block).unwrap();
    });
    clock.advance(1_800_000);
    assert_eq!(store.expire().unwrap(), 1);
    assert_eq!(store.stats().expiring, 0);
}

#[test]
fn ten_million_sets_of_ten_seconds_and_an_hour_leave_the_memory_flat() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    stays_flat("alternating sets", &store, |i| {
        let ttl = if i % 2 == 0 { 10_000 } else { 3_600_000 };
        store
            .set_with(b"key", b"value", Ttl::Millis(ttl), Wait::Block)
            .unwrap();
    });
    clock.advance(3_600_000);
    assert_eq!(store.expire().unwrap(), 1);
}

#[test]
fn ten_million_sets_and_deletes_leave_the_memory_flat() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    stays_flat("sets and deletes", &store, |i| {
        let key = key_of(i % 1_000);
        store
            .set_with(&key, b"value", Ttl::Millis(3_600_000), Wait::Block)
            .unwrap();
        store.delete(&key, Wait::Block).unwrap();
    });
    stays_flat("sets and deletes of a thousand", &store, |i| {
        let key = key_of(i % 1_000);
        if i / 1_000 % 2 == 0 {
            store
                .set_with(&key, b"value", Ttl::Millis(3_600_000), Wait::Block)
                .unwrap();
        } else {
            store.delete(&key, Wait::Block).unwrap();
        }
    });
}

#[test]
fn entries_that_expire_while_others_come_leave_the_memory_flat() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    stays_flat("a stream", &store, |i| {
        let value = [7; 100];
        let ttl = Ttl::Millis(1 + i % 1_000);
        store
            .set_with(&key_of(i), &value[..(i % 100) as usize], ttl, Wait::Block)
            .unwrap();
        if i % 100 == 0 {
            clock.advance(10);
        }
        if i % 10_000 == 0 {
            store.expire().unwrap();
        }
    });
    clock.advance(2_000);
    store.expire().unwrap();
    assert!(store.is_empty());
}

#[test]
fn a_deadline_costs_five_bytes_and_a_share_of_the_wheel() {
    const ENTRIES: u64 = 200_000;
    let clock = ManualClock::default();
    let (plain, store) = (
        make(&clock, Ttl::Never, false),
        make(&clock, Ttl::Never, false),
    );
    for i in 0..ENTRIES {
        plain
            .set(&key_of(i), b"0123456789abcdef", Wait::Block)
            .unwrap();
        let ttl = Ttl::Millis(3_600_000 + i % 60_000);
        store
            .set_with(&key_of(i), b"0123456789abcdef", ttl, Wait::Block)
            .unwrap();
    }
    let more = store.stats().bytes_allocated - plain.stats().bytes_allocated;
    // Flags and deadline, 6 bytes, and the wheel's 4 and a half; what chunks have left over is the rest.
    assert!(more < ENTRIES * 14, "{more} bytes more");
}

#[test]
fn a_write_does_a_bounded_amount_of_work_beside_millions_of_entries_that_are_due() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    for i in 0..1_000_000 {
        store
            .set_with(&key_of(i), &key_of(i), Ttl::Millis(1_000), Wait::Block)
            .unwrap();
    }
    clock.advance(2_000);
    for i in 0..200_000 {
        store
            .set_with(&key_of(i * 5), b"", Ttl::Millis(1_000), Wait::Block)
            .unwrap();
        store.delete(&key_of(i * 5 + 1), Wait::Block).unwrap();
    }
    let stats = store.stats();
    assert!(stats.most_slots_moved <= 200 * 48, "{stats:?}");
    assert!(stats.most_bytes_copied <= 16 * 1024 + 16, "{stats:?}");
    assert_eq!(stats.expirations, 400_000);
    assert_eq!(store.expire().unwrap(), 600_000);
    assert_eq!(store.len(), 200_000);
}

#[test]
fn expiring_is_cancelled_between_steps_and_goes_on_where_it_was() {
    let clock = ManualClock::default();
    let store = make(&clock, Ttl::Never, false);
    for i in 0..100_000 {
        store
            .set_with(&key_of(i), b"", Ttl::Millis(1_000), Wait::Block)
            .unwrap();
    }
    clock.advance(2_000);
    let mut expired = 0;
    for steps in [1, 2, 100, 1_000] {
        let mut left = steps;
        let outcome = store.expire_while(&mut || {
            left -= 1;
            left > 0
        });
        assert!(matches!(outcome, Err(Error::Cancelled)));
        let taken = store.stats().expirations - expired;
        // A step is 32 entries of one shard.
        assert!(taken <= steps * 32, "{taken} in {steps} steps");
        expired += taken;
    }
    assert_eq!(store.expire().unwrap(), 100_000 - expired);
}

/// What a sweep that is cut short at any step leaves behind is as before but for the entries it took.
#[test]
fn a_sweep_that_stops_anywhere_leaves_the_store_whole() {
    for stop in 0..40 {
        let clock = ManualClock::default();
        let store = make(&clock, Ttl::Never, false);
        for i in 0..2_000 {
            let ttl = Ttl::Millis(if i % 4 == 0 { 100_000 } else { 100 + i % 300 });
            store
                .set_with(&key_of(i), &[1; 50], ttl, Wait::Block)
                .unwrap();
        }
        clock.advance(250);
        let mut steps = 0;
        let _ = store.expire_while(&mut || {
            steps += 1;
            steps <= stop * 5
        });
        for i in 0..2_000 {
            let there = i % 4 == 0 || 100 + i % 300 > 250;
            assert_eq!(store.contains(&key_of(i), Wait::Block).unwrap(), there);
        }
        clock.advance(150);
        store.expire().unwrap();
        assert_eq!(store.len(), 500);
        clock.advance(100_000);
        assert_eq!(store.expire().unwrap(), 500);
    }
}

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
