//! The store: shards behind locks. It decides which shard a key is in and how long to wait for its lock;
//! what happens inside a shard is the shard's.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use parking_lot::{RwLockReadGuard, RwLockWriteGuard};

use super::bounds::{Bounds, Limits};
use super::clock::Clock;
use super::expired::{Expired, ExpiredQueue, Watch};
use super::fork;
use super::hash::{Hasher, HasherKind, Placer};
use super::pool::Pool;
use super::record::ValueRef;
use super::room::Kept;
use super::shard::{Change, Context, Entry, Popped, Shard, Spared};
use super::sweeper;
use super::sync::Lock;
use super::table::{Sparse, try_box, try_reserve_exact};
use super::ttl::{Time, Ttl};
use crate::{Error, Result, limits};

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
    /// [`Error::WouldBlock`] at once if another thread is in the way; nothing has happened then.
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

/// A shard, its lock, and counters that share its cache lines.
#[repr(align(128))]
pub(crate) struct Cell {
    pub(crate) lock: Lock<Shard<Sparse>>,
    pub(crate) len: AtomicU64,
    pub(crate) attached: AtomicU64,
    pub(crate) detached: AtomicU64,
    /// Look-ups in batches.
    pub(crate) batched: AtomicU64,
    /// Look-ups of all kinds that found nothing.
    pub(crate) misses: AtomicU64,
    /// When the shard's wheel has to be looked at, in the store's time.
    pub(crate) next_due: AtomicU64,
    /// The sweeper has begun to compact the shard.
    pub(crate) unfinished: AtomicBool,
}

/// When a shard's wheel has to be looked at, and whether that was news.
#[must_use]
#[derive(Clone, Copy)]
pub(crate) struct Due {
    at: u64,
    is_new: bool,
}

impl Due {
    pub(crate) const NEVER: Due = Due {
        at: u64::MAX,
        is_new: false,
    };

    pub(crate) fn earlier(self, other: Due) -> Due {
        Due {
            at: self.at.min(other.at),
            is_new: self.is_new || other.is_new,
        }
    }
}

impl Cell {
    const fn new() -> Cell {
        Cell {
            lock: Lock::new(Shard::new()),
            len: AtomicU64::new(0),
            attached: AtomicU64::new(0),
            detached: AtomicU64::new(0),
            batched: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            next_due: AtomicU64::new(u64::MAX),
            unfinished: AtomicBool::new(false),
        }
    }

