//! The store against a plain map.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use atbr::Error;
use atbr::engine::{
    Batch, BulkLoad, Filter, Glob, HasherKind, Keep, Options, Page, Popped, Store, Ttl, Wait,
};
use proptest::prelude::*;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn store() -> Store {
    Store::new(&Options::default()).unwrap()
}

fn contents(store: &Store) -> Map {
    let mut map = Map::new();
    let mut page = Page::default();
    let mut cursor = 0;
    loop {
        cursor = store
            .scan(cursor, &Filter::default(), 100, true, &mut page)
            .unwrap();
        for i in 0..page.len() {
            let old = map.insert(page.key(i).to_vec(), page.value(i).to_vec());
            assert!(old.is_none(), "a key was yielded twice");
        }
        if cursor == 0 {
            return map;
        }
    }
}

fn check(store: &Store, map: &Map) {
    assert_eq!(store.len(), map.len());
    assert_eq!(&contents(store), map);
    for (key, value) in map {
        assert_eq!(store.get(key).unwrap().as_ref(), Some(value));
    }
    let stats = store.stats();
    assert_eq!(stats.entries as usize, map.len());
    assert_eq!(
        stats.key_bytes as usize,
        map.keys().map(Vec::len).sum::<usize>()
    );
    assert_eq!(
        stats.value_bytes as usize,
        map.values().map(Vec::len).sum::<usize>()
    );
}

