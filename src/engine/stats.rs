//! What a store holds, and what it costs.

use std::ops::AddAssign;
use std::sync::atomic::Ordering;

use super::cell::Cell;
use super::databases::{Databases, LockedDatabases};
use super::shard::Shard;
use super::store::Store;
use super::table::Sparse;

/// Figures of a store, each of some moment of the call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Entries.
    pub entries: u64,
    /// Bytes of their keys.
    pub key_bytes: u64,
    /// Bytes of their values.
    pub value_bytes: u64,
    /// Bytes that the store has allocated, all in all.
    pub bytes_allocated: u64,
    /// Of those, bytes of the index.
    pub index_bytes: u64,
    /// Bytes of deleted and overwritten records that are not yet reclaimed.
    pub dead_bytes: u64,
    /// Of the bytes allocated, those of the time wheels and of expired entries that wait to be taken.
    pub expiry_bytes: u64,
    /// Entries that expire, or have expired and are not yet taken out.
    pub expiring: u64,
    /// Milliseconds until these expire, on average; 0 where that is over or there are none.
    pub time_left: u64,
    /// Entries taken out because they had expired, since the store was made.
    pub expirations: u64,
    /// Of these, entries that found no room in the queue of [`Store::take_expired`].
    pub expirations_lost: u64,
    /// Entries evicted to make room, since the store was made.
    pub evictions: u64,
    /// Look-ups that found a value, since the store was made.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// Shards.
    pub shards: u64,
    /// Entries by buckets of the index.
    pub load_factor: f64,
    /// sparsehash groups that hold at least one entry.
    pub groups: u64,
    /// Index slots moved by growth and shrinking since the store was made.
    pub slots_moved: u64,
    /// Record bytes copied by writes and compaction since the store was made.
    pub bytes_copied: u64,
    /// Most slots moved by a single write.
    pub most_slots_moved: u64,
    /// Most bytes copied by a single write.
    pub most_bytes_copied: u64,
    /// Look-ups of single keys made with the GIL held.
    pub attached: u64,
    /// Look-ups of single keys made with the GIL released.
    pub detached: u64,
}

impl Store {
    /// Entries evicted to make room, since the store was made. O(shards); 0 at once where nothing is bounded.
    pub fn evictions(&self) -> u64 {
        if !self.is_bounded() {
            return 0;
        }
        let of = |cell: &Cell| cell.lock.read().evictions();
        self.cells().iter().map(of).sum()
    }

    /// Figures of the store. O(shards + sub-tables); locks one shard at a time.
    pub fn stats(&self) -> Stats {
        self.stats_by(|shard, see| see(&self.cells()[shard].lock.read()))
    }

    /// As [`Store::stats`]; `look` shows a shard by its number.
    pub(super) fn stats_by(
        &self,
        mut look: impl FnMut(usize, &mut dyn FnMut(&Shard<Sparse>)),
    ) -> Stats {
        let mut stats = Stats {
            shards: self.cells().len() as u64,
            bytes_allocated: (self.cx().pool.bytes() + size_of_val(self.cells())) as u64,
            ..Stats::default()
        };
        stats.expiry_bytes = self.cx().expired.bytes() as u64;
        stats.expirations_lost = self.cx().expired.lost();
        let (mut buckets, mut lookups, mut deadlines) = (0, 0, 0);
        for (number, cell) in self.cells().iter().enumerate() {
            stats.attached += cell.attached.load(Ordering::Relaxed);
            stats.detached += cell.detached.load(Ordering::Relaxed);
            lookups += cell.batched.load(Ordering::Relaxed);
            stats.misses += cell.misses.load(Ordering::Relaxed);
            look(number, &mut |shard| {
                if shard.is_broken() {
                    return;
                }
                let work = shard.work();
                let index_bytes = shard.index().bytes() as u64;
                stats.expiring += shard.expiring_records();
                deadlines += shard.deadlines();
                stats.expirations += shard.expirations();
                stats.evictions += shard.evictions();
                stats.bytes_allocated += shard.eviction_bytes() as u64;
                stats.expiry_bytes += shard.wheel_bytes() as u64;
                stats.entries += shard.len();
                stats.key_bytes += shard.key_bytes();
                stats.value_bytes += shard.value_bytes();
                stats.index_bytes += index_bytes;
                stats.bytes_allocated += index_bytes + shard.arena().bytes() as u64;
                stats.dead_bytes += shard.arena().dead_bytes();
                stats.slots_moved += work.slots_moved;
                stats.bytes_copied += work.bytes_copied;
                stats.most_slots_moved = stats.most_slots_moved.max(work.most_slots_moved.into());
                stats.most_bytes_copied =
                    stats.most_bytes_copied.max(work.most_bytes_copied.into());
                stats.groups += shard.index().nonempty_groups();
                buckets += shard.index().buckets();
            });
        }
        let average = deadlines.checked_div(stats.expiring.into()).unwrap_or(0) as u64;
        stats.time_left = average.saturating_sub(self.cx().time.now());
        lookups += stats.attached + stats.detached;
        // Counters of look-ups that go on meanwhile may be read in any order.
        stats.hits = lookups.saturating_sub(stats.misses);
        stats.bytes_allocated += stats.expiry_bytes;
        // What other stores hold counts in shared bounds, and not here.
        let bounds = self.cx().bounds.as_ref();
        if let Some(bounds) = bounds.filter(|b| b.bounds_bytes() && !b.are_shared()) {
            // Of one moment, where the sum is of several; what writes have taken in advance counts.
            stats.bytes_allocated = bounds.bytes() + self.waiting_bytes();
        }
        if buckets > 0 {
            stats.load_factor = stats.entries as f64 / buckets as f64;
        }
        stats
    }

