//! Compaction: which chunk to evacuate, and its evacuation.

use super::{Arena, CHUNK_BITS, Queue};
use crate::Result;
use crate::engine::pool::{CHUNK, Pool};
use crate::engine::record::Parsed;

impl Arena {
    /// The next chunk worth evacuating: the deadest of a bounded number of chunks, at least a fifth dead,
    /// where at least a fifth of all bytes are.
    pub(crate) fn next_victim(&mut self) -> Option<u32> {
        const LOOK_AT: u32 = 64;
        let is_fifth = u64::from(self.dead_bytes) * 5 >= u64::from(self.used_bytes);
        if self.dead_bytes < CHUNK as u32 || !is_fifth {
            return None;
        }
        let mut best: Option<(u32, u16)> = None;
        for _ in 0..LOOK_AT.min(self.meta.len() as u32) {
            self.sweep = if self.sweep + 1 >= self.meta.len() as u32 {
                0
            } else {
                self.sweep + 1
            };
            let meta = self.meta[self.sweep as usize];
            let worth = u32::from(meta.dead) * 5 >= u32::from(meta.used) && meta.dead > 0;
            if worth
                && best.is_none_or(|(_, dead)| meta.dead > dead)
                && !self.is_written(self.sweep)
            {
                best = Some((self.sweep, meta.dead));
            }
        }
        best.map(|(number, _)| number)
    }

    fn is_written(&self, number: u32) -> bool {
        self.open.last() == Some(&number)
            || self.pinned.contains(&number)
            || self.is_queue_end(number)
    }

    /// Chunks, dead or not; each is a step of a full compaction.
    pub(crate) fn chunk_count(&self) -> u32 {
        self.chunks.len() as u32
    }

    /// Whether a full compaction should evacuate the chunk: a sixteenth of it is dead or unused.
    pub(crate) fn is_loose(&self, number: u32) -> bool {
        let meta = self.meta[number as usize];
        let filled = meta.used - meta.dead;
        meta.used > 0 && usize::from(filled) < CHUNK / 16 * 15 && !self.is_written(number)
    }

    /// Moves the live records of a chunk to the end of the log and calls `moved(old, new)` for each.
    /// Returns the bytes copied. On failure the records not yet moved stay where they are.
    pub(crate) fn evacuate(
        &mut self,
        pool: &Pool,
        number: u32,
        mut moved: impl FnMut(&Arena, u32, u32),
    ) -> Result<u64> {
        if let Some(at) = self.open.iter().position(|&n| n == number) {
            self.open.remove(at);
        }
        let meta = self.meta[number as usize];
        let live = u64::from(meta.used - meta.dead);
        let mut position = 0;
        let mut copied = 0;
        // The burial of the last live record gives the chunk away, so what follows it is not looked at.
        while copied < live {
            let from = number << CHUNK_BITS | position;
            let (len, live) = match self.parse(from) {
                Parsed::Live(record) => (record.len, true),
                Parsed::Dead { len } => (len, false),
            };
            position += len as u32;
            if live {
                let to = self.append_copy(pool, from, len, Queue::Main)?;
                moved(self, from, to);
                copied += len as u64;
                self.bury(pool, from, len);
            }
        }
        Ok(copied)
    }
}
