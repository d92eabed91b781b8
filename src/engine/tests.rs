//! Structures against naive versions of themselves.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::cell::Cell;
use super::clock::{Clock, ManualClock};
use super::events::Event;
use super::expired::ExpiredQueue;
use super::hash::{Hasher, HasherKind, Placer};
use super::index::{Index, Keys, MAX_GROUPS, Merged, Resolve};
use super::pool::{CHUNK, Chunk, Pages, Pool};
use super::record::{self, Expiry, Form, InWheel, Kind, Parsed, ValueRef};
use super::reference::Reference;
use super::shard::{Change, Context, Shard};
use super::table::{GROUP, GroupImage, Sparse, TOMBSTONE, Table};
use super::ttl::{Time, Ttl};
use crate::Result;

const GROUPS: u32 = 3;

#[derive(Clone, Debug)]
enum TableOp {
    Put(u32, u8, u32),
    Erase(u32),
    Write(u32, Vec<Option<(u8, u32)>>),
}

fn table_op() -> impl Strategy<Value = TableOp> {
    let buckets = GROUPS * GROUP;
    prop_oneof![
        4 => (0..buckets, 0u8..4, 0u32..1000).prop_map(|(p, t, o)| TableOp::Put(p, t, o)),
        4 => (0..buckets).prop_map(TableOp::Erase),
        1 => (0..GROUPS, prop::collection::vec(prop::option::of((0u8..4, 0u32..1000)), GROUP as usize))
            .prop_map(|(g, slots)| TableOp::Write(g, slots)),
    ]
}

fn image_of(slots: &[Option<(u8, u32)>]) -> GroupImage {
    let mut image = GroupImage::EMPTY;
    for (i, slot) in slots.iter().enumerate() {
        if let &Some((tag, offset)) = slot {
            image.set(i as u32, tag, offset);
        }
    }
    image
}

fn slots_of(table: &impl Table) -> Vec<Option<(u8, u32)>> {
    let mut image = GroupImage::EMPTY;
    let mut slots = Vec::new();
    for group in 0..GROUPS {
        table.read_group(group, &mut image);
        slots.extend((0..GROUP).map(|i| image.is_set(i).then(|| (image.tag(i), image.offset(i)))));
    }
    slots
}

proptest! {
    #[test]
    fn sparse_table_agrees_with_plain_buckets(ops in prop::collection::vec(table_op(), 1..200)) {
        let mut sparse = Sparse::with_groups(GROUPS).unwrap();
        let mut plain = Reference::with_groups(GROUPS).unwrap();
        for op in ops {
            match op {
                // A table always has an empty bucket: its last one here.
                TableOp::Put(p, ..) if p == GROUPS * GROUP - 1 => {}
                TableOp::Put(p, tag, offset) => {
                    sparse.put(p, tag, offset).unwrap();
                    plain.put(p, tag, offset).unwrap();
                }
                TableOp::Erase(p) => {
                    if slots_of(&plain)[p as usize].is_some_and(|(_, offset)| offset != TOMBSTONE) {
                        sparse.erase(p);
                        plain.erase(p);
                    }
                }
                TableOp::Write(group, mut slots) => {
                    if group == GROUPS - 1 {
                        slots[GROUP as usize - 1] = None;
                    }
                    sparse.write_group(group, &image_of(&slots)).unwrap();
                    plain.write_group(group, &image_of(&slots)).unwrap();
                }
            }
            prop_assert_eq!(slots_of(&sparse), slots_of(&plain));
            prop_assert_eq!(sparse.used(), plain.used());
            prop_assert_eq!(sparse.tombstones(), plain.tombstones());
            prop_assert_eq!(sparse.nonempty_groups(), plain.nonempty_groups());
            for position in (0..GROUPS * GROUP).step_by(7) {
                prop_assert_eq!(sparse.find_free(position), plain.find_free(position));
                for tag in 0..4 {
                    prop_assert_eq!(sparse.find(position, tag), plain.find(position, tag));
                }
            }
        }
    }

    #[test]
    fn record_reads_back_as_written(
        key_len in 0usize..300,
        value_len in 0usize..2200,
        deadline in prop_oneof![Just(0), 1u64..1 << 40, 1u64 << 40..u64::MAX],
        of_tests in any::<bool>(),
        wheel in prop_oneof![Just(InWheel::None), Just(InWheel::Even), Just(InWheel::Odd)],
        later in 1u64..1 << 40,
        visited in any::<bool>(),
    ) {
        let (key, value) = (vec![0x80; key_len], vec![0xFF; value_len]);
        let mut expiry = match deadline {
            0 => Expiry::NEVER,
            _ => Expiry { deadline, wheel },
        };
        let form = |expiry| Form {
            expiry,
            kind: if of_tests { Kind::OF_TESTS } else { Kind::STRING },
        };
        let (len, is_block) = record::encoded_len(key_len, value_len, form(expiry));
        let mut bytes = vec![0; len];
        let at = bytes.as_mut_ptr();
        // SAFETY: the buffer has the record's length, and holds a record from then on.
        unsafe {
            match record::block_for(&key, &value, is_block).unwrap() {
                None => record::write_inline(at, &key, &value, form(expiry)),
                Some(block) => record::write_block(at, block, form(expiry)),
            }
            if visited {
                record::mark_visited(at);
            }
            if expiry.expires() {
                expiry.deadline = if deadline >> 40 == 0 { later } else { u64::MAX - later };
                record::write_expiry(at, expiry);
            }
        }
        // SAFETY: a record was just written there.
        match unsafe { record::parse(at) } {
            Parsed::Live(found) => {
                prop_assert_eq!(found.key, &key[..]);
                prop_assert_eq!(found.value.as_slice(), &value[..]);
                prop_assert_eq!(found.expiry, expiry);
                prop_assert_eq!(found.kind, form(expiry).kind);
                prop_assert_eq!(found.len, len);
                // SAFETY: as above; the handle is the record's, which is not used any more.
                unsafe {
                    prop_assert_eq!(record::take_visited(at), visited);
                    prop_assert!(!record::take_visited(at));
                    if let ValueRef::Shared(block) = found.value {
                        drop(block.take());
                    }
                }
            }
            Parsed::Dead { .. } => prop_assert!(false, "a record was written"),
        }
    }
}

