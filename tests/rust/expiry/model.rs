//! Any sequence of operations does what it does to a map with deadlines.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use atbr::engine::{
    Batch, BulkLoad, Change, Filter, Keep, ManualClock, Page, Popped, Store, Ttl, Wait,
};
use proptest::prelude::*;

use crate::make;

const NEVER: u64 = u64::MAX;
const TEN_YEARS: u64 = 315_576_000_000;
/// A store can tell deadlines for 34 years.
const LAST: u64 = 2 * TEN_YEARS;

/// Values and deadlines, some of which have passed.
type Entry = (Vec<u8>, u64);
type Map = BTreeMap<Vec<u8>, Entry>;
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

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
