//! Forks while other threads write, load and make stores: the child finds every store whole and its locks free.
//!
//! The standard library's `main` is not used: with it every thread that starts or ends takes a lock for its stack-overflow
//! handler, which a forked child may find taken for good. An extension module's host, as Python is one, has no such handler.
#![no_main]

#[path = "bounded/forks.rs"]
mod bounded;
#[path = "databases/forks.rs"]
mod databases;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use atbr::engine::{BulkLoad, Keep, Options, Store, Ttl, Wait};
use atbr::files::tsv::{self, LoadOptions};

fn key(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

fn store() -> Store {
    Store::new(&Options::default()).unwrap()
}

type Test = (&'static str, fn());

const TESTS: [Test; 8] = [
    (
        "children_forked_under_load_read_write_load_and_exit",
        children_forked_under_load_read_write_load_and_exit,
    ),
    (
        "the_sweeper_runs_on_both_sides_of_a_fork_under_load",
        the_sweeper_runs_on_both_sides_of_a_fork_under_load,
    ),
    (
        "a_fork_while_nothing_else_happens_leaves_what_is_due_to_the_next_operation",
        a_fork_while_nothing_else_happens_leaves_what_is_due_to_the_next_operation,
    ),
    (
        "children_forked_while_keys_of_databases_are_locked_can_use_them",
        databases::children_forked_while_keys_of_databases_are_locked_can_use_them,
    ),
    (
        "children_forked_while_databases_are_made_can_make_them",
        databases::children_forked_while_databases_are_made_can_make_them,
    ),
    (
        "hooks_are_called_in_children_until_they_are_dropped",
        databases::hooks_are_called_in_children_until_they_are_dropped,
    ),
    (
        "large_values_that_readers_hold_over_a_fork_are_counted_right_on_both_sides",
        bounded::large_values_that_readers_hold_over_a_fork_are_counted_right_on_both_sides,
    ),
    (
        "stores_that_other_threads_look_at_during_a_fork_can_go_in_the_child",
        bounded::stores_that_other_threads_look_at_during_a_fork_can_go_in_the_child,
    ),
];

/// Runs the tests whose names contain one of the arguments, one after the other.
#[unsafe(no_mangle)]
pub extern "C" fn main() -> libc::c_int {
    let filters: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let chosen = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f));
    let started = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in TESTS.into_iter().filter(|(name, _)| chosen(name)) {
        let fine = std::panic::catch_unwind(test).is_ok();
        println!("test {name} ... {}", if fine { "ok" } else { "FAILED" });
        *(if fine { &mut passed } else { &mut failed }) += 1;
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; finished in {seconds:.2}s\n"
    );
    libc::c_int::from(failed != 0)
}

/// Forks, runs `child` there, and fails where it does not end well within 20 seconds.
fn fork(child: impl FnOnce() -> bool) {
    // SAFETY: the child calls what a child of this library may call, and ends without unwinding.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let status = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)) {
            Ok(fine) => i32::from(!fine),
            // Captured output goes with the child.
            Err(_) => 2,
        };
        // SAFETY: always callable.
        unsafe { libc::_exit(status) };
    }
    let started = Instant::now();
    let mut status = 0;
    // SAFETY: our own child and a valid place for its status.
    while unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == 0 {
        if started.elapsed() > Duration::from_secs(20) {
            // SAFETY: our own child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(status, 0, "the child's status");
}

fn children_forked_under_load_read_write_load_and_exit() {
    let path = std::env::temp_dir().join(format!("atbr-fork-{}.tsv", std::process::id()));
    let rows: String = (0..20_000).map(|i| format!("row {i}\t{i}\n")).collect();
    std::fs::write(&path, rows).unwrap();
    let options = LoadOptions {
        threads: Some(4),
        bulk_from: 0,
        round_bytes: 64 << 10,
        ..LoadOptions::default()
    };
    let quiet = |_: &_| ControlFlow::Continue(());
    let store = store();
    for i in 0..5000 {
        store.set(&key(i), b"stays", Wait::Block).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 1..=2u64 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let mut i = 0;
                while !done.load(Ordering::Relaxed) {
                    i += 1;
                    let key = key((writer << 32) + i % 20_000);
                    let value = vec![1; (i % 3000) as usize];
                    store.set(&key, &value, Wait::Block).unwrap();
                    if i % 3 == 0 {
                        store.delete(&key, Wait::Block).unwrap();
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let other = self::store();
                tsv::load(&store, &path, &options, &mut { quiet }).unwrap();
                tsv::load(&other, &path, &options, &mut { quiet }).unwrap();
                store.compact().unwrap();
            }
        });
        let _ends = Ends(&done);
        for _ in 0..if cfg!(debug_assertions) { 40 } else { 500 } {
            fork(|| {
                let whole = (0..5000)
                    .all(|i| store.get(&key(i)).unwrap().as_deref() == Some(&b"stays"[..]));
                store.set(b"child", b"was here", Wait::Block).unwrap();
                let other = self::store();
                let loaded = tsv::load(&store, &path, &options, &mut { quiet }).unwrap();
                let mut bulk = BulkLoad::new(&other, 2, Keep::Last, Ttl::Default).unwrap();
                for i in 0..10_000 {
                    bulk.writers()[(i / 5000) as usize]
                        .push(&key(i), b"")
                        .unwrap();
                }
                bulk.merge(&AtomicBool::new(false)).unwrap();
                bulk.finish().unwrap();
                store.compact().unwrap();
                store.clear().unwrap();
                whole && loaded.rows == 20_000 && other.len() == 10_000 && store.is_empty()
            });
        }
    });
    std::fs::remove_file(&path).unwrap();
    assert_eq!(store.get(b"child").unwrap(), None);
}

