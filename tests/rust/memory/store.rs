//! A store whose entries stay.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use atbr::Error;
use atbr::engine::{
    Batch, BulkLoad, Change, Filter, Keep, Options, Page, Store, Ttl, Wait, failpoint,
};
use atbr::files::tsv::{self, LoadOptions};

use crate::{Map, a_part, fail_everywhere, filled, key, nothing_else};

#[test]
fn an_insert_that_fails_leaves_the_store_as_it_was() {
    let set = |key: &'static [u8], len: usize| {
        move |store: &Store| store.set(key, vec_of(len), Wait::Block).map(drop)
    };
    // The values are made outside of the count.
    static VALUE: [u8; 70_000] = [7; 70_000];
    fn vec_of(len: usize) -> &'static [u8] {
        &VALUE[..len]
    }
    let mut sites = 0;
    for entries in [0, 1, 5000] {
        for len in [0, 100, 2000, 3000, 70_000] {
            let name = format!("insert of {len} bytes into {entries}");
            sites += fail_everywhere(&name, || filled(entries), set(b"new", len), nothing_else);
        }
    }
    for len in [0, 5, 2000, 70_000] {
        let name = format!("overwrite by {len} bytes");
        sites += fail_everywhere(&name, || filled(100), set(b"key 7", len), nothing_else);
    }
    assert!(sites > 0);
    println!("inserts: {sites} sites in all");
}

#[test]
fn growth_that_fails_leaves_the_store_as_it_was() {
    // One shard's worth of growth: each key is inserted on its own, so most sites are in rebuilds.
    let mut sites = 0;
    for entries in (0..9000).step_by(1500) {
        let fresh: Vec<_> = (entries..entries + 300).map(key).collect();
        let act = |store: &Store| {
            for key in &fresh {
                store.set(key, b"value", Wait::Block)?;
            }
            Ok(())
        };
        let name = format!("growth from {entries}");
        sites += fail_everywhere(&name, || filled(entries), act, a_part);
    }
    println!("growth: {sites} sites in all");
    let before = filled(3000).stats().bytes_allocated;
    let reserve = |store: &Store| {
        let outcome = store.reserve(40_000);
        // What had been made for it is given back.
        assert!(outcome.is_ok() || store.stats().bytes_allocated <= before + (128 << 10));
        outcome
    };
    assert!(fail_everywhere("reserve", || filled(3000), reserve, nothing_else) > 100);
}

#[test]
fn other_writes_that_fail_leave_the_store_as_it_was() {
    let big = || {
        let store = filled(2000);
        store.set(b"big", &[1; 10_000], Wait::Block).unwrap();
        store
    };
    static TAIL: [u8; 9000] = [2; 9000];
    let append = |key: &'static [u8]| {
        move |store: &Store| match store.get(key)? {
            Some(value) if value.ends_with(&TAIL) => Ok(()),
            _ => store.append(key, &TAIL, Wait::Block).map(drop),
        }
    };
    fail_everywhere("append to a block", big, append(b"big"), nothing_else);
    fail_everywhere(
        "append to a small value",
        big,
        append(b"key 1"),
        nothing_else,
    );
    fail_everywhere("append to nothing", big, append(b"new"), nothing_else);
    let write = |key: &'static [u8], at: usize| {
        move |store: &Store| {
            let mut reader = None;
            store.modify(key, Wait::Block, |entry| {
                // A reader has the value, so that a block has to be copied.
                reader = entry.and_then(|entry| entry.value.share());
                Ok((Change::Write(at, TAIL.as_slice().into()), ()))
            })
        }
    };
    for (key, at) in [
        (&b"big"[..], 500),
        (b"big", 1_000),
        (b"big", 20_000),
        (b"key 1", 3),
        (b"new", 7),
    ] {
        fail_everywhere("write into a value", big, write(key, at), nothing_else);
    }
    let incr = |store: &Store| {
        store.delete(b"n", Wait::Block)?;
        store.incr(b"n", 1, 41, Ttl::Default, Wait::Block).map(drop)
    };
    fail_everywhere("incr", big, incr, nothing_else);
    let pairs: Vec<_> = (1000..4000).map(|i| (key(i), key(i))).collect();
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(k, v)| (&k[..], &v[..])).collect();
    let set_many = |store: &Store| store.set_many(&pairs, Ttl::Default).map(drop);
    let known = |left: &Map, after: &Map| {
        left.iter()
            .all(|(k, v)| after.get(k) == Some(v) || v == b"value")
    };
    fail_everywhere("set_many", big, set_many, known);
    let keys: Vec<_> = (100..400).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|k| &k[..]).collect();
    let delete_many = |store: &Store| store.delete_many(&keys).map(drop);
    fail_everywhere("delete_many", big, delete_many, |left, after| {
        after.keys().all(|key| left.contains_key(key))
    });
    let compact = |store: &Store| store.compact();
    // Tables twice as large as they need be, and chunks with holes.
    let loose = || {
        let store = filled(16_000);
        (0..1000).for_each(|i| drop(store.set(&key(i), &TAIL[..1900], Wait::Block)));
        (600..10_000).for_each(|i| drop(store.delete(&key(i), Wait::Block)));
        store
    };
    assert!(fail_everywhere("compact", loose, compact, nothing_else) > 50);
    let too_large = || {
        let store = filled(100);
        // Two sub-tables in every shard, which are joined again.
        store.reserve(128 * 17_000).unwrap();
        store
    };
    assert!(fail_everywhere("join", too_large, compact, nothing_else) > 500);
}

