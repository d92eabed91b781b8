//! Any order of writes, loads, clears and compactions leaves arenas and index in agreement, byte for byte.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::hash::{Hasher, HasherKind, Placer};
use super::{BulkLoad, Keep, Options, Popped, Store, Ttl, Wait};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Op {
    Set(u16, usize),
    Append(u16, usize),
    Delete(u16),
    SetMany(u16, u16, usize),
    DeleteMany(u16, u16),
    /// Rows pushed by each of two writers, from this key on, of this length.
    Push(u16, u16, usize),
    Merge,
    Discard,
    /// Ends the load, and begins another one.
    Next(bool),
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
    prop_oneof![
        20 => (key(), len()).prop_map(|(k, l)| Op::Set(k, l)),
        10 => (key(), len()).prop_map(|(k, l)| Op::Append(k, l)),
        20 => key().prop_map(Op::Delete),
        10 => (key(), 1u16..400, 0usize..300).prop_map(|(k, n, l)| Op::SetMany(k, n, l)),
        10 => (key(), 1u16..600).prop_map(|(k, n)| Op::DeleteMany(k, n)),
        15 => (key(), 1u16..300, len()).prop_map(|(k, n, l)| Op::Push(k, n, l.min(3000))),
        10 => Just(Op::Merge),
        3 => Just(Op::Discard),
        3 => any::<bool>().prop_map(Op::Next),
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

fn check(store: &Store, map: &Map) {
    let mut entries = 0;
    for cell in store.cells() {
        let shard = cell.lock.read();
        let mut indexed = Vec::new();
        shard.index().for_each(|offset| indexed.push(offset));
        indexed.sort_unstable();
        let mut live = shard.arena().check();
        live.sort_unstable();
        assert_eq!(indexed, live);
        entries += indexed.len();
    }
    assert_eq!(entries, map.len());
    assert_eq!(store.len(), map.len());
    let stats = store.stats();
    let bytes = |of: fn((&Vec<u8>, &Vec<u8>)) -> usize| map.iter().map(of).sum::<usize>() as u64;
    assert_eq!(stats.key_bytes, bytes(|(key, _)| key.len()));
    assert_eq!(stats.value_bytes, bytes(|(_, value)| value.len()));
    for (key, value) in map {
        assert_eq!(store.get(key).unwrap().as_ref(), Some(value));
    }
}

fn run(ops: Vec<Op>, shard_bits: u32) {
    let placer = Placer::new(Hasher::new(HasherKind::Fast, None), shard_bits);
    let store = Store::with_placer(placer, &Options::default()).unwrap();
    let mut map = Map::new();
    let mut keep = Keep::Last;
    let mut bulk = BulkLoad::new(&store, 2, keep, Ttl::Default).unwrap();
    let mut pushed: [Vec<(Vec<u8>, Vec<u8>)>; 2] = Default::default();
    let cancel = AtomicBool::new(false);
    for (step, op) in ops.into_iter().enumerate() {
        match op {
            Op::Set(k, len) => {
                let value = value(step, len);
                store.set(&key(k), &value, Wait::Block).unwrap();
                map.insert(key(k), value);
            }
            Op::Append(k, len) => {
                let tail = value(step, len);
                store.append(&key(k), &tail, Wait::Block).unwrap();
                map.entry(key(k)).or_default().extend(tail);
            }
            Op::Delete(k) => {
                let there = store.delete(&key(k), Wait::Block).unwrap();
                assert_eq!(there, map.remove(&key(k)).is_some());
            }
            Op::SetMany(k, n, len) => {
                for i in k..k + n {
                    let value = value(step + usize::from(i), len + usize::from(i % 7));
                    store.set(&key(i), &value, Wait::Block).unwrap();
                    map.insert(key(i), value);
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
                    match keep {
                        Keep::Last => drop(map.insert(key, value)),
                        Keep::First => drop(map.entry(key).or_insert(value)),
                    }
                }
            }
            Op::Discard => {
                bulk.writers()[0].discard();
                pushed[0].clear();
            }
            Op::Next(first) => {
                bulk.finish().unwrap();
                pushed = Default::default();
                keep = if first { Keep::First } else { Keep::Last };
                bulk = BulkLoad::new(&store, 2, keep, Ttl::Default).unwrap();
            }
            Op::Compact => store.compact().unwrap(),
            Op::Clear => {
                store.clear().unwrap();
                map.clear();
            }
            Op::Pop => match store.pop_any().unwrap() {
                Some(Popped { key, value, .. }) => assert_eq!(map.remove(&key), Some(value)),
                None => assert!(map.is_empty()),
            },
        }
        if step % 16 == 0 {
            check(&store, &map);
        }
    }
    check(&store, &map);
    drop(bulk);
    check(&store, &map);
}

proptest! {
    #[test]
    fn arenas_and_index_agree_after_anything(
        ops in prop::collection::vec(op(), 1..200), shard_bits in 0u32..4
    ) {
        run(ops, shard_bits);
    }
}
