//! One shard: an index, an arena and, once something in it expires, a time wheel; single-threaded. It knows no lock and
//! no other shard.

mod evict;
mod expiry;
mod ghost;
mod loading;
mod observe;
#[cfg(test)]
mod tests;
mod write;

use std::borrow::Cow;
use std::sync::Arc;

use super::arena::Arena;
use super::bounds::Bounds;
use super::events::Event;
use super::expired::ExpiredQueue;
use super::hash::Placer;
use super::index::{Found, Index, Keys};
use super::pool::Pool;
use super::record::{Kind, Record, ValueRef};
use super::table::{Table, try_copy};
use super::ttl::{Time, Ttl};
use crate::{Error, Result};

use evict::Eviction;
pub(crate) use evict::{Made, Spared};
use expiry::Expiring;
pub(crate) use loading::Gain;
use observe::Observers;

/// What a read-modify-write sees of an entry.
pub struct Entry<'a> {
    /// The value.
    pub value: ValueRef<'a>,
    /// Milliseconds until it expires; None: never.
    pub time_left: Option<u64>,
    /// When it expires, in milliseconds since 1970; None: never.
    pub expires_at: Option<u64>,
    /// The type of the value.
    pub kind: Kind,
}

/// What a read-modify-write does with the entry.
pub enum Change<'a> {
    /// Leaves it as it is.
    Keep,
    /// Writes this value; the expiry stays, or is the store's default where the key was missing.
    Put(Cow<'a, [u8]>),
    /// Writes this value and this expiry.
    Set(Cow<'a, [u8]>, Ttl),
    /// Appends to the value, as [`Change::Put`] of both.
    Append(&'a [u8]),
    /// Writes these bytes from a place of the value on, which grows by zeros up to there; the expiry as by [`Change::Put`]. No bytes
    /// only make the value so long, of which nobody is told. O(bytes written), amortized, where no reader has the value.
    Write(usize, Cow<'a, [u8]>),
    /// Changes the expiry of what is there.
    Expire(Ttl),
    /// Takes the entry out.
    Delete,
}

/// Which of several rows of one key a load keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// The last one, as assignment does.
    #[default]
    Last,
    /// The first one; a key that was in the store before keeps its value, as `setdefault` does.
    First,
}

/// What the shards of a store share.
pub(crate) struct Context {
    pub(crate) pool: Pool,
    pub(crate) placer: Placer,
    pub(crate) time: Time,
    pub(crate) expired: ExpiredQueue,
    /// None where nothing is bounded.
    pub(crate) bounds: Option<Arc<Bounds>>,
    /// Whether the sweeper looks after the store.
    pub(crate) sweeps: bool,
}

impl Context {
    /// Gives places of entries back, where their number is bounded.
    fn give_entries(&self, entries: u64) {
        if let Some(bounds) = &self.bounds {
            bounds.give_entries(entries);
        }
    }
}

/// Work done by writes, in slots and bytes: the bound on pauses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub(crate) slots_moved: u64,
    pub(crate) bytes_copied: u64,
    pub(crate) most_slots_moved: u32,
    pub(crate) most_bytes_copied: u32,
}

/// One shard.
pub(crate) struct Shard<T> {
    index: Index<T>,
    arena: Arena,
    entries: u64,
    key_bytes: u64,
    value_bytes: u64,
    work: Work,
    /// None until something expires.
    expiring: Option<Box<Expiring>>,
    /// Entries that were taken out because they had expired.
    expirations: u64,
    /// Of a bounded store's shard.
    eviction: Option<Box<Eviction>>,
    closed: bool,
    /// A change has begun and not ended. Whoever finds it so under a lock of their own knows that a panic ended it.
    changing: bool,
    /// None while nobody is told of changes.
    observers: Option<Box<Observers>>,
    /// Whether all that is done under one lock is done at one time, and the low half of that.
    time_is_fixed: bool,
    fixed_time: u32,
}

/// An entry that was taken out.
#[derive(Debug)]
pub struct Popped {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Milliseconds until it would have expired; None: never.
    pub time_left: Option<u64>,
    pub(crate) order: u32,
}

/// Reads keys for the index.
struct ArenaKeys<'s> {
    arena: &'s Arena,
    placer: &'s Placer,
}

impl Keys for ArenaKeys<'_> {
    #[inline]
    fn order(&self, offset: u32) -> u32 {
        self.placer.place(self.arena.record(offset).key).order
    }

    #[inline]
    fn prefetch(&self, offset: u32) {
        self.arena.prefetch(offset);
    }
}

impl<T: Table> Shard<T> {
    pub(crate) const fn new() -> Self {
        Shard {
            index: Index::new(),
            arena: Arena::new(),
            entries: 0,
            key_bytes: 0,
            value_bytes: 0,
            work: Work {
                slots_moved: 0,
                bytes_copied: 0,
                most_slots_moved: 0,
                most_bytes_copied: 0,
            },
            expiring: None,
            expirations: 0,
            eviction: None,
            closed: false,
            changing: false,
            observers: None,
            time_is_fixed: false,
            fixed_time: 0,
        }
    }

