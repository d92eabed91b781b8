//! Memory for the arenas of one store: 16 KiB chunks cut from large mapped regions that all shards share,
//! so that huge pages serve every shard and waste is per store, not per shard. Knows no records.

use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread;

use parking_lot::{Mutex, MutexGuard};

use super::block::Block;
use super::bounds::Bounds;
use super::failpoint;
use super::sync;
use super::table::{try_push, try_reserve};
use crate::{Error, Result};

/// Bytes of a chunk.
pub(crate) const CHUNK: usize = 16 * 1024;
const HUGE_PAGE: usize = 2 * 1024 * 1024;
/// The first region is small and without huge pages; all others are large.
const FIRST_REGION: usize = 8 * 1024 * 1024;
const REGION: usize = 64 * 1024 * 1024;
/// A bounded store of fewer bytes uses no huge pages.
const HUGE_FROM: u64 = 1 << 30;
/// A region that has become free goes back to the system where another one has so many free chunks.
const SPARE_CHUNKS: usize = 256;

/// A chunk of the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    pub(crate) memory: NonNull<u8>,
}

// SAFETY: a chunk is memory; who holds it decides who writes it.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

/// When a region gets huge pages. They make reads 15 to 25 % faster, but the first touch of one clears 2 MiB, which
/// takes 0.2 ms, and ten where a hypervisor has to find the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// Once all of the region is in use, when the system gets to it: for single writes, which shall not wait.
    Later,
    /// At the first touch: for loads.
    Huge,
}

struct Region {
    base: NonNull<u8>,
    len: usize,
    /// Chunks handed out at least once lie below.
    top: usize,
    /// Numbers of the chunks below `top` that are free.
    free: Vec<u32>,
    /// Of those, how many hold no memory any more.
    returned: usize,
    /// Whether huge pages were asked for, or never will be.
    asks_for_huge: bool,
}

// SAFETY: a region owns its mapping.
unsafe impl Send for Region {}

impl Region {
    fn map(len: usize, pages: Pages) -> Result<Region> {
        let align = if len < REGION { 0 } else { HUGE_PAGE };
        let mapped = len + align;
        if failpoint::hit() {
            return Err(Error::OutOfMemory);
        }
        // SAFETY: an anonymous private mapping at an address of the kernel's choice.
        let raw = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if raw == libc::MAP_FAILED {
            return Err(Error::OutOfMemory);
        }
        let raw = raw.cast::<u8>();
        let before = if align == 0 {
            0
        } else {
            raw.align_offset(align)
        };
        // SAFETY: head and tail lie within the mapping made above and nothing uses them.
        unsafe {
            if before > 0 {
                libc::munmap(raw.cast(), before);
            }
            if align > before {
                libc::munmap(raw.add(before + len).cast(), align - before);
            }
        }
        // SAFETY: mmap never returns null without MAP_FIXED.
        let base = unsafe { NonNull::new_unchecked(raw.add(before)) };
        let mut region = Region {
            base,
            len,
            top: 0,
            free: Vec::new(),
            returned: 0,
            asks_for_huge: len < REGION,
        };
        if pages == Pages::Huge {
            region.ask_for_huge();
        }
        Ok(region)
    }

