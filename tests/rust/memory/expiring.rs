//! A store whose entries expire.

use std::sync::atomic::AtomicBool;

use atbr::Error;
use atbr::engine::{
    BulkLoad, Clock, Filter, Keep, ManualClock, Options, Page, Store, Ttl, Wait, Watch, failpoint,
};

use crate::{Map, contents, key, nothing_else};

const HOUR: u64 = 3_600_000;

/// A store in which every second entry expires, each at a time of its own.
fn expiring(entries: usize, clock: &ManualClock) -> Store {
    let store = Store::new(&Options {
        seed: Some(1),
        clock: Clock::Manual(clock.clone()),
        sweeps: false,
        ..Options::default()
    })
    .unwrap();
    for i in 0..entries {
        let ttl = match i % 2 {
            0 => Ttl::Never,
            _ => Ttl::Millis(1_000 + i as u64 * 997 % HOUR),
        };
        store.set_with(&key(i), b"value", ttl, Wait::Block).unwrap();
    }
    store
}

fn with_deadlines(store: &Store) -> u64 {
    let (mut count, mut page, mut cursor) = (0, Page::default(), 0);
    loop {
        cursor = store
            .scan(cursor, &Filter::default(), 1000, false, &mut page)
            .unwrap();
        count += (0..page.len())
            .filter(|&i| page.time_left(i).is_some())
            .count();
        if cursor == 0 {
            return count as u64;
        }
    }
}

/// As [`fail_everywhere`], for what has to do with time: whatever failed, entries that expire are counted, and once there is
/// memory again and the store has been compacted, all of them are found when their time has come.
fn fail_everywhere_in_time(
    what: &str,
    make: impl Fn(&ManualClock) -> Store,
    act: impl Fn(&Store, &ManualClock) -> Result<(), Error>,
    allowed: impl Fn(&Map, &Map) -> bool,
) -> u64 {
    let clock = ManualClock::default();
    let reference = make(&clock);
    let before = contents(&reference);
    failpoint::arm(None);
    act(&reference, &clock).unwrap();
    let sites = failpoint::disarm();
    let after = contents(&reference);
    for site in 0..sites {
        let clock = ManualClock::default();
        let store = make(&clock);
        failpoint::arm(Some(site));
        let outcome = act(&store, &clock);
        failpoint::disarm();
        let left = contents(&store);
        match outcome {
            Ok(()) => assert_eq!(left, after, "{what}, site {site}"),
            Err(Error::OutOfMemory) => assert!(
                left == before || allowed(&left, &after),
                "{what}, site {site}"
            ),
            Err(error) => panic!("{what}, site {site}: {error}"),
        }
        let counted = with_deadlines(&store);
        assert_eq!(store.stats().expiring, counted, "{what}, site {site}");
        if site % 2 == 0 && outcome.is_err() {
            act(&store, &clock).unwrap();
            assert_eq!(contents(&store), after, "{what} after site {site}");
        }
        store.compact().unwrap();
        let counted = with_deadlines(&store);
        clock.advance(10 * HOUR);
        assert_eq!(store.expire().unwrap(), counted, "{what}, site {site}");
        assert_eq!(with_deadlines(&store), 0);
        assert_eq!(store.stats().expiring, 0, "{what}, site {site}");
        contents(&store);
    }
    println!("{what}: {sites} sites");
    sites
}

#[test]
fn a_set_with_a_ttl_that_fails_leaves_the_store_as_it_was() {
    static VALUE: [u8; 70_000] = [7; 70_000];
    let mut sites = 0;
    for entries in [0, 1, 3000] {
        for len in [0, 100, 2030, 3000] {
            for (key, ttl) in [(&b"new"[..], 5_000), (b"key 7", 500), (b"key 8", 3 * HOUR)] {
                let set = |store: &Store, _: &ManualClock| {
                    let ttl = Ttl::Millis(ttl);
                    store
                        .set_with(key, &VALUE[..len], ttl, Wait::Block)
                        .map(drop)
                };
                let name = format!("set of {len} bytes for {ttl} ms into {entries}");
                sites += fail_everywhere_in_time(
                    &name,
                    |clock| expiring(entries, clock),
                    set,
                    nothing_else,
                );
            }
        }
    }
    assert!(sites > 50, "{sites}");
}

