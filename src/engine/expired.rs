//! What expired, for who asked to be told: a bounded queue that shards fill and one thread empties. Filling never waits; what
//! finds no room is counted and lost.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::sync::lock_mutex;
use super::table::{try_copy, try_reserve_exact};

/// Entries that wait at most, and the bytes of their keys and values.
const MOST_ENTRIES: usize = 1 << 16;
const MOST_BYTES: usize = 64 << 20;
/// What an entry costs in the queue beyond its key and value: two vectors, and malloc's headers.
const ENTRY_BYTES: usize = 2 * (size_of::<Vec<u8>>() + 16);

/// An entry that has expired.
#[derive(Debug, PartialEq, Eq)]
pub struct Expired {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// What the queue is told of an entry that is about to go, once it has gone.
pub(crate) enum Told {
    /// It did not expire.
    Nothing,
    /// It expired, and nobody asked, or there is no room.
    Count { lost: bool },
    /// It expired, and somebody asked.
    Entry(Expired),
}

/// Who takes entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// Nobody, and none is kept.
    #[default]
    Off,
    /// Somebody who is away for a while: entries are kept, and the first one calls who was named by [`on_unwatched`].
    Away,
    /// A thread that waits, or is going to.
    On,
}

#[derive(Default)]
struct Inner {
    entries: VecDeque<Expired>,
    /// The thread that waits for entries.
    waiting: Option<Thread>,
    watch: Watch,
    /// Whether it was called that entries come while it is away.
    called: bool,
}

impl Inner {
    /// Tells who is away, once, that entries wait.
    fn call_if_away(&mut self) {
        if self.watch == Watch::Away && !self.called && !self.entries.is_empty() {
            self.called = true;
            UNWATCHED.get().into_iter().for_each(|call| call());
        }
    }
}

static UNWATCHED: OnceLock<fn()> = OnceLock::new();

/// Names what is called, once for all stores, when something expires that is wanted by somebody who is away. It is called under
/// a shard's lock, by any thread, and must only take note.
pub fn on_unwatched(call: fn()) {
    let _ = UNWATCHED.set(call);
}

/// The queue of one store.
#[derive(Default)]
pub(crate) struct ExpiredQueue {
    wanted: AtomicBool,
    bytes: AtomicUsize,
    most_bytes: usize,
    lost: AtomicU64,
    inner: Mutex<Inner>,
}

impl ExpiredQueue {
    /// A queue for at most so many bytes, and never for more than 64 MiB.
    pub(crate) fn new(most_bytes: usize) -> Self {
        ExpiredQueue {
            most_bytes: most_bytes.min(MOST_BYTES),
            ..ExpiredQueue::default()
        }
    }

    /// Whether somebody wants to be told.
    pub(crate) fn watch(&self, watch: Watch) {
        self.wanted.store(watch != Watch::Off, Ordering::Relaxed);
        let mut inner = lock_mutex(&self.inner);
        inner.watch = watch;
        inner.called = false;
        if watch == Watch::Off {
            inner.entries = VecDeque::new();
            self.bytes.store(0, Ordering::Relaxed);
        }
        inner.call_if_away();
        if let Some(waiting) = inner.waiting.take() {
            waiting.unpark();
        }
    }

    /// Copies an entry that is about to go.
    pub(crate) fn told(&self, key: &[u8], value: &[u8]) -> Told {
        if !self.wanted.load(Ordering::Relaxed) {
            return Told::Count { lost: false };
        }
        let mut entry = Expired {
            key: Vec::new(),
            value: Vec::new(),
        };
        let needed = key.len() + value.len() + ENTRY_BYTES;
        let room = needed + self.bytes.load(Ordering::Relaxed) <= self.most_bytes;
        if !room
            || try_copy(&mut entry.key, key).is_err()
            || try_copy(&mut entry.value, value).is_err()
        {
            return Told::Count { lost: true };
        }
        Told::Entry(entry)
    }

    fn push(&self, entry: Expired) {
        let mut inner = lock_mutex(&self.inner);
        let inner = &mut *inner;
        if inner.watch == Watch::Off {
            return;
        }
        if inner.entries.len() >= MOST_ENTRIES || inner.entries.try_reserve(1).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.bytes.fetch_add(entry.bytes(), Ordering::Relaxed);
        inner.entries.push_back(entry);
        inner.call_if_away();
        if let Some(waiting) = inner.waiting.take() {
            waiting.unpark();
        }
    }

    /// Takes at most `most` entries, and waits for the first of them for so long; none at once where the queue is not watched.
    pub(crate) fn take(&self, most: usize, timeout: Duration) -> Vec<Expired> {
        let end = Instant::now() + timeout;
        let mut taken = Vec::new();
        loop {
            let mut inner = lock_mutex(&self.inner);
            let count = inner.entries.len().min(most);
            if inner.watch == Watch::On && count > 0 && try_reserve_exact(&mut taken, count).is_ok()
            {
                taken.extend(inner.entries.drain(..count));
                let bytes = taken.iter().map(Expired::bytes).sum();
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                return taken;
            }
            let left = end.saturating_duration_since(Instant::now());
            if inner.watch != Watch::On || left.is_zero() {
                inner.waiting = None;
                return taken;
            }
            inner.waiting = Some(thread::current());
            drop(inner);
            thread::park_timeout(left);
        }
    }

    /// Entries that found no room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Bytes of the entries that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Keeps the queue locked over a fork.
    pub(crate) fn lock_over_fork(&self) {
        std::mem::forget(lock_mutex(&self.inner));
    }

    /// Ends [`ExpiredQueue::lock_over_fork`].
    ///
    /// # Safety
    /// This thread, or the thread that forked this process, holds the lock.
    pub(crate) unsafe fn force_unlock(&self) {
        // SAFETY: passed on to the caller.
        unsafe { self.inner.force_unlock() };
    }
}

impl Expired {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + ENTRY_BYTES
    }
}

impl Told {
    /// The entry has gone: counts it, and hands it to who asked.
    pub(crate) fn count(self, cx: &super::shard::Context, expirations: &mut u64) {
        match self {
            Told::Nothing => return,
            Told::Count { lost } => {
                cx.expired
                    .lost
                    .fetch_add(u64::from(lost), Ordering::Relaxed);
            }
            Told::Entry(entry) => cx.expired.push(entry),
        }
        *expirations += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(i: usize) -> Expired {
        Expired {
            key: i.to_le_bytes().to_vec(),
            value: Vec::new(),
        }
    }

    #[test]
    fn entries_beyond_the_bound_are_counted_and_lost() {
        let queue = ExpiredQueue::new(usize::MAX);
        queue.watch(Watch::On);
        (0..MOST_ENTRIES + 3).for_each(|i| queue.push(entry(i)));
        assert_eq!(queue.lost(), 3);
        let taken = queue.take(usize::MAX, Duration::ZERO);
        assert_eq!(taken.len(), MOST_ENTRIES);
        assert_eq!(taken[0], entry(0));
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_waiting_thread_gets_what_comes_and_leaves_when_nobody_wants_more() {
        let queue = ExpiredQueue::new(usize::MAX);
        queue.watch(Watch::On);
        thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let first = queue.take(10, Duration::from_secs(60));
                (first, queue.take(10, Duration::from_secs(60)))
            });
            queue.push(entry(7));
            while queue.bytes() > 0 {
                thread::yield_now();
            }
            queue.watch(Watch::Off);
            let (first, last) = waits.join().unwrap();
            assert_eq!(first, [entry(7)]);
            assert!(last.is_empty());
        });
    }
}
