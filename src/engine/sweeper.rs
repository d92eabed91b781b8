//! The one background thread of the process: takes expired entries out of all stores. It starts with the first entry that
//! expires, sleeps until one is due, and stops with the last store that had one and before a fork; the next operation that
//! needs it starts it again. It knows no Python.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::alarm::{Alarm, LOOKING};
use super::cell::Cell;
use super::clock;
use super::fork;
use super::store::Inner;
use super::wheel;

/// No longer at a time: sleeping does not see that the machine was suspended, which the clock does.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// A pass that took out so many entries leaves memory that is worth handing back.
const TRIM_ENTRIES: u64 = 1 << 16;
/// The thread takes out so many entries between two times of handing memory back: malloc, too, keeps what indexes and wheels were
/// made of, and the more that is, the longer it locks out who allocates meanwhile.
const ENTRIES_A_PASS: u64 = 1 << 20;
/// After so long the thread sleeps for a moment, so that a thread that shares its core need not wait for the end of a time slice,
/// and the system finds them a core each.
const WORK_BETWEEN_NAPS: Duration = Duration::from_micros(500);
const NAP: Duration = Duration::from_micros(50);

struct Running {
    thread: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    /// The system's number of the thread, once it runs.
    number: Arc<AtomicI32>,
}

/// Its times are the system's clock's.
static ALARM: Alarm<Running> = Alarm::new();
/// Stores in which something expires, or did.
static USERS: AtomicUsize = AtomicUsize::new(0);

/// A store has its first entry that expires.
pub(crate) fn begin_use() {
    USERS.fetch_add(1, Ordering::SeqCst);
}

/// A store that called [`begin_use`] goes; with the last one, the thread does.
pub(crate) fn end_use() {
    if USERS.fetch_sub(1, Ordering::SeqCst) == 1 {
        let unless_used = |running: &mut Option<Running>| {
            if USERS.load(Ordering::SeqCst) == 0 {
                stop(running);
            }
        };
        ALARM.call_alone(unless_used, wake_or_start);
    }
}

/// An entry is due at this time of the system's clock, and was published before. Never waits.
#[inline]
pub(crate) fn notice(due: u64) {
    if ALARM.is_later_than(due) {
        wake();
    }
}

/// Starts the thread where something waits for it and it does not run. Never waits.
#[inline]
pub(crate) fn ensure_running() {
    if ALARM.is_off() {
        wake();
    }
}

/// Wakes the thread up, or starts it. Never waits: who holds the lock does it on release; after a fork the next operation
/// does, which comes here again.
#[cold]
pub(crate) fn wake() {
    ALARM.call(wake_or_start);
}

/// The numbers of stores have changed: a pass over all of them may have left one out.
pub(crate) fn look_again() {
    if !ALARM.is_off() {
        wake();
    }
}

fn wake_or_start(running: &mut Option<Running>) {
    match running {
        Some(running) => running.thread.thread().unpark(),
        None if USERS.load(Ordering::SeqCst) > 0 => {
            let stop = Arc::new(AtomicBool::new(false));
            let number = Arc::new(AtomicI32::new(0));
            let (flag, own) = (Arc::clone(&stop), Arc::clone(&number));
            ALARM.look();
            let named = thread::Builder::new().name("atbr-sweeper".into());
            let begin = move || {
                own.store(own_number(), Ordering::SeqCst);
                run(&flag);
            };
            let spawned = without_signals(|| named.spawn(begin));
            match spawned {
                Ok(thread) => {
                    *running = Some(Running {
                        thread,
                        stop,
                        number,
                    });
                }
                // The next operation tries again.
                Err(_) => ALARM.turn_off(),
            }
        }
        None => {}
    }
}

/// Calls `spawn` with signals blocked, which the new thread inherits. A signal that the program's threads block, because one
/// of them waits for it, would come to this thread otherwise, and end the process.
fn without_signals<R>(spawn: impl FnOnce() -> R) -> R {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: both sets are of this frame, and written before they are read. Faults of the thread's own stay unblocked.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for fault in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL] {
            libc::sigdelset(all.as_mut_ptr(), fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let spawned = spawn();
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        spawned
    }
}

fn stop(running: &mut Option<Running>) {
    if let Some(Running {
        thread,
        stop,
        number,
    }) = running.take()
    {
        stop.store(true, Ordering::SeqCst);
        thread.thread().unpark();
        // It does not panic: it runs no code but the engine's.
        let _ = thread.join();
        wait_until_gone(number.load(Ordering::SeqCst));
        ALARM.turn_off();
    }
}

