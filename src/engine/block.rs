//! Records too large for an arena: one reference-counted allocation that holds key and value, so that a
//! reader clones the handle under the lock and copies outside.

use std::alloc::{self, Layout};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};

use super::bounds::Bounds;
use crate::{Error, Result};

#[repr(C)]
struct Head {
    references: AtomicUsize,
    key_len: u32,
    value_len: u32,
    /// Bytes of key and value that the allocation has room for.
    room: usize,
    /// What the memory came from.
    memory: Memory,
    /// What [`Bounds::add_outside`] said.
    generation: AtomicU32,
    /// Where a block is counted that no record has any more; null before.
    readers: AtomicPtr<Bounds>,
}

/// Where a block's memory comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Memory {
    Malloc,
    /// Mapped on its own, so that all of it goes back when the block goes: malloc's arenas would keep holes of such sizes.
    Pages,
}

/// A block of so many bytes is mapped, where the system has a mapping left.
const MAPPED_FROM: usize = 64 << 10;
const PAGE: usize = 4096;

/// A shared handle on a large record.
#[derive(Debug)]
pub struct Block(NonNull<Head>);

// SAFETY: shared handles only read; `write` needs the only one.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    pub(crate) fn new(key: &[u8], value: &[u8]) -> Result<Block> {
        Self::with_parts(key, value, (0, &[]), key.len() + value.len())
    }

    /// Bytes of a block for a key and a value of so many bytes in all.
    pub(crate) fn bytes_for(len: usize) -> usize {
        let bytes = size_of::<Head>() + len;
        if bytes < MAPPED_FROM {
            bytes
        } else {
            bytes.next_multiple_of(PAGE)
        }
    }

    fn layout(room: usize) -> Result<Layout> {
        size_of::<Head>()
            .checked_add(room)
            .and_then(|size| Layout::from_size_align(size, align_of::<Head>()).ok())
            .ok_or(Error::OutOfMemory)
    }

    /// A block whose value is followed by zeros and a tail, with room for `room` bytes in all.
    fn with_parts(
        key: &[u8],
        value: &[u8],
        (zeros, tail): (usize, &[u8]),
        room: usize,
    ) -> Result<Block> {
        let (head, memory) = allocate(Self::layout(room)?)?;
        // SAFETY: `head` is fresh memory for a Head and `room` bytes, and the parts are no longer.
        unsafe {
            head.write(Head {
                references: AtomicUsize::new(1),
                key_len: key.len() as u32,
                value_len: (value.len() + zeros + tail.len()) as u32,
                room,
                memory,
                generation: AtomicU32::new(0),
                readers: AtomicPtr::new(ptr::null_mut()),
            });
            let bytes = head.add(1).cast::<u8>().as_ptr();
            ptr::copy_nonoverlapping(key.as_ptr(), bytes, key.len());
            let bytes = bytes.add(key.len());
            ptr::copy_nonoverlapping(value.as_ptr(), bytes, value.len());
            let bytes = bytes.add(value.len());
            ptr::write_bytes(bytes, 0, zeros);
            ptr::copy_nonoverlapping(tail.as_ptr(), bytes.add(zeros), tail.len());
        }
        Ok(Block(head))
    }

    fn head(&self) -> &Head {
        // SAFETY: a handle keeps the allocation alive.
        unsafe { self.0.as_ref() }
    }

    fn bytes(&self) -> *mut u8 {
        // SAFETY: the bytes follow the head in the same allocation.
        unsafe { self.0.add(1).cast::<u8>().as_ptr() }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        // SAFETY: key_len bytes are initialized.
        unsafe { slice::from_raw_parts(self.bytes(), self.head().key_len as usize) }
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        let head = self.head();
        // SAFETY: value_len bytes after the key are initialized.
        unsafe {
            slice::from_raw_parts(
                self.bytes().add(head.key_len as usize),
                head.value_len as usize,
            )
        }
    }

    /// Bytes allocated.
    pub(crate) fn allocated(&self) -> usize {
        Self::bytes_for(self.head().room)
    }

    fn used(&self) -> usize {
        self.key().len() + self.value().len()
    }

    /// The room of the block that takes this one's place when it is written and grows by so many bytes; None where that is done
    /// in place.
    fn grown(&self, more: usize) -> Option<usize> {
        let used = self.used();
        let unique = self.head().references.load(Ordering::Acquire) == 1;
        match (unique && used + more <= self.head().room, more) {
            (true, _) => None,
            (false, 0) => Some(used),
            (false, _) => Some((used + more).max(used + used / 2)),
        }
    }

    /// Writes into the value, which grows by zeros and by what lies beyond its end: in place where this is the only handle and
    /// there is room; else returns a block that takes this one's place, with room to grow by half.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) -> Result<Option<Block>> {
        let (key_len, len) = (self.key().len(), self.value().len());
        let zeros = at.saturating_sub(len);
        let more = (at + bytes.len()).saturating_sub(len);
        let (over, tail) = bytes.split_at(bytes.len() - (more - zeros));
        let mut fresh = match self.grown(more) {
            None => None,
            Some(room) => Some(Self::with_parts(
                self.key(),
                self.value(),
                (zeros, tail),
                room,
            )?),
        };
        let in_place = fresh.is_none();
        let block = fresh.as_mut().unwrap_or(self);
        // SAFETY: the only handle, exclusively borrowed, and the bytes fit.
        unsafe {
            let value = block.bytes().add(key_len);
            ptr::copy_nonoverlapping(over.as_ptr(), value.add(at.min(len)), over.len());
            if in_place {
                ptr::write_bytes(value.add(len), 0, zeros);
                ptr::copy_nonoverlapping(tail.as_ptr(), value.add(len + zeros), tail.len());
                block.0.as_mut().value_len = (len + more) as u32;
            }
        }
        Ok(fresh)
    }

    /// Drops the handle of a record that dies. Where readers have handles, the block counts in `bounds` until the last one goes.
    pub(crate) fn leave_to_readers(self, bounds: &Arc<Bounds>) {
        if self.head().references.load(Ordering::Acquire) > 1 {
            let generation = bounds.add_outside(self.allocated() as u64);
            let counted = Arc::into_raw(Arc::clone(bounds)).cast_mut();
            // Whoever drops the last handle sees both: this one goes after they were written.
            self.head().generation.store(generation, Ordering::Relaxed);
            self.head().readers.store(counted, Ordering::Relaxed);
        }
    }

    pub(crate) fn into_raw(self) -> *mut u8 {
        let raw = self.0.as_ptr().cast();
        std::mem::forget(self);
        raw
    }
}

