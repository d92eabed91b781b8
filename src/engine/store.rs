//! The store: shards behind locks. It decides which shard a key is in and how long to wait for its lock;
//! what happens inside a shard is the shard's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use parking_lot::RwLockWriteGuard;

use super::alarm::Earliest;
use super::bounds::{Bounds, Limits};
use super::cell::{Cell, Due};
use super::clock::Clock;
use super::expired::ExpiredQueue;
use super::fork;
use super::hash::{Hasher, HasherKind, Placer};
use super::pool::Pool;
use super::record::ValueRef;
use super::shard::{Context, Entry, Shard};
use super::sweeper;
use super::table::{Sparse, try_box, try_reserve_exact};
use super::ttl::{Time, Ttl};
use crate::Result;

/// How to make a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Entries to make room for.
    pub capacity: usize,
    /// Hash function of the keys.
    pub hasher: HasherKind,
    /// Seed of the hash function; None for a random one.
    pub seed: Option<u64>,
    /// Time to live of entries that are written without one; [`Ttl::Default`] is [`Ttl::Never`] here.
    pub ttl: Ttl,
    /// Where the time comes from.
    pub clock: Clock,
    /// Whether the background thread takes out what has expired; without it [`Store::expire`] does.
    pub sweeps: bool,
    /// How much the store may hold.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            capacity: 0,
            hasher: HasherKind::default(),
            seed: None,
            ttl: Ttl::Never,
            clock: Clock::default(),
            sweeps: true,
            limits: Limits::default(),
        }
    }
}

/// Whether to wait for a shard's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// [`crate::Error::WouldBlock`] at once if another thread is in the way; nothing has happened then.
    Try,
    /// As long as it takes.
    Block,
}

/// What [`Store::read_counted`] found.
#[derive(Debug)]
pub enum Found<R> {
    /// No such key.
    Missing,
    /// A value that the caller did not take.
    Declined,
    /// What the caller made of the value.
    Value(R),
}

/// What stays at one address while the store lives, for the fork handlers.
pub(crate) struct Inner {
    pub(crate) cx: Context,
    pub(crate) cells: Box<[Cell]>,
    pub(crate) closed: AtomicBool,
    /// Where `pop_any` goes on: shard above, order hash below.
    pub(crate) pop_cursor: AtomicU64,
    pub(crate) registered: fork::Registered,
    /// Who keeps the store from going for a moment: the sweeper, and writes to stores that share its bounds.
    pub(crate) pins: AtomicUsize,
    /// The store is about to go.
    leaving: AtomicBool,
    /// Whether the sweeper knows that something expires here, or did.
    uses_sweeper: AtomicBool,
    /// When the first of the shards' wheels has to be looked at.
    pub(crate) earliest: Earliest,
    /// Entries that the sweeper has taken out since it last handed memory back.
    pub(crate) unreturned: AtomicU64,
    /// Bytes that the store took when it was made.
    fixed: u64,
}

impl Inner {
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Whether what the store holds counts in these bounds.
    pub(crate) fn shares_bounds(&self, cx: &Context) -> bool {
        match (&self.cx.bounds, &cx.bounds) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Whether the sweeper has to look at the store.
    pub(crate) fn is_swept(&self) -> bool {
        self.cx.sweeps
    }

    /// When the sweeper has to look at the store, on the system's clock.
    pub(crate) fn next_due(&self) -> u64 {
        self.on_system_clock(self.earliest.get())
    }

    /// When the first of the shards' wheels has to be looked at, in the store's time. O(shards).
    pub(crate) fn earliest_of_cells(&self) -> u64 {
        let due = |cell: &Cell| cell.next_due.load(Ordering::SeqCst);
        self.cells.iter().map(due).min().unwrap_or(u64::MAX)
    }

    /// Adds what the store holds to what the bounds know, which was forgotten, in the child of a fork: what other threads had
    /// taken in advance is of no use here.
    ///
    /// # Safety
    /// All shards are locked by the thread that forked this process, which is the only one.
    pub(crate) unsafe fn recount(&self) {
        if let Some(bounds) = &self.cx.bounds {
            let (mut entries, mut bytes) = (0, size_of_val(&self.cells[..]));
            for cell in &self.cells {
                // SAFETY: by the caller.
                let shard = unsafe { cell.lock.peek() };
                entries += shard.len();
                bytes += shard.bytes();
            }
            bounds.add(entries, bytes as u64);
        }
    }

    fn on_system_clock(&self, due: u64) -> u64 {
        if due == u64::MAX {
            due
        } else {
            self.cx.time.on_system_clock(due)
        }
    }

    pub(crate) fn end_use_of_sweeper(&self) {
        if self.uses_sweeper.swap(false, Ordering::SeqCst) {
            sweeper::end_use();
        }
    }
}

/// A large-scale in-memory map from bytes to bytes, for any number of threads.
///
/// ```
/// use atbr::engine::{Options, Store, Wait};
/// let store = Store::new(&Options::default())?;
/// store.set(b"key", b"value", Wait::Block)?;
/// let len = store.read(b"key", Wait::Block, |value| value.len())?;
/// assert_eq!(len, Some(5));
/// # Ok::<(), atbr::Error>(())
/// ```
pub struct Store {
    inner: Box<Inner>,
}

impl Store {
    /// An empty store.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn new(options: &Options) -> Result<Store> {
        let bits = options.limits.shard_bits(options.capacity);
        let placer = Placer::new(Hasher::new(options.hasher, options.seed), bits);
        let store = Self::with_placer(placer, options)?;
        if options.capacity > 0 {
            store.reserve(options.capacity)?;
        }
        Ok(store)
    }

