//! A shard behind its lock, and what is known of it without the lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{RwLockReadGuard, RwLockWriteGuard};

use super::shard::Shard;
use super::store::Wait;
use super::sync::Lock;
use super::table::Sparse;
use crate::{Error, Result};

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
    pub(crate) at: u64,
    pub(crate) is_new: bool,
}

impl Due {
    pub(crate) fn earlier(self, other: Due) -> Due {
        Due {
            at: self.at.min(other.at),
            is_new: self.is_new || other.is_new,
        }
    }
}

impl Cell {
    pub(crate) const fn new() -> Cell {
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

    pub(crate) fn read(&self, wait: Wait) -> Result<RwLockReadGuard<'_, Shard<Sparse>>> {
        let shard = match wait {
            Wait::Block => self.lock.read(),
            Wait::Try => self.lock.try_read().ok_or(Error::WouldBlock)?,
        };
        if shard.is_broken() {
            return Err(Error::Broken);
        }
        Ok(shard)
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

    /// Entries of the shard, as far as was published.
    pub(crate) fn entries(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether the shard has no entry, as far as was published.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries() == 0
    }

    #[inline]
    pub(crate) fn count(&self, detached: bool, found: bool) {
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
