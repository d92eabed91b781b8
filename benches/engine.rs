//! The engine beside `std::collections::HashMap` in the same run: get, miss, set, get_many and load.
//! `ATBR_BENCH_ENTRIES` sets the number of entries (default 1,000,000).

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::AtomicBool;

use atbr::engine::{Batch, BulkLoad, Keep, Options, Store, Ttl, Wait};
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};

type Map = HashMap<Vec<u8>, Vec<u8>>;

const VALUE: [u8; 32] = [b'v'; 32];
const HOT: usize = 1000;

fn entries() -> usize {
    let named = std::env::var("ATBR_BENCH_ENTRIES").ok();
    named.and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}

/// Key number `i`: 16 bytes that look random.
fn key(i: usize) -> [u8; 16] {
    let mixed = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut key = [0; 16];
    for (nibble, byte) in key.iter_mut().enumerate() {
        *byte = b"0123456789abcdef"[(mixed >> (nibble * 4)) as usize & 15];
    }
    key
}

/// Numbers below `bound` in an order without pattern.
fn shuffled(bound: usize, count: usize) -> Vec<[u8; 16]> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    (0..count).map(|_| key(next())).collect()
}

fn load(entries: usize) -> Store {
    let store = Store::new(&Options::default()).expect("memory");
    let mut bulk = BulkLoad::new(&store, 1, Keep::Last, Ttl::Default).expect("memory");
    for i in 0..entries {
        bulk.writers()[0].push(&key(i), &VALUE).expect("memory");
    }
    bulk.merge(&AtomicBool::new(false)).expect("memory");
    bulk.finish().expect("memory");
    store
}

fn look_up(
    group: &mut BenchmarkGroup<'_, criterion::measurement::WallTime>,
    store: &Store,
    map: &Map,
    keys: &[[u8; 16]],
) {
    group.throughput(Throughput::Elements(1));
    let mut keys_in_turn = keys.iter().cycle();
    group.bench_function("atbr", |b| {
        b.iter(|| {
            let key = keys_in_turn.next().expect("a cycle has no end");
            store.read(key, Wait::Block, |value| black_box(value.as_slice()[0]))
        });
    });
    let mut keys_in_turn = keys.iter().cycle();
    group.bench_function("HashMap", |b| {
        b.iter(|| {
            let key = keys_in_turn.next().expect("a cycle has no end");
            map.get(&key[..]).map(|value| black_box(value[0]))
        });
    });
}

fn reads(c: &mut Criterion) {
    let entries = entries();
    let store = load(entries);
    let map: Map = (0..entries)
        .map(|i| (key(i).to_vec(), VALUE.to_vec()))
        .collect();
    let random = shuffled(entries, 1 << 20);
    let hot = shuffled(HOT.min(entries), HOT);
    let missing: Vec<_> = (entries..entries + (1 << 20)).map(key).collect();
    for (name, keys) in [
        ("get random", &random),
        ("get hot", &hot),
        ("get missing", &missing),
    ] {
        let mut group = c.benchmark_group(name);
        look_up(&mut group, &store, &map, keys);
        group.finish();
    }
    let mut group = c.benchmark_group("get_many 1000 random");
    group.throughput(Throughput::Elements(1000));
    let batches: Vec<Vec<&[u8]>> = random
        .chunks_exact(1000)
        .map(|keys| keys.iter().map(|k| &k[..]).collect())
        .collect();
    let mut out = Batch::default();
    let mut in_turn = batches.iter().cycle();
    group.bench_function("atbr", |b| {
        b.iter(|| store.get_many(in_turn.next().expect("a cycle has no end"), &mut out));
    });
    let mut in_turn = batches.iter().cycle();
    group.bench_function("HashMap", |b| {
        b.iter(|| {
            let keys = in_turn.next().expect("a cycle has no end");
            keys.iter()
                .map(|&key| map.get(key).map_or(0, |v| v[0] as usize))
                .sum::<usize>()
        });
    });
    group.finish();
}

fn writes(c: &mut Criterion) {
    let count = entries().min(200_000);
    let keys: Vec<_> = (0..count).map(key).collect();
    let mut group = c.benchmark_group("set, growing");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(count as u64));
    group.bench_function("atbr", |b| {
        let empty = || Store::new(&Options::default()).expect("memory");
        b.iter_batched(
            empty,
            |store| {
                for key in &keys {
                    store.set(key, &VALUE, Wait::Block).expect("memory");
                }
                store
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("HashMap", |b| {
        b.iter_batched(
            Map::new,
            |mut map| {
                for key in &keys {
                    map.insert(key.to_vec(), VALUE.to_vec());
                }
                map
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    let mut group = c.benchmark_group("bulk load, one thread");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(count as u64));
    group.bench_function("atbr", |b| b.iter(|| load(count)));
    group.finish();
}

criterion_group!(benches, reads, writes);
criterion_main!(benches);
