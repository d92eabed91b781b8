//! Look-ups and writes of many keys. Reads go in phases over a few dozen keys at a time, each phase asking
//! for the cache lines that the next one reads, so that misses overlap (Chen et al., "Improving hash join
//! performance through prefetching", 2007).

use std::ops::Range;
use std::sync::atomic::Ordering;

use parking_lot::RwLockReadGuard;

use super::block::Block;
use super::events::Event;
use super::record::ValueRef;
use super::shard::Shard;
use super::store::{Store, Wait};
use super::table::{Sparse, try_push, try_reserve, try_reserve_exact};
use super::ttl::Ttl;
use crate::{Result, limits};

/// Keys whose cache misses overlap.
const AT_ONCE: usize = 32;
/// Entries of a shard that a processor's cache is likely to hold.
const FEW_ENTRIES: u64 = 512;

enum Entry {
    Missing,
    Copied(Range<usize>),
    Shared(Block),
}

/// Values found by [`Store::get_many`], in the order of the keys.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

impl Batch {
    /// Number of keys asked for.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no key was asked for.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Value of key number `i`; None where it was missing.
    #[inline]
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        match &self.entries[i] {
            Entry::Missing => None,
            Entry::Copied(range) => Some(&self.bytes[range.clone()]),
            Entry::Shared(block) => Some(block.value()),
        }
    }

    /// Forgets the values and keeps the memory for the next call.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    fn push(&mut self, value: Option<ValueRef<'_>>) -> Result<()> {
        let entry = match value {
            None => Entry::Missing,
            Some(ValueRef::Shared(block)) => Entry::Shared(block.share()),
            Some(ValueRef::Inline(value)) => {
                try_reserve(&mut self.bytes, value.len())?;
                let start = self.bytes.len();
                self.bytes.extend_from_slice(value);
                Entry::Copied(start..self.bytes.len())
            }
        };
        try_push(&mut self.entries, entry)
    }
}

type Guard<'s> = RwLockReadGuard<'s, Shard<Sparse>>;

