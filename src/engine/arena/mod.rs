//! The records of one shard: an append-only log in 16 KiB chunks, addressed by a 32-bit byte offset. Dead
//! bytes are counted per chunk; a chunk that is all dead goes back to the pool, others are evacuated by the
//! shard. The arena knows no hashes and no index.

#[cfg(test)]
mod check;
mod compact;
mod loading;
mod queues;

use std::alloc::{self, Layout};
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

use super::block::Block;
use super::pool::{CHUNK, Chunk, Pages, Pool};
use super::record::{self, Expiry, Form, Kind, Parsed, Record, ValueRef};
use super::table::{try_push, try_reserve};
use crate::{Error, Result};

pub(crate) use loading::OpenChunk;
pub(crate) use queues::Queue;
use queues::Queues;

const CHUNK_BITS: u32 = CHUNK.trailing_zeros();
/// So that no offset is one of the index's two marks.
const MAX_CHUNKS: usize = (1 << (32 - CHUNK_BITS)) - 1;
const FIRST_CAPACITY: usize = 256;

#[derive(Clone, Copy, Debug, Default)]
struct Meta {
    used: u16,
    dead: u16,
    /// Of a bounded store's shard.
    queue: Queue,
}

/// The records of one shard.
pub(crate) struct Arena {
    /// By chunk number; dangling where the number is free.
    chunks: Vec<NonNull<u8>>,
    meta: Vec<Meta>,
    /// Chunks that can take more; the last one takes the next record.
    open: Vec<u32>,
    /// Chunks that a bulk load is writing: neither evacuated nor given back.
    pinned: Vec<u32>,
    free_numbers: Vec<u32>,
    /// Where the store is bounded; `open` then holds chunk 0 at most.
    queues: Option<Box<Queues>>,
    /// Chunk 0 is a small allocation that doubles up to a whole chunk.
    first_capacity: u32,
    /// Where the search for a chunk to evacuate goes on.
    sweep: u32,
    /// Counts the times that the arena was cleared.
    generation: u32,
    /// All of them below 4 GiB, as offsets are.
    used_bytes: u32,
    dead_bytes: u32,
    blocks: u32,
    block_bytes: u64,
}