    /// Bytes that count in no bound: expired pairs on their way to a callback, memory kept to be used again.
    fn waiting_bytes(&self) -> u64 {
        (self.cx().expired.bytes() + self.cx().pool.kept_bytes()) as u64
    }
}

impl AddAssign for Stats {
    /// Makes them the figures of both stores together.
    fn add_assign(&mut self, other: Stats) {
        let buckets = |s: &Stats| match s.load_factor {
            0.0 => 0.0,
            load_factor => s.entries as f64 / load_factor,
        };
        let buckets = buckets(self) + buckets(&other);
        self.entries += other.entries;
        self.key_bytes += other.key_bytes;
        self.value_bytes += other.value_bytes;
        self.bytes_allocated += other.bytes_allocated;
        self.index_bytes += other.index_bytes;
        self.dead_bytes += other.dead_bytes;
        self.expiry_bytes += other.expiry_bytes;
        let sum = |s: &Stats| u128::from(s.time_left) * u128::from(s.expiring);
        let (both, expiring) = (sum(self) + sum(&other), self.expiring + other.expiring);
        self.time_left = both.checked_div(expiring.into()).unwrap_or(0) as u64;
        self.expiring = expiring;
        self.expirations += other.expirations;
        self.expirations_lost += other.expirations_lost;
        self.evictions += other.evictions;
        self.hits += other.hits;
        self.misses += other.misses;
        self.shards += other.shards;
        self.load_factor = if buckets > 0.0 {
            self.entries as f64 / buckets
        } else {
            0.0
        };
        self.groups += other.groups;
        self.slots_moved += other.slots_moved;
        self.bytes_copied += other.bytes_copied;
        self.most_slots_moved = self.most_slots_moved.max(other.most_slots_moved);
        self.most_bytes_copied = self.most_bytes_copied.max(other.most_bytes_copied);
        self.attached += other.attached;
        self.detached += other.detached;
    }
}

impl Databases {
    /// Figures of all databases together, and of each that was ever written. As [`Store::stats`] for each.
    pub fn stats(&self) -> (Stats, Vec<(u8, Stats)>) {
        self.stats_by(|store| Some(store.stats()))
    }

    fn stats_by(&self, mut of: impl FnMut(&Store) -> Option<Stats>) -> (Stats, Vec<(u8, Stats)>) {
        let (mut total, mut each) = (Stats::default(), Vec::new());
        let mut shared: Option<(u64, u64)> = None;
        for db in self.written() {
            if let Some(store) = self.get(db)
                && let Some(stats) = of(&store)
            {
                each.push((db, stats));
                total += stats;
                let bounds = store.cx().bounds.as_ref();
                if let Some(bounds) = bounds.filter(|b| b.bounds_bytes()) {
                    let (_, waiting) = shared.unwrap_or_default();
                    shared = Some((bounds.bytes(), waiting + store.waiting_bytes()));
                }
            }
        }
        // Of one moment, and with what readers hold of values that are gone.
        if let Some((bytes, waiting)) = shared {
            total.bytes_allocated = bytes + waiting;
        }
        (total, each)
    }

    /// Bytes that all databases may take together; None: as many as there are.
    pub fn max_bytes(&self) -> Option<u64> {
        self.get(0)
            .map(|store| store.limits().bytes)
            .filter(|&bytes| bytes != 0)
    }
}

impl LockedDatabases<'_> {
    /// As [`Databases::stats`], of those databases of which all shards are locked.
    pub fn stats(&mut self) -> (Stats, Vec<(u8, Stats)>) {
        let (databases, held) = self.parts();
        databases.stats_by(|store| held.stats(store).ok())
    }
}
