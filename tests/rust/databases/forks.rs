use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use atbr::engine::{Event, Ttl, Wait, in_forked_children};

use super::{databases, get, set};

/// Forks, runs `child` there, and fails where it does not end well within 20 seconds.
fn fork(child: impl FnOnce() -> bool) {
    // SAFETY: the child calls what a child of this library may call, and ends without unwinding.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
        // SAFETY: always callable.
        unsafe { libc::_exit(i32::from(!fine)) };
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

#[test]
fn children_forked_while_many_keys_are_locked_over_databases_can_use_the_store() {
    // Stores that come and go while databases are made: the order of locking stays that of forks.
    let gone = databases();
    let databases = databases();
    for db in [9, 3, 0] {
        set(&databases, db, b"stays", b"1");
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
                    if i % 50 == 0 {
                        databases.swap(3, 9).unwrap();
                    }
                }
            });
        }
        let zero = databases.get(0).unwrap();
        for _ in 0..if cfg!(debug_assertions) { 40 } else { 300 } {
            fork(|| {
                let there = zero.get(b"stays").unwrap().is_some();
                zero.set(b"child", b"1", Wait::Block).unwrap();
                set(&databases, 3, b"child", b"1");
                there && get(&databases, 3, b"child").is_some()
            });
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn hooks_are_called_in_children_with_the_stores_usable_until_they_are_dropped() {
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
