//! Writes into bounded stores: they get their room before they begin, so that no bound is passed at any moment.

use std::thread;

use super::bounds::{Bounds, ROOM_OF_A_WRITE};
use super::record;
use super::shard::Shard;
use super::store::{Cell, Store, Wait};
use super::sweeper;
use super::table::Sparse;
use crate::{Error, Result};

impl Store {
    /// Runs a write of a record of `len` bytes with room for it.
    pub(super) fn write_bounded<R>(
        &self,
        cell: &Cell,
        len: usize,
        wait: Wait,
        work: &mut dyn FnMut(&mut Shard<Sparse>) -> Result<R>,
    ) -> Result<R> {
        loop {
            let room = self.make_room(cell, len, wait)?;
            let mut shard = match cell.write(wait) {
                Ok(shard) => shard,
                Err(error) => {
                    self.give_room(room);
                    return Err(error);
                }
            };
            let result = work(&mut shard);
            self.finish(cell, shard, room);
            match result {
                Err(Error::NothingToEvict) => self.evict_elsewhere(cell, wait)?,
                other => return other,
            }
        }
    }

    /// Takes the bytes that a write of a record of `len` bytes may need; evicts where they are not there.
    ///
    /// # Errors
    /// [`Error::StoreFull`], [`Error::WouldBlock`].
    fn make_room(&self, cell: &Cell, len: usize, wait: Wait) -> Result<u64> {
        let Some(bounds) = &self.cx().bounds else {
            return Ok(0);
        };
        if !bounds.evicts() && bounds.is_at_bound() {
            // Nothing that has expired shall keep a write out.
            sweeper::sweep_exactly(self.inner(), &mut || true);
        }
        if !bounds.bounds_bytes() {
            return Ok(0);
        }
        let room = room_for(len);
        if !bounds.could_hold(room) {
            return Err(Error::StoreFull);
        }
        while !bounds.take_bytes(room) {
            let mut shard = cell.write(wait)?;
            let made = shard.make_room(self.cx(), room);
            self.finish(cell, shard, 0);
            if made {
                break;
            }
            self.evict_elsewhere(cell, wait)?;
        }
        Ok(room)
    }

    fn give_room(&self, room: u64) {
        if let Some(bounds) = &self.cx().bounds {
            bounds.give_bytes(room);
        }
    }

    /// Evicts an entry of another shard.
    ///
    /// # Errors
    /// [`Error::StoreFull`] where nothing may be evicted, [`Error::WouldBlock`].
    #[cold]
    fn evict_elsewhere(&self, cell: &Cell, wait: Wait) -> Result<()> {
        if !self.cx().bounds.as_ref().is_some_and(Bounds::evicts) {
            return Err(Error::StoreFull);
        }
        // From the next shard on, so that no shard bears it all.
        let here = self.cells().iter().position(|c| std::ptr::eq(c, cell));
        let (before, after) = self.cells().split_at(here.unwrap_or(0));
        let mut blocked = false;
        for other in after.iter().skip(1).chain(before) {
            if other.is_empty() {
                continue;
            }
            match other.write(wait) {
                Ok(mut shard) => {
                    let evicted = shard.evict(self.cx());
                    self.finish(other, shard, 0);
                    if evicted {
                        return Ok(());
                    }
                }
                Err(_) => blocked = true,
            }
        }
        if blocked || wait == Wait::Try {
            return Err(Error::WouldBlock);
        }
        // Other threads hold the room, for a moment.
        thread::yield_now();
        Ok(())
    }
}

/// Bytes that a write of a record of `len` bytes may need.
pub(super) fn room_for(len: usize) -> u64 {
    ROOM_OF_A_WRITE + record::block_bytes(len) as u64
}
