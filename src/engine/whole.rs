//! Any order of writes, loads, clears, compactions and moments leaves arenas, index and time wheels in agreement, byte for byte.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::arena::Arena;
use super::hash::{Hasher, HasherKind, Placer};
use super::{BulkLoad, Change, Clock, Keep, ManualClock, Options, Popped, Store, Ttl, Wait};

/// Values and deadlines; 0: none.
type Entry = (Vec<u8>, u64);
type Map = BTreeMap<Vec<u8>, Entry>;

const HOUR: u64 = 3_600_000;

#[derive(Clone, Debug)]
enum Op {
    Set(u16, usize),
    SetFor(u16, usize, u64),
    /// Of so many keys from this one on; 0: for good.
    Touch(u16, u16, u64),
    Wait(u64),
    Expire,
    Append(u16, usize),
    /// At this place.
    Write(u16, usize, usize),
    Delete(u16),
    SetMany(u16, u16, usize),
    DeleteMany(u16, u16),
    /// Rows pushed by each of two writers, from this key on, of this length.
    Push(u16, u16, usize),
    Merge,
    Discard,
    /// Ends the load, and begins another one with a ttl; 0: none.
    Next(bool, u64),
    Compact,
    Clear,
    Pop,
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0u16..3000;
    let len = || {
        prop_oneof![
            8 => 0usize..60,
            4 => 0usize..600,
            2 => 1900usize..2200,
            1 => 0usize..30_000,
        ]
    };
    let ttl = || prop_oneof![1 => Just(0), 3 => 1u64..2_000, 3 => 1u64..HOUR];
    prop_oneof![
        20 => (key(), len()).prop_map(|(k, l)| Op::Set(k, l)),
        20 => (key(), len(), ttl()).prop_map(|(k, l, t)| Op::SetFor(k, l, t)),
        20 => (key(), 1u16..400, ttl()).prop_map(|(k, n, t)| Op::Touch(k, n, t)),
        10 => (1u64..20_000).prop_map(Op::Wait),
        3 => Just(Op::Expire),
        10 => (key(), len()).prop_map(|(k, l)| Op::Append(k, l)),
        10 => (key(), len(), len()).prop_map(|(k, at, l)| Op::Write(k, at, l)),
        20 => key().prop_map(Op::Delete),
        10 => (key(), 1u16..400, 0usize..300).prop_map(|(k, n, l)| Op::SetMany(k, n, l)),
        10 => (key(), 1u16..600).prop_map(|(k, n)| Op::DeleteMany(k, n)),
        15 => (key(), 1u16..300, len()).prop_map(|(k, n, l)| Op::Push(k, n, l.min(3000))),
        10 => Just(Op::Merge),
        3 => Just(Op::Discard),
        3 => (any::<bool>(), ttl()).prop_map(|(first, t)| Op::Next(first, t)),
        3 => Just(Op::Compact),
        1 => Just(Op::Clear),
        5 => Just(Op::Pop),
    ]
}

fn key(i: u16) -> Vec<u8> {
    let i = i % 3000;
    let long = if i.is_multiple_of(10) { 80 } else { 0 };
    format!("{i}{}", "-".repeat(long)).into_bytes()
}

fn value(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + seed) as u8).collect()
}

