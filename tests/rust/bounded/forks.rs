//! Bounded stores over forks: what they count in the child is what they hold there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use atbr::engine::{Databases, Event, Filter, Limits, Options, Page, Store, Ttl, Wait};

use super::{Ends, fork, key};

fn bounded(bytes: u64) -> Store {
    Store::new(&Options {
        limits: Limits {
            bytes,
            ..Limits::default()
        },
        ..Options::default()
    })
    .unwrap()
}

fn bytes(store: &Store) -> u64 {
    store.stats().bytes_allocated
}

/// Sets so many values that are blocks and fit all.
fn fill(store: &Store, entries: u64) {
    for i in 0..entries {
        store.set(&key(i), &[1; 5000], Wait::Block).unwrap();
    }
}

fn is_usable(store: &Store) -> bool {
    store.clear().unwrap();
    let empty = bytes(store);
    fill(store, 1000);
    let fits = store.len() == 1000 && store.stats().evictions == 0;
    let full = bytes(store);
    fits && empty < 100_000 && (5_000_000..7_000_000).contains(&full)
}

pub fn large_values_that_readers_hold_over_a_fork_are_counted_right_on_both_sides() {
    for replaced in [false, true] {
        let store = bounded(8 << 20);
        let empty = bytes(&store);
        fill(&store, 1000);
        let held = |page: &mut Page| {
            store.scan(0, &Filter::default(), 100, true, page).unwrap();
            page.len() as u64 * 5000
        };
        let mut page = Page::default();
        let large = held(&mut page);
        let full = bytes(&store);
        for i in 0..1000 {
            if replaced {
                store.set(&key(i), &[2; 100], Wait::Block).unwrap();
            } else {
                store.delete(&key(i), Wait::Block).unwrap();
            }
        }
        assert!((large..full).contains(&(bytes(&store) - empty)));
        fork(|| {
            fill(&store, 1000);
            // Some that were counted before the fork, and some in the child.
            let mut other = Page::default();
            let large = held(&mut other);
            store.clear().unwrap();
            let counted = bytes(&store);
            drop(page);
            let of_other = bytes(&store);
            drop(other);
            let left = bytes(&store);
            of_other == counted && counted - left >= large && is_usable(&store)
        });
        // What the parent held has gone with what ran in the child.
        store.clear().unwrap();
        assert!(bytes(&store) < 100_000, "{}", bytes(&store));
        assert!(is_usable(&store));
    }
}

pub fn stores_that_other_threads_look_at_during_a_fork_can_go_in_the_child() {
    let databases = Databases::new(bounded(2 << 20).into()).unwrap();
    let set = |db: u8, i: u64, len: usize| {
        databases
            .set(db, &key(i), &vec![1; len], Ttl::Default, Event::Set)
            .unwrap();
    };
    (0..2_000).for_each(|i| set(0, i, 1000));
    let replace = |key: &[u8]| {
        databases
            .set(1, key, &[1; 40_000], Ttl::Default, Event::Set)
            .unwrap();
        databases.delete(1, key, Event::Del).unwrap();
    };
    let done = AtomicBool::new(false);
    let until_done = |write: &dyn Fn(u64)| {
        (2_000..)
            .take_while(|_| !done.load(Ordering::Relaxed))
            .for_each(write);
    };
    thread::scope(|scope| {
        scope.spawn(|| until_done(&|i| set(0, i, 1000)));
        // They have nothing of their own to evict, and so go round the shards of the other store.
        scope.spawn(|| until_done(&|_| replace(b"a")));
        scope.spawn(|| until_done(&|_| replace(b"b")));
        let _ends = Ends(&done);
        for _ in 0..if cfg!(debug_assertions) { 300 } else { 1000 } {
            thread::sleep(Duration::from_micros(500));
            fork(|| {
                let started = Instant::now();
                // SAFETY: the child's only copy, which nothing uses after this.
                drop(unsafe { std::ptr::read(&raw const databases) });
                started.elapsed() < Duration::from_secs(10)
            });
        }
    });
}
