//! Databases over forks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use atbr::engine::{Classes, Databases, Event, Options, Store, Ttl, Wait, in_forked_children};

use super::{Ends, fork};

fn databases() -> Arc<Databases> {
    let zero = Arc::new(Store::new(&Options::default()).unwrap());
    Arc::new(Databases::new(zero).unwrap())
}

fn set(databases: &Databases, db: u8, key: &[u8]) {
    databases
        .set(db, key, b"1", Ttl::Default, Event::Set)
        .unwrap();
}

fn has(databases: &Databases, db: u8, key: &[u8]) -> bool {
    databases.read(db, key, |_| ()).unwrap().is_some()
}

pub fn children_forked_while_keys_of_databases_are_locked_can_use_them() {
    // Stores that come and go while databases are made: the order of locking stays that of forks.
    let gone = databases();
    let databases = databases();
    for db in [9, 3, 0] {
        set(&databases, db, b"stays");
    }
    drop(gone);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3u32 {
            let (databases, done) = (&databases, &done);
            scope.spawn(move || {
                let mut i = 0u32;
                while !done.load(Ordering::Relaxed) {
                    i += 1;
                    let key = [writer, i % 500].map(u32::to_le_bytes).concat();
                    databases
                        .with_locked(&[(0, &key), (3, &key), (9, &key)], |locked| {
                            for db in [9, 0, 3] {
                                locked.set(db, &key, b"1", Ttl::Default, Event::Set)?;
                            }
                            Ok(())
                        })
                        .unwrap();
                    if i.is_multiple_of(50) {
                        databases.swap(3, 9).unwrap();
                    }
                }
            });
        }
        let _ends = Ends(&done);
        let zero = databases.get(0).unwrap();
        for _ in 0..if cfg!(debug_assertions) { 40 } else { 300 } {
            fork(|| {
                let there = zero.get(b"stays").unwrap().is_some();
                zero.set(b"child", b"1", Wait::Block).unwrap();
                set(&databases, 3, b"child");
                there && has(&databases, 3, b"child")
            });
        }
    });
}

pub fn children_forked_while_databases_are_made_can_make_them() {
    let latest = Mutex::new(databases());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut events = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let made = databases();
                *latest.lock().unwrap() = Arc::clone(&made);
                made.set_waker(|| {});
                for db in 1..Databases::COUNT {
                    made.set_notify(Classes::STRING).unwrap();
                    set(&made, db, b"made");
                    made.take_events(&mut events).unwrap();
                    made.set_notify(Classes::NONE).unwrap();
                }
            }
        });
        let _ends = Ends(&done);
        for _ in 0..if cfg!(debug_assertions) { 100 } else { 1_000 } {
            let databases = Arc::clone(&latest.lock().unwrap());
            fork(|| {
                (0..Databases::COUNT).all(|db| {
                    set(&databases, db, b"child");
                    databases.swap(db, 15 - db).is_ok()
                }) && databases.notifies() == Classes::NONE
            });
        }
    });
}

pub fn hooks_are_called_in_children_until_they_are_dropped() {
    let databases = databases();
    let zero = databases.get(0).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, store) = (Arc::clone(&calls), Arc::clone(&zero));
    let hook = in_forked_children(move || {
        store.set(b"hook", b"1", Wait::Block).unwrap();
        counted.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    for _ in 0..3 {
        fork(|| calls.load(Ordering::SeqCst) == 1 && zero.get(b"hook").unwrap().is_some());
    }
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    drop(hook);
    fork(|| calls.load(Ordering::SeqCst) == 0 && zero.get(b"hook").unwrap().is_none());
}