impl Store {
    /// Looks many keys up; each is read at some moment of the call. `out` is cleared first.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn get_many(&self, keys: &[&[u8]], out: &mut Batch) -> Result<()> {
        out.clear();
        try_reserve_exact(&mut out.entries, keys.len())?;
        keys.chunks(AT_ONCE).try_for_each(|keys| {
            let before = out.entries.len();
            self.get_few(keys, out)?;
            let missing = |entry: &&Entry| matches!(entry, Entry::Missing);
            let misses = out.entries[before..].iter().filter(missing).count();
            // Counted together, with the shard of the first key.
            let (cell, _) = self.place(keys[0]);
            cell.batched.fetch_add(keys.len() as u64, Ordering::Relaxed);
            cell.misses.fetch_add(misses as u64, Ordering::Relaxed);
            Ok(())
        })
    }

    fn get_few(&self, keys: &[&[u8]], out: &mut Batch) -> Result<()> {
        let mut guards = [const { None }; AT_ONCE];
        let mut orders = [0; AT_ONCE];
        self.ask_for(keys, &mut guards, &mut orders);
        for i in 0..keys.len() {
            // Pushed before the guard goes: the value is the shard's.
            match &guards[i] {
                Some(shard) => out.push(shard.get(self.cx(), orders[i], keys[i]))?,
                None => {
                    guards.iter_mut().skip(i).for_each(|guard| *guard = None);
                    return self.get_slowly(&keys[i..], out);
                }
            }
            guards[i] = None;
        }
        Ok(())
    }

    /// Asks for the cache lines that look-ups and writes of keys read, up to 32 of them, so that the misses of what follows overlap.
    /// Changes nothing, and does nothing in a small store.
    pub(super) fn prefetch(&self, keys: &[&[u8]]) {
        let keys = &keys[..keys.len().min(AT_ONCE)];
        let is_small = |key: &&[u8]| self.place(key).0.entries() < FEW_ENTRIES;
        if !keys.first().is_none_or(is_small) {
            self.ask_for(keys, &mut [const { None }; AT_ONCE], &mut [0; AT_ONCE]);
        }
    }

    /// Takes the locks that are free, and asks for what look-ups will read. `keys` are at most [`AT_ONCE`].
    #[inline]
    fn ask_for<'s>(
        &'s self,
        keys: &[&[u8]],
        guards: &mut [Option<Guard<'s>>; AT_ONCE],
        orders: &mut [u32; AT_ONCE],
    ) {
        // Locks that are not free at once are not waited for while others are held: a writer may hold one
        // and wait for another.
        for (i, key) in keys.iter().enumerate() {
            let (cell, order) = self.place(key);
            orders[i] = order;
            // Nor is what is broken read: the slow way says so.
            guards[i] = cell.lock.try_read().filter(|shard| !shard.is_broken());
            if let Some(shard) = &guards[i] {
                shard.prefetch_group(order);
            }
        }
        let held = |i: usize| guards[i].as_ref().map(|shard| (shard, orders[i]));
        (0..keys.len())
            .filter_map(held)
            .for_each(|(shard, order)| shard.prefetch_slots(order));
        (0..keys.len())
            .filter_map(held)
            .for_each(|(shard, order)| shard.prefetch_record(order));
    }

    /// One by one, waiting for each lock while no other is held.
    #[cold]
    fn get_slowly(&self, keys: &[&[u8]], out: &mut Batch) -> Result<()> {
        for key in keys {
            let (cell, order) = self.place(key);
            let shard = cell.read(Wait::Block)?;
            out.push(shard.get(self.cx(), order, key))?;
        }
        Ok(())
    }

    /// Writes many values, grouped by shard unless the store is bounded; of equal keys the later one wins. Returns the number of new
    /// keys.
    ///
    /// # Errors
    /// [`crate::Error::KeyTooLong`], [`crate::Error::ValueTooLong`] and [`crate::Error::TtlOutOfRange`] before the first write;
    /// else as [`Store::set`], with some of the pairs written.
    pub fn set_many(&self, pairs: &[(&[u8], &[u8])], ttl: Ttl) -> Result<usize> {
        self.set_many_counted(pairs, ttl, &mut 0)
    }

    /// As [`Store::set_many`]; counts the pairs that are written in `written`, also where it fails. Unless the store is bounded these
    /// may be any of them.
    ///
    /// # Errors
    /// As [`Store::set_many`].
    pub fn set_many_counted(
        &self,
        pairs: &[(&[u8], &[u8])],
        ttl: Ttl,
        written: &mut usize,
    ) -> Result<usize> {
        self.cx().time.deadline(ttl, None)?;
        for (key, value) in pairs {
            limits::check_key(key.len())?;
            limits::check_value(value.len())?;
        }
        let mut new = 0;
        if self.cx().bounds.is_some() {
            for (key, value) in pairs {
                new += usize::from(self.set_with(key, value, ttl, Wait::Block)?);
                *written += 1;
            }
            return Ok(new);
        }
        self.by_shard(
            pairs,
            |pair| pair.0,
            |shard, order, (key, value)| {
                new += usize::from(shard.set(self.cx(), order, key, value, ttl, Event::Set)?);
                *written += 1;
                Ok(())
            },
        )?;
        Ok(new)
    }

    /// Takes many keys out, grouped by shard. Returns the number of keys that were there.
    ///
    /// # Errors
    /// As [`Store::delete`], with some of the keys taken out.
    pub fn delete_many(&self, keys: &[&[u8]]) -> Result<usize> {
        let mut there = 0;
        self.by_shard(
            keys,
            |key| key,
            |shard, order, key| {
                there += usize::from(shard.delete(self.cx(), order, key, Event::Del)?);
                Ok(())
            },
        )?;
        Ok(there)
    }

    /// Calls `f` for each item under its shard's write lock, shard by shard; items of one shard in the order
    /// given.
    fn by_shard<'i, I>(
        &self,
        items: &'i [I],
        key_of: impl Fn(&'i I) -> &'i [u8],
        mut f: impl FnMut(&mut Shard<Sparse>, u32, &'i I) -> Result<()>,
    ) -> Result<()> {
        if let [item] = items {
            let (cell, order) = self.place(key_of(item));
            let mut shard = cell.lock.write();
            let outcome = f(&mut shard, order, item);
            self.finish(cell, shard, 0);
            return outcome;
        }
        let mut sorted: Vec<(u32, u32, u32)> = Vec::new();
        try_reserve_exact(&mut sorted, items.len())?;
        for (i, item) in items.iter().enumerate() {
            let place = self.cx().placer.place(key_of(item));
            sorted.push((place.shard, i as u32, place.order));
        }
        sorted.sort_unstable();
        for group in sorted.chunk_by(|a, b| a.0 == b.0) {
            let cell = &self.cells()[group[0].0 as usize];
            // A lock is given up now and then, so that a large batch does not keep readers out.
            for part in group.chunks(AT_ONCE) {
                let mut shard = cell.lock.write();
                part.iter()
                    .for_each(|&(_, _, order)| shard.prefetch_group(order));
                part.iter()
                    .for_each(|&(_, _, order)| shard.prefetch_slots(order));
                part.iter()
                    .for_each(|&(_, _, order)| shard.prefetch_record(order));
                let outcome = part
                    .iter()
                    .try_for_each(|&(_, i, order)| f(&mut shard, order, &items[i as usize]));
                self.finish(cell, shard, 0);
                outcome?;
            }
        }
        Ok(())
    }

    /// Reads one value into a buffer, waiting for the lock; None where the key is missing.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let copied = self.read(key, Wait::Block, |value| {
            let mut copy = Vec::new();
            try_reserve_exact(&mut copy, value.len())?;
            copy.extend_from_slice(value.as_slice());
            Ok(copy)
        })?;
        copied.transpose()
    }
}