/// A block whose handle belongs to a record that stays as it is for `'a`.
pub struct BorrowedBlock<'a>(ManuallyDrop<Block>, PhantomData<&'a Block>);

impl<'a> BorrowedBlock<'a> {
    /// # Safety
    /// `raw` came from `into_raw`, and its handle is alive and unchanged for `'a`.
    pub(crate) unsafe fn from_raw(raw: *mut u8) -> Self {
        // SAFETY: into_raw never gives null.
        let block = Block(unsafe { NonNull::new_unchecked(raw.cast()) });
        BorrowedBlock(ManuallyDrop::new(block), PhantomData)
    }

    /// # Safety
    /// The record gives its handle up to the caller.
    pub(crate) unsafe fn take(self) -> Block {
        ManuallyDrop::into_inner(self.0)
    }

    /// Bytes of the value in the block that is made where the value is written and grows by so many; 0 where that is done in
    /// place.
    pub(crate) fn room_to_grow(&self, more: usize) -> usize {
        let key_len = self.key().len();
        self.0.grown(more).map_or(0, |room| room - key_len)
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        let key: *const [u8] = self.0.key();
        // SAFETY: the record's handle keeps the bytes alive and unchanged for 'a.
        unsafe { &*key }
    }

    /// The value.
    #[inline]
    pub fn value(&self) -> &'a [u8] {
        let value: *const [u8] = self.0.value();
        // SAFETY: as for the key.
        unsafe { &*value }
    }

    /// Bytes allocated.
    pub(crate) fn allocated(&self) -> usize {
        self.0.allocated()
    }

    /// A handle that outlives the record.
    pub fn share(&self) -> Block {
        Block::clone(&self.0)
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        self.head().references.fetch_add(1, Ordering::Relaxed);
        Block(self.0)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.head().references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        let (room, memory) = (self.head().room, self.head().memory);
        let readers = self.head().readers.load(Ordering::Relaxed);
        if !readers.is_null() {
            let generation = self.head().generation.load(Ordering::Relaxed);
            // SAFETY: `leave_to_readers` gave up this count, once.
            let bounds = unsafe { Arc::from_raw(readers.cast_const()) };
            bounds.give_back(self.allocated() as u64, generation);
        }
        if let Ok(layout) = Self::layout(room) {
            // SAFETY: the last handle; allocated so, with this layout.
            unsafe {
                match memory {
                    Memory::Malloc => alloc::dealloc(self.0.as_ptr().cast(), layout),
                    Memory::Pages => drop(libc::munmap(self.0.as_ptr().cast(), layout.size())),
                }
            };
        }
    }
}

fn allocate(layout: Layout) -> Result<(NonNull<Head>, Memory)> {
    if layout.size() >= MAPPED_FROM
        && let Some(pages) = map(layout.size())
    {
        return Ok((pages.cast(), Memory::Pages));
    }
    // SAFETY: the layout is not empty.
    let memory = NonNull::new(unsafe { alloc::alloc(layout) }.cast::<Head>());
    Ok((memory.ok_or(Error::OutOfMemory)?, Memory::Malloc))
}

/// An anonymous mapping; None where the system has no memory or no mapping left, and malloc is asked.
fn map(len: usize) -> Option<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the system's choice.
    let memory = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    (memory != libc::MAP_FAILED).then(|| NonNull::new(memory.cast()))?
}