#[test]
fn reads_that_fail_give_an_error() {
    let keys: Vec<_> = (0..300).map(key).collect();
    let keys: Vec<&[u8]> = keys.iter().map(|k| &k[..]).collect();
    let read = |store: &Store| {
        let (mut batch, mut page) = (Batch::default(), Page::default());
        store.get_many(&keys, &mut batch)?;
        store.scan(0, &Filter::default(), 100, true, &mut page)?;
        store.get(b"key 1").map(drop)
    };
    assert!(fail_everywhere("reads", || filled(300), read, nothing_else) > 10);
}

#[test]
fn a_store_that_cannot_be_made_is_an_error() {
    let make = || {
        Store::new(&Options {
            capacity: 100_000,
            ..Options::default()
        })
    };
    failpoint::arm(None);
    make().unwrap();
    let sites = failpoint::disarm();
    for site in 0..sites {
        failpoint::arm(Some(site));
        let made = make();
        failpoint::disarm();
        assert!(
            matches!(made.map(drop), Err(Error::OutOfMemory)),
            "site {site}"
        );
    }
    println!("making a store: {sites} sites");
}

#[test]
fn a_bulk_load_that_fails_leaves_a_store_that_works() {
    let rows: Vec<_> = (500..4000)
        .map(|i| (key(i), if i % 100 == 0 { vec![3; 3000] } else { key(i) }))
        .collect();
    let load = |store: &Store| {
        let mut bulk = BulkLoad::new(store, 1, Keep::Last, Ttl::Default)?;
        for round in rows.chunks(2000) {
            for (key, value) in round {
                bulk.writers()[0].push(key, value)?;
            }
            bulk.merge(&AtomicBool::new(false))?;
            bulk.reserve(2000)?;
        }
        bulk.finish()
    };
    let rows_only = |left: &Map, after: &Map| {
        left.iter()
            .all(|(k, v)| after.get(k) == Some(v) || v == b"value")
    };
    assert!(fail_everywhere("bulk load", || filled(1000), load, rows_only) > 500);
}

#[test]
fn a_load_of_a_file_that_fails_leaves_the_rows_before() {
    let path = std::env::temp_dir().join(format!("atbr-memory-{}.tsv", std::process::id()));
    let rows: String = (500..3000).map(|i| format!("key {i}\t{i}\n")).collect();
    std::fs::write(&path, rows).unwrap();
    // One thread, row by row: starting threads allocates inside the standard library, which cannot fail.
    let load = |store: &Store| {
        let options = LoadOptions::default();
        match tsv::load(store, &path, &options, &mut |_| ControlFlow::Continue(())) {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.error),
        }
    };
    let rows_only = |left: &Map, after: &Map| {
        left.iter()
            .all(|(k, v)| after.get(k) == Some(v) || v == b"value")
    };
    let sites = fail_everywhere("load of a file", || filled(1000), load, rows_only);
    std::fs::remove_file(&path).unwrap();
    assert!(sites > 100);
}

#[test]
fn a_bulk_load_of_one_key_over_and_over_fails_as_any_other() {
    let load = |store: &Store| {
        let mut bulk = BulkLoad::new(store, 1, Keep::Last, Ttl::Default)?;
        for i in 0..30_000u32 {
            bulk.writers()[0].push(if i % 8 == 7 { b"other" } else { b"key" }, &i.to_le_bytes())?;
        }
        bulk.merge(&AtomicBool::new(false))?;
        bulk.finish()
    };
    let rows_only = |left: &Map, after: &Map| left.keys().all(|k| after.contains_key(k));
    assert!(fail_everywhere("hot key", || filled(0), load, rows_only) > 50);
}
