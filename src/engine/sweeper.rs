//! The one background thread of the process: takes expired entries out of all stores. It starts with the first entry that
//! expires, sleeps until one is due, and stops with the last store that had one and before a fork; the next operation that
//! needs it starts it again. It knows no Python.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::clock;
use super::fork;
use super::store::Inner;
use super::sync::lock_mutex;

/// No longer at a time: sleeping does not see that the machine was suspended, which the clock does.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// A pass that took out so many entries leaves memory that is worth handing back.
const TRIM_ENTRIES: u64 = 1 << 16;
/// The thread takes out so many entries between two times of handing memory back: malloc, too, keeps what indexes and wheels were
/// made of, and the more that is, the longer it locks out who allocates meanwhile.
const ENTRIES_A_PASS: u64 = 1 << 20;
/// In the place of a wake-up time: there is no thread.
const NO_THREAD: u64 = u64::MAX;
/// In the place of a wake-up time: the thread is looking around, and has to look again.
const LOOKING: u64 = u64::MAX - 1;

struct Running {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);
/// When the thread wakes up, on the system's clock.
static WAKE_AT: AtomicU64 = AtomicU64::new(NO_THREAD);
/// Somebody wants the thread to look, and found the lock taken.
static WANTED: AtomicBool = AtomicBool::new(false);
/// Stores in which something expires, or did.
static USERS: AtomicUsize = AtomicUsize::new(0);

/// A store has its first entry that expires.
pub(crate) fn begin_use() {
    USERS.fetch_add(1, Ordering::SeqCst);
}

/// A store that called [`begin_use`] goes; with the last one, the thread does.
pub(crate) fn end_use() {
    if USERS.fetch_sub(1, Ordering::SeqCst) == 1 {
        let mut running = lock_mutex(&RUNNING);
        if USERS.load(Ordering::SeqCst) == 0 {
            stop(&mut running);
        }
        drop(running);
        if WANTED.load(Ordering::SeqCst) {
            wake();
        }
    }
}

/// An entry is due at this time of the system's clock, and was published before. Never waits.
#[inline]
pub(crate) fn notice(due: u64) {
    if due < WAKE_AT.load(Ordering::SeqCst) {
        wake();
    }
}

/// Starts the thread where something waits for it and it does not run. Never waits.
#[inline]
pub(crate) fn ensure_running() {
    if WAKE_AT.load(Ordering::Relaxed) == NO_THREAD {
        wake();
    }
}

/// Wakes the thread up, or starts it. Never waits: who holds the lock does it on release; after a fork the next operation
/// does, which comes here again.
#[cold]
pub(crate) fn wake() {
    WANTED.store(true, Ordering::SeqCst);
    while WANTED.load(Ordering::SeqCst)
        && let Some(mut running) = RUNNING.try_lock()
    {
        WANTED.store(false, Ordering::SeqCst);
        wake_or_start(&mut running);
    }
}

/// The numbers of stores have changed: a pass over all of them may have left one out.
pub(crate) fn look_again() {
    if WAKE_AT.load(Ordering::SeqCst) != NO_THREAD {
        wake();
    }
}

fn wake_or_start(running: &mut Option<Running>) {
    match running {
        Some(running) => running.thread.thread().unpark(),
        None if USERS.load(Ordering::SeqCst) > 0 => {
            let stop = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&stop);
            WAKE_AT.store(LOOKING, Ordering::SeqCst);
            let named = thread::Builder::new().name("atbr-sweeper".into());
            match named.spawn(move || run(&flag)) {
                Ok(thread) => *running = Some(Running { thread, stop }),
                // The next operation tries again.
                Err(_) => WAKE_AT.store(NO_THREAD, Ordering::SeqCst),
            }
        }
        None => {}
    }
}

fn stop(running: &mut Option<Running>) {
    if let Some(Running { thread, stop }) = running.take() {
        stop.store(true, Ordering::SeqCst);
        thread.thread().unpark();
        // It does not panic: it runs no code but the engine's.
        let _ = thread.join();
        WAKE_AT.store(NO_THREAD, Ordering::SeqCst);
    }
}

/// Stops the thread before a fork, and keeps it from starting until [`release_after_fork`].
pub(crate) fn stop_over_fork() {
    let mut running = lock_mutex(&RUNNING);
    stop(&mut running);
    std::mem::forget(running);
}

/// Lets the thread start again.
///
/// # Safety
/// This thread, or the thread that forked this process, called [`stop_over_fork`].
pub(crate) unsafe fn release_after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { RUNNING.force_unlock() };
}

fn run(stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        // Who publishes an earlier time from here on wakes the thread, so that it looks again.
        WAKE_AT.store(LOOKING, Ordering::SeqCst);
        let mut next = LOOKING;
        for number in 0.. {
            let Some(store) = fork::pin(number) else {
                break;
            };
            if !store.is_swept() {
                continue;
            }
            let mut go_on = || !stop.load(Ordering::Relaxed) && !store.is_leaving();
            let expired = sweep(&store, ENTRIES_A_PASS, &mut go_on);
            let unreturned = store.unreturned.fetch_add(expired, Ordering::Relaxed) + expired;
            if unreturned >= TRIM_ENTRIES && go_on() {
                store.unreturned.store(0, Ordering::Relaxed);
                store.cx.pool.trim(&mut go_on);
                super::ffi::trim_malloc();
            }
            next = next.min(store.next_due());
        }
        WAKE_AT.store(next, Ordering::SeqCst);
        let left = Duration::from_millis(next.saturating_sub(clock::system_now()));
        if !left.is_zero() && !stop.load(Ordering::SeqCst) {
            thread::park_timeout(left.min(LONGEST_SLEEP));
        }
    }
}

/// As [`sweep`], and what has expired within a tick that is not over yet.
pub(crate) fn sweep_exactly(store: &Inner, go_on: &mut dyn FnMut() -> bool) -> u64 {
    let expired = sweep(store, u64::MAX, go_on);
    for cell in &store.cells {
        if cell.next_due.load(Ordering::SeqCst) != u64::MAX {
            let mut shard = cell.lock.write();
            shard.fire_early(store.cx.time.now());
            // At once, which is what is done next; nobody has to be woken.
            let _ = cell.publish(&shard);
        }
    }
    expired + sweep(store, u64::MAX, go_on)
}

/// Takes out what has expired, a few entries of each shard in turn, so that no shard is locked for long, until nothing is due
/// or they are at least `most`, or `go_on` says no. Returns how many.
pub(crate) fn sweep(store: &Inner, most: u64, go_on: &mut dyn FnMut() -> bool) -> u64 {
    let mut expired = 0;
    loop {
        let mut more = false;
        for cell in &store.cells {
            let now = store.cx.time.now();
            let due = cell.next_due.load(Ordering::SeqCst) <= now;
            if !due && !cell.unfinished.load(Ordering::Relaxed) {
                continue;
            }
            let mut shard = cell.lock.write();
            let swept = shard.sweep(&store.cx, now);
            shard.settle(&store.cx, 0);
            cell.unfinished.store(swept.more, Ordering::Relaxed);
            // Never earlier than before: nobody has to be woken.
            let _ = cell.publish(&shard);
            drop(shard);
            expired += swept.expired;
            more |= swept.more;
            if !go_on() {
                return expired;
            }
        }
        if !more || expired >= most {
            return expired;
        }
    }
}