#[test]
fn dead_bytes_of_any_length_are_skipped_whole() {
    for len in 1..=CHUNK {
        let mut bytes = vec![0u8; len];
        // SAFETY: the buffer has that length.
        unsafe { record::write_dead(bytes.as_mut_ptr(), len) };
        let mut at = 0;
        while at < len {
            // SAFETY: dead bytes were written there.
            match unsafe { record::parse(bytes.as_ptr().add(at)) } {
                Parsed::Dead { len } => at += len,
                _ => panic!("dead bytes were written"),
            }
        }
        assert_eq!(at, len);
    }
}

#[test]
fn a_small_record_costs_two_bytes_and_six_more_where_it_expires() {
    let form = |deadline| {
        Form::string(Expiry {
            deadline,
            ..Expiry::NEVER
        })
    };
    assert_eq!(record::encoded_len(62, 127, form(1)), (62 + 127 + 8, false));
    assert_eq!(
        record::encoded_len(63, 127, form(1)),
        (63 + 127 + 10, false)
    );
    assert_eq!(record::encoded_len(63, 127, form(0)), (63 + 127 + 2, false));
    assert_eq!(record::encoded_len(64, 127, form(0)), (64 + 127 + 5, false));
    assert_eq!(record::encoded_len(63, 128, form(0)), (63 + 128 + 3, false));
}

/// Offsets are their own keys: the order hash of an offset is a function of it.
struct Spread(fn(u32) -> u32);

impl Keys for Spread {
    fn order(&self, offset: u32) -> u32 {
        (self.0)(offset)
    }

    fn prefetch(&self, _offset: u32) {}
}

impl Resolve for Spread {
    fn same_key(&self, a: u32, b: u32) -> bool {
        a == b
    }

    fn keep(&mut self, old: u32, _new: u32) -> u32 {
        old
    }

    fn discard(&mut self, _offset: u32) {}
}

fn spread_evenly(offset: u32) -> u32 {
    offset.wrapping_mul(0x9E37_79B1)
}

fn crowd_at_the_end(offset: u32) -> u32 {
    u32::MAX - offset % 50
}