    /// Asks the system for huge pages: for memory not yet touched at its first touch, for the rest by and by.
    fn ask_for_huge(&mut self) {
        if !self.asks_for_huge {
            self.asks_for_huge = true;
            // SAFETY: the region's own mapping; the advice changes no byte of it.
            #[cfg(target_os = "linux")]
            unsafe {
                libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_HUGEPAGE)
            };
        }
    }

    /// Keeps the system from giving it huge pages, also where it does so unasked.
    fn refuse_huge(&mut self) {
        self.asks_for_huge = true;
        // SAFETY: the region's own mapping; the advice changes no byte of it.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_NOHUGEPAGE)
        };
    }

    /// Whether nobody holds a chunk of it.
    fn is_free(&self) -> bool {
        self.free.len() == self.top
    }

    fn chunks(&self) -> usize {
        self.len / CHUNK
    }

    /// A chunk that was handed out before.
    fn take_used(&mut self) -> Option<Chunk> {
        let number = self.free.pop()? as usize;
        self.returned = self.returned.min(self.free.len());
        Some(self.chunk(number))
    }

    /// A chunk that was never handed out and has no memory yet.
    fn take_fresh(&mut self) -> Option<Chunk> {
        if self.top == self.chunks() {
            return None;
        }
        self.top += 1;
        if self.top == self.chunks() {
            self.ask_for_huge();
        }
        Some(self.chunk(self.top - 1))
    }

    fn chunk(&self, number: usize) -> Chunk {
        // SAFETY: `number` is below `chunks()`, so the address lies within the mapping.
        let memory = unsafe { self.base.add(number * CHUNK) };
        Chunk { memory }
    }

    fn number_of(&self, chunk: Chunk) -> Option<usize> {
        let distance = (chunk.memory.as_ptr() as usize).checked_sub(self.base.as_ptr() as usize)?;
        (distance < self.len).then_some(distance / CHUNK)
    }

    /// Free chunks that hold memory.
    fn kept(&self) -> usize {
        self.free.len() - self.returned
    }

    /// Hands the memory of the chunk that became free last back to the system.
    fn return_last(&mut self) {
        let Some(&number) = self.free.last() else {
            return;
        };
        // SAFETY: a free chunk of this mapping, which nobody reads.
        unsafe {
            let at = self.base.add(number as usize * CHUNK).as_ptr();
            libc::madvise(at.cast(), CHUNK, libc::MADV_DONTNEED);
        }
        let last = self.free.len() - 1;
        self.free.swap(self.returned, last);
        self.returned += 1;
    }

    /// Hands the memory of the free chunks back to the system, and says whether they had any; they stay free.
    fn return_free(&mut self) -> bool {
        if self.returned == self.free.len() {
            return false;
        }
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        for run in self.free.chunk_by(|a, b| *a == b + 1) {
            let first = run[run.len() - 1] as usize;
            // SAFETY: free chunks of this mapping, which nobody reads.
            unsafe {
                libc::madvise(
                    self.base.add(first * CHUNK).as_ptr().cast(),
                    run.len() * CHUNK,
                    libc::MADV_DONTNEED,
                );
            }
        }
        self.returned = self.free.len();
        true
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and the store's shards are gone.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[derive(Default)]
struct Inner {
    /// By falling address: the system maps new regions below old ones, so that the old ones come first.
    regions: Vec<Region>,
    /// No region before this one has a chunk that was handed out before.
    first_with_used: usize,
    /// No region before this one has a chunk that was never handed out.
    first_with_fresh: usize,
    /// Of a bounded store: so many free chunks keep their memory.
    keeps: Option<usize>,
    no_huge: bool,
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

    /// Hands free memory back to the system. It takes the system long, so the lock is given up after each region, for
    /// long enough that whoever waits for it looks again; `go_on` is asked then.
    pub(crate) fn trim(&self, go_on: &mut dyn FnMut() -> bool) {
        while let Some(region) = self.remove_free() {
            drop(region);
        }
        for at in 0.. {
            if !go_on() {
                break;
            }
            let mut pool = self.lock();
            let Some(region) = pool.0.regions.get_mut(at) else {
                break;
            };
            let returned = region.return_free();
            drop(pool);
            if returned {
                thread::sleep(sync::LONGEST_SLEEP);
            }
        }
    }

    /// Takes out a region that nobody holds a chunk of.
    fn remove_free(&self) -> Option<Region> {
        let mut pool = self.lock();
        let at = pool.0.regions.iter().position(Region::is_free)?;
        (pool.0.first_with_used, pool.0.first_with_fresh) = (0, 0);
        Some(pool.0.regions.remove(at))
    }

    /// Bytes of free chunks that hold memory, and of the lists of free ones.
    pub(crate) fn kept_bytes(&self) -> usize {
        let pool = self.lock();
        let kept = |r: &Region| r.kept() * CHUNK + r.free.capacity() * size_of::<u32>();
        pool.0.regions.iter().map(kept).sum()
    }

    /// Bytes of chunks that hold memory.
    pub(crate) fn bytes(&self) -> usize {
        let pool = self.lock();
        pool.0
            .regions
            .iter()
            .map(|r| (r.top - r.returned) * CHUNK + r.free.capacity() * 4)
            .sum()
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
        let kept = try_push(&mut pool.regions[at].free, number as u32).is_ok();
        let all = || pool.regions.iter().map(Region::kept).sum::<usize>();
        if kept && pool.keeps.is_some_and(|keeps| all() > keeps) {
            pool.regions[at].return_last();
        }
        let others = pool.regions.iter().enumerate().filter(|&(i, _)| i != at);
        let spare = |r: &Region| r.free.len() + r.chunks() - r.top > SPARE_CHUNKS;
        if pool.regions[at].is_free() && others.map(|(_, r)| r).any(spare) {
            pool.regions.remove(at);
            (pool.first_with_used, pool.first_with_fresh) = (0, 0);
        }
    }

    /// Keeps the lock over a fork.
    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }
}