// SAFETY: an arena owns its chunks; the shard's lock decides who writes.
unsafe impl Send for Arena {}
// SAFETY: its shared methods only read.
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) const fn new() -> Self {
        Arena {
            chunks: Vec::new(),
            meta: Vec::new(),
            open: Vec::new(),
            pinned: Vec::new(),
            free_numbers: Vec::new(),
            queues: None,
            first_capacity: 0,
            sweep: 0,
            generation: 0,
            used_bytes: 0,
            dead_bytes: 0,
            blocks: 0,
            block_bytes: 0,
        }
    }

    #[inline]
    fn at(&self, offset: u32) -> *mut u8 {
        let chunk = self.chunks[(offset >> CHUNK_BITS) as usize];
        // SAFETY: the position is below CHUNK; for chunk 0, offsets are below its capacity.
        unsafe { chunk.add(offset as usize & (CHUNK - 1)).as_ptr() }
    }

    /// What lies at an offset.
    #[inline]
    pub(crate) fn parse(&self, offset: u32) -> Parsed<'_> {
        // SAFETY: offsets are starts of records or of dead bytes, which change only under the write lock.
        unsafe { record::parse(self.at(offset)) }
    }

    /// The record at an offset that the index holds.
    #[inline(always)]
    pub(crate) fn record(&self, offset: u32) -> Record<'_> {
        match self.parse(offset) {
            Parsed::Live(record) => record,
            Parsed::Dead { len } => {
                debug_assert!(false, "the index holds live records only");
                Record {
                    key: &[],
                    value: ValueRef::Inline(&[]),
                    expiry: Expiry::NEVER,
                    kind: Kind::STRING,
                    len,
                }
            }
        }
    }

    #[inline]
    pub(crate) fn prefetch(&self, offset: u32) {
        let at = self.at(offset);
        prefetch_read(at);
        prefetch_read(at.wrapping_add(64));
    }

    /// Writes a record at the end of the log. On failure nothing has changed.
    pub(crate) fn append(
        &mut self,
        pool: &Pool,
        key: &[u8],
        value: &[u8],
        form: Form,
        queue: Queue,
    ) -> Result<u32> {
        let (len, is_block) = record::encoded_len(key.len(), value.len(), form);
        let block = record::block_for(key, value, is_block)?;
        let offset = self.allocate(pool, len, queue)?;
        // Where the next records of the shard go: waiting for those lines would keep its lock.
        for ahead in [64, 128] {
            prefetch_write(self.at(offset).wrapping_add(len + ahead));
        }
        match block {
            // SAFETY: `len` bytes at `offset` were allocated for this record.
            None => unsafe { record::write_inline(self.at(offset), key, value, form) },
            Some(block) => {
                self.blocks += 1;
                self.block_bytes += block.allocated() as u64;
                // SAFETY: bytes for a block's record were allocated at `offset`.
                unsafe { record::write_block(self.at(offset), block, form) };
            }
        }
        Ok(offset)
    }

    /// Copies the bytes of a record of another chunk to the end of the log.
    fn append_copy(&mut self, pool: &Pool, from: u32, len: usize, queue: Queue) -> Result<u32> {
        let offset = self.allocate(pool, len, queue)?;
        // SAFETY: both ranges lie in chunks of this arena and do not overlap: one is new.
        unsafe { ptr::copy_nonoverlapping(self.at(from), self.at(offset), len) };
        Ok(offset)
    }

    /// Room for `len` bytes at the end of the log, or of a queue where there are queues.
    fn allocate(&mut self, pool: &Pool, len: usize, queue: Queue) -> Result<u32> {
        if self.queues.is_some() {
            return self.allocate_in(pool, len, queue);
        }
        loop {
            let Some(&number) = self.open.last() else {
                self.open_chunk(pool)?;
                continue;
            };
            let used = usize::from(self.meta[number as usize].used);
            if used + len > CHUNK {
                self.open.pop();
                continue;
            }
            if number == 0 && used + len > self.first_capacity as usize {
                self.grow_first(used + len)?;
            }
            self.meta[number as usize].used = (used + len) as u16;
            self.used_bytes += len as u32;
            return Ok(number << CHUNK_BITS | used as u32);
        }
    }

    fn open_chunk(&mut self, pool: &Pool) -> Result<()> {
        try_reserve(&mut self.open, 1)?;
        if self.chunks.is_empty() {
            self.make_first()?;
            self.open.push(0);
            return Ok(());
        }
        let chunk = self
            .reserve_number()
            .and_then(|()| pool.take(Pages::Later))?;
        let number = self.adopt_number(chunk);
        self.open.push(number);
        Ok(())
    }

    /// Chunk 0, still without memory.
    fn make_first(&mut self) -> Result<()> {
        try_reserve(&mut self.open, 1)?;
        try_reserve(&mut self.chunks, 1)?;
        try_reserve(&mut self.meta, 1)?;
        self.chunks.push(NonNull::dangling());
        self.meta.push(Meta::default());
        Ok(())
    }

    /// Room for one more chunk in the tables.
    fn reserve_number(&mut self) -> Result<()> {
        if !self.free_numbers.is_empty() {
            return Ok(());
        }
        if self.chunks.len() >= MAX_CHUNKS {
            return Err(Error::ArenaFull);
        }
        try_reserve(&mut self.chunks, 1)?;
        try_reserve(&mut self.meta, 1)
    }

    fn adopt_number(&mut self, chunk: Chunk) -> u32 {
        if let Some(number) = self.free_numbers.pop() {
            self.chunks[number as usize] = chunk.memory;
            self.meta[number as usize] = Meta::default();
            return number;
        }
        self.chunks.push(chunk.memory);
        self.meta.push(Meta::default());
        (self.chunks.len() - 1) as u32
    }

    fn grow_first(&mut self, needed: usize) -> Result<()> {
        let old = self.first_capacity as usize;
        let new = needed.next_power_of_two().clamp(FIRST_CAPACITY, CHUNK);
        // SAFETY: chunk 0 was allocated with the old capacity where that is not 0, and sizes are not 0.
        let memory = unsafe {
            if old == 0 {
                alloc::alloc(first_layout(new))
            } else {
                alloc::realloc(self.chunks[0].as_ptr(), first_layout(old), new)
            }
        };
        self.chunks[0] = NonNull::new(memory).ok_or(Error::OutOfMemory)?;
        self.first_capacity = new as u32;
        Ok(())
    }

    /// Puts a value in the place of an old one where it fits; returns whether it did.
    pub(crate) fn overwrite(&mut self, offset: u32, key: &[u8], value: &[u8], form: Form) -> bool {
        let Record {
            value: ValueRef::Inline(_),
            len: old_len,
            ..
        } = self.record(offset)
        else {
            return false;
        };
        let (len, is_block) = record::encoded_len(key.len(), value.len(), form);
        if is_block || len > old_len {
            return false;
        }
        // SAFETY: the old record's bytes, exclusively borrowed; the new one and what is left fill them.
        unsafe {
            record::write_inline(self.at(offset), key, value, form);
            record::write_dead(self.at(offset).add(len), old_len - len);
        }
        self.add_dead(offset, old_len - len);
        true
    }

    /// Gives a block's record another expiry; returns where it is now. On failure nothing has changed.
    pub(crate) fn move_block(&mut self, pool: &Pool, offset: u32, expiry: Expiry) -> Result<u32> {
        let Record {
            len: old_len, kind, ..
        } = self.record(offset);
        let form = Form { expiry, kind };
        let (len, _) = record::encoded_len(0, record::MAX_INLINE, form);
        let to = if len > old_len {
            self.allocate(pool, len, self.queue_of(offset))?
        } else {
            offset
        };
        if let ValueRef::Shared(block) = self.record(offset).value {
            // SAFETY: the handle moves from one record to the other, or stays in its place.
            unsafe { record::write_block(self.at(to), block.take(), form) };
        }
        if to != offset {
            self.bury(pool, offset, old_len);
        } else {
            // SAFETY: the rest of the old record's bytes.
            unsafe { record::write_dead(self.at(offset).add(len), old_len - len) };
            self.add_dead(offset, old_len - len);
        }
        Ok(to)
    }

    /// Writes the expiry of a record that has a deadline, and keeps having one of as many bytes.
    pub(crate) fn write_expiry(&mut self, offset: u32, expiry: Expiry) {
        debug_assert!(self.record(offset).expiry.expires() && expiry.expires());
        // SAFETY: a record with a deadline, exclusively borrowed.
        unsafe { record::write_expiry(self.at(offset), expiry) };
    }

    fn add_dead(&mut self, offset: u32, len: usize) {
        self.meta[(offset >> CHUNK_BITS) as usize].dead += len as u16;
        self.dead_bytes += len as u32;
    }

    /// Writes into a record's value as far as that needs no other record; returns whether it was done, and how many bytes that
    /// copied. A block's value may grow.
    pub(crate) fn write(
        &mut self,
        pool: &Pool,
        offset: u32,
        at: usize,
        bytes: &[u8],
    ) -> Result<Option<usize>> {
        let block = match self.record(offset).value {
            ValueRef::Shared(block) => block,
            ValueRef::Inline(value) if at + bytes.len() > value.len() => return Ok(None),
            ValueRef::Inline(value) => {
                let start = value.as_ptr().addr() - self.at(offset).addr() + at;
                // SAFETY: bytes of the record's value, exclusively borrowed.
                unsafe {
                    let to = self.at(offset).add(start);
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
                }
                return Ok(Some(bytes.len()));
            }
        };
        // SAFETY: the record's handle is put back below, on every way out.
        let mut block = ManuallyDrop::new(unsafe { block.take() });
        let before = block.allocated() as u64;
        let Some(fresh) = block.write(at, bytes)? else {
            return Ok(Some(bytes.len()));
        };
        let copied = fresh.value().len();
        self.block_bytes += fresh.allocated() as u64;
        self.block_bytes -= before;
        // SAFETY: the record is that of a block, and takes the fresh handle in place of the old one.
        unsafe { record::replace_block(self.at(offset), fresh) };
        pool.let_go(ManuallyDrop::into_inner(block));
        Ok(Some(copied))
    }

    /// Marks a record as dead; a chunk that is all dead goes back to the pool.
    pub(crate) fn kill(&mut self, pool: &Pool, offset: u32) {
        if let Some((len, block)) = self.give_up(offset) {
            block.into_iter().for_each(|block| pool.let_go(block));
            self.bury(pool, offset, len);
        }
    }

    /// Takes the block of a record that dies, and returns the record's length in the arena.
    fn give_up(&mut self, offset: u32) -> Option<(usize, Option<Block>)> {
        let Parsed::Live(record) = self.parse(offset) else {
            debug_assert!(false, "a record dies once");
            return None;
        };
        let len = record.len;
        let mut taken = None;
        if let ValueRef::Shared(block) = record.value {
            // SAFETY: the record dies, and its handle with it.
            let block = unsafe { block.take() };
            self.blocks -= 1;
            self.block_bytes -= block.allocated() as u64;
            taken = Some(block);
        }
        Some((len, taken))
    }

    fn bury(&mut self, pool: &Pool, offset: u32, len: usize) {
        // SAFETY: the record's own bytes.
        unsafe { record::write_dead(self.at(offset), len) };
        self.add_dead(offset, len);
        let number = offset >> CHUNK_BITS;
        self.leave_queue(number);
        let meta = self.meta[number as usize];
        if meta.dead == meta.used {
            self.release(pool, number);
        }
    }

    /// Takes back the record that was appended last.
    pub(crate) fn retract(&mut self, offset: u32) {
        let Some((len, _)) = self.give_up(offset) else {
            return;
        };
        self.leave_queue(offset >> CHUNK_BITS);
        let meta = &mut self.meta[(offset >> CHUNK_BITS) as usize];
        meta.used -= len as u16;
        self.used_bytes -= len as u32;
        debug_assert_eq!(u32::from(meta.used), offset & (CHUNK as u32 - 1));
    }

    /// Empties a chunk that is all dead; it goes back to the pool unless something still writes it.
    fn release(&mut self, pool: &Pool, number: u32) {
        if self.pinned.contains(&number) {
            return;
        }
        let meta = &mut self.meta[number as usize];
        debug_assert_eq!(meta.used, meta.dead);
        self.used_bytes -= u32::from(meta.used);
        self.dead_bytes -= u32::from(meta.dead);
        (meta.used, meta.dead) = (0, 0);
        let is_open = self.open.contains(&number) || self.leave_order(number);
        if number == 0 {
            if !is_open && try_push(&mut self.open, 0).is_ok() {
                // Chunk 0 is never given back: it takes records again, before the others.
                let last = self.open.len() - 1;
                self.open.swap(0, last);
            }
            return;
        }
        if is_open || try_push(&mut self.free_numbers, number).is_err() {
            return;
        }
        let memory = std::mem::replace(&mut self.chunks[number as usize], NonNull::dangling());
        pool.give(Chunk { memory });
    }

    pub(crate) fn dead_bytes(&self) -> u64 {
        u64::from(self.dead_bytes)
    }

    /// Bytes allocated outside the pool.
    pub(crate) fn bytes(&self) -> usize {
        self.first_capacity as usize
            + self.block_bytes as usize
            + self.chunks.capacity() * (size_of::<NonNull<u8>>() + size_of::<Meta>())
            + (self.open.capacity() + self.pinned.capacity() + self.free_numbers.capacity()) * 4
            + self.queue_bytes()
    }

    /// Frees everything but the chunks that a bulk load is writing, which it gives back itself.
    pub(crate) fn clear(&mut self, pool: &Pool, live: impl FnOnce(&mut dyn FnMut(u32))) {
        self.drop_blocks(live, |block| pool.let_go(block));
        self.free_first();
        for number in 1..self.chunks.len() {
            let memory = self.chunks[number];
            let free = memory == NonNull::dangling();
            if !free && !self.pinned.contains(&(number as u32)) {
                pool.give(Chunk { memory });
            }
        }
        let mut queues = self.queues.take();
        if let Some(queues) = &mut queues {
            **queues = Queues::default();
        }
        *self = Arena {
            generation: self.generation.wrapping_add(1),
            queues,
            ..Arena::new()
        };
    }

    /// Frees what is not the pool's, before the pool itself goes. `live` calls back with every live offset.
    pub(crate) fn dispose(&mut self, live: impl FnOnce(&mut dyn FnMut(u32))) {
        self.drop_blocks(live, drop);
        self.free_first();
    }

    fn drop_blocks(
        &mut self,
        live: impl FnOnce(&mut dyn FnMut(u32)),
        mut let_go: impl FnMut(Block),
    ) {
        if self.blocks > 0 {
            live(&mut |offset| {
                if let ValueRef::Shared(block) = self.record(offset).value {
                    // SAFETY: all records go, and their handles with them.
                    let_go(unsafe { block.take() });
                }
            });
        }
    }

    fn free_first(&mut self) {
        if self.first_capacity > 0 {
            // SAFETY: chunk 0 was allocated with this layout.
            unsafe {
                alloc::dealloc(
                    self.chunks[0].as_ptr(),
                    first_layout(self.first_capacity as usize),
                )
            };
            self.first_capacity = 0;
        }
    }
}

fn first_layout(capacity: usize) -> Layout {
    // A capacity is a power of two of at most CHUNK, so the layout is valid.
    Layout::from_size_align(capacity, 1).unwrap_or(Layout::new::<u8>())
}

/// Asks for a cache line, to read.
#[inline]
pub(crate) fn prefetch_read(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program can see, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for a cache line, to write.
#[inline]
fn prefetch_write(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above; processors that know no such prefetch do nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
