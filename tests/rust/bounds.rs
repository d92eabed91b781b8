//! The work of a single write is bounded, counted in slots moved and bytes copied, not in time.

use std::sync::atomic::AtomicBool;

use atbr::engine::{BulkLoad, Keep, Options, Store, Ttl, Wait};

/// A sub-table is at most 200 groups of 48 buckets.
const MOST_SLOTS: u64 = 200 * 48;
/// A chunk, and the record that is written.
const MOST_BYTES: u64 = 16 * 1024;

fn key(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

fn assert_bounded(store: &Store, record: u64) {
    let stats = store.stats();
    assert!(stats.most_slots_moved <= MOST_SLOTS, "{stats:?}");
    assert!(stats.most_bytes_copied <= MOST_BYTES + record, "{stats:?}");
}

#[test]
fn a_write_moves_a_bounded_number_of_slots_while_the_store_grows_to_ten_million() {
    let store = Store::new(&Options::default()).unwrap();
    for i in 0..10_000_000 {
        store.set(&key(i), &key(i + 1), Wait::Block).unwrap();
    }
    let grown = store.stats();
    assert!(
        grown.most_slots_moved > 5_000,
        "tables of full size were split: {grown:?}"
    );
    assert_bounded(&store, 16);
    // Amortized: each slot is moved a few times in all.
    assert!(grown.slots_moved < 4 * 10_000_000, "{grown:?}");
    for i in 0..9_000_000 {
        store.delete(&key(i), Wait::Block).unwrap();
    }
    assert_bounded(&store, 16);
    let shrunk = store.stats();
    assert_eq!(shrunk.entries, 1_000_000);
    // Without a call of compact(): a fifth of the log may be dead.
    assert!(
        shrunk.dead_bytes < 2 * (shrunk.key_bytes + shrunk.value_bytes),
        "{shrunk:?}"
    );
    for i in 9_000_000..10_000_000 {
        assert!(store.contains(&key(i), Wait::Block).unwrap());
    }
}

#[test]
fn overwriting_with_other_lengths_copies_a_bounded_number_of_bytes() {
    let store = Store::new(&Options::default()).unwrap();
    let value = [9; 1500];
    for round in 0..20u64 {
        for i in 0..20_000 {
            let len = (i * 7 + round * 131) % 1500;
            store
                .set(&key(i), &value[..len as usize], Wait::Block)
                .unwrap();
        }
        assert_bounded(&store, 1508);
    }
    let stats = store.stats();
    let live = stats.key_bytes + stats.value_bytes + 3 * stats.entries;
    assert!(stats.bytes_allocated < live * 3 / 2, "{stats:?}");
}

#[test]
fn rows_of_one_key_do_not_swell_the_index() {
    let store = Store::new(&Options::default()).unwrap();
    let mut bulk = BulkLoad::new(&store, 1, Keep::Last, Ttl::Default).unwrap();
    for i in 0..1_000_000u32 {
        bulk.writers()[0].push(b"key", &i.to_le_bytes()).unwrap();
    }
    bulk.merge(&AtomicBool::new(false)).unwrap();
    bulk.finish().unwrap();
    assert_eq!(
        store.get(b"key").unwrap().unwrap(),
        999_999u32.to_le_bytes()
    );
    let stats = store.stats();
    assert!(stats.index_bytes < 4096, "{stats:?}");
}