    pub(crate) fn with_placer(placer: Placer, options: &Options) -> Result<Store> {
        let limits = options.limits;
        limits.check()?;
        let time = Time::new(options.clock.clone(), options.ttl)?;
        let bounds = Bounds::new(limits).map(Arc::new);
        Self::with_parts(placer, time, limits, bounds, options.sweeps)
    }

    /// An empty store whose keys have the same places, whose time is the same, and whose entries count in the same bounds.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(crate) fn beside(&self) -> Result<Store> {
        let cx = self.cx();
        let limits = cx
            .bounds
            .as_ref()
            .map_or_else(Limits::default, |b| b.limits());
        let bounds = cx.bounds.clone();
        Self::with_parts(cx.placer, cx.time.clone(), limits, bounds, cx.sweeps)
    }

    fn with_parts(
        placer: Placer,
        time: Time,
        limits: Limits,
        bounds: Option<Arc<Bounds>>,
        sweeps: bool,
    ) -> Result<Store> {
        let mut cells = Vec::new();
        try_reserve_exact(&mut cells, 1 << placer.shard_bits())?;
        cells.resize_with(1 << placer.shard_bits(), Cell::new);
        let mut fixed = size_of_val(&cells[..]);
        if limits.are_set() {
            for cell in &mut cells {
                let shard = Shard::bounded(limits.groups())?;
                fixed += shard.bytes();
                *cell.lock.get_mut() = shard;
            }
        }
        let most_expired = bounds
            .as_ref()
            .map_or(usize::MAX, |bounds| bounds.bytes_for_expired());
        let inner = try_box(Inner {
            cx: Context {
                pool: match limits.bytes {
                    0 => Pool::default(),
                    bytes => Pool::bounded(bytes, bounds.clone()),
                },
                placer,
                time,
                expired: ExpiredQueue::new(most_expired),
                bounds,
                sweeps,
            },
            cells: cells.into_boxed_slice(),
            closed: AtomicBool::new(false),
            pop_cursor: AtomicU64::new(0),
            registered: fork::Registered::default(),
            pins: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            uses_sweeper: AtomicBool::new(false),
            earliest: Earliest::new(),
            unreturned: AtomicU64::new(0),
            fixed: fixed as u64,
        })?;
        fork::register(&inner)?;
        if let Some(bounds) = &inner.cx.bounds {
            bounds.join(inner.fixed);
        }
        Ok(Store { inner })
    }

    pub(crate) fn cx(&self) -> &Context {
        &self.inner.cx
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// How much the store may hold.
    pub fn limits(&self) -> Limits {
        self.cx()
            .bounds
            .as_ref()
            .map_or_else(Limits::default, |bounds| bounds.limits())
    }

    /// Whether the number of entries or of bytes is bounded.
    pub fn is_bounded(&self) -> bool {
        self.cx().bounds.is_some()
    }

    pub(crate) fn is_bounded_in_bytes(&self) -> bool {
        self.cx().bounds.as_ref().is_some_and(|b| b.bounds_bytes())
    }

    /// Says which of two stores was made first.
    pub(crate) fn serial(&self) -> u64 {
        self.inner.registered.serial()
    }

    pub(crate) fn cells(&self) -> &[Cell] {
        &self.inner.cells
    }

    #[inline]
    pub(crate) fn place(&self, key: &[u8]) -> (&Cell, u32) {
        let place = self.inner.cx.placer.place(key);
        // A shard number has as many bits as there are shards.
        (&self.inner.cells[place.shard as usize], place.order)
    }

    /// Calls `f` with the value of a key, under the shard's read lock; None where the key is missing. O(1)
    /// expected. `f` must not call back into the store.
    ///
    /// # Errors
    /// [`crate::Error::WouldBlock`].
    #[inline]
    pub fn read<R>(
        &self,
        key: &[u8],
        wait: Wait,
        f: impl FnOnce(ValueRef<'_>) -> R,
    ) -> Result<Option<R>> {
        let (cell, order) = self.place(key);
        let shard = cell.read(wait)?;
        Ok(shard.get(self.cx(), order, key).map(f))
    }

    /// As [`Store::read`], with all of the entry, or None.
    #[inline]
    pub(super) fn with_entry<R>(
        &self,
        key: &[u8],
        f: impl FnOnce(Option<Entry<'_>>) -> R,
    ) -> Result<R> {
        let (cell, order) = self.place(key);
        let shard = cell.read(Wait::Block)?;
        Ok(f(shard.get_entry(self.cx(), order, key)))
    }

    /// The time in milliseconds since 1970, as the store counts it: the wall clock of when it was made, and what has passed since.
    pub fn unix_now(&self) -> u64 {
        self.cx().time.unix_now()
    }

    /// As [`Store::read`], and counts a look-up as made with the GIL released (`detached`) or held. `f` may decline
    /// the value, to be asked again: then nothing is counted.
    ///
    /// # Errors
    /// [`crate::Error::WouldBlock`]; nothing is counted then.
    #[inline]
    pub fn read_counted<R>(
        &self,
        key: &[u8],
        wait: Wait,
        detached: bool,
        f: impl FnOnce(ValueRef<'_>) -> Option<R>,
    ) -> Result<Found<R>> {
        let (cell, order) = self.place(key);
        let shard = cell.read(wait)?;
        let found = match shard.get(self.cx(), order, key) {
            None => Found::Missing,
            Some(value) => match f(value) {
                Some(result) => Found::Value(result),
                None => return Ok(Found::Declined),
            },
        };
        cell.count(detached, !matches!(found, Found::Missing));
        Ok(found)
    }

    /// Whether the key is there. O(1) expected.
    ///
    /// # Errors
    /// [`crate::Error::WouldBlock`].
    pub fn contains(&self, key: &[u8], wait: Wait) -> Result<bool> {
        let (cell, order) = self.place(key);
        Ok(cell.read(wait)?.contains(self.cx(), order, key))
    }

    /// As [`Store::contains`], counted as by [`Store::read_counted`].
    ///
    /// # Errors
    /// [`crate::Error::WouldBlock`]; nothing is counted then.
    pub fn contains_counted(&self, key: &[u8], wait: Wait, detached: bool) -> Result<bool> {
        let (cell, order) = self.place(key);
        let shard = cell.read(wait)?;
        let found = shard.contains(self.cx(), order, key);
        cell.count(detached, found);
        Ok(found)
    }

    /// Milliseconds until a key's entry expires, inside None where it never does; None where the key is missing. O(1) expected.
    ///
    /// # Errors
    /// [`crate::Error::WouldBlock`].
    pub fn time_left(&self, key: &[u8], wait: Wait) -> Result<Option<Option<u64>>> {
        let (cell, order) = self.place(key);
        Ok(cell.read(wait)?.time_left(self.cx(), order, key))
    }

    /// Makes a write's outcome known after it: to readers of the length, to the sweeper and to the bounds, which granted `room`.
    #[inline]
    pub(crate) fn finish(
        &self,
        cell: &Cell,
        mut shard: RwLockWriteGuard<'_, Shard<Sparse>>,
        room: u64,
    ) {
        shard.settle(self.cx(), room);
        let due = cell.publish(&shard);
        drop(shard);
        self.notice(due);
    }

    /// Tells the sweeper when to look; called with no lock held.
    #[inline]
    pub(crate) fn notice(&self, due: Due) {
        if due.at != u64::MAX && self.inner.cx.sweeps {
            self.notice_due(due);
        } else {
            self.resume_sweeping();
        }
    }

    /// After a fork: what has to be swept may be in other shards than the one that is used first.
    #[inline]
    pub(crate) fn resume_sweeping(&self) {
        if self.inner.uses_sweeper.load(Ordering::Relaxed) {
            sweeper::ensure_running();
        }
    }

    fn notice_due(&self, due: Due) {
        let uses = &self.inner.uses_sweeper;
        if !uses.load(Ordering::Relaxed) {
            // In this order: where another thread forks in between, the child counts one user too many, not one too few.
            sweeper::begin_use();
            self.cx().pool.keep_small_pages();
            if uses.swap(true, Ordering::SeqCst) {
                sweeper::end_use();
            }
        }
        if due.is_new {
            self.inner.earliest.lower(due.at);
            sweeper::notice(self.inner.on_system_clock(due.at));
        } else {
            sweeper::ensure_running();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.leaving.store(true, Ordering::Relaxed);
        fork::unregister(&self.inner);
        while self.inner.pins.load(Ordering::Acquire) > 0 {
            thread::yield_now();
        }
        self.inner.end_use_of_sweeper();
        let (mut entries, mut bytes) = (0, size_of_val(&self.inner.cells[..]));
        for cell in &mut self.inner.cells {
            let shard = cell.lock.get_mut();
            entries += shard.len();
            bytes += shard.bytes();
            shard.dispose();
        }
        if let Some(bounds) = &self.inner.cx.bounds {
            // Other stores may count in them.
            bounds.leave(self.inner.fixed, entries, bytes as u64);
        }
    }
}
