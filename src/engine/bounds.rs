//! The bounds of a store: how many entries and bytes it may hold, and how many it does. Knows no shards.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::pool::CHUNK;
use crate::{Error, Result};

/// Bytes that a write may need beside a large value: a chunk in each of a shard's two queues.
pub(crate) const ROOM_OF_A_WRITE: u64 = 2 * CHUNK as u64;
/// The smallest bound in bytes.
pub const MIN_BYTES: u64 = 1 << 20;

/// What happens to a write that finds no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Other entries make room: first those that have expired.
    #[default]
    Evict,
    /// It ends in [`Error::StoreFull`].
    Error,
}

/// Bounds that a store is made with; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most entries.
    pub entries: u64,
    /// Most bytes that the store may allocate, at least [`MIN_BYTES`].
    pub bytes: u64,
    /// What to do at the bound.
    pub on_full: OnFull,
}

const MIN_SHARD_BITS: u32 = 7;
const MAX_SHARD_BITS: u32 = 12;
/// A store made for more entries than this in each of its shards gets more shards than the usual 128.
const ENTRIES_PER_SHARD: u64 = 1 << 16;
/// The same of a store bounded in entries. Where threads outnumber cores, some wait for a core with a lock in their hands: the
/// more locks there are, the fewer gets meet one of these. 2.4 B an entry against twice as many in a shard.
const BOUNDED_ENTRIES_PER_SHARD: u64 = 1 << 13;
/// A bounded store has as many shards of so many entries, or bytes, as fit, up to the usual number.
const FEWEST_ENTRIES: u64 = 2_048;
const FEWEST_BYTES: u64 = 1 << 20;
/// What a shard's entries take where a store is bounded in bytes: about `ENTRIES_PER_SHARD` small ones.
const BYTES_PER_SHARD: u64 = 8 << 20;

impl Limits {
    /// The number of shards, as a power of two, of a store made for so many entries.
    pub(crate) fn shard_bits(&self, capacity: usize) -> u32 {
        let bits = |shards: u64| shards.max(1).ilog2();
        let wanted = |shards: u64| (bits(shards) + 1).clamp(MIN_SHARD_BITS, MAX_SHARD_BITS);
        let mut wanted_bits = wanted(capacity as u64 / ENTRIES_PER_SHARD);
        // The smaller bound decides how many are filled.
        let mut most = MAX_SHARD_BITS;
        if self.entries != 0 {
            wanted_bits = wanted_bits.max(wanted(self.entries / BOUNDED_ENTRIES_PER_SHARD));
            most = most.min(bits(self.entries / FEWEST_ENTRIES));
        }
        if self.bytes != 0 {
            wanted_bits = wanted_bits.max(wanted(self.bytes / BYTES_PER_SHARD));
            most = most.min(bits(self.bytes / FEWEST_BYTES));
        }
        wanted_bits.min(most)
    }

    /// Most groups of a sub-table of the index: while one is rebuilt it is there twice, which is to be little against the bound.
    pub(crate) fn groups(&self) -> u32 {
        match self.bytes {
            0 => u32::MAX,
            bytes => (bytes >> 17).clamp(8, 1 << 16) as u32,
        }
    }

    pub(crate) fn are_set(&self) -> bool {
        self.entries != 0 || self.bytes != 0
    }

    /// # Errors
    /// [`Error::BoundTooSmall`].
    pub(crate) fn check(&self) -> Result<()> {
        if self.bytes != 0 && self.bytes < MIN_BYTES {
            return Err(Error::BoundTooSmall(self.bytes));
        }
        Ok(())
    }
}

/// What a store holds against its bounds.
pub(crate) struct Bounds {
    limits: Limits,
    /// Of the bound in bytes, what entries may take: the rest is for what comes and goes with them.
    bytes_for_entries: u64,
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Stores that count in them.
    stores: AtomicU64,
    /// Bytes that these take when they are empty.
    fixed: AtomicU64,
    /// Moves on at every question whose turn it is.
    turn: AtomicU64,
    /// Counts the times that both counts were forgotten.
    generation: AtomicU32,
}