#[test]
fn a_touch_that_fails_leaves_the_store_as_it_was() {
    let make = |clock: &ManualClock| {
        let store = expiring(2000, clock);
        store.set(b"big", &[1; 10_000], Wait::Block).unwrap();
        let ttl = Ttl::Millis(HOUR);
        store
            .set_with(b"big for an hour", &[2; 10_000], ttl, Wait::Block)
            .unwrap();
        store
    };
    let mut sites = 0;
    for key in [&b"key 7"[..], b"key 8", b"big", b"big for an hour"] {
        for ttl in [Ttl::Millis(1), Ttl::Millis(2 * HOUR), Ttl::Never] {
            let touch =
                |store: &Store, _: &ManualClock| store.touch(key, ttl, Wait::Block).map(drop);
            let name = format!("touch of {} for {ttl:?}", String::from_utf8_lossy(key));
            sites += fail_everywhere_in_time(&name, make, touch, nothing_else);
        }
    }
    let persist = |store: &Store, _: &ManualClock| store.persist(b"key 7", Wait::Block).map(drop);
    sites += fail_everywhere_in_time("persist", make, persist, nothing_else);
    assert!(sites > 5, "{sites}");
    // So many, each earlier than the one before, that a fresh wheel takes over on the way.
    let touches = |store: &Store, _: &ManualClock| {
        for i in 0..400 {
            store.touch(b"key 7", Ttl::Millis(HOUR - i), Wait::Block)?;
        }
        Ok(())
    };
    assert!(fail_everywhere_in_time("touches", make, touches, nothing_else) > 20);
}

#[test]
fn deletes_that_change_the_wheel_do_without_memory() {
    let keys: Vec<_> = (0..1900).map(key).collect();
    let delete = |store: &Store, _: &ManualClock| {
        keys.iter()
            .try_for_each(|key| store.delete(key, Wait::Block).map(drop))
    };
    let make = |clock: &ManualClock| expiring(2000, clock);
    fail_everywhere_in_time("deletes", make, delete, nothing_else);
}

#[test]
fn a_sweep_that_has_no_memory_loses_nothing() {
    // Most of what fires was prolonged, and enters the wheel again; some levels down, and some at once.
    let make = |clock: &ManualClock| {
        let store = expiring(1000, clock);
        for i in (1..1000).step_by(2) {
            let ttl = Ttl::Millis(2 * HOUR + i as u64 * 9_973);
            if i % 10 != 1 {
                store.touch(&key(i), ttl, Wait::Block).unwrap();
            }
        }
        store.watch_expired(Watch::On);
        store
    };
    let sweep = |store: &Store, clock: &ManualClock| {
        clock.advance(HOUR);
        store.expire().map(drop)
    };
    let sites = fail_everywhere_in_time("sweep", make, sweep, nothing_else);
    assert!(sites > 100, "{sites}");
}

#[test]
fn a_bulk_load_with_a_ttl_that_fails_leaves_a_store_that_works() {
    let rows: Vec<_> = (500..2000)
        .map(|i| (key(i), if i % 100 == 0 { vec![3; 3000] } else { key(i) }))
        .collect();
    for keep in [Keep::Last, Keep::First] {
        let load = |store: &Store, _: &ManualClock| {
            let mut bulk = BulkLoad::new(store, 1, keep, Ttl::Millis(HOUR))?;
            for round in rows.chunks(800) {
                for (key, value) in round {
                    bulk.writers()[0].push(key, value)?;
                }
                bulk.merge(&AtomicBool::new(false))?;
            }
            bulk.finish()
        };
        let rows_only = |left: &Map, after: &Map| {
            left.iter()
                .all(|(k, v)| after.get(k) == Some(v) || v == b"value")
        };
        let make = |clock: &ManualClock| expiring(1000, clock);
        let name = format!("load with a ttl, {keep:?}");
        assert!(fail_everywhere_in_time(&name, make, load, rows_only) > 500);
    }
}

#[test]
fn a_callback_that_cannot_be_told_is_counted() {
    let clock = ManualClock::default();
    let sweep = |store: &Store| {
        store.watch_expired(Watch::On);
        clock.advance(10 * HOUR);
        failpoint::arm(None);
        let expired = store.expire().unwrap();
        let sites = failpoint::disarm();
        (expired, sites)
    };
    let (expired, sites) = sweep(&expiring(400, &clock));
    assert_eq!(expired, 200);
    for site in 0..sites {
        let store = expiring(400, &clock);
        store.watch_expired(Watch::On);
        clock.advance(10 * HOUR);
        failpoint::arm(Some(site));
        let expired = store.expire();
        failpoint::disarm();
        assert_eq!(expired.unwrap(), 200, "site {site}");
        let told = store
            .take_expired(usize::MAX, std::time::Duration::ZERO)
            .len() as u64;
        assert_eq!(told + store.stats().expirations_lost, 200, "site {site}");
    }
    assert!(sites > 200, "{sites}");
}
