use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use atbr::engine::{BulkLoad, Change, Classes, Event, Keep, Limits, Options, Ttl, Wait};

use super::{ALL, by_hand, databases, set, set_until, told, with};

#[test]
fn events_come_in_the_order_of_what_happened_over_databases() {
    let databases = databases();
    databases.set_notify(ALL).unwrap();
    set(&databases, 0, b"a", b"1");
    set(&databases, 3, b"b", b"1");
    databases
        .with_locked(&[(0, b"a"), (3, b"b")], |locked| {
            locked.delete(0, b"a", Event::RenameFrom)?;
            locked.set(3, b"b", b"1", Ttl::Millis(1000), Event::RenameTo)?;
            locked.modify_up_to(3, b"b", 0, None, |_| Ok((Change::Expire(Ttl::Never), ())))
        })
        .unwrap();
    let store = databases.get(0).unwrap();
    store.incr(b"n", 1, 0, Ttl::Default, Wait::Block).unwrap();
    set_until(&databases, 0, b"n", b"2", Ttl::Millis(5000));
    databases.swap(0, 3).unwrap();
    set(&databases, 0, b"b", b"2");
    assert_eq!(
        told(&databases),
        [
            "0 new a",
            "0 set a",
            "3 new b",
            "3 set b",
            "0 rename_from a",
            "3 rename_to b",
            "3 persist b",
            "0 new n",
            "0 incrby n",
            "0 set n",
            "0 expire n",
            "0 set b"
        ]
    );
}

#[test]
fn only_the_classes_that_are_wanted_are_told() {
    let databases = databases();
    set(&databases, 0, b"a", b"1");
    assert!(told(&databases).is_empty());
    databases.set_notify(Classes::GENERIC).unwrap();
    set(&databases, 0, b"a", b"1");
    set(&databases, 5, b"a", b"1");
    databases.delete(0, b"a", Event::Del).unwrap();
    databases.delete(5, b"a", Event::Del).unwrap();
    assert_eq!(told(&databases), ["0 del a", "5 del a"]);
    databases.set_notify(Classes::NONE).unwrap();
    databases.delete(0, b"b", Event::Del).unwrap();
    assert!(told(&databases).is_empty());
}

#[test]
fn expired_is_told_once_by_the_sweeper_or_by_the_write_that_finds_it_and_by_no_read() {
    let (databases, clock) = by_hand();
    let store = databases.get(0).unwrap();
    databases
        .set_notify(Classes::EXPIRED.and(Classes::NEW).and(Classes::STRING))
        .unwrap();
    for key in [b"a", b"b", b"c", b"d"] {
        set_until(&databases, 0, key, b"1", Ttl::Millis(100));
    }
    told(&databases);
    clock.advance(100);
    assert_eq!(store.get(b"a").unwrap(), None);
    assert!(!store.contains(b"b", Wait::Block).unwrap());
    assert!(told(&databases).is_empty());
    set(&databases, 0, b"a", b"2");
    store.delete(b"b", Wait::Block).unwrap();
    store.append(b"c", b"2", Wait::Block).unwrap();
    assert_eq!(
        told(&databases),
        [
            "0 expired a",
            "0 new a",
            "0 set a",
            "0 expired b",
            "0 expired c",
            "0 new c",
            "0 append c"
        ]
    );
    store.expire().unwrap();
    assert_eq!(told(&databases), ["0 expired d"]);
    store.expire().unwrap();
    clock.advance(1_000_000);
    store.expire().unwrap();
    assert!(told(&databases).is_empty());
}

#[test]
fn evicted_is_told_once_for_each_entry() {
    let databases = with(&Options {
        limits: Limits {
            entries: 50,
            ..Limits::default()
        },
        ..Options::default()
    });
    databases.set_notify(Classes::EVICTED).unwrap();
    for i in 0..500 {
        set(&databases, 0, format!("{i}").as_bytes(), b"1");
    }
    let mut events = told(&databases);
    let store = databases.get(0).unwrap();
    assert_eq!(events.len() as u64, store.evictions());
    assert_eq!(events.len(), 500 - store.len());
    events.sort();
    events.dedup();
    assert_eq!(events.len(), 500 - store.len());
}

#[test]
fn a_load_tells_of_its_rows() {
    let databases = databases();
    let store = databases.get(0).unwrap();
    set(&databases, 0, b"old", b"1");
    databases.set_notify(ALL).unwrap();
    for (keep, expected) in [
        (Keep::First, vec!["0 new fresh", "0 set fresh"]),
        (Keep::Last, vec!["0 set fresh", "0 set old"]),
    ] {
        let mut bulk = BulkLoad::new(&store, 1, keep, Ttl::Default).unwrap();
        bulk.writers()[0].push(b"old", b"2").unwrap();
        bulk.writers()[0].push(b"fresh", b"2").unwrap();
        bulk.merge(&AtomicBool::new(false)).unwrap();
        bulk.finish().unwrap();
        let mut events = told(&databases);
        events.sort();
        assert_eq!(events, expected);
    }
}

#[test]
fn events_beyond_the_queue_are_counted_and_lost() {
    let databases = databases();
    databases.set_notify(Classes::STRING).unwrap();
    for _ in 0..20_000 {
        set(&databases, 0, b"one", b"1");
    }
    assert_eq!(told(&databases).len(), 1 << 14);
    assert_eq!(databases.dropped_events(), 20_000 - (1 << 14));
    set(&databases, 0, b"one", b"1");
    assert_eq!(told(&databases).len(), 1);
}

#[test]
fn the_waker_is_called_for_what_comes_after_all_was_taken() {
    let databases = databases();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    databases.set_waker(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    databases.set_notify(Classes::STRING).unwrap();
    for round in 1..4 {
        for i in 0..100u32 {
            set(&databases, 0, &i.to_le_bytes(), b"1");
        }
        assert_eq!(calls.load(Ordering::SeqCst), round);
        assert_eq!(told(&databases).len(), 100);
    }
}

#[test]
fn nothing_is_lost_or_out_of_order_while_others_write_and_swap() {
    const ROUNDS: u32 = 3_000;
    let databases = databases();
    databases.set_notify(Classes::STRING).unwrap();
    let mut events = Vec::new();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3u32)
            .map(|writer| {
                let databases = &databases;
                scope.spawn(move || {
                    for i in 0..ROUNDS {
                        let key = [writer.to_le_bytes(), i.to_le_bytes()].concat();
                        set(databases, (writer % 2) as u8, &key, b"1");
                        if i % 500 == 0 {
                            databases.swap(0, 1).unwrap();
                        }
                    }
                })
            })
            .collect();
        while !writers.iter().all(|writer| writer.is_finished()) {
            databases.take_events(&mut events).unwrap();
        }
    });
    databases.take_events(&mut events).unwrap();
    databases.take_events(&mut events).unwrap();
    assert_eq!(databases.dropped_events(), 0);
    for writer in 0..3u32 {
        let own = events.iter().filter(|e| e.key[..4] == writer.to_le_bytes());
        let numbers: Vec<_> = own
            .map(|e| u32::from_le_bytes(e.key[4..8].try_into().unwrap()))
            .collect();
        assert!(numbers.iter().copied().eq(0..ROUNDS), "writer {writer}");
    }
}
