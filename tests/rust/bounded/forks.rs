//! Bounded stores over forks: what they count in the child is what they hold there.

use atbr::engine::{Filter, Limits, Options, Page, Store, Wait};

use super::{fork, key};

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