/// A thread that was joined may be counted by the system for a moment more, and who forks then is warned of threads.
#[cfg(target_os = "linux")]
fn wait_until_gone(number: i32) {
    for _ in 0..1_000 {
        // SAFETY: no signal is sent; asks whether this process has that thread.
        if unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), number, 0) } != 0 {
            return;
        }
        thread::sleep(Duration::from_micros(10));
    }
}

#[cfg(not(target_os = "linux"))]
fn wait_until_gone(_: i32) {}

/// The system's number of this thread; 0 where that is not asked for.
fn own_number() -> i32 {
    #[cfg(target_os = "linux")]
    // SAFETY: a call without arguments.
    return unsafe { libc::gettid() };
    #[cfg(not(target_os = "linux"))]
    return 0;
}

/// Stops the thread before a fork, and keeps it from starting until [`release_after_fork`].
pub(crate) fn stop_over_fork() {
    ALARM.lock_over_fork(stop);
}

/// Lets the thread start again.
///
/// # Safety
/// This thread, or the thread that forked this process, called [`stop_over_fork`].
pub(crate) unsafe fn release_after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { ALARM.force_unlock() };
}

fn run(stop: &AtomicBool) {
    let mut rested = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        ALARM.look();
        let mut next = LOOKING;
        for number in 0.. {
            let Some(store) = fork::pin(number) else {
                break;
            };
            if !store.is_swept() {
                continue;
            }
            if store.earliest.get() > store.cx.time.now() {
                next = next.min(store.next_due());
                continue;
            }
            let mut go_on = || {
                if rested.elapsed() > WORK_BETWEEN_NAPS {
                    thread::sleep(NAP);
                    rested = Instant::now();
                }
                !stop.load(Ordering::Relaxed) && !store.is_leaving()
            };
            let mut expired = 0;
            store.earliest.renew(|| {
                expired = sweep(&store, ENTRIES_A_PASS, &mut go_on);
                // What a fork has interrupted is gone on with after it.
                let whole = go_on();
                if whole { store.earliest_of_cells() } else { 0 }
            });
            let unreturned = store.unreturned.fetch_add(expired, Ordering::Relaxed) + expired;
            if unreturned >= TRIM_ENTRIES && go_on() {
                store.unreturned.store(0, Ordering::Relaxed);
                store.cx.pool.trim(&mut go_on);
                super::ffi::trim_malloc();
            }
            next = next.min(store.next_due());
        }
        ALARM.sleep_until(next);
        let left = Duration::from_millis(next.saturating_sub(clock::system_now()));
        if !left.is_zero() && !stop.load(Ordering::SeqCst) {
            thread::park_timeout(left.min(LONGEST_SLEEP));
        }
    }
}

/// Whether [`sweep_exactly`] may find something: within this tick, a shard has to be looked at.
pub(crate) fn may_expire(store: &Inner) -> bool {
    let soon = store.cx.time.now() + wheel::TICK;
    let due = |cell: &Cell| cell.next_due.load(Ordering::SeqCst) <= soon;
    store.cells.iter().any(due)
}

/// As [`sweep`], and what has expired within a tick that is not over yet.
pub(crate) fn sweep_exactly(store: &Inner, go_on: &mut dyn FnMut() -> bool) -> u64 {
    let expired = sweep(store, u64::MAX, go_on);
    if !go_on() {
        return expired;
    }
    let soon = store.cx.time.now() + wheel::TICK;
    for cell in &store.cells {
        if cell.next_due.load(Ordering::SeqCst) <= soon {
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
    // Chunks whose entries all expire need no copying: compaction waits until no shard has anything due.
    let mut compacts = false;
    loop {
        let (mut any_due, mut more) = (false, false);
        for cell in &store.cells {
            let due = cell.next_due.load(Ordering::SeqCst) <= store.cx.time.now();
            any_due |= due;
            if !(due || compacts && cell.unfinished.load(Ordering::Relaxed)) {
                continue;
            }
            let mut shard = cell.lock.write();
            // Read under the lock: by an earlier time it would put back what somebody else has fire early.
            let swept = shard.sweep(&store.cx, store.cx.time.now());
            shard.settle(&store.cx, 0);
            cell.unfinished.store(swept.more || due, Ordering::Relaxed);
            // Never earlier than before: nobody has to be woken.
            let _ = cell.publish(&shard);
            drop(shard);
            expired += swept.expired;
            more |= swept.more;
            if !go_on() {
                return expired;
            }
        }
        if (compacts && !more) || (any_due && expired >= most) {
            return expired;
        }
        compacts = !any_due;
    }
}
