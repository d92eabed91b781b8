//! One shard: an index and an arena, single-threaded. It knows no lock and no other shard.

mod loading;

use std::borrow::Cow;

use super::arena::Arena;
use super::hash::Placer;
use super::index::{Found, Index, Keys};
use super::pool::Pool;
use super::record::{Parsed, ValueRef};
use super::table::{Table, try_copy, try_reserve_exact};
use crate::{Error, Result, limits};

pub(crate) use loading::Gain;

/// What a read-modify-write does with the record.
pub enum Change<'a> {
    /// Leaves it as it is.
    Keep,
    /// Writes this value.
    Put(Cow<'a, [u8]>),
    /// Appends to the value; to nothing where there is none.
    Append(&'a [u8]),
    /// Takes the record out.
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
}

/// Work done by writes, in slots and bytes: the bound on pauses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Work {
    pub(crate) slots_moved: u64,
    pub(crate) bytes_copied: u64,
    pub(crate) most_slots_moved: u64,
    pub(crate) most_bytes_copied: u64,
}

/// One shard.
pub(crate) struct Shard<T> {
    index: Index<T>,
    arena: Arena,
    entries: u64,
    key_bytes: u64,
    value_bytes: u64,
    work: Work,
    closed: bool,
}

/// An entry that was taken out, and its order hash.
#[derive(Debug)]
pub(crate) struct Popped {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
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
        self.arena
            .with_key(offset, |key| self.placer.place(key).order)
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
            closed: false,
        }
    }

    #[inline]
    fn find(&self, order: u32, key: &[u8]) -> Option<Found> {
        self.index
            .find(order, |offset| self.arena.with_key(offset, |k| k == key))
    }

    #[inline]
    fn value_at(&self, offset: u32) -> Option<ValueRef<'_>> {
        match self.arena.parse(offset) {
            Parsed::Inline { value, .. } => Some(ValueRef::Inline(value)),
            Parsed::Block { block, .. } => Some(ValueRef::Shared(block)),
            Parsed::Dead { .. } => None,
        }
    }

    fn value_len(&self, offset: u32) -> usize {
        self.value_at(offset).map_or(0, |v| v.len())
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, order: u32, key: &[u8]) -> Option<ValueRef<'_>> {
        let mut hit = None;
        self.index.find(order, |offset| {
            let value = match self.arena.parse(offset) {
                Parsed::Inline { key: k, value, .. } if k == key => ValueRef::Inline(value),
                Parsed::Block { block, .. } if block.key() == key => ValueRef::Shared(block),
                _ => return false,
            };
            hit = Some(value);
            true
        })?;
        hit
    }

    #[inline]
    pub(crate) fn contains(&self, order: u32, key: &[u8]) -> bool {
        self.find(order, key).is_some()
    }

    /// Writes a value; true where the key is new.
    pub(crate) fn set(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<bool> {
        if self.closed {
            return Err(Error::Closed);
        }
        let before = self.work;
        let found = self.find(order, key);
        self.put(cx, order, key, value, found)?;
        self.finish_write(cx, before);
        Ok(found.is_none())
    }

    fn put(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        value: &[u8],
        found: Option<Found>,
    ) -> Result<()> {
        let Some(found) = found else {
            return self.insert(cx, order, key, value);
        };
        let old_len = self.value_len(found.offset) as u64;
        if !self.arena.overwrite(found.offset, key, value) {
            let offset = self.arena.append(&cx.pool, key, value)?;
            self.index.replace(found, order, offset);
            self.arena.kill(&cx.pool, found.offset);
        }
        self.work.bytes_copied += (key.len() + value.len()) as u64;
        self.value_bytes = self.value_bytes - old_len + value.len() as u64;
        Ok(())
    }

    fn insert(&mut self, cx: &Context, order: u32, key: &[u8], value: &[u8]) -> Result<()> {
        let offset = self.arena.append(&cx.pool, key, value)?;
        let moved = self.index.slots_moved();
        let keys = ArenaKeys {
            arena: &self.arena,
            placer: &cx.placer,
        };
        if let Err(error) = self.index.insert(order, offset, &keys) {
            self.arena.retract(offset);
            return Err(error);
        }
        self.work.slots_moved += self.index.slots_moved() - moved;
        self.work.bytes_copied += (key.len() + value.len()) as u64;
        self.entries += 1;
        self.key_bytes += key.len() as u64;
        self.value_bytes += value.len() as u64;
        Ok(())
    }

    fn remove(&mut self, cx: &Context, found: Found) {
        let (key_len, value_len) = match self.arena.parse(found.offset) {
            Parsed::Inline { key, value, .. } => (key.len(), value.len()),
            Parsed::Block { block, .. } => (block.key().len(), block.value().len()),
            Parsed::Dead { .. } => (0, 0),
        };
        // Killed last: shrinking the index reads the keys of the others only.
        let moved = self.index.slots_moved();
        let keys = ArenaKeys {
            arena: &self.arena,
            placer: &cx.placer,
        };
        self.index.remove(found, &keys);
        self.work.slots_moved += self.index.slots_moved() - moved;
        self.arena.kill(&cx.pool, found.offset);
        self.entries -= 1;
        self.key_bytes -= key_len as u64;
        self.value_bytes -= value_len as u64;
    }

    /// Takes a key out; false where it is not there.
    pub(crate) fn delete(&mut self, cx: &Context, order: u32, key: &[u8]) -> Result<bool> {
        if self.closed {
            return Err(Error::Closed);
        }
        let Some(found) = self.find(order, key) else {
            return Ok(false);
        };
        let before = self.work;
        self.remove(cx, found);
        self.finish_write(cx, before);
        Ok(true)
    }

    /// Reads, decides and writes as one step.
    pub(crate) fn modify<'c, R>(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        decide: impl FnOnce(Option<ValueRef<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        if self.closed {
            return Err(Error::Closed);
        }
        let before = self.work;
        let found = self.find(order, key);
        let value = found.and_then(|f| self.value_at(f.offset));
        let (change, result) = decide(value)?;
        match (change, found) {
            (Change::Keep, _) | (Change::Delete, None) => return Ok(result),
            (Change::Put(value), found) => {
                limits::check_value(value.len())?;
                self.put(cx, order, key, &value, found)?;
            }
            (Change::Append(tail), Some(found)) => self.append(cx, order, key, tail, found)?,
            (Change::Append(tail), None) => {
                limits::check_value(tail.len())?;
                self.put(cx, order, key, tail, None)?;
            }
            (Change::Delete, Some(found)) => self.remove(cx, found),
        }
        self.finish_write(cx, before);
        Ok(result)
    }

    fn append(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        tail: &[u8],
        found: Found,
    ) -> Result<()> {
        let old_len = self.value_len(found.offset);
        limits::check_value(old_len + tail.len())?;
        if self.arena.append_to_block(found.offset, tail)? {
            self.value_bytes += tail.len() as u64;
            self.work.bytes_copied += tail.len() as u64;
            return Ok(());
        }
        // An inline value is short: at most MAX_INLINE bytes are copied twice.
        let mut joined = Vec::new();
        try_reserve_exact(&mut joined, old_len + tail.len())?;
        if let Some(value) = self.value_at(found.offset) {
            joined.extend_from_slice(value.as_slice());
        }
        joined.extend_from_slice(tail);
        self.put(cx, order, key, &joined, Some(found))
    }

    /// One bounded step of compaction after a write, and the account of the write's work.
    fn finish_write(&mut self, cx: &Context, before: Work) {
        if let Some(victim) = self.arena.next_victim() {
            // Out of memory here only means that dead bytes stay a while longer.
            let _ = self.evacuate(cx, victim);
        }
        let work = &mut self.work;
        let slots = work.slots_moved - before.slots_moved;
        let bytes = work.bytes_copied - before.bytes_copied;
        work.most_slots_moved = work.most_slots_moved.max(slots);
        work.most_bytes_copied = work.most_bytes_copied.max(bytes);
    }

    fn evacuate(&mut self, cx: &Context, chunk: u32) -> Result<()> {
        let Shard { index, arena, .. } = self;
        let copied = arena.evacuate(&cx.pool, chunk, |arena, from, to| {
            let order = arena.with_key(to, |key| cx.placer.place(key).order);
            let found = index.find(order, |offset| offset == from);
            debug_assert!(found.is_some(), "every live record is in the index");
            if let Some(found) = found {
                index.replace(found, order, to);
            }
        })?;
        self.work.bytes_copied += copied;
        Ok(())
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

    /// Calls `visit(key, value)` for entries at and after a cursor; returns the next cursor. See
    /// [`Index::scan`].
    pub(crate) fn scan(
        &self,
        cx: &Context,
        from: u32,
        buckets: u32,
        mut visit: impl FnMut(&[u8], ValueRef<'_>),
    ) -> Option<u32> {
        let keys = ArenaKeys {
            arena: &self.arena,
            placer: &cx.placer,
        };
        self.index.scan(from, buckets, &keys, |offset, _| {
            match self.arena.parse(offset) {
                Parsed::Inline { key, value, .. } => visit(key, ValueRef::Inline(value)),
                Parsed::Block { block, .. } => visit(block.key(), ValueRef::Shared(block)),
                Parsed::Dead { .. } => debug_assert!(false, "the index holds live records only"),
            }
        })
    }

    /// Takes out the first entry at or after a cursor.
    pub(crate) fn pop_from(&mut self, cx: &Context, from: u32) -> Result<Option<Popped>> {
        const BUCKETS: u32 = 8;
        if self.closed {
            return Err(Error::Closed);
        }
        let mut next = Some(from);
        let mut first = None;
        while let (Some(from), None) = (next, first) {
            let keys = ArenaKeys {
                arena: &self.arena,
                placer: &cx.placer,
            };
            next = self.index.scan(from, BUCKETS, &keys, |offset, order| {
                first = first.or(Some((offset, order)));
            });
        }
        let Some((offset, order)) = first else {
            return Ok(None);
        };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        match self.arena.parse(offset) {
            Parsed::Inline {
                key: k, value: v, ..
            } => {
                try_copy(&mut key, k)?;
                try_copy(&mut value, v)?;
            }
            Parsed::Block { block, .. } => {
                try_copy(&mut key, block.key())?;
                try_copy(&mut value, block.value())?;
            }
            Parsed::Dead { .. } => return Ok(None),
        }
        self.delete(cx, order, &key)?;
        Ok(Some(Popped { key, value, order }))
    }

    /// Sizes the index for so many entries more.
    pub(crate) fn reserve(&mut self, cx: &Context, additional: usize) -> Result<()> {
        let keys = ArenaKeys {
            arena: &self.arena,
            placer: &cx.placer,
        };
        self.index
            .reserve(self.entries as usize + additional, &keys)
    }

    /// Takes everything out, and gives the memory back.
    pub(crate) fn clear(&mut self, cx: &Context) {
        let index = &self.index;
        self.arena.clear(&cx.pool, |visit| index.for_each(visit));
        *self = Shard {
            arena: std::mem::replace(&mut self.arena, Arena::new()),
            closed: self.closed,
            work: self.work,
            ..Shard::new()
        };
    }

    /// As [`Shard::clear`]; writes are refused from now on.
    pub(crate) fn close(&mut self, cx: &Context) {
        self.closed = true;
        self.clear(cx);
    }

    /// Frees what the pool does not own.
    pub(crate) fn dispose(&mut self) {
        let index = &self.index;
        self.arena.dispose(|visit| index.for_each(visit));
    }

    /// Steps of a full compaction.
    pub(crate) fn compact_steps(&self) -> u32 {
        self.arena.chunk_count()
    }

    /// Step `chunk` of a full compaction: at most a chunk of bytes copied.
    pub(crate) fn compact_chunk(&mut self, cx: &Context, chunk: u32) -> Result<()> {
        if chunk < self.arena.chunk_count() && self.arena.is_loose(chunk) {
            self.evacuate(cx, chunk)?;
        }
        Ok(())
    }

    /// Makes the index as small as its entries allow.
    pub(crate) fn compact_index(&mut self, cx: &Context) -> Result<()> {
        let keys = ArenaKeys {
            arena: &self.arena,
            placer: &cx.placer,
        };
        self.index.join(&keys)?;
        (0..self.index.tables()).try_for_each(|sub| self.index.compact(sub, &keys))
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
