//! How threads wait for locks: they try, back off, and try again, and never park.
//!
//! parking_lot queues waiting threads in a table of its own. A process forked while a thread is in that
//! table inherits queue entries, and perhaps a locked bucket, of threads that do not exist in the child.
//! Critical sections here take about 100 ns and at most a few ms, so waiting by backing off costs little,
//! and a fork handler that holds every lock leaves nothing behind but lock words.

use std::thread;
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use atomic::{AtomicU32, Ordering};
pub(super) use parking_lot::{Mutex, MutexGuard};
pub(super) use std::sync::atomic;

/// No waiting thread sleeps longer before it looks again.
pub(crate) const LONGEST_SLEEP: Duration = Duration::from_micros(200);

/// Backs off a little more at each step: spins, then sleeps.
struct Backoff(u32);

impl Backoff {
    fn wait(&mut self) {
        self.0 += 1;
        match self.0 {
            0..=6 => (0..1 << self.0).for_each(|_| std::hint::spin_loop()),
            n => {
                let sleep = Duration::from_micros(20).saturating_mul(n - 6);
                thread::sleep(sleep.min(LONGEST_SLEEP));
            }
        }
    }
}

/// Locks a mutex without parking.
pub(crate) fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    let mut backoff = Backoff(0);
    loop {
        if let Some(guard) = mutex.try_lock() {
            return guard;
        }
        backoff.wait();
    }
}

/// A reader-writer lock in which waiting writers keep new readers out, for a bounded time.
pub(crate) struct Lock<T> {
    waiting_writers: AtomicU32,
    lock: RwLock<T>,
}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Lock {
            waiting_writers: AtomicU32::new(0),
            lock: RwLock::new(value),
        }
    }

    #[inline]
    pub(crate) fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        if self.waiting_writers.load(Ordering::Relaxed) != 0 {
            return None;
        }
        self.lock.try_read()
    }

    #[inline]
    pub(crate) fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.lock.try_write()
    }

    #[inline]
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        match self.try_read() {
            Some(guard) => guard,
            None => self.read_slow(),
        }
    }

    #[cold]
    fn read_slow(&self) -> RwLockReadGuard<'_, T> {
        // After so many steps a reader no longer lets writers go first.
        const POLITE: u32 = 8;
        let mut backoff = Backoff(0);
        loop {
            let guard = if backoff.0 < POLITE {
                self.try_read()
            } else {
                self.lock.try_read()
            };
            if let Some(guard) = guard {
                return guard;
            }
            backoff.wait();
        }
    }

    #[inline]
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        match self.lock.try_write() {
            Some(guard) => guard,
            None => self.write_slow(),
        }
    }

    #[cold]
    fn write_slow(&self) -> RwLockWriteGuard<'_, T> {
        self.waiting_writers.fetch_add(1, Ordering::Relaxed);
        let mut backoff = Backoff(0);
        let guard = loop {
            if let Some(guard) = self.lock.try_write() {
                break guard;
            }
            backoff.wait();
        };
        self.waiting_writers.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// The value, without a lock.
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }

    /// The value, of which this thread has forgotten a write lock.
    ///
    /// # Safety
    /// This thread, or the thread that forked this process, holds the write lock.
    pub(crate) unsafe fn peek(&self) -> &T {
        // SAFETY: nobody else writes it, by the caller.
        unsafe { &*self.lock.data_ptr() }
    }

    /// Ends a write lock that was forgotten around a fork; in the child, also the waiting of threads that
    /// are not there.
    ///
    /// # Safety
    /// This thread, or the thread that forked this process, holds the write lock.
    pub(crate) unsafe fn force_unlock(&self, in_child: bool) {
        if in_child {
            self.waiting_writers.store(0, Ordering::Relaxed);
        }
        // SAFETY: passed on to the caller.
        unsafe { self.lock.force_unlock_write() };
    }
}