fn index_agrees_with_a_set<T: Table>(ops: &[(u8, u32)], order: fn(u32) -> u32) {
    let mut keys = Spread(order);
    let mut index = Index::<T>::new();
    let mut set = BTreeSet::new();
    let found = |index: &Index<T>, offset: u32| index.find(order(offset), |o| o == offset);
    for &(op, offset) in ops {
        match op {
            0..=5 if set.insert(offset) => index.insert(order(offset), offset, &keys).unwrap(),
            6..=8 if set.remove(&offset) => {
                let entry = found(&index, offset).expect("it is in the set");
                index.remove(entry, &keys);
            }
            9 => {
                let batch: BTreeSet<u32> = (offset..offset + 300).collect();
                let mut items: Vec<u64> = batch
                    .iter()
                    .map(|&o| u64::from(order(o)) << 32 | u64::from(o))
                    .collect();
                items.sort_unstable();
                let mut merged = Merged::default();
                index.merge(&items, &mut keys, &mut merged).unwrap();
                assert_eq!(merged.new as usize, batch.difference(&set).count());
                assert_eq!(merged.old as usize, batch.intersection(&set).count());
                set.extend(batch);
            }
            10 => index.join(&keys).unwrap(),
            11 => index
                .reserve(set.len() + offset as usize % 1000, &keys)
                .unwrap(),
            12 => (0..index.tables()).for_each(|sub| index.compact(sub, &keys).unwrap()),
            _ => {}
        }
    }
    for &offset in &set {
        assert!(found(&index, offset).is_some(), "{offset} is missing");
    }
    let mut seen = BTreeSet::new();
    let mut from = Some(0);
    while let Some(cursor) = from {
        from = index.scan(cursor, 40, &keys, |offset, _| {
            assert!(seen.insert(offset), "{offset} was seen twice");
        });
    }
    assert_eq!(seen, set);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn index_over_sparsehash_agrees_with_a_set(
        ops in prop::collection::vec((0u8..13, 0u32..5000), 1..600),
        crowd in any::<bool>(),
    ) {
        let order = if crowd { crowd_at_the_end } else { spread_evenly };
        index_agrees_with_a_set::<Sparse>(&ops, order);
    }

    #[test]
    fn index_over_plain_buckets_agrees_with_a_set(
        ops in prop::collection::vec((0u8..13, 0u32..5000), 1..200),
        crowd in any::<bool>(),
    ) {
        let order = if crowd { crowd_at_the_end } else { spread_evenly };
        index_agrees_with_a_set::<Reference>(&ops, order);
    }
}

fn items_of(offsets: std::ops::Range<u32>, order: fn(u32) -> u32) -> Vec<u64> {
    let mut items: Vec<u64> = offsets
        .map(|o| u64::from(order(o)) << 32 | u64::from(o))
        .collect();
    items.sort_unstable();
    items
}

#[test]
fn a_write_after_a_large_merge_moves_one_bounded_sub_table() {
    for merged in [30_000, 60_000, 250_000] {
        let mut keys = Spread(spread_evenly);
        let mut index = Index::<Sparse>::new();
        let items = items_of(0..merged, spread_evenly);
        index
            .merge(&items, &mut keys, &mut Merged::default())
            .unwrap();
        let mut most = 0;
        for offset in merged..merged * 3 / 2 {
            let before = index.slots_moved();
            index.insert(spread_evenly(offset), offset, &keys).unwrap();
            most = most.max(index.slots_moved() - before);
        }
        assert!(
            most <= u64::from(MAX_GROUPS * GROUP),
            "{most} after {merged}"
        );
    }
}

#[test]
fn crowded_hashes_are_found_and_scanned_once() {
    const SIZE: u32 = 5000;
    let crowds: [fn(u32) -> u32; 5] = [
        |o| u32::MAX - o % 2000,
        |o| o % 2000,
        |o| 0x8000_0000 | (o.wrapping_mul(0x9E37_79B1) >> 15),
        |o| o.wrapping_mul(0x9E37_79B1) & 0xFFF0_0000,
        |o| {
            if o.is_multiple_of(16) {
                u32::MAX
            } else {
                o.wrapping_mul(0x9E37_79B1)
            }
        },
    ];
    for (number, &order) in crowds.iter().enumerate() {
        let mut keys = Spread(order);
        let mut index = Index::<Sparse>::new();
        let mut set = BTreeSet::new();
        for round in 0..4u32 {
            let fresh = round * SIZE..round * SIZE + 3000;
            set.extend(fresh.clone());
            index
                .merge(&items_of(fresh, order), &mut keys, &mut Merged::default())
                .unwrap();
            for offset in round * SIZE + 3000..round * SIZE + SIZE {
                index.insert(order(offset), offset, &keys).unwrap();
                set.insert(offset);
            }
            for offset in (0..round * SIZE + SIZE).filter(|o| (o * 7 + round) % 5 < 2) {
                if set.remove(&offset) {
                    let entry = index.find(order(offset), |o| o == offset).unwrap();
                    index.remove(entry, &keys);
                }
            }
            if round == 2 {
                index.join(&keys).unwrap();
                (0..index.tables()).for_each(|sub| index.compact(sub, &keys).unwrap());
            }
            let mut seen = BTreeSet::new();
            let mut from = Some(0);
            while let Some(cursor) = from {
                from = index.scan(cursor, 96, &keys, |offset, _| {
                    assert!(seen.insert(offset), "{offset} was seen twice");
                });
                assert!(from.is_none_or(|next| next > cursor));
            }
            assert!(seen == set, "crowd {number}, round {round}");
        }
        assert!(
            set.iter()
                .all(|&o| index.find(order(o), |found| found == o).is_some())
        );
    }
}