    /// Marks the shard as changing while `work` runs: where it panics, the shard stays so.
    fn changing<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let before = std::mem::replace(&mut self.changing, true);
        let result = work(self);
        self.changing = before;
        result
    }

    /// # Errors
    /// [`Error::Closed`], [`Error::Broken`].
    #[inline(always)]
    fn check_writable(&self) -> Result<()> {
        if self.closed | self.changing {
            return Err(self.why_not_writable());
        }
        Ok(())
    }

    #[cold]
    fn why_not_writable(&self) -> Error {
        if self.changing {
            Error::Broken
        } else {
            Error::Closed
        }
    }

    /// Whether a panic has left the shard half changed.
    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.changing
    }

    /// Stops the time for what is done from here on, or lets it go on.
    pub(crate) fn fix_time(&mut self, now: Option<u64>) {
        self.time_is_fixed = now.is_some();
        self.fixed_time = now.unwrap_or(0) as u32;
    }

    #[inline]
    fn now(&self, cx: &Context) -> u64 {
        let now = cx.time.now();
        if self.time_is_fixed {
            now - u64::from((now as u32).wrapping_sub(self.fixed_time))
        } else {
            now
        }
    }

    /// Whether a deadline has passed.
    #[inline]
    fn is_over(&self, cx: &Context, deadline: u64) -> bool {
        if self.time_is_fixed {
            deadline != 0 && deadline <= self.now(cx)
        } else {
            cx.time.is_over(deadline)
        }
    }

    /// Milliseconds until a deadline that has not passed, at least 1; None for one that never comes.
    fn left(&self, cx: &Context, deadline: u64) -> Option<u64> {
        (deadline != 0).then(|| deadline.saturating_sub(self.now(cx)).max(1))
    }

    fn entry<'a>(&self, cx: &Context, record: Record<'a>) -> Entry<'a> {
        let deadline = record.expiry.deadline;
        Entry {
            value: record.value,
            time_left: self.left(cx, deadline),
            expires_at: cx.time.to_unix(deadline),
            kind: record.kind,
        }
    }

    fn keys<'s>(&'s self, cx: &'s Context) -> ArenaKeys<'s> {
        ArenaKeys {
            arena: &self.arena,
            placer: &cx.placer,
        }
    }

    #[inline]
    fn find(&self, order: u32, key: &[u8]) -> Option<Found> {
        self.index
            .find(order, |offset| self.arena.record(offset).key == key)
    }

    /// The entry of a key, unless it has expired.
    #[inline]
    fn look_up(&self, cx: &Context, order: u32, key: &[u8]) -> Option<Record<'_>> {
        Some(self.look_up_at(cx, order, key)?.0)
    }

    #[inline(always)]
    fn look_up_at(&self, cx: &Context, order: u32, key: &[u8]) -> Option<(Record<'_>, u32)> {
        let mut hit = None;
        let found = self.index.find(order, |offset| {
            let record = self.arena.record(offset);
            let same = record.key == key;
            if same {
                hit = Some(record);
            }
            same
        })?;
        let record = hit.filter(|record| !self.is_over(cx, record.expiry.deadline))?;
        Some((record, found.offset))
    }

    /// The value of a key, which counts as a use of it.
    #[inline]
    pub(crate) fn get(&self, cx: &Context, order: u32, key: &[u8]) -> Option<ValueRef<'_>> {
        let (record, offset) = self.look_up_at(cx, order, key)?;
        self.visit(offset);
        Some(record.value)
    }

    /// The entry of a key, which counts as a use of it.
    #[inline]
    pub(crate) fn get_entry(&self, cx: &Context, order: u32, key: &[u8]) -> Option<Entry<'_>> {
        let (record, offset) = self.look_up_at(cx, order, key)?;
        self.visit(offset);
        Some(self.entry(cx, record))
    }

    #[inline]
    pub(crate) fn contains(&self, cx: &Context, order: u32, key: &[u8]) -> bool {
        self.look_up(cx, order, key).is_some()
    }

    /// Milliseconds until the key's entry expires; None inside: never.
    pub(crate) fn time_left(&self, cx: &Context, order: u32, key: &[u8]) -> Option<Option<u64>> {
        let record = self.look_up(cx, order, key)?;
        Some(self.left(cx, record.expiry.deadline))
    }
}

impl<T: Table> Shard<T> {
    /// Asks for the group header of a key.
    #[inline]
    pub(crate) fn prefetch_group(&self, order: u32) {
        self.index.prefetch_group(order);
    }

    /// Asks for the slots of a key; its group header should have arrived.
    #[inline]
    pub(crate) fn prefetch_slots(&self, order: u32) {
        self.index.prefetch_slots(order);
    }

    /// Asks for the record of a key; its slots should have arrived.
    #[inline]
    pub(crate) fn prefetch_record(&self, order: u32) {
        if let Some(offset) = self.index.first_candidate(order) {
            self.arena.prefetch(offset);
        }
    }

