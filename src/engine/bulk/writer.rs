//! One thread's side of a bulk load: it copies rows into chunks of its own, and notes where.

use super::CHUNK_BITS;
use crate::engine::arena::OpenChunk;
use crate::engine::block::Block;
use crate::engine::cell::Cell;
use crate::engine::pool::{CHUNK, Chunk, Pages, Pool};
use crate::engine::record::{self, Expiry, Form, Parsed, ValueRef};
use crate::engine::shard::Gain;
use crate::engine::store::Store;
use crate::engine::table::try_reserve;
use crate::{Result, limits};

/// Items of one stream, in chunks of the writer's own pool: large vectors that come and go would leave holes
/// between the index's groups in malloc.
pub(super) struct Items {
    chunks: Vec<Chunk>,
    pub(super) len: usize,
}

impl Items {
    const IN_CHUNK: usize = CHUNK / size_of::<u64>();

    /// Room for one more item.
    #[inline]
    fn reserve(&mut self, pool: &Pool) -> Result<()> {
        if self.len == self.chunks.len() * Self::IN_CHUNK {
            try_reserve(&mut self.chunks, 1)?;
            self.chunks.push(pool.take(Pages::Huge)?);
        }
        Ok(())
    }

    /// Needs [`Items::reserve`].
    #[inline]
    fn push(&mut self, item: u64) {
        let chunk = self.chunks[self.len / Self::IN_CHUNK];
        // SAFETY: the place is below IN_CHUNK; a chunk starts at a page.
        unsafe {
            chunk
                .memory
                .cast::<u64>()
                .add(self.len % Self::IN_CHUNK)
                .write(item)
        };
        self.len += 1;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let parts = self.chunks.iter().enumerate().map_while(|(i, chunk)| {
            let len = self
                .len
                .checked_sub(i * Self::IN_CHUNK)?
                .min(Self::IN_CHUNK);
            // SAFETY: the first `len` items of the chunk were written by `push`.
            Some(unsafe { std::slice::from_raw_parts(chunk.memory.cast::<u64>().as_ptr(), len) })
        });
        parts.flatten().copied()
    }
}

/// Rows of one thread for one shard since the last merge.
pub(super) struct Stream {
    /// The chunk that is written now.
    memory: *mut u8,
    position: usize,
    /// Order hash above; below, number in `chunks` and position.
    pub(super) items: Items,
    pub(super) gain: Gain,
    pub(super) chunks: Vec<OpenChunk>,
}

// SAFETY: a stream owns the chunks that it writes, beyond what the shard has adopted.
unsafe impl Send for Stream {}

impl Stream {
    pub(super) const EMPTY: Stream = Stream {
        memory: std::ptr::null_mut(),
        position: CHUNK,
        items: Items {
            chunks: Vec::new(),
            len: 0,
        },
        gain: Gain {
            key_bytes: 0,
            value_bytes: 0,
            blocks: 0,
            block_bytes: 0,
            expiring: 0,
            deadline: 0,
            deadlines: 0,
        },
        chunks: Vec::new(),
    };

    fn next_chunk(&mut self, store: &Store, cell: &Cell, len: usize) -> Result<()> {
        if let Some(last) = self.chunks.last_mut() {
            last.used = self.position;
        }
        try_reserve(&mut self.chunks, 1)?;
        let lent = if self.chunks.is_empty() {
            cell.lock.write().lend_open(len)?
        } else {
            None
        };
        let open = match lent {
            Some(open) => open,
            None => OpenChunk {
                chunk: store.cx().pool.take(Pages::Huge)?,
                used: 0,
                adopted: 0,
                number: None,
            },
        };
        self.memory = open.chunk.memory.as_ptr();
        self.position = open.used;
        self.chunks.push(open);
        Ok(())
    }

    /// Notes how far the last chunk was written.
    pub(super) fn seal(&mut self) {
        if let Some(last) = self.chunks.last_mut() {
            last.used = self.position;
        }
    }

    /// Forgets the rows since the last merge.
    pub(super) fn discard(&mut self, store: &Store) {
        if self.gain.blocks > 0 {
            for item in self.items.iter() {
                let chunk = &self.chunks[(item as u32 >> CHUNK_BITS) as usize];
                let at = item as usize & (CHUNK - 1);
                // SAFETY: items are starts of records that this stream wrote and still owns.
                let parsed = unsafe { record::parse(chunk.chunk.memory.as_ptr().add(at)) };
                if let Parsed::Live(record) = parsed
                    && let ValueRef::Shared(block) = record.value
                {
                    // SAFETY: the record is forgotten, and its handle with it.
                    drop(unsafe { block.take() });
                }
            }
        }
        self.items.len = 0;
        self.gain = Gain::default();
        // Only the first chunk can have been adopted.
        for open in self.chunks.drain(1.min(self.chunks.len())..) {
            store.cx().pool.give(open.chunk);
        }
        match self.chunks.first_mut() {
            Some(first) => {
                first.used = first.adopted;
                self.memory = first.chunk.memory.as_ptr();
                self.position = first.used;
            }
            None => self.position = CHUNK,
        }
    }
}

/// One thread's side of a bulk load.
pub struct BulkWriter<'s> {
    pub(super) store: &'s Store,
    pub(super) streams: Box<[Stream]>,
    /// Memory of the streams' items.
    pub(super) pool: Pool,
    pub(super) rows: u64,
    /// Of the rows until the next merge.
    pub(super) expiry: Expiry,
}

impl BulkWriter<'_> {
    /// Adds a row. It becomes visible by [`super::BulkLoad::merge`].
    ///
    /// # Errors
    /// [`crate::Error::KeyTooLong`], [`crate::Error::ValueTooLong`], [`crate::Error::OutOfMemory`]; the rows before it stay.
    #[inline]
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        limits::check_key(key.len())?;
        limits::check_value(value.len())?;
        let place = self.store.cx().placer.place(key);
        let stream = &mut self.streams[place.shard as usize];
        let form = Form::string(self.expiry);
        let (len, is_block) = record::encoded_len(key.len(), value.len(), form);
        if stream.position + len > CHUNK {
            let cell = &self.store.cells()[place.shard as usize];
            stream.next_chunk(self.store, cell, len)?;
        }
        stream.items.reserve(&self.pool)?;
        let block = if is_block {
            Some(Block::new(key, value)?)
        } else {
            None
        };
        // SAFETY: `len` bytes at `position` lie within the chunk, which this stream alone writes.
        unsafe {
            let at = stream.memory.add(stream.position);
            match block {
                None => record::write_inline(at, key, value, form),
                Some(block) => {
                    stream.gain.blocks += 1;
                    stream.gain.block_bytes += block.allocated() as u64;
                    record::write_block(at, block, form);
                }
            }
        }
        let local = (stream.chunks.len() - 1) << CHUNK_BITS | stream.position;
        stream
            .items
            .push(u64::from(place.order) << 32 | local as u64);
        stream.position += len;
        stream.gain.key_bytes += key.len() as u64;
        stream.gain.value_bytes += value.len() as u64;
        self.rows += 1;
        Ok(())
    }

    /// Rows since the last merge.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Forgets the rows since the last merge.
    pub fn discard(&mut self) {
        self.streams
            .iter_mut()
            .for_each(|stream| stream.discard(self.store));
        self.rows = 0;
    }
}

impl Drop for BulkWriter<'_> {
    fn drop(&mut self) {
        self.discard();
        for (stream, cell) in self.streams.iter_mut().zip(self.store.cells()) {
            for open in stream.chunks.drain(..) {
                cell.lock.write().unpin(self.store.cx(), &open, true);
            }
        }
    }
}
