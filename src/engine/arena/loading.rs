//! Chunks that a bulk load writes: lent to it, taken over from it, and given free again.

use std::ptr::NonNull;

use super::{Arena, CHUNK_BITS, MAX_CHUNKS, Meta};
use crate::engine::pool::{CHUNK, Chunk, Pool};
use crate::engine::record;
use crate::engine::table::{try_push, try_reserve};
use crate::{Error, Result};

/// A chunk that a bulk load fills: where it goes on, and which chunk of the arena it is already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenChunk {
    pub(crate) chunk: Chunk,
    pub(crate) used: usize,
    /// Bytes that the arena has adopted already.
    pub(crate) adopted: usize,
    /// Number in the arena's table, and the arena's generation then; None until adopted.
    pub(crate) number: Option<(u32, u32)>,
}

impl Arena {
    /// Room in the tables for taking over so many chunks.
    pub(crate) fn prepare_adoption(&mut self, chunks: usize) -> Result<()> {
        if self.chunks.len() + chunks + 1 > MAX_CHUNKS + self.free_numbers.len() {
            return Err(Error::ArenaFull);
        }
        try_reserve(&mut self.chunks, chunks + 1)?;
        try_reserve(&mut self.meta, chunks + 1)?;
        try_reserve(&mut self.pinned, chunks)?;
        try_reserve(&mut self.open, chunks + 1)
    }

    /// Takes over what a bulk load has written since it was last called. Needs [`Arena::prepare_adoption`].
    pub(crate) fn adopt(&mut self, written: &mut [OpenChunk]) {
        let generation = self.generation;
        let known = |c: &OpenChunk| c.number.filter(|&(_, g)| g == generation);
        if self.chunks.is_empty() {
            // Chunk 0 is the small one, so it has to be there before any other.
            self.chunks.push(NonNull::dangling());
            self.meta.push(Meta::default());
            self.open.push(0);
        }
        for open in written {
            let number = match known(open) {
                Some((number, _)) => number,
                None => {
                    let number = self.adopt_number(open.chunk);
                    self.pinned.push(number);
                    if open.adopted > 0 {
                        // The arena was cleared meanwhile, and what it had adopted with it.
                        // SAFETY: the first bytes of a chunk that this load owns.
                        unsafe { record::write_dead(open.chunk.memory.as_ptr(), open.adopted) };
                        self.meta[number as usize].used = open.adopted as u16;
                        self.used_bytes += open.adopted as u32;
                        self.add_dead(number << CHUNK_BITS, open.adopted);
                    }
                    number
                }
            };
            open.number = Some((number, generation));
            let meta = &mut self.meta[number as usize];
            self.used_bytes += (open.used - usize::from(meta.used)) as u32;
            meta.used = open.used as u16;
            open.adopted = open.used;
        }
    }

    /// A bulk load has written blocks into chunks that are now adopted.
    pub(crate) fn count_blocks(&mut self, blocks: u64, bytes: u64) {
        self.blocks += blocks as u32;
        self.block_bytes += bytes;
    }

    /// Lends the chunk that would take the next record to a bulk load, with at least `len` bytes of room.
    pub(crate) fn lend_open(&mut self, len: usize) -> Result<Option<OpenChunk>> {
        try_reserve(&mut self.pinned, 1)?;
        let has_room = |meta: Meta| usize::from(meta.used) + len <= CHUNK;
        let Some(at) = self
            .open
            .iter()
            .rposition(|&n| n != 0 && has_room(self.meta[n as usize]))
        else {
            return Ok(None);
        };
        let number = self.open.remove(at);
        self.pinned.push(number);
        let used = usize::from(self.meta[number as usize].used);
        Ok(Some(OpenChunk {
            chunk: Chunk {
                memory: self.chunks[number as usize],
            },
            used,
            adopted: used,
            number: Some((number, self.generation)),
        }))
    }

    /// A bulk load no longer writes the chunk; with `reopen` it takes records again.
    pub(crate) fn unpin(&mut self, pool: &Pool, open: &OpenChunk, reopen: bool) {
        let number = match open.number {
            Some((number, generation)) if generation == self.generation => number,
            _ => return pool.give(open.chunk),
        };
        self.pinned.retain(|&n| n != number);
        let meta = self.meta[number as usize];
        if meta.used == meta.dead {
            self.release(pool, number);
        } else if reopen {
            // Without room for the number the chunk just takes no more records.
            let _ = try_push(&mut self.open, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_free_are_room_for_a_load() {
        let mut arena = Arena::new();
        arena.chunks = vec![NonNull::dangling(); MAX_CHUNKS];
        arena.meta = vec![Meta::default(); MAX_CHUNKS];
        assert!(arena.prepare_adoption(0).is_err());
        arena.free_numbers = (1..MAX_CHUNKS as u32).rev().collect();
        arena.prepare_adoption(100).unwrap();
        assert!(arena.prepare_adoption(MAX_CHUNKS).is_err());
    }
}
