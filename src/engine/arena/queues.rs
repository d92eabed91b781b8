//! The order of the chunks of a bounded store, in which entries are evicted: two logs in the place of one. Knows no policy.

use std::collections::VecDeque;

use super::{Arena, CHUNK_BITS, Meta};
use crate::engine::pool::{CHUNK, Pages, Pool};
use crate::engine::record::{self, Parsed};
use crate::engine::table::try_box;
use crate::{Error, Result};

/// A log of records, the oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Queue {
    /// What has just come.
    #[default]
    Window,
    /// What stays.
    Main,
}

#[derive(Default)]
struct Log {
    /// Chunks, the oldest first; the last one takes the next record.
    chunks: VecDeque<u32>,
    /// Nothing before this place of the first chunk is alive.
    position: u16,
    records: u64,
}

/// The logs of a bounded store's shard.
#[derive(Default)]
pub(crate) struct Queues([Log; 2]);

impl Arena {
    /// An arena whose records are in two queues.
    pub(crate) fn with_queues() -> Result<Arena> {
        Ok(Arena {
            queues: Some(try_box(Queues::default())?),
            ..Arena::new()
        })
    }

    fn log(&self, queue: Queue) -> Option<&Log> {
        self.queues.as_ref().map(|queues| &queues.0[queue as usize])
    }

    fn log_mut(&mut self, queue: Queue) -> Option<&mut Log> {
        let queues = self.queues.as_mut()?;
        Some(&mut queues.0[queue as usize])
    }

    /// The queue that a record is in.
    pub(crate) fn queue_of(&self, offset: u32) -> Queue {
        self.meta[(offset >> CHUNK_BITS) as usize].queue
    }

    /// Records in a queue.
    pub(crate) fn in_queue(&self, queue: Queue) -> u64 {
        self.log(queue).map_or(0, |log| log.records)
    }

    /// Room for `len` bytes at the end of a queue.
    pub(super) fn allocate_in(&mut self, pool: &Pool, len: usize, queue: Queue) -> Result<u32> {
        let last = self.log(queue).and_then(|log| log.chunks.back().copied());
        let number = match last {
            Some(number) if usize::from(self.meta[number as usize].used) + len <= CHUNK => number,
            _ => self.open_in(pool, queue)?,
        };
        let used = usize::from(self.meta[number as usize].used);
        if number == 0 && used + len > self.first_capacity as usize {
            self.grow_first(used + len)?;
        }
        self.meta[number as usize].used = (used + len) as u16;
        self.used_bytes += len as u32;
        if let Some(log) = self.log_mut(queue) {
            log.records += 1;
        }
        Ok(number << CHUNK_BITS | used as u32)
    }

    /// A chunk at the end of a queue: the small one where it is free.
    fn open_in(&mut self, pool: &Pool, queue: Queue) -> Result<u32> {
        if let Some(log) = self.log_mut(queue) {
            log.chunks.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        }
        let number = if self.chunks.is_empty() {
            self.make_first()?;
            0
        } else if let Some(number) = self.open.pop() {
            number
        } else {
            let chunk = self
                .reserve_number()
                .and_then(|()| pool.take(Pages::Later))?;
            self.adopt_number(chunk)
        };
        self.meta[number as usize] = Meta {
            queue,
            ..Meta::default()
        };
        if let Some(log) = self.log_mut(queue) {
            log.chunks.push_back(number);
        }
        Ok(number)
    }

    /// Notes that a record of a queue has died.
    pub(super) fn leave_queue(&mut self, number: u32) {
        let queue = self.meta[number as usize].queue;
        if let Some(log) = self.log_mut(queue) {
            log.records -= 1;
        }
    }

    /// Takes an empty chunk out of its queue, unless it takes the next record; says whether it is still in use.
    pub(super) fn leave_order(&mut self, number: u32) -> bool {
        let queue = self.meta[number as usize].queue;
        let Some(log) = self.log_mut(queue) else {
            return false;
        };
        let Some(at) = log.chunks.iter().position(|&n| n == number) else {
            return false;
        };
        if at == 0 {
            log.position = 0;
        }
        if at + 1 == log.chunks.len() {
            return true;
        }
        log.chunks.remove(at);
        false
    }

    /// Whether a chunk takes the next record of its queue, or belongs to the queue that is short anyway.
    pub(super) fn is_queue_end(&self, number: u32) -> bool {
        let queue = self.meta[number as usize].queue;
        self.log(queue)
            .is_some_and(|log| queue == Queue::Window || log.chunks.back() == Some(&number))
    }

    /// The oldest record of a queue. Amortized O(1): what is dead is passed over once.
    pub(crate) fn oldest(&mut self, queue: Queue) -> Option<u32> {
        let log = self.log(queue)?;
        let (&number, mut position) = (log.chunks.front()?, log.position);
        let used = self.meta[number as usize].used;
        while position < used {
            let offset = number << CHUNK_BITS | u32::from(position);
            match self.parse(offset) {
                Parsed::Live(_) => break,
                Parsed::Dead { len } => position += len as u16,
            }
        }
        if let Some(log) = self.log_mut(queue) {
            log.position = position;
        }
        // A chunk whose records are all dead is in a queue only while it is the last one.
        (position < used).then(|| number << CHUNK_BITS | u32::from(position))
    }

    /// Moves a record to the end of a queue; returns where it is now.
    pub(crate) fn move_to(&mut self, pool: &Pool, from: u32, queue: Queue) -> Result<u32> {
        let len = self.record(from).len;
        let to = self.append_copy(pool, from, len, queue)?;
        self.bury(pool, from, len);
        Ok(to)
    }

    /// Notes that an entry was read.
    #[inline]
    pub(crate) fn mark_visited(&self, offset: u32) {
        // SAFETY: a live record, under the shard's lock.
        unsafe { record::mark_visited(self.at(offset)) };
    }

    /// Forgets that an entry was read, and says whether it was.
    pub(crate) fn take_visited(&mut self, offset: u32) -> bool {
        // SAFETY: a live record, exclusively borrowed.
        unsafe { record::take_visited(self.at(offset)) }
    }

    /// Whether an entry was read since that was last forgotten.
    pub(crate) fn is_visited(&self, offset: u32) -> bool {
        // SAFETY: a live record, under the shard's lock.
        unsafe { record::is_visited(self.at(offset)) }
    }

    /// Bytes of the chunks that the shard holds, and of its queues.
    pub(crate) fn queue_bytes(&self) -> usize {
        self.queues.as_ref().map_or(0, |queues| {
            let chunks = queues.0.iter().map(|log| log.chunks.capacity() * 4);
            chunks.sum::<usize>() + size_of::<Queues>()
        })
    }

    /// Bytes of the pool's chunks that the arena holds.
    pub(crate) fn chunk_bytes(&self) -> usize {
        self.chunks
            .len()
            .saturating_sub(1 + self.free_numbers.len())
            * CHUNK
    }
}
