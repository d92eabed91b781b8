//! A region: memory mapped for many chunks at once, and given back in steps.

use std::ptr::{self, NonNull};

use crate::engine::failpoint;
use crate::engine::table::try_push;
use crate::{Error, Result};

/// Bytes of a chunk.
pub(crate) const CHUNK: usize = 16 * 1024;
const HUGE_PAGE: usize = 2 * 1024 * 1024;
/// The first region is small and without huge pages; all others are large.
pub(super) const FIRST_REGION: usize = 8 * 1024 * 1024;
pub(super) const REGION: usize = 64 * 1024 * 1024;
/// So many chunks go back to the system at a time: 1 MiB takes it some 0.1 ms, a region up to 9 ms.
pub(super) const CHUNKS_AT_ONCE: usize = 64;

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
    /// Once all of the region is in use, when the system gets to it: for single writes, which shall not wait. Never where entries
    /// expire.
    Later,
    /// At the first touch: for loads.
    Huge,
}

pub(super) struct Region {
    pub(super) base: NonNull<u8>,
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
    pub(super) fn map(len: usize, pages: Pages) -> Result<Region> {
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
    pub(super) fn ask_for_huge(&mut self) {
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
    pub(super) fn refuse_huge(&mut self) {
        self.asks_for_huge = true;
        // SAFETY: the region's own mapping; the advice changes no byte of it.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_NOHUGEPAGE)
        };
    }

    /// Whether nobody holds a chunk of it.
    pub(super) fn is_free(&self) -> bool {
        self.free.len() == self.top
    }

    fn chunks(&self) -> usize {
        self.len / CHUNK
    }

    /// A chunk that was handed out before.
    pub(super) fn take_used(&mut self) -> Option<Chunk> {
        let number = self.free.pop()? as usize;
        self.returned = self.returned.min(self.free.len());
        Some(self.chunk(number))
    }

    /// Whether all chunks were handed out before.
    pub(super) fn is_full(&self) -> bool {
        self.top == self.chunks()
    }

    /// A chunk that was never handed out and has no memory yet.
    pub(super) fn take_fresh(&mut self) -> Option<Chunk> {
        if self.is_full() {
            return None;
        }
        self.top += 1;
        Some(self.chunk(self.top - 1))
    }

    fn chunk(&self, number: usize) -> Chunk {
        // SAFETY: `number` is below `chunks()`, so the address lies within the mapping.
        let memory = unsafe { self.base.add(number * CHUNK) };
        Chunk { memory }
    }

    pub(super) fn number_of(&self, chunk: Chunk) -> Option<usize> {
        let distance = (chunk.memory.as_ptr() as usize).checked_sub(self.base.as_ptr() as usize)?;
        (distance < self.len).then_some(distance / CHUNK)
    }

    /// Takes a chunk back that nobody holds any more.
    pub(super) fn give(&mut self, number: usize) -> Result<()> {
        try_push(&mut self.free, number as u32)
    }

    /// Free chunks that hold memory.
    pub(super) fn kept(&self) -> usize {
        (self.free.len() - self.returned).min(self.chunks())
    }

    /// Hands the memory of the chunk that became free last back to the system.
    pub(super) fn return_last(&mut self) {
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

    /// Hands the memory of so many free chunks back to the system, and says whether there were any; they stay free.
    pub(super) fn return_some(&mut self, most: usize) -> bool {
        let kept = &mut self.free[self.returned..];
        kept.sort_unstable_by(|a, b| b.cmp(a));
        let goes = kept.len().min(most);
        for run in kept[..goes].chunk_by(|a, b| *a == b + 1) {
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
        self.returned += goes;
        goes > 0
    }

    /// Unmaps so many chunks at the end of a region that is free, and says whether some are left. It hands out none any more.
    pub(super) fn unmap_some(&mut self, most: usize) -> bool {
        let goes = self.len.min(most * CHUNK);
        self.len -= goes;
        if goes > 0 {
            // SAFETY: the end of our own mapping, of which nobody holds a chunk.
            unsafe { libc::munmap(self.base.add(self.len).as_ptr().cast(), goes) };
        }
        self.len > 0
    }

    /// Chunks that may be taken.
    pub(super) fn spare(&self) -> usize {
        self.free.len() + self.chunks() - self.top
    }

    /// Bytes of chunks that hold memory, and of the list of free ones.
    pub(super) fn bytes(&self) -> usize {
        let holding = (self.top - self.returned).min(self.chunks());
        holding * CHUNK + self.free.capacity() * size_of::<u32>()
    }

    /// As [`Region::bytes`], of chunks that are free.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept() * CHUNK + self.free.capacity() * size_of::<u32>()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // In steps: the system lets no other thread map anything meanwhile.
        while self.unmap_some(CHUNKS_AT_ONCE) {}
    }
}
