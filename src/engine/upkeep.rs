//! What concerns a store as a whole: its length, clearing, making room, compacting, closing.

use std::sync::atomic::Ordering;

use super::expired::Watch;
use super::shard::{Context, Shard};
use super::store::Store;
use super::table::Sparse;
use crate::{Error, Result};

impl Store {
    /// Number of entries; while other threads write, of some moment of the call for each shard. O(shards).
    pub fn len(&self) -> usize {
        self.resume_sweeping();
        let lens = self.cells().iter().map(|c| c.len.load(Ordering::Relaxed));
        let most = self
            .cx()
            .bounds
            .as_ref()
            .map_or(u64::MAX, |b| b.most_entries());
        // Read one after the other while entries come and go, lengths may add up to more than there ever were.
        lens.sum::<u64>().min(most) as usize
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.cells().len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.resume_sweeping();
        self.cells()
            .iter()
            .all(|c| c.len.load(Ordering::Relaxed) == 0)
    }

    /// Takes all entries out, a shard at a time, and gives their memory back.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn clear(&self) -> Result<()> {
        self.clear_while(&mut || true)
    }

    /// As [`Store::clear`]; asks `go_on` now and then, with no lock held.
    ///
    /// # Errors
    /// As [`Store::clear`]; [`Error::Cancelled`] where `go_on` said no, with some of the shards cleared.
    pub fn clear_while(&self, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        self.check_open()?;
        self.clear_shards(Shard::clear, go_on)
    }

    fn clear_shards(
        &self,
        clear: impl Fn(&mut Shard<Sparse>, &Context) -> Result<()>,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let mut outcome = Ok(());
        for cell in self.cells() {
            let mut shard = cell.lock.write();
            outcome = clear(&mut shard, self.cx()).and(outcome);
            self.finish(cell, shard, 0);
            check(go_on)?;
        }
        self.cx().pool.trim(&mut || true);
        outcome
    }

    /// Makes room in the index for so many entries more, so that adding them moves none. A store that is bounded in bytes
    /// keeps them for entries, and makes none.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Closed`].
    pub fn reserve(&self, additional: usize) -> Result<()> {
        self.reserve_while(additional, &mut || true)
    }

    /// As [`Store::reserve`]; asks `go_on` now and then, with no lock held.
    ///
    /// # Errors
    /// As [`Store::reserve`]; [`Error::Cancelled`] where `go_on` said no. What was made until then is given back.
    pub fn reserve_while(&self, additional: usize, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        self.check_open()?;
        if self.is_bounded_in_bytes() {
            return Ok(());
        }
        let share = additional.div_ceil(self.cells().len());
        for (number, cell) in self.cells().iter().enumerate() {
            let sized = cell.lock.write().reserve(self.cx(), share);
            if let Err(error) = sized.and_then(|()| check(go_on)) {
                self.unreserve(number);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes the indexes of the shards up to this one as small as their entries allow.
    fn unreserve(&self, last: usize) {
        for cell in &self.cells()[..=last] {
            // Out of memory here only means that it stays as large as it is.
            let _ = cell.lock.write().compact_index(self.cx());
        }
        super::ffi::trim_malloc();
    }

    /// Moves live records together and gives free memory back to the system. In steps: no shard is locked
    /// for longer than it takes to copy a few chunks, or to rebuild its part of the index.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Closed`]; what was done until then stays done.
    pub fn compact(&self) -> Result<()> {
        self.compact_while(&mut || true)
    }

    /// As [`Store::compact`]; asks `go_on` now and then, with no lock held.
    ///
    /// # Errors
    /// As [`Store::compact`]; [`Error::Cancelled`] where `go_on` said no.
    pub fn compact_while(&self, go_on: &mut dyn FnMut() -> bool) -> Result<()> {
        const CHUNKS_AT_A_TIME: u32 = 16;
        self.check_open()?;
        for cell in self.cells() {
            let steps = cell.lock.read().compact_steps();
            for first in (0..steps).step_by(CHUNKS_AT_A_TIME as usize) {
                let mut shard = cell.lock.write();
                for chunk in first..(first + CHUNKS_AT_A_TIME).min(steps) {
                    shard.compact_chunk(self.cx(), chunk)?;
                }
                self.finish(cell, shard, 0);
                check(go_on)?;
            }
            let mut shard = cell.lock.write();
            shard.compact_index(self.cx())?;
            self.finish(cell, shard, 0);
            check(go_on)?;
        }
        self.cx().pool.trim(&mut || true);
        super::ffi::trim_malloc();
        Ok(())
    }

    /// Whether a panic has left a shard half changed. Calls for its keys end in [`Error::Broken`].
    pub fn is_broken(&self) -> bool {
        self.cells().iter().any(|cell| cell.lock.read().is_broken())
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// Frees the entries. Reads find nothing from now on, and writes end in [`Error::Closed`].
    pub fn close(&self) {
        self.inner().closed.store(true, Ordering::Release);
        self.watch_expired(Watch::Off);
        // Not cancelled; broken shards stay as they are, and leave their memory.
        let _ = self.clear_shards(Shard::close, &mut || true);
        self.inner().end_use_of_sweeper();
    }

    /// Whether [`Store::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.inner().closed.load(Ordering::Acquire)
    }
}

fn check(go_on: &mut dyn FnMut() -> bool) -> Result<()> {
    if go_on() {
        Ok(())
    } else {
        Err(Error::Cancelled)
    }
}