fn check(store: &Store, map: &Map, clock: &ManualClock) {
    let now = clock.now();
    let mut entries = 0;
    let mut expiring = 0;
    for cell in store.cells() {
        let shard = cell.lock.read();
        let mut indexed = Vec::new();
        shard.index().for_each(|offset| indexed.push(offset));
        indexed.sort_unstable();
        let mut live = shard.arena().check();
        live.sort_unstable();
        assert_eq!(indexed, live);
        entries += indexed.len();
        let records = with_deadlines(shard.arena(), &indexed);
        assert_eq!(records, shard.expiring_records());
        let deadline = |offset: &u32| u128::from(shard.arena().record(*offset).expiry.deadline);
        let deadlines: u128 = indexed.iter().map(deadline).sum();
        assert_eq!(deadlines, shard.deadlines());
        expiring += records;
        // Entries that stand for nothing are no more than the others, and a third while a fresh wheel takes over.
        let most = 2 * records * 4 / 3 + 200;
        assert!(shard.wheel_entries() <= most, "{records} records");
    }
    assert_eq!(store.stats().expiring, expiring);
    let deadlines = map.values().filter(|(_, deadline)| *deadline != 0);
    assert_eq!(deadlines.clone().count() as u64, expiring);
    let average = deadlines.map(|(_, deadline)| deadline).sum::<u64>() / expiring.max(1);
    assert_eq!(store.stats().time_left, average.saturating_sub(now));
    assert_eq!(entries, map.len());
    assert_eq!(store.len(), map.len());
    let stats = store.stats();
    let bytes = |of: fn((&Vec<u8>, &Entry)) -> usize| map.iter().map(of).sum::<usize>() as u64;
    assert_eq!(stats.key_bytes, bytes(|(key, _)| key.len()));
    assert_eq!(stats.value_bytes, bytes(|(_, (value, _))| value.len()));
    for (key, (value, deadline)) in map {
        let there = *deadline == 0 || *deadline > now;
        assert_eq!(
            store.get(key).unwrap().as_ref(),
            there.then_some(value),
            "{deadline} at {now}"
        );
    }
}

fn with_deadlines(arena: &Arena, offsets: &[u32]) -> u64 {
    let expire = |offset: &&u32| arena.record(**offset).expiry.expires();
    offsets.iter().filter(expire).count() as u64
}

/// What is there for a read.
fn live<'m>(map: &'m Map, key: &[u8], clock: &ManualClock) -> Option<&'m Entry> {
    let is_live = |entry: &&Entry| entry.1 == 0 || entry.1 > clock.now();
    map.get(key).filter(is_live)
}

fn expire(store: &Store, map: &mut Map, clock: &ManualClock) {
    let before = map.len();
    map.retain(|_, (_, deadline)| *deadline == 0 || *deadline > clock.now());
    assert_eq!(store.expire().unwrap() as usize, before - map.len());
    assert_eq!(store.len(), map.len());
}