#[derive(Clone, Debug)]
enum Op {
    Set(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Append(Vec<u8>, Vec<u8>),
    Add(Vec<u8>, Vec<u8>),
    Swap(Vec<u8>, Vec<u8>, Vec<u8>),
    PopAny,
    SetMany(Vec<(Vec<u8>, Vec<u8>)>),
    DeleteMany(Vec<Vec<u8>>),
    Load(Vec<(Vec<u8>, Vec<u8>)>, bool),
    Compact,
    Reserve(usize),
    Clear,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0u32..200).prop_map(|n| format!("k{n}").into_bytes()),
        1 => Just(Vec::new()),
        1 => (60usize..70).prop_map(|n| vec![b'x'; n]),
        1 => prop_oneof![Just(2000usize), Just(2046), Just(2050), Just(65536)].prop_map(|n| vec![b'y'; n]),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let filled = |len: usize| any::<u8>().prop_map(move |b| vec![b; len]);
    prop_oneof![
        8 => (0usize..40).prop_flat_map(filled),
        2 => (120usize..140).prop_flat_map(filled),
        2 => (1900usize..2100).prop_flat_map(filled),
        1 => (16000usize..17000).prop_flat_map(filled),
        1 => (65000usize..66000).prop_flat_map(filled),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let pairs = || prop::collection::vec((key(), value()), 0..80);
    prop_oneof![
        20 => (key(), value()).prop_map(|(k, v)| Op::Set(k, v)),
        10 => key().prop_map(Op::Delete),
        5 => (key(), value()).prop_map(|(k, v)| Op::Append(k, v)),
        5 => (key(), value()).prop_map(|(k, v)| Op::Add(k, v)),
        5 => (key(), value(), value()).prop_map(|(k, a, b)| Op::Swap(k, a, b)),
        4 => Just(Op::PopAny),
        4 => pairs().prop_map(Op::SetMany),
        2 => prop::collection::vec(key(), 0..80).prop_map(Op::DeleteMany),
        4 => (pairs(), any::<bool>()).prop_map(|(p, last)| Op::Load(p, last)),
        1 => Just(Op::Compact),
        1 => (0usize..100_000).prop_map(Op::Reserve),
        1 => Just(Op::Clear),
    ]
}

fn load(store: &Store, pairs: &[(Vec<u8>, Vec<u8>)], keep: Keep) -> (u64, u64) {
    let mut bulk = BulkLoad::new(store, 3, keep, Ttl::Default).unwrap();
    let (mut new, mut replaced) = (0, 0);
    // Two rounds, each over three writers in order.
    for round in pairs.chunks(pairs.len().div_ceil(2).max(1)) {
        let share = round.len().div_ceil(3).max(1);
        for (writer, part) in bulk.writers().iter_mut().zip(round.chunks(share)) {
            for (key, value) in part {
                writer.push(key, value).unwrap();
            }
        }
        let merged = bulk.merge(&AtomicBool::new(false)).unwrap();
        assert_eq!(merged.rows as usize, round.len());
        new += merged.new;
        replaced += merged.replaced;
    }
    bulk.finish().unwrap();
    (new, replaced)
}

fn apply(store: &Store, map: &mut Map, op: Op) {
    match op {
        Op::Set(k, v) => {
            let new = store.set(&k, &v, Wait::Block).unwrap();
            assert_eq!(new, map.insert(k, v).is_none());
        }
        Op::Delete(k) => {
            assert_eq!(
                store.delete(&k, Wait::Block).unwrap(),
                map.remove(&k).is_some()
            );
        }
        Op::Append(k, v) => {
            let entry = map.entry(k.clone()).or_default();
            entry.extend_from_slice(&v);
            assert_eq!(store.append(&k, &v, Wait::Block).unwrap(), entry.len());
        }
        Op::Add(k, v) => {
            let added = store.add(&k, &v, Ttl::Default, Wait::Block).unwrap();
            assert_eq!(added, !map.contains_key(&k));
            map.entry(k).or_insert(v);
        }
        Op::Swap(k, expected, new) => {
            let is = map.get(&k) == Some(&expected);
            let done = store
                .compare_and_set(&k, Some(&expected), &new, Wait::Block)
                .unwrap();
            assert_eq!(done, is);
            if is {
                map.insert(k, new);
            }
        }
        Op::PopAny => match store.pop_any().unwrap() {
            Some(Popped { key, value, .. }) => assert_eq!(map.remove(&key), Some(value)),
            None => assert!(map.is_empty()),
        },
        Op::SetMany(pairs) => {
            let borrowed: Vec<(&[u8], &[u8])> =
                pairs.iter().map(|(k, v)| (&k[..], &v[..])).collect();
            let new = store.set_many(&borrowed, Ttl::Default).unwrap();
            let fresh = pairs
                .into_iter()
                .filter(|(k, v)| map.insert(k.clone(), v.clone()).is_none());
            assert_eq!(new, fresh.count());
        }
        Op::DeleteMany(keys) => {
            let borrowed: Vec<&[u8]> = keys.iter().map(|k| &k[..]).collect();
            let mut batch = Batch::default();
            store.get_many(&borrowed, &mut batch).unwrap();
            for (i, key) in keys.iter().enumerate() {
                assert_eq!(batch.get(i), map.get(key).map(|v| &v[..]));
            }
            let there = store.delete_many(&borrowed).unwrap();
            assert_eq!(
                there,
                keys.iter().filter(|k| map.remove(*k).is_some()).count()
            );
        }
        Op::Load(pairs, last) => {
            let before = map.len();
            let rows = pairs.len();
            let keep = if last { Keep::Last } else { Keep::First };
            let (new, replaced) = load(store, &pairs, keep);
            for (k, v) in pairs {
                if last {
                    map.insert(k, v);
                } else {
                    map.entry(k).or_insert(v);
                }
            }
            assert_eq!(new as usize, map.len() - before);
            assert_eq!(
                replaced as usize,
                if last { rows - new as usize } else { 0 }
            );
        }
        Op::Compact => store.compact().unwrap(),
        Op::Reserve(n) => store.reserve(n).unwrap(),
        Op::Clear => {
            store.clear().unwrap();
            map.clear();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn store_agrees_with_a_map(ops in prop::collection::vec(op(), 1..150), sip in any::<bool>()) {
        let hasher = if sip { HasherKind::Siphash } else { HasherKind::Fast };
        let store = Store::new(&Options { hasher, ..Options::default() }).unwrap();
        let mut map = Map::new();
        for op in ops {
            apply(&store, &mut map, op);
        }
        check(&store, &map);
    }
}

fn number(i: u64) -> [u8; 16] {
    let mut key = [b'.'; 16];
    key[..8].copy_from_slice(&i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key
}

#[test]
fn a_million_keys_live_in_sparsehash_groups() {
    let store = store();
    for i in 0..1_000_000 {
        store.set(&number(i), b"value", Wait::Block).unwrap();
    }
    let stats = store.stats();
    assert_eq!(stats.entries, 1_000_000);
    // 48 buckets a group, at most 85 % of them used.
    assert!(stats.groups >= 1_000_000 / 48, "{} groups", stats.groups);
    for i in 0..1_000_000 {
        assert!(store.contains(&number(i), Wait::Block).unwrap());
    }
    for i in 0..1_000_000 {
        assert!(store.delete(&number(i), Wait::Block).unwrap());
    }
    assert_eq!(store.stats().groups, 0);
    assert_eq!(store.len(), 0);
}

#[test]
fn pop_any_empties_the_store() {
    let store = store();
    for i in 0..20_000 {
        store.set(&number(i), b"v", Wait::Block).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    while let Some(Popped { key, .. }) = store.pop_any().unwrap() {
        assert!(seen.insert(key));
    }
    assert_eq!(seen.len(), 20_000);
    assert!(store.is_empty());
}

#[test]
fn a_scan_filters_by_prefix_and_pattern() {
    let store = store();
    for i in 0..1000 {
        store
            .set(format!("user:{i}").as_bytes(), b"", Wait::Block)
            .unwrap();
        store
            .set(format!("item:{i}").as_bytes(), b"", Wait::Block)
            .unwrap();
    }
    let filter = Filter {
        prefix: b"user:".to_vec(),
        glob: Some(Glob::new(b"*7")),
    };
    let (mut cursor, mut found) = (0, 0);
    let mut page = Page::default();
    loop {
        cursor = store.scan(cursor, &filter, 10, false, &mut page).unwrap();
        found += page.len();
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(found, 100);
}

#[test]
fn scans_see_what_stays_exactly_once_while_tables_grow_and_shrink() {
    let store = store();
    for i in 0..30_000 {
        store.set(&number(i), b"stays", Wait::Block).unwrap();
    }
    let mut page = Page::default();
    let (mut cursor, mut seen, mut step) = (0, Map::new(), 0u64);
    loop {
        cursor = store
            .scan(cursor, &Filter::default(), 50, true, &mut page)
            .unwrap();
        for i in 0..page.len() {
            if page.value(i) == b"stays" {
                assert!(seen.insert(page.key(i).to_vec(), vec![]).is_none());
            }
        }
        if cursor == 0 {
            break;
        }
        // Grow fourfold during the first half of the scan, shrink during the second.
        step += 1;
        for i in 0..400 {
            let key = number(1_000_000 + step % 300 * 400 + i);
            if step < 300 {
                store.set(&key, b"passes", Wait::Block).unwrap();
            } else {
                store.delete(&key, Wait::Block).unwrap();
            }
        }
    }
    assert_eq!(seen.len(), 30_000);
}

#[test]
fn a_closed_store_refuses_writes_and_finds_nothing() {
    let store = store();
    store.set(b"k", b"v", Wait::Block).unwrap();
    store.close();
    assert!(store.is_closed());
    assert!(store.get(b"k").unwrap().is_none());
    assert!(matches!(
        store.set(b"k", b"v", Wait::Block),
        Err(atbr::Error::Closed)
    ));
    assert!(matches!(
        store.delete(b"k", Wait::Block),
        Err(atbr::Error::Closed)
    ));
    assert!(matches!(
        BulkLoad::new(&store, 1, Keep::Last, Ttl::Default).map(|_| ()),
        Err(atbr::Error::Closed)
    ));
}

#[test]
fn limits_are_named_and_nothing_is_written() {
    let store = store();
    let key = vec![b'k'; 65537];
    assert!(matches!(
        store.set(&key, b"", Wait::Block),
        Err(atbr::Error::KeyTooLong(65537))
    ));
    assert!(store.set(&key[1..], b"", Wait::Block).unwrap());
    let pairs: [(&[u8], &[u8]); 2] = [(b"a", b""), (&key, b"")];
    assert!(matches!(
        store.set_many(&pairs, Ttl::Default),
        Err(atbr::Error::KeyTooLong(_))
    ));
    assert_eq!(store.len(), 1);
}

#[test]
fn incr_refuses_what_is_no_integer_and_overflow() {
    let store = store();
    assert_eq!(
        store.incr(b"n", 5, 10, Ttl::Default, Wait::Block).unwrap(),
        15
    );
    assert_eq!(
        store.incr(b"n", -20, 0, Ttl::Default, Wait::Block).unwrap(),
        -5
    );
    store
        .set(b"n", i64::MAX.to_string().as_bytes(), Wait::Block)
        .unwrap();
    assert!(matches!(
        store.incr(b"n", 1, 0, Ttl::Default, Wait::Block),
        Err(atbr::Error::IntegerOverflow)
    ));
    for text in ["", " 1", "1 ", "+1", "1.0", "x", "9223372036854775808"] {
        store.set(b"n", text.as_bytes(), Wait::Block).unwrap();
        assert!(
            matches!(
                store.incr(b"n", 1, 0, Ttl::Default, Wait::Block),
                Err(atbr::Error::NotAnInteger)
            ),
            "{text:?}"
        );
    }
}

#[test]
fn long_calls_end_where_they_are_told_to_and_leave_a_whole_store() {
    let store = store();
    for i in 0..50_000 {
        store.set(&number(i), b"value", Wait::Block).unwrap();
    }
    for i in 0..25_000 {
        store.delete(&number(i), Wait::Block).unwrap();
    }
    let once = || {
        let mut asked = 0;
        move || {
            asked += 1;
            asked < 10
        }
    };
    assert!(matches!(
        store.compact_while(&mut once()),
        Err(atbr::Error::Cancelled)
    ));
    assert!(matches!(
        store.reserve_while(100_000, &mut once()),
        Err(atbr::Error::Cancelled)
    ));
    for i in 25_000..50_000 {
        assert!(store.contains(&number(i), Wait::Block).unwrap());
    }
    assert!(matches!(
        store.clear_while(&mut once()),
        Err(atbr::Error::Cancelled)
    ));
    assert!(!store.is_empty() && store.len() < 25_000);
    assert_eq!(contents(&store).len(), store.len());
}

#[test]
fn a_large_merge_can_be_cancelled_and_a_small_one_is_finished() {
    let store = store();
    let cancel = AtomicBool::new(true);
    for (rows, finished) in [(100_000, true), (1_500_000, false)] {
        let mut bulk = BulkLoad::new(&store, 2, Keep::Last, Ttl::Default).unwrap();
        for i in 0..rows {
            bulk.writers()[usize::from(i > rows / 2)]
                .push(&number(i), b"value")
                .unwrap();
        }
        let merged = bulk.merge(&cancel);
        assert_eq!(merged.is_ok(), finished);
        assert!(finished || matches!(merged, Err(atbr::Error::Cancelled)));
        bulk.finish().unwrap();
        assert_eq!(store.len(), 100_000);
    }
    assert_eq!(contents(&store).len(), 100_000);
}

#[test]
fn a_reserve_that_is_given_up_gives_back_what_it_has_made() {
    let store = Store::new(&Options::default()).unwrap();
    for i in 0..10_000u32 {
        store.set(&i.to_le_bytes(), b"value", Wait::Block).unwrap();
    }
    let before = store.stats().bytes_allocated;
    let mut steps = 100;
    let outcome = store.reserve_while(10_000_000, &mut || {
        steps -= 1;
        steps > 0
    });
    assert!(matches!(outcome, Err(Error::Cancelled)));
    // But for lists of sub-tables, which keep their capacity.
    assert!(store.stats().bytes_allocated <= before + (128 << 10));
    assert_eq!(store.len(), 10_000);
    store.reserve(10_000_000).unwrap();
    assert!(store.stats().bytes_allocated > before + 1_000_000);
}
