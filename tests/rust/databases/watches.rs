use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use atbr::engine::{BulkLoad, Change, Databases, Event, Keep, Limits, Options, Store, Ttl, Wait};

use super::{by_hand, databases, set, set_until, with};

/// Whether a watch of the key is dirty after a change.
fn watched(databases: &Arc<Databases>, db: u8, key: &[u8], change: impl FnOnce()) -> bool {
    let dirty = Arc::new(AtomicBool::new(false));
    let watch = databases.watch(db, key, &dirty).unwrap();
    change();
    drop(watch);
    dirty.load(Ordering::SeqCst)
}

fn done<T>(_: T) {}

fn load(store: &Store, keep: Keep, key: &[u8]) {
    let mut bulk = BulkLoad::new(store, 1, keep, Ttl::Default).unwrap();
    bulk.writers()[0].push(key, b"loaded").unwrap();
    for i in 0..1000u32 {
        bulk.writers()[0].push(&i.to_le_bytes(), b"loaded").unwrap();
    }
    bulk.merge(&AtomicBool::new(false)).unwrap();
    bulk.finish().unwrap();
}

#[test]
fn a_watch_sees_every_write_of_its_key_and_no_other() {
    let databases = databases();
    let store = databases.get(0).unwrap();
    let wait = Wait::Block;
    type Write<'a> = &'a dyn Fn(&[u8]);
    let one = |change: fn() -> Change<'static>| {
        let databases = &databases;
        move |key: &[u8]| {
            let keys = [(0, key)];
            databases
                .with_locked(&keys, |l| {
                    l.modify_up_to(0, key, 9, None, |_| Ok((change(), ())))
                })
                .unwrap();
        }
    };
    let writes: [(&str, Write<'_>); 12] = [
        ("set", &|key| done(store.set(key, b"1", wait).unwrap())),
        ("incr", &|key| {
            done(store.incr(key, 1, 0, Ttl::Default, wait).unwrap())
        }),
        ("append", &|key| {
            done(store.append(key, b"0", wait).unwrap())
        }),
        ("touch", &|key| {
            done(store.touch(key, Ttl::Millis(99_999), wait).unwrap())
        }),
        ("persist", &|key| done(store.persist(key, wait).unwrap())),
        ("set_many", &|key| {
            done(store.set_many(&[(key, b"2")], Ttl::Default).unwrap())
        }),
        ("locked", &one(|| Change::Append(b"1"))),
        ("load", &|key| load(&store, Keep::Last, key)),
        ("delete", &|key| done(store.delete(key, wait).unwrap())),
        ("add", &|key| {
            done(store.add(key, b"1", Ttl::Default, wait).unwrap())
        }),
        ("delete_many", &|key| {
            done(store.delete_many(&[key]).unwrap())
        }),
        ("load, first", &|key| load(&store, Keep::First, key)),
    ];
    for (name, write) in writes {
        assert!(
            !watched(&databases, 0, b"watched", || write(b"other")),
            "{name} of another key"
        );
        assert!(
            !watched(&databases, 1, b"watched", || write(b"other")),
            "{name} elsewhere"
        );
        if name != "persist" {
            set(&databases, 0, b"other", b"1");
        }
        assert!(
            watched(&databases, 0, b"watched", || write(b"watched")),
            "{name}"
        );
    }
    let kept = watched(&databases, 0, b"watched", || {
        load(&store, Keep::First, b"watched")
    });
    assert!(!kept, "a load that keeps the first");
    let missing = watched(&databases, 0, b"none", || {
        done(store.delete(b"none", wait).unwrap())
    });
    assert!(!missing, "deleting nothing");
    assert!(!watched(&databases, 0, b"watched", || drop(
        store.get(b"watched").unwrap()
    )));
}

