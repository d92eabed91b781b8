//! Until when the background thread sleeps, and how it is woken: the part of the sweeper that threads race for. Knows neither
//! stores nor time. `alarm_model.rs` checks it under a model checker, with other primitives.

use super::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use super::sync::{Mutex, MutexGuard, lock_mutex};

/// In the place of a wake-up time: there is no thread.
pub(crate) const NO_THREAD: u64 = u64::MAX;
/// In the place of a wake-up time: the thread is looking around, and has to look again.
pub(crate) const LOOKING: u64 = u64::MAX - 1;

/// What a thread and those who wake it share; `T` is the thread, as its owner knows it.
pub(crate) struct Alarm<T> {
    /// When the thread wakes up by itself.
    wake_at: AtomicU64,
    /// Somebody wants the thread to look, and found the lock taken.
    wanted: AtomicBool,
    thread: Mutex<Option<T>>,
}

impl<T> Alarm<T> {
    pub(crate) const fn new() -> Self {
        Alarm {
            wake_at: AtomicU64::new(NO_THREAD),
            wanted: AtomicBool::new(false),
            thread: Mutex::new(None),
        }
    }

    /// For the thread: who publishes something from here on wakes it, so that it looks again.
    pub(crate) fn look(&self) {
        self.wake_at.store(LOOKING, Ordering::SeqCst);
    }

    /// For the thread, before it sleeps: it has seen all that was published before [`Alarm::look`], and that is due at `next`.
    pub(crate) fn sleep_until(&self, next: u64) {
        self.wake_at.store(next, Ordering::SeqCst);
    }

    /// There is no thread any more.
    pub(crate) fn turn_off(&self) {
        self.wake_at.store(NO_THREAD, Ordering::SeqCst);
    }

    /// Whether the thread sleeps for longer than until `due`, which was published before (`SeqCst`).
    #[inline]
    pub(crate) fn is_later_than(&self, due: u64) -> bool {
        due < self.wake_at.load(Ordering::SeqCst)
    }

    /// Whether there is no thread; a moment ago.
    #[inline]
    pub(crate) fn is_off(&self) -> bool {
        self.wake_at.load(Ordering::Relaxed) == NO_THREAD
    }

    /// Has `act` called with the thread, by this call or by whoever holds the lock. Never waits.
    pub(crate) fn call(&self, mut act: impl FnMut(&mut Option<T>)) {
        self.wanted.store(true, Ordering::SeqCst);
        while self.wanted.load(Ordering::SeqCst)
            && let Some(mut thread) = self.try_lock()
        {
            self.wanted.store(false, Ordering::SeqCst);
            act(&mut thread);
        }
    }

    /// Calls `act` with the thread, waiting for the lock, and then whatever was called meanwhile.
    pub(crate) fn call_alone(
        &self,
        act: impl FnOnce(&mut Option<T>),
        called: impl FnMut(&mut Option<T>),
    ) {
        act(&mut lock_mutex(&self.thread));
        if self.wanted.load(Ordering::SeqCst) {
            self.call(called);
        }
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Option<T>>> {
        self.thread.try_lock()
    }

    /// Calls `act` with the thread and keeps the lock, over a fork.
    pub(crate) fn lock_over_fork(&self, act: impl FnOnce(&mut Option<T>)) {
        let mut thread = lock_mutex(&self.thread);
        act(&mut thread);
        std::mem::forget(thread);
    }

    /// Ends [`Alarm::lock_over_fork`].
    ///
    /// # Safety
    /// This thread, or the thread that forked this process, holds the lock.
    pub(crate) unsafe fn force_unlock(&self) {
        // SAFETY: passed on to the caller.
        unsafe { self.thread.force_unlock() };
    }
}

/// The earliest of many times, or an earlier one: what the thread looks at before it looks at each of them.
pub(crate) struct Earliest(AtomicU64);

impl Earliest {
    pub(crate) const fn new() -> Self {
        Earliest(AtomicU64::new(u64::MAX))
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// One of the times is this one now, and was published before (`SeqCst`).
    #[inline]
    pub(crate) fn lower(&self, time: u64) {
        if time < self.get() {
            self.0.fetch_min(time, Ordering::SeqCst);
        }
    }

    /// For the thread: forgets the time, calls `look`, and knows what that has found, or what came meanwhile.
    pub(crate) fn renew(&self, look: impl FnOnce() -> u64) {
        self.0.store(u64::MAX, Ordering::SeqCst);
        self.lower(look());
    }
}
