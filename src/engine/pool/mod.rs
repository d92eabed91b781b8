//! Memory for the arenas of one store: 16 KiB chunks cut from large mapped regions that all shards share,
//! so that huge pages serve every shard and waste is per store, not per shard. Knows no records.

mod region;

use std::sync::Arc;
use std::thread;

use parking_lot::{Mutex, MutexGuard};

use super::block::Block;
use super::bounds::Bounds;
use super::sync;
use super::table::try_reserve;
use crate::{Error, Result};

pub(crate) use region::{CHUNK, Chunk, Pages};
use region::{CHUNKS_AT_ONCE, FIRST_REGION, REGION, Region};

/// A bounded store of fewer bytes uses no huge pages.
const HUGE_FROM: u64 = 1 << 30;
/// A region that has become free goes back to the system where another one has so many free chunks.
const SPARE_CHUNKS: usize = 256;

#[derive(Default)]
struct Inner {
    /// By falling address: the system maps new regions below old ones, so that the old ones come first.
    regions: Vec<Region>,
    /// Free regions that are being unmapped; they hand out no chunks.
    leaving: Vec<Region>,
    /// No region before this one has a chunk that was handed out before.
    first_with_used: usize,
    /// No region before this one has a chunk that was never handed out.
    first_with_fresh: usize,
    /// Of a bounded store: so many free chunks keep their memory.
    keeps: Option<usize>,
    no_huge: bool,
    /// The system is not asked to put huge pages in the place of small ones: a few at a time, a thread that touches one of
    /// them meanwhile waits for up to 5 ms.
    no_later: bool,
}

impl Inner {
    fn all(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter().chain(&self.leaving)
    }
}

/// The chunks of one store.
#[derive(Default)]
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    /// Where blocks count that only readers hold; None where bytes are not bounded.
    bounds: Option<Arc<Bounds>>,
}

impl Pool {
    /// A pool for a store of at most so many bytes: it holds hardly any memory that is not in use, and a small one takes no huge
    /// pages, which would count as a whole.
    pub(crate) fn bounded(bytes: u64, bounds: Option<Arc<Bounds>>) -> Pool {
        let inner = Inner {
            keeps: Some((bytes / 256) as usize / CHUNK),
            no_huge: bytes < HUGE_FROM,
            ..Inner::default()
        };
        Pool {
            inner: Mutex::new(inner),
            bounds,
        }
    }

    pub(crate) fn lock(&self) -> PoolGuard<'_> {
        PoolGuard(sync::lock_mutex(&self.inner))
    }

    /// Ends a lock that was forgotten around a fork.
    ///
    /// # Safety
    /// This thread, or the thread that forked this process, holds the lock.
    pub(crate) unsafe fn force_unlock(&self) {
        // SAFETY: passed on to the caller.
        unsafe { self.inner.force_unlock() };
    }

    /// Drops the block of a record that dies.
    pub(crate) fn let_go(&self, block: Block) {
        match &self.bounds {
            Some(bounds) => block.leave_to_readers(bounds),
            None => drop(block),
        }
    }

    /// A chunk; its bytes are undefined. `pages` matters where a region has to be mapped for it.
    pub(crate) fn take(&self, pages: Pages) -> Result<Chunk> {
        self.lock().take(pages)
    }

    /// Gives a chunk back.
    pub(crate) fn give(&self, chunk: Chunk) {
        self.lock().give(chunk);
    }

    /// From now on, only regions that get huge pages at their first touch do.
    pub(crate) fn keep_small_pages(&self) {
        self.lock().0.no_later = true;
    }

    /// Hands free memory back to the system. It takes the system long, so the lock is given up after each step, for
    /// long enough that whoever waits for it looks again; `go_on` is asked then.
    pub(crate) fn trim(&self, go_on: &mut dyn FnMut() -> bool) {
        while let Some(mut region) = self.remove_free() {
            while go_on() && region.unmap_some(CHUNKS_AT_ONCE) {}
        }
        let mut at = 0;
        while go_on() {
            let mut pool = self.lock();
            let Some(region) = pool.0.regions.get_mut(at) else {
                break;
            };
            let returned = region.return_some(CHUNKS_AT_ONCE);
            drop(pool);
            if returned {
                thread::sleep(sync::LONGEST_SLEEP);
            } else {
                at += 1;
            }
        }
    }

    /// Takes out a region that nobody holds a chunk of.
    fn remove_free(&self) -> Option<Region> {
        let mut pool = self.lock();
        if let Some(region) = pool.0.leaving.pop() {
            return Some(region);
        }
        let at = pool.0.regions.iter().position(Region::is_free)?;
        Some(pool.remove(at))
    }

    /// Bytes of free chunks that hold memory, and of the lists of free ones.
    pub(crate) fn kept_bytes(&self) -> usize {
        let pool = self.lock();
        pool.0.all().map(Region::kept_bytes).sum()
    }

    /// Bytes of chunks that hold memory, and of the lists of free ones.
    pub(crate) fn bytes(&self) -> usize {
        let pool = self.lock();
        pool.0.all().map(Region::bytes).sum()
    }
}