#[test]
fn a_watch_sees_its_key_cleared_popped_and_closed_and_not_a_missing_one() {
    for end in ["clear", "pop", "close", "locked"] {
        let databases = databases();
        let store = databases.get(0).unwrap();
        set(&databases, 0, b"key", b"1");
        let run = || match end {
            "clear" => store.clear().unwrap(),
            "pop" => drop(store.pop_any().unwrap()),
            "close" => store.close(),
            _ => databases
                .with_all_locked::<&[u8], _>(&[0], &[], |locked| locked.clear(0))
                .unwrap(),
        };
        let other = Arc::new(AtomicBool::new(false));
        let _watch = databases.watch(0, b"missing", &other).unwrap();
        assert!(watched(&databases, 0, b"key", run), "{end}");
        assert!(!other.load(Ordering::SeqCst), "{end}");
    }
}

#[test]
fn a_key_that_lapses_makes_its_watch_dirty_once_swept_and_is_told_before() {
    let (databases, clock) = by_hand();
    set_until(&databases, 0, b"key", b"1", Ttl::Millis(100));
    let dirty = Arc::new(AtomicBool::new(false));
    let watch = databases.watch(0, b"key", &dirty).unwrap();
    let lapsed = || {
        databases
            .with_locked(&[(0, b"key")], |locked| locked.has_lapsed(&watch))
            .unwrap()
    };
    assert!(!lapsed());
    clock.advance(100);
    assert!(lapsed());
    assert!(!dirty.load(Ordering::SeqCst));
    databases.get(0).unwrap().expire().unwrap();
    assert!(dirty.load(Ordering::SeqCst));
}

#[test]
fn a_key_that_had_lapsed_before_its_watch_began_may_be_swept() {
    let (databases, clock) = by_hand();
    set_until(&databases, 0, b"key", b"1", Ttl::Millis(100));
    clock.advance(100);
    let dirty = Arc::new(AtomicBool::new(false));
    let watch = databases.watch(0, b"key", &dirty).unwrap();
    let store = databases.get(0).unwrap();
    assert_eq!(store.expire().unwrap(), 1);
    databases
        .with_locked(&[(0, b"key")], |locked| {
            assert!(!locked.has_lapsed(&watch)?);
            Ok(())
        })
        .unwrap();
    assert!(!dirty.load(Ordering::SeqCst));
    set(&databases, 0, b"key", b"new");
    assert!(dirty.load(Ordering::SeqCst));
}

#[test]
fn a_watch_sees_its_key_evicted() {
    let databases = with(&Options {
        limits: Limits {
            entries: 100,
            ..Limits::default()
        },
        ..Options::default()
    });
    set(&databases, 0, b"key", b"1");
    // Keys that are written once go before those that were there; those that come back soon take their places.
    let fill = || {
        for i in 0..3000u32 {
            set(&databases, 0, &i.to_le_bytes(), b"1");
            set(&databases, 0, &i.saturating_sub(60).to_le_bytes(), b"1");
        }
    };
    assert!(watched(&databases, 0, b"key", fill));
    assert_eq!(super::get(&databases, 0, b"key"), None);
}

#[test]
fn a_watch_goes_by_the_number_and_sees_swaps_of_what_is_there() {
    let databases = databases();
    set(&databases, 1, b"there", b"value");
    let swap = || databases.swap(1, 2).unwrap();
    assert!(watched(&databases, 1, b"there", swap));
    assert!(watched(&databases, 1, b"there", swap));
    assert!(!watched(&databases, 1, b"other", swap));
    assert!(watched(&databases, 1, b"other", || {
        swap();
        set(&databases, 1, b"other", b"value");
    }));
    assert!(!watched(&databases, 2, b"third", || {
        swap();
        set(&databases, 1, b"third", b"value");
    }));
}

#[test]
fn a_watch_that_has_ended_sees_nothing_and_others_of_its_key_go_on() {
    let databases = databases();
    let (ended, goes_on) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let _stays = databases.watch(0, b"key", &goes_on).unwrap();
    drop(databases.watch(0, b"key", &ended).unwrap());
    databases.delete(0, b"key", Event::Del).unwrap();
    assert!(!goes_on.load(Ordering::SeqCst));
    databases
        .set(0, b"key", b"1", Ttl::Default, Event::Set)
        .unwrap();
    assert!(goes_on.load(Ordering::SeqCst));
    assert!(!ended.load(Ordering::SeqCst));
}