/// Ends what runs beside a test, also where the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn swept(store: &Store) -> bool {
    let end = Instant::now() + Duration::from_secs(15);
    while store.len() > 1 {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_micros(500));
    }
    store.contains(b"stays", Wait::Block).unwrap()
}

fn the_sweeper_runs_on_both_sides_of_a_fork_under_load() {
    let store = Store::new(&Options {
        ttl: Ttl::Millis(20),
        ..Options::default()
    })
    .unwrap();
    store
        .set_with(b"stays", b"", Ttl::Millis(1_000_000), Wait::Block)
        .unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 1..=4u64 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                let mut i = 0;
                while !done.load(Ordering::Relaxed) {
                    i += 1;
                    let key = key((writer << 32) + i % 3_000);
                    let value = vec![1; (i % 3000) as usize];
                    let ttl = Ttl::Millis(1 + i % 40);
                    store.set_with(&key, &value, ttl, Wait::Block).unwrap();
                    store.touch(&key, Ttl::Default, Wait::Block).unwrap();
                    if i % 5 == 0 {
                        store.delete(&key, Wait::Block).unwrap();
                    }
                }
            });
        }
        scope.spawn(|| {
            // Stores that come and go start and stop the sweeper's use all the time.
            while !done.load(Ordering::Relaxed) {
                let other = self::store();
                other
                    .set_with(b"k", b"", Ttl::Millis(1), Wait::Block)
                    .unwrap();
                let mut bulk = BulkLoad::new(&store, 1, Keep::First, Ttl::Millis(10)).unwrap();
                for i in 0..500 {
                    bulk.writers()[0].push(&key(i), b"loaded").unwrap();
                }
                bulk.merge(&AtomicBool::new(false)).unwrap();
                bulk.finish().unwrap();
                store.expire().unwrap();
            }
        });
        let _ends = Ends(&done);
        for _ in 0..if cfg!(debug_assertions) { 40 } else { 500 } {
            fork(|| {
                for i in 0..500 {
                    store.set(&key(i), b"child", Wait::Block).unwrap();
                }
                let other = self::store();
                other.set(b"stays", b"", Wait::Block).unwrap();
                other
                    .set_with(b"k", b"", Ttl::Millis(5), Wait::Block)
                    .unwrap();
                store.compact().unwrap();
                swept(&store) && swept(&other)
            });
        }
    });
    assert!(swept(&store));
    assert_eq!(store.stats().expiring, 1);
}

fn a_fork_while_nothing_else_happens_leaves_what_is_due_to_the_next_operation() {
    let store = store();
    store.set(b"stays", b"", Wait::Block).unwrap();
    for i in 0..40 {
        let ttl = Ttl::Millis(1 + i % 30);
        store.set_with(&key(i), b"", ttl, Wait::Block).unwrap();
        // The length alone is asked for from here on.
        fork(|| swept(&store));
    }
    assert!(swept(&store));
}