fn run(ops: Vec<Op>, shard_bits: u32) {
    let placer = Placer::new(Hasher::new(HasherKind::Fast, None), shard_bits);
    let clock = ManualClock::default();
    let options = Options {
        clock: Clock::Manual(clock.clone()),
        sweeps: false,
        ..Options::default()
    };
    let store = Store::with_placer(placer, &options).unwrap();
    let mut map = Map::new();
    let (mut keep, mut ttl) = (Keep::Last, 0);
    let mut bulk = BulkLoad::new(&store, 2, keep, Ttl::Never).unwrap();
    // Rows count their time from when their round began.
    let mut deadline = 0;
    let mut pushed: [Vec<(Vec<u8>, Vec<u8>)>; 2] = Default::default();
    let cancel = AtomicBool::new(false);
    for (step, op) in ops.into_iter().enumerate() {
        match op {
            Op::Set(k, len) => {
                let value = value(step, len);
                store.set(&key(k), &value, Wait::Block).unwrap();
                map.insert(key(k), (value, 0));
            }
            Op::SetFor(k, len, ttl) => {
                let value = value(step, len);
                store
                    .set_with(&key(k), &value, of(ttl), Wait::Block)
                    .unwrap();
                map.insert(key(k), (value, at(&clock, ttl)));
            }
            Op::Touch(k, n, ttl) => {
                for i in k..k + n {
                    let there = live(&map, &key(i), &clock).is_some();
                    assert_eq!(store.touch(&key(i), of(ttl), Wait::Block).unwrap(), there);
                    if there && let Some(entry) = map.get_mut(&key(i)) {
                        entry.1 = at(&clock, ttl);
                    }
                }
            }
            // What is pushed and not merged does not expire here.
            Op::Wait(time) if deadline == 0 || clock.now() + time < deadline => clock.advance(time),
            Op::Wait(_) => {}
            Op::Expire => expire(&store, &mut map, &clock),
            Op::Append(k, len) => {
                let tail = value(step, len);
                store.append(&key(k), &tail, Wait::Block).unwrap();
                let (mut value, deadline) =
                    live(&map, &key(k), &clock).cloned().unwrap_or_default();
                value.extend(tail);
                map.insert(key(k), (value, deadline));
            }
            Op::Write(k, at, len) => {
                let part = value(step, len);
                store
                    .modify(&key(k), Wait::Block, |_| {
                        Ok((Change::Write(at, Cow::Borrowed(&part)), ()))
                    })
                    .unwrap();
                let (mut value, deadline) =
                    live(&map, &key(k), &clock).cloned().unwrap_or_default();
                value.resize(value.len().max(at + len), 0);
                value[at..at + len].copy_from_slice(&part);
                map.insert(key(k), (value, deadline));
            }
            Op::Delete(k) => {
                let there = live(&map, &key(k), &clock).is_some();
                assert_eq!(store.delete(&key(k), Wait::Block).unwrap(), there);
                map.remove(&key(k));
            }
            Op::SetMany(k, n, len) => {
                for i in k..k + n {
                    let value = value(step + usize::from(i), len + usize::from(i % 7));
                    store.set(&key(i), &value, Wait::Block).unwrap();
                    map.insert(key(i), (value, 0));
                }
            }
            Op::DeleteMany(k, n) => {
                for i in k..k + n {
                    store.delete(&key(i), Wait::Block).unwrap();
                    map.remove(&key(i));
                }
            }
            Op::Push(k, n, len) => {
                for i in 0..n {
                    let row = (key(k + i / 2), value(step + usize::from(i), len));
                    let writer = usize::from(i % 2);
                    bulk.writers()[writer].push(&row.0, &row.1).unwrap();
                    pushed[writer].push(row);
                }
            }
            Op::Merge => {
                bulk.merge(&cancel).unwrap();
                for (key, value) in pushed.iter_mut().flat_map(|rows| rows.drain(..)) {
                    if keep == Keep::Last || live(&map, &key, &clock).is_none() {
                        map.insert(key, (value, deadline));
                    }
                }
                deadline = at(&clock, ttl);
            }
            Op::Discard => {
                bulk.writers()[0].discard();
                pushed[0].clear();
            }
            Op::Next(first, next_ttl) => {
                bulk.finish().unwrap();
                pushed = Default::default();
                keep = if first { Keep::First } else { Keep::Last };
                ttl = next_ttl;
                bulk = BulkLoad::new(&store, 2, keep, of(ttl)).unwrap();
                deadline = at(&clock, ttl);
            }
            Op::Compact => store.compact().unwrap(),
            Op::Clear => {
                store.clear().unwrap();
                map.clear();
            }
            Op::Pop => match store.pop_any().unwrap() {
                Some(Popped { key, value, .. }) => {
                    assert!(live(&map, &key, &clock).is_some());
                    assert_eq!(map.remove(&key).map(|entry| entry.0), Some(value));
                }
                None => assert!(map.keys().all(|key| live(&map, key, &clock).is_none())),
            },
        }
        if step % 16 == 0 {
            check(&store, &map, &clock);
        }
    }
    check(&store, &map, &clock);
    drop(bulk);
    check(&store, &map, &clock);
    // Each record with a deadline has an entry that fires no later: all of them are found, and nothing else.
    clock.advance(2 * HOUR);
    expire(&store, &mut map, &clock);
    assert!(map.values().all(|&(_, deadline)| deadline == 0));
    assert_eq!(store.stats().expiring, 0);
    check(&store, &map, &clock);
}

fn of(ttl: u64) -> Ttl {
    if ttl == 0 {
        Ttl::Never
    } else {
        Ttl::Millis(ttl)
    }
}

fn at(clock: &ManualClock, ttl: u64) -> u64 {
    if ttl == 0 { 0 } else { clock.now() + ttl }
}

proptest! {
    #[test]
    fn arenas_and_index_agree_after_anything(
        ops in prop::collection::vec(op(), 1..200), shard_bits in 0u32..4
    ) {
        run(ops, shard_bits);
    }
}