    /// Calls `visit(key, entry)` for entries at and after a cursor that have not expired; returns the next cursor. See
    /// [`Index::scan`].
    pub(crate) fn scan(
        &self,
        cx: &Context,
        from: u32,
        buckets: u32,
        mut visit: impl FnMut(&[u8], Entry<'_>),
    ) -> Option<u32> {
        let keys = self.keys(cx);
        self.index.scan(from, buckets, &keys, |offset, _| {
            let record = self.arena.record(offset);
            if !self.is_over(cx, record.expiry.deadline) {
                visit(record.key, self.entry(cx, record));
            }
        })
    }

    /// Takes out the first entry at or after a cursor.
    pub(crate) fn pop_from(&mut self, cx: &Context, from: u32) -> Result<Option<Popped>> {
        const BUCKETS: u32 = 8;
        self.check_writable()?;
        // Read once: what is found alive is popped, not expired, and has some time left.
        let now = self.now(cx);
        let mut next = Some(from);
        let mut first = None;
        while let (Some(from), None) = (next, first) {
            let keys = self.keys(cx);
            next = self.index.scan(from, BUCKETS, &keys, |offset, order| {
                let deadline = self.arena.record(offset).expiry.deadline;
                if deadline == 0 || deadline > now {
                    first = first.or(Some((offset, order)));
                }
            });
        }
        let Some((offset, order)) = first else {
            return Ok(None);
        };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let record = self.arena.record(offset);
        try_copy(&mut key, record.key)?;
        try_copy(&mut value, record.value.as_slice())?;
        let deadline = record.expiry.deadline;
        let time_left = (deadline != 0).then(|| deadline - now);
        self.fix_time(Some(now));
        let deleted = self.delete(cx, order, &key, Event::Del);
        self.fix_time(None);
        deleted?;
        Ok(Some(Popped {
            key,
            value,
            time_left,
            order,
        }))
    }

    /// Sizes the index for so many entries more.
    pub(crate) fn reserve(&mut self, cx: &Context, additional: usize) -> Result<()> {
        if self.is_broken() {
            return Err(Error::Broken);
        }
        self.changing(|shard| {
            let keys = ArenaKeys {
                arena: &shard.arena,
                placer: &cx.placer,
            };
            let entries = shard.entries as usize + additional;
            shard.index.reserve(entries, &keys)
        })
    }

    /// Takes everything out, and gives the memory back.
    ///
    /// # Errors
    /// [`Error::Broken`]: what is there cannot even be freed.
    pub(crate) fn clear(&mut self, cx: &Context) -> Result<()> {
        if self.is_broken() {
            return Err(Error::Broken);
        }
        self.changing(|shard| shard.clear_whole(cx));
        Ok(())
    }

    fn clear_whole(&mut self, cx: &Context) {
        cx.give_entries(self.entries);
        self.tell_all_gone();
        let index = &self.index;
        self.arena.clear(&cx.pool, |visit| index.for_each(visit));
        *self = Shard {
            arena: std::mem::replace(&mut self.arena, Arena::new()),
            closed: self.closed,
            changing: self.changing,
            work: self.work,
            expirations: self.expirations,
            eviction: self.eviction.take(),
            index: self.index.emptied(),
            observers: self.observers.take(),
            time_is_fixed: self.time_is_fixed,
            fixed_time: self.fixed_time,
            ..Shard::new()
        };
    }

    /// As [`Shard::clear`]; writes are refused from now on.
    pub(crate) fn close(&mut self, cx: &Context) -> Result<()> {
        self.closed = true;
        self.clear(cx)
    }

    /// Frees what the pool does not own.
    pub(crate) fn dispose(&mut self) {
        if self.is_broken() {
            return;
        }
        let index = &self.index;
        self.arena.dispose(|visit| index.for_each(visit));
    }

    /// Steps of a full compaction.
    pub(crate) fn compact_steps(&self) -> u32 {
        self.arena.chunk_count()
    }

    /// Step `chunk` of a full compaction: at most a chunk of bytes copied.
    pub(crate) fn compact_chunk(&mut self, cx: &Context, chunk: u32) -> Result<()> {
        if self.is_broken() {
            return Err(Error::Broken);
        }
        if chunk < self.arena.chunk_count() && self.arena.is_chunk_loose(chunk) {
            self.changing(|shard| shard.evacuate(cx, chunk))?;
        }
        Ok(())
    }

    /// Makes the index as small as its entries allow.
    pub(crate) fn compact_index(&mut self, cx: &Context) -> Result<()> {
        if self.is_broken() {
            return Err(Error::Broken);
        }
        self.changing(|shard| {
            let keys = ArenaKeys {
                arena: &shard.arena,
                placer: &cx.placer,
            };
            shard.index.join(&keys)?;
            (0..shard.index.tables()).try_for_each(|sub| shard.index.compact(sub, &keys))?;
            shard.find_unknown(cx)
        })
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries
    }

    pub(crate) fn key_bytes(&self) -> u64 {
        self.key_bytes
    }

    pub(crate) fn value_bytes(&self) -> u64 {
        self.value_bytes
    }

    pub(crate) fn expirations(&self) -> u64 {
        self.expirations
    }

    pub(crate) fn work(&self) -> Work {
        self.work
    }

    pub(crate) fn index(&self) -> &Index<T> {
        &self.index
    }

    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }
}