fn context(clock: ManualClock) -> Context {
    Context {
        pool: Pool::default(),
        placer: Placer::new(Hasher::new(HasherKind::Fast, Some(7)), 0),
        time: Time::new(Clock::Manual(clock), Ttl::Never).unwrap(),
        expired: ExpiredQueue::new(usize::MAX),
        bounds: None,
        sweeps: false,
    }
}

/// Applies an operation to a shard, and says what it answered.
fn answer<T: Table>(
    shard: &mut Shard<T>,
    cx: &Context,
    op: u8,
    key: &[u8],
    value: &[u8],
) -> Result<String> {
    let order = cx.placer.place(key).order;
    Ok(match op {
        0..=2 => format!(
            "{:?}",
            shard.set(cx, order, key, value, Ttl::Default, Event::Set)?
        ),
        3 => {
            let ttl = Ttl::Millis(1 + value.len() as u64 * 40);
            format!("{:?}", shard.set(cx, order, key, value, ttl, Event::Set)?)
        }
        4..=5 => format!("{:?}", shard.delete(cx, order, key, Event::Del)?),
        6 => shard.modify(cx, order, key, None, |old| {
            Ok((
                Change::Append(value),
                format!("{:?}", old.map(|e| e.value.as_slice().to_vec())),
            ))
        })?,
        7 => format!("{:?}", shard.pop_from(cx, order)?),
        8 => {
            for chunk in 0..shard.compact_steps() {
                shard.compact_chunk(cx, chunk)?;
            }
            shard.compact_index(cx)?;
            String::new()
        }
        9 => {
            let swept = shard.sweep(cx, cx.time.now());
            format!("{} {}", swept.expired, shard.expirations())
        }
        _ => format!(
            "{:?}",
            shard.get(cx, order, key).map(|v| v.as_slice().to_vec())
        ),
    })
}

fn entries<T: Table>(shard: &Shard<T>, cx: &Context) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut from = Some(0);
    while let Some(cursor) = from {
        from = shard.scan(cx, cursor, 64, |key, entry| {
            entries.push((key.to_vec(), entry.value.as_slice().to_vec()));
        });
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn shard_over_sparsehash_agrees_with_shard_over_plain_buckets(
        ops in prop::collection::vec((0u8..12, 0u32..400, 0usize..200), 1..800),
    ) {
        let clock = ManualClock::default();
        let (sparse_cx, plain_cx) = (context(clock.clone()), context(clock.clone()));
        let mut sparse = Shard::<Sparse>::new();
        let mut plain = Shard::<Reference>::new();
        for (op, key, len) in ops {
            clock.advance(u64::from(key % 8) * 10);
            let key = format!("key {key}");
            let value = vec![b'v'; if len > 190 { len * 100 } else { len }];
            prop_assert_eq!(
                answer(&mut sparse, &sparse_cx, op, key.as_bytes(), &value).unwrap(),
                answer(&mut plain, &plain_cx, op, key.as_bytes(), &value).unwrap()
            );
        }
        let left = entries(&sparse, &sparse_cx);
        prop_assert_eq!(&left, &entries(&plain, &plain_cx));
        let unique: BTreeMap<_, _> = left.iter().cloned().collect();
        prop_assert_eq!(unique.len(), left.len());
        sparse.dispose();
        plain.dispose();
    }
}

/// A pool, and ten thousand chunks of it, which are three regions.
fn pool_in_use() -> (Pool, Vec<Chunk>) {
    let pool = Pool::default();
    let take = |_| pool.take(Pages::Later).unwrap();
    let chunks = (0..10_000).map(take).collect();
    (pool, chunks)
}

#[test]
fn freed_regions_go_back_to_the_system() {
    let (pool, chunks) = pool_in_use();
    assert_eq!(pool.bytes() / CHUNK, 10_000);
    chunks.into_iter().for_each(|chunk| pool.give(chunk));
    pool.trim(&mut || true);
    assert_eq!(pool.bytes(), 0);
}

#[test]
fn a_region_that_becomes_free_goes_back_step_by_step() {
    let (pool, chunks) = pool_in_use();
    let mut before = pool.bytes();
    for chunk in chunks {
        pool.give(chunk);
        let now = pool.bytes();
        assert!(
            now <= before + CHUNK && before <= now + (2 << 20),
            "{before}, {now}"
        );
        before = now;
    }
    // What is left is for chunks to come.
    assert!(pool.bytes() <= 80 << 20, "{}", pool.bytes());
    pool.take(Pages::Later).unwrap();
    pool.trim(&mut || true);
    assert_eq!(pool.bytes() / CHUNK, 1);
}

#[test]
fn an_empty_shard_takes_three_cache_line_pairs() {
    // 128 of them are an empty store, which is to stay below 64 KiB.
    assert!(size_of::<Cell>() <= 384, "{}", size_of::<Cell>());
}