impl Bounds {
    /// None where nothing is bounded.
    pub(crate) fn new(limits: Limits) -> Option<Bounds> {
        limits.are_set().then(|| Bounds {
            limits,
            // 1/128 for expired entries that wait for a callback, 1/128 for free chunks and indexes that are rebuilt.
            bytes_for_entries: limits.bytes - limits.bytes / 64,
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            stores: AtomicU64::new(0),
            fixed: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            generation: AtomicU32::new(0),
        })
    }

    pub(crate) fn evicts(&self) -> bool {
        self.limits.on_full == OnFull::Evict
    }

    pub(crate) fn bounds_bytes(&self) -> bool {
        self.limits.bytes != 0
    }

    /// Bytes of expired entries that may wait for a callback.
    pub(crate) fn bytes_for_expired(&self) -> usize {
        if self.bounds_bytes() {
            (self.limits.bytes / 128) as usize
        } else {
            usize::MAX
        }
    }

    /// Takes the place of one entry; false where there is none.
    pub(crate) fn take_entry(&self) -> bool {
        let most = self.most_entries();
        let more = |entries| (entries < most).then_some(entries + 1);
        self.entries
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// Whether the next entry is one too many.
    pub(crate) fn is_full(&self) -> bool {
        self.entries() >= self.most_entries()
    }

    pub(crate) fn most_entries(&self) -> u64 {
        match self.limits.entries {
            0 => u64::MAX,
            most => most,
        }
    }

    /// Gives the places of so many entries back.
    pub(crate) fn give_entries(&self, entries: u64) {
        take_from(&self.entries, entries);
    }

    /// Entries, or places taken for them: never more than the bound.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Takes bytes in advance; false where they do not fit.
    pub(crate) fn take_bytes(&self, bytes: u64) -> bool {
        if !self.bounds_bytes() {
            return true;
        }
        let more = |used: u64| Some(used + bytes).filter(|&sum| sum <= self.bytes_for_entries);
        self.bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// Bytes that entries take, or writes have taken in advance.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether writes that begin now may soon find no room: each takes its own in advance.
    pub(crate) fn is_nearly_full(&self) -> bool {
        let few_writes = (8 * ROOM_OF_A_WRITE).min(self.bytes_for_entries / 16);
        self.bounds_bytes()
            && self.bytes.load(Ordering::Relaxed) + few_writes.max(2 * ROOM_OF_A_WRITE)
                > self.bytes_for_entries
    }

    /// Whether it takes long until anything has to go: an eighth is free, or nothing ever goes.
    #[inline]
    pub(crate) fn has_plenty(&self) -> bool {
        let most_entries = self.most_entries();
        let most_bytes = self.bytes_for_entries;
        let has_entries = self.entries() < most_entries - most_entries / 8;
        let has_bytes = !self.bounds_bytes()
            || self.bytes.load(Ordering::Relaxed) < most_bytes - most_bytes / 8;
        !self.evicts() || has_entries && has_bytes
    }

    /// Of bytes for many writes, those that are worth being taken before the first of them.
    pub(crate) fn room_in_advance(&self, bytes: u64) -> u64 {
        bytes.min(self.bytes_for_entries / 8)
    }

    /// Whether so many bytes fit where everything else has been evicted.
    pub(crate) fn could_hold(&self, bytes: u64) -> bool {
        let fixed = self.fixed.load(Ordering::Relaxed);
        !self.bounds_bytes() || bytes.saturating_add(fixed) <= self.bytes_for_entries
    }

    /// Whether so many bytes fit where up to `evicted` that are used now are given back.
    pub(crate) fn could_hold_after(&self, bytes: u64, evicted: u64) -> bool {
        let left = self.bytes().saturating_sub(evicted);
        !self.bounds_bytes() || bytes.saturating_add(left) <= self.bytes_for_entries
    }

    /// Settles what was taken in advance, and what is used in fact.
    pub(crate) fn settle(&self, taken: u64, before: u64, now: u64) {
        // In one step, so that nobody sees both.
        let before = before + taken;
        if now > before {
            self.bytes.fetch_add(now - before, Ordering::Relaxed);
        } else if now < before {
            take_from(&self.bytes, before - now);
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// A store begins to count in them, which takes so many bytes while it is empty.
    pub(crate) fn join(&self, fixed: u64) {
        self.stores.fetch_add(1, Ordering::Relaxed);
        self.fixed.fetch_add(fixed, Ordering::Relaxed);
        self.add(0, fixed);
    }

    /// A store goes that joined with so many bytes, and took so many at last.
    pub(crate) fn leave(&self, fixed: u64, entries: u64, bytes: u64) {
        self.stores.fetch_sub(1, Ordering::Relaxed);
        take_from(&self.fixed, fixed);
        take_from(&self.entries, entries);
        self.give_bytes(bytes);
    }

    /// Whether several stores count in them.
    pub(crate) fn are_shared(&self) -> bool {
        self.stores.load(Ordering::Relaxed) > 1
    }

    /// Whether a store that evicts is full, and not the only one.
    pub(crate) fn is_full_of_several(&self) -> bool {
        self.are_shared() && self.evicts() && (self.is_nearly_full() || self.is_full())
    }

    /// A number below `total`, each in its turn.
    pub(crate) fn turn(&self, total: u64) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let turn = self.turn.fetch_add(STEP, Ordering::Relaxed);
        ((u128::from(turn) * u128::from(total)) >> 64) as u64
    }

    /// Forgets both counts.
    pub(crate) fn reset(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.entries.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// Counts what a store holds.
    pub(crate) fn add(&self, entries: u64, bytes: u64) {
        self.entries.fetch_add(entries, Ordering::Relaxed);
        if self.bounds_bytes() {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Counts bytes that are in no store any more; says what [`Bounds::give_back`] has to be told.
    pub(crate) fn add_outside(&self, bytes: u64) -> u32 {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.generation.load(Ordering::Relaxed)
    }

    /// Ends [`Bounds::add_outside`]. Bytes that were counted before the fork that this process comes from are forgotten already.
    pub(crate) fn give_back(&self, bytes: u64, generation: u32) {
        if generation == self.generation.load(Ordering::Relaxed) {
            take_from(&self.bytes, bytes);
        }
    }

    /// Gives bytes back.
    pub(crate) fn give_bytes(&self, bytes: u64) {
        if self.bounds_bytes() {
            take_from(&self.bytes, bytes);
        }
    }
}

/// Takes from a count what was added to it before.
fn take_from(count: &AtomicU64, less: u64) {
    let before = count.fetch_sub(less, Ordering::Relaxed);
    debug_assert!(before >= less, "{less} of {before}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(entries: u64, bytes: u64, capacity: usize) -> u32 {
        let limits = Limits {
            entries,
            bytes,
            ..Limits::default()
        };
        1 << limits.shard_bits(capacity)
    }

    #[test]
    fn a_store_has_no_more_shards_than_either_bound_fills() {
        for bytes in [0, 1 << 30, 1 << 40] {
            assert_eq!(shards(10, bytes, 0), 1);
            assert_eq!(shards(10, bytes, 10_000_000), 1);
            assert_eq!(shards(20_000, bytes, 0), 8);
        }
        for entries in [0, 1_000_000, 1 << 40] {
            assert_eq!(shards(entries, 1 << 20, 0), 1);
            assert_eq!(shards(entries, 8 << 20, 1 << 30), 8);
        }
        assert_eq!((shards(0, 0, 0), shards(0, 1 << 30, 0)), (128, 256));
        assert_eq!(
            (shards(1 << 22, 0, 0), shards(1 << 22, 1 << 30, 0)),
            (1024, 1024)
        );
    }
}