/// The pool, locked.
pub(crate) struct PoolGuard<'p>(MutexGuard<'p, Inner>);

impl PoolGuard<'_> {
    /// Takes a chunk that holds memory already where there is one, and from the first region that has one, so that
    /// regions at the end become free.
    pub(crate) fn take(&mut self, pages: Pages) -> Result<Chunk> {
        let pool = &mut *self.0;
        while let Some(region) = pool.regions.get_mut(pool.first_with_used) {
            if let Some(chunk) = region.take_used() {
                return Ok(chunk);
            }
            pool.first_with_used += 1;
        }
        while let Some(region) = pool.regions.get_mut(pool.first_with_fresh) {
            if let Some(chunk) = region.take_fresh() {
                if region.is_full() && !pool.no_later {
                    region.ask_for_huge();
                }
                return Ok(chunk);
            }
            pool.first_with_fresh += 1;
        }
        let mut region = if pool.regions.is_empty() {
            Region::map(FIRST_REGION, pages)?
        } else {
            Region::map(REGION, pages)?
        };
        if pool.no_huge {
            region.refuse_huge();
        }
        let chunk = region.take_fresh().ok_or(Error::OutOfMemory)?;
        try_reserve(&mut pool.regions, 1)?;
        let at = pool.regions.partition_point(|r| r.base > region.base);
        pool.regions.insert(at, region);
        pool.first_with_used = pool.first_with_used.min(at);
        pool.first_with_fresh = pool.first_with_fresh.min(at);
        Ok(chunk)
    }

    pub(crate) fn give(&mut self, chunk: Chunk) {
        let pool = &mut *self.0;
        let at = pool.regions.partition_point(|r| r.base > chunk.memory);
        let Some(number) = pool.regions.get(at).and_then(|r| r.number_of(chunk)) else {
            debug_assert!(false, "the chunk is of this pool");
            return;
        };
        pool.first_with_used = pool.first_with_used.min(at);
        // Out of memory: the chunk is lost until the store goes, which is better than to fail a delete.
        let kept = pool.regions[at].give(number).is_ok();
        let all = || pool.all().map(Region::kept).sum::<usize>();
        if kept && pool.keeps.is_some_and(|keeps| all() > keeps) {
            pool.regions[at].return_last();
        }
        let mut others = pool.regions.iter().enumerate().filter(|&(i, _)| i != at);
        if pool.regions[at].is_free() && others.any(|(_, r)| r.spare() > SPARE_CHUNKS) {
            // Out of memory: what does not fit the list goes at once.
            let fits = try_reserve(&mut pool.leaving, 1).is_ok();
            let region = self.remove(at);
            if fits {
                self.0.leaving.push(region);
            }
        }
        self.unmap_some();
    }

    fn remove(&mut self, at: usize) -> Region {
        let pool = &mut *self.0;
        (pool.first_with_used, pool.first_with_fresh) = (0, 0);
        pool.regions.remove(at)
    }

    /// A step of unmapping what leaves: whoever gives chunks back holds the lock of a shard.
    fn unmap_some(&mut self) {
        if let Some(last) = self.0.leaving.last_mut()
            && !last.unmap_some(CHUNKS_AT_ONCE)
        {
            self.0.leaving.pop();
        }
    }

    /// Keeps the lock over a fork.
    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }
}