    fn read(&self, wait: Wait) -> Result<RwLockReadGuard<'_, Shard<Sparse>>> {
        match wait {
            Wait::Block => Ok(self.lock.read()),
            Wait::Try => self.lock.try_read().ok_or(Error::WouldBlock),
        }
    }

    pub(crate) fn write(&self, wait: Wait) -> Result<RwLockWriteGuard<'_, Shard<Sparse>>> {
        match wait {
            Wait::Block => Ok(self.lock.write()),
            Wait::Try => self.lock.try_write().ok_or(Error::WouldBlock),
        }
    }

    /// Publishes the number of entries after a write, and when the shard's wheel has to be looked at.
    pub(crate) fn publish(&self, shard: &Shard<Sparse>) -> Due {
        self.len.store(shard.len(), Ordering::Relaxed);
        let at = shard.next_due();
        let is_new = at != self.next_due.load(Ordering::Relaxed);
        if is_new {
            self.next_due.store(at, Ordering::SeqCst);
        }
        Due { at, is_new }
    }

    /// Whether the shard has no entry, as far as was published.
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    #[inline]
    fn count(&self, detached: bool, found: bool) {
        let counter = if detached {
            &self.detached
        } else {
            &self.attached
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if !found {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What stays at one address while the store lives, for the fork handlers.
pub(crate) struct Inner {
    pub(crate) cx: Context,
    pub(crate) cells: Box<[Cell]>,
    closed: AtomicBool,
    /// Where `pop_any` goes on: shard above, order hash below.
    pop_cursor: AtomicU64,
    pub(crate) registered: fork::Registered,
    /// Who keeps the store from going: the sweeper, for a moment.
    pub(crate) pins: AtomicUsize,
    /// The store is about to go.
    leaving: AtomicBool,
    sweeps: bool,
    /// Whether the sweeper knows that something expires here, or did.
    uses_sweeper: AtomicBool,
    /// Entries that the sweeper has taken out since it last handed memory back.
    pub(crate) unreturned: AtomicU64,
}

impl Inner {
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Whether the sweeper has to look at the store.
    pub(crate) fn is_swept(&self) -> bool {
        self.sweeps
    }

    /// When the sweeper has to look at the store, on the system's clock.
    pub(crate) fn next_due(&self) -> u64 {
        let due = |cell: &Cell| cell.next_due.load(Ordering::SeqCst);
        let at = self.cells.iter().map(due).min().unwrap_or(u64::MAX);
        self.on_system_clock(at)
    }

    /// Counts anew what the bounds know, in the child of a fork: what other threads had taken in advance is of no use here.
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
            bounds.reset(entries, bytes as u64);
        }
    }

    fn on_system_clock(&self, due: u64) -> u64 {
        if due == u64::MAX {
            due
        } else {
            self.cx.time.on_system_clock(due)
        }
    }

    fn end_use_of_sweeper(&self) {
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
    /// [`Error::OutOfMemory`].
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
        let bounds = Bounds::new(limits, fixed as u64);
        let most_expired = bounds
            .as_ref()
            .map_or(usize::MAX, Bounds::bytes_for_expired);
        let inner = try_box(Inner {
            cx: Context {
                pool: match limits.bytes {
                    0 => Pool::default(),
                    bytes => Pool::bounded(bytes),
                },
                placer,
                time,
                expired: ExpiredQueue::new(most_expired),
                bounds,
            },
            cells: cells.into_boxed_slice(),
            closed: AtomicBool::new(false),
            pop_cursor: AtomicU64::new(0),
            registered: fork::Registered::default(),
            pins: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            sweeps: options.sweeps,
            uses_sweeper: AtomicBool::new(false),
            unreturned: AtomicU64::new(0),
        })?;
        fork::register(&inner)?;
        Ok(Store { inner })
    }

    pub(crate) fn cx(&self) -> &Context {
        &self.inner.cx
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Whether the number of entries or of bytes is bounded.
    pub fn is_bounded(&self) -> bool {
        self.cx().bounds.is_some()
    }

    pub(crate) fn is_bounded_in_bytes(&self) -> bool {
        self.cx().bounds.as_ref().is_some_and(Bounds::bounds_bytes)
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
    /// [`Error::WouldBlock`].
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

    /// As [`Store::read`], with the time that the entry has left.
    ///
    /// # Errors
    /// [`Error::WouldBlock`].
    #[inline]
    pub fn read_entry<R>(
        &self,
        key: &[u8],
        wait: Wait,
        f: impl FnOnce(Entry<'_>) -> R,
    ) -> Result<Option<R>> {
        let (cell, order) = self.place(key);
        let shard = cell.read(wait)?;
        Ok(shard.get_entry(self.cx(), order, key).map(f))
    }

    /// As [`Store::read`], and counts a look-up as made with the GIL released (`detached`) or held. `f` may decline
    /// the value, to be asked again: then nothing is counted.
    ///
    /// # Errors
    /// [`Error::WouldBlock`]; nothing is counted then.
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
    /// [`Error::WouldBlock`].
    pub fn contains(&self, key: &[u8], wait: Wait) -> Result<bool> {
        let (cell, order) = self.place(key);
        Ok(cell.read(wait)?.contains(self.cx(), order, key))
    }

    /// As [`Store::contains`], counted as by [`Store::read_counted`].
    ///
    /// # Errors
    /// [`Error::WouldBlock`]; nothing is counted then.
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
    /// [`Error::WouldBlock`].
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
        if due.at != u64::MAX && self.inner.sweeps {
            self.notice_due(due);
        } else {
            self.resume_sweeping();
        }
    }

    /// After a fork: what has to be swept may be in other shards than the one that is used first.
    #[inline]
    fn resume_sweeping(&self) {
        if self.inner.uses_sweeper.load(Ordering::Relaxed) {
            sweeper::ensure_running();
        }
    }

    fn notice_due(&self, due: Due) {
        let uses = &self.inner.uses_sweeper;
        if !uses.load(Ordering::Relaxed) {
            // In this order: where another thread forks in between, the child counts one user too many, not one too few.
            sweeper::begin_use();
            if uses.swap(true, Ordering::SeqCst) {
                sweeper::end_use();
            }
        }
        if due.is_new {
            sweeper::notice(self.inner.on_system_clock(due.at));
        } else {
            sweeper::ensure_running();
        }
    }

    /// Writes a value with the store's default time to live; true where the key is new. O(1) expected, amortized; the work of
    /// one call is bounded.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`], [`Error::ValueTooLong`], [`Error::OutOfMemory`], [`Error::ArenaFull`],
    /// [`Error::Closed`], [`Error::WouldBlock`]; the store is then as it was.
    pub fn set(&self, key: &[u8], value: &[u8], wait: Wait) -> Result<bool> {
        self.set_with(key, value, Ttl::Default, wait)
    }

    /// As [`Store::set`], with a time to live.
    ///
    /// # Errors
    /// As [`Store::set`], and [`Error::TtlOutOfRange`].
    pub fn set_with(&self, key: &[u8], value: &[u8], ttl: Ttl, wait: Wait) -> Result<bool> {
        limits::check_key(key.len())?;
        limits::check_value(value.len())?;
        let len = key.len() + value.len();
        self.write(key, len, Kept::Nothing, wait, |shard, order| {
            shard.set(self.cx(), order, key, value, ttl)
        })
    }

    /// Takes a key out; false where it was not there. O(1) expected, amortized.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::WouldBlock`].
    pub fn delete(&self, key: &[u8], wait: Wait) -> Result<bool> {
        let (cell, order) = self.place(key);
        let mut shard = cell.write(wait)?;
        let there = shard.delete(self.cx(), order, key)?;
        self.finish(cell, shard, 0);
        Ok(there)
    }

    /// Reads, decides and writes as one step under the shard's write lock. `decide` sees the entry (None
    /// where the key is missing) and must not call back into the store; its error is passed on, and nothing
    /// is written then.
    ///
    /// # Errors
    /// As [`Store::set_with`], and those of `decide`.
    pub fn modify<'c, R>(
        &self,
        key: &[u8],
        wait: Wait,
        decide: impl FnOnce(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        self.modify_up_to(key, 0, wait, decide)
    }

    /// As [`Store::modify`], for a change that may leave a value of up to `len` bytes; a store that is bounded in bytes makes
    /// room for it first.
    ///
    /// # Errors
    /// As [`Store::modify`].
    pub fn modify_up_to<'c, R>(
        &self,
        key: &[u8],
        len: usize,
        wait: Wait,
        decide: impl FnOnce(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        limits::check_key(key.len())?;
        let mut decide = Some(decide);
        self.write(key, key.len() + len, Kept::Key, wait, |shard, order| {
            shard.modify(self.cx(), order, key, |entry| {
                // Asked once: what is tried again has not come this far.
                let decide = decide.take().ok_or(Error::NothingToEvict)?;
                decide(entry)
            })
        })
    }

    /// As [`Store::modify`], for a change that needs no room: it takes the entry out, or its expiry away, or does nothing.
    ///
    /// # Errors
    /// As [`Store::modify`], without those of a store that is full.
    pub fn reduce<'c, R>(
        &self,
        key: &[u8],
        wait: Wait,
        decide: impl FnOnce(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        limits::check_key(key.len())?;
        let (cell, order) = self.place(key);
        let mut shard = cell.write(wait)?;
        let result = shard.modify(self.cx(), order, key, decide);
        self.finish(cell, shard, 0);
        result
    }

    /// Runs one write of a key; in a bounded store with room for a record of `len` bytes.
    #[inline(always)]
    fn write<R>(
        &self,
        key: &[u8],
        len: usize,
        kept: Kept,
        wait: Wait,
        mut work: impl FnMut(&mut Shard<Sparse>, u32) -> Result<R>,
    ) -> Result<R> {
        let (cell, order) = self.place(key);
        if self.cx().bounds.is_some() {
            let spared = match kept {
                Kept::Nothing => Spared::None,
                Kept::Key => Spared::Key(order, key),
            };
            let mut work = |shard: &mut _| work(shard, order);
            return self.write_bounded(cell, len, spared, wait, &mut work);
        }
        let mut shard = cell.write(wait)?;
        let result = work(&mut shard, order)?;
        self.finish(cell, shard, 0);
        Ok(result)
    }

    /// Takes out all entries that have expired, and returns how many. The background thread does so all the time; after this
    /// call [`Store::len`] is exact. O(entries that have expired).
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn expire(&self) -> Result<u64> {
        self.expire_while(&mut || true)
    }

    /// As [`Store::expire`]; asks `go_on` now and then, with no lock held.
    ///
    /// # Errors
    /// As [`Store::expire`]; [`Error::Cancelled`] where `go_on` said no, with some of the entries taken out.
    pub fn expire_while(&self, go_on: &mut dyn FnMut() -> bool) -> Result<u64> {
        self.check_open()?;
        let mut cancelled = false;
        let expired = sweeper::sweep_exactly(&self.inner, &mut || {
            cancelled = cancelled || !go_on();
            !cancelled
        });
        if cancelled {
            return Err(Error::Cancelled);
        }
        Ok(expired)
    }

    /// Whether to keep entries that expire for [`Store::take_expired`]. Up to 65,536 entries and 64 MiB are kept; what
    /// comes beyond is counted in [`super::Stats`] and lost. A change lets go who waits.
    pub fn watch_expired(&self, watch: Watch) {
        if watch == Watch::Off || !self.is_closed() {
            self.cx().expired.watch(watch);
        }
    }

    /// Takes at most `most` of the entries that have expired, in no particular order, waiting so long for the first of them.
    /// One thread may wait at a time. None at once unless [`Watch::On`] was asked for.
    pub fn take_expired(&self, most: usize, timeout: std::time::Duration) -> Vec<Expired> {
        self.cx().expired.take(most, timeout)
    }

    /// Takes any entry out; None where there is none. O(1) amortized until the store is empty.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Closed`].
    pub fn pop_any(&self) -> Result<Option<Popped>> {
        let cursor = self.inner.pop_cursor.load(Ordering::Relaxed);
        let shards = self.cells().len();
        let (first, mut from) = ((cursor >> 32) as usize, cursor as u32);
        // The first shard is visited again at the end, from its start.
        for step in 0..=shards {
            let number = (first + step) % shards;
            let cell = &self.cells()[number];
            if cell.len.load(Ordering::Relaxed) > 0 {
                let mut shard = cell.lock.write();
                if let Some(popped) = shard.pop_from(self.cx(), from)? {
                    self.finish(cell, shard, 0);
                    let next = (number as u64) << 32 | u64::from(popped.order);
                    self.inner.pop_cursor.store(next, Ordering::Relaxed);
                    return Ok(Some(popped));
                }
            }
            from = 0;
        }
        self.check_open().map(|()| None)
    }

    /// Number of entries; while other threads write, of some moment of the call for each shard. O(shards).
    pub fn len(&self) -> usize {
        self.resume_sweeping();
        let lens = self.cells().iter().map(|c| c.len.load(Ordering::Relaxed));
        let most = self
            .cx()
            .bounds
            .as_ref()
            .map_or(u64::MAX, Bounds::most_entries);
        // Read one after the other while entries come and go, lengths may add up to more than there ever were.
        lens.sum::<u64>().min(most) as usize
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.cells().len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.resume_sweeping();
        self.cells()
            .iter()
            .all(|c| c.len.load(Ordering::Relaxed) == 0)
    }

    /// Takes all entries out, a shard at a time, and gives their memory back.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn clear(&self) -> Result<()> {
        self.clear_while(&mut || true)
    }

    /// As [`Store::clear`]; asks `go_on` now and then, with no lock held.
    ///
    /// # Errors
    /// As [`Store::clear`]; [`Error::Cancelled`] where `go_on` said no, with some of the shards cleared.
    pub fn clear_while(&self, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        self.check_open()?;
        self.clear_shards(Shard::clear, go_on)
    }

    fn clear_shards(
        &self,
        clear: impl Fn(&mut Shard<Sparse>, &Context),
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        for cell in self.cells() {
            let mut shard = cell.lock.write();
            clear(&mut shard, self.cx());
            self.finish(cell, shard, 0);
            check(go_on)?;
        }
        self.cx().pool.trim(&mut || true);
        Ok(())
    }

    /// Makes room in the index for so many entries more, so that adding them moves none. A store that is bounded in bytes
    /// keeps them for entries, and makes none.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Closed`].
    pub fn reserve(&self, additional: usize) -> Result<()> {
        self.reserve_while(additional, &mut || true)
    }

    /// As [`Store::reserve`]; asks `go_on` now and then, with no lock held.
    ///
    /// # Errors
    /// As [`Store::reserve`]; [`Error::Cancelled`] where `go_on` said no.
    pub fn reserve_while(&self, additional: usize, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        self.check_open()?;
        if self.is_bounded_in_bytes() {
            return Ok(());
        }
        let share = additional.div_ceil(self.cells().len());
        for cell in self.cells() {
            cell.lock.write().reserve(self.cx(), share)?;
            check(go_on)?;
        }
        Ok(())
    }

    /// Moves live records together and gives free memory back to the system. In steps: no shard is locked
    /// for longer than it takes to copy a few chunks, or to rebuild its part of the index.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Closed`]; what was done until then stays done.
    pub fn compact(&self) -> Result<()> {
        self.compact_while(&mut || true)
    }

    /// As [`Store::compact`]; asks `go_on` now and then, with no lock held.
    ///
    /// # Errors
    /// As [`Store::compact`]; [`Error::Cancelled`] where `go_on` said no.
    pub fn compact_while(&self, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        const CHUNKS_AT_A_TIME: u32 = 16;
        self.check_open()?;
        for cell in self.cells() {
            let steps = cell.lock.read().compact_steps();
            for first in (0..steps).step_by(CHUNKS_AT_A_TIME as usize) {
                let mut shard = cell.lock.write();
                for chunk in first..(first + CHUNKS_AT_A_TIME).min(steps) {
                    shard.compact_chunk(self.cx(), chunk)?;
                }
                self.finish(cell, shard, 0);
                check(go_on)?;
            }
            let mut shard = cell.lock.write();
            shard.compact_index(self.cx())?;
            self.finish(cell, shard, 0);
            check(go_on)?;
        }
        self.cx().pool.trim(&mut || true);
        super::ffi::trim_malloc();
        Ok(())
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// Frees the entries. Reads find nothing from now on, and writes end in [`Error::Closed`].
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        self.watch_expired(Watch::Off);
        // Not cancelled, so it does not fail.
        let _ = self.clear_shards(Shard::close, &mut || true);
        self.inner.end_use_of_sweeper();
    }

    /// Whether [`Store::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }
}

fn check(go_on: &mut dyn FnMut() -> bool) -> Result<()> {
    if go_on() {
        Ok(())
    } else {
        Err(Error::Cancelled)
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
        for cell in &mut self.inner.cells {
            cell.lock.get_mut().dispose();
        }
    }
}
