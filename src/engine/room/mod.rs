//! Writes into bounded stores: they get their room before they begin, so that no bound is passed at any moment.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread;

use super::bounds::{Bounds, ROOM_OF_A_WRITE};
use super::cell::Cell;
use super::fork;
use super::record;
use super::shard::{Context, Made, Shard, Spared};
use super::store::{Store, Wait};
use super::sweeper;
use super::sync::LONGEST_SLEEP;
use super::table::Sparse;
use crate::{Error, Result};

/// So often a write looks for room that other threads give back.
const PATIENCE: u32 = 1_000;

/// Which entry a write cannot do without, and shall not evict to make room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept {
    /// None: it replaces what is there.
    Nothing,
    /// That of its own key.
    Key,
}

impl Store {
    /// Runs a write of a record of `len` bytes with room for it. Where that is not there, `work` is asked without it first: only
    /// what grows has others evicted.
    pub(super) fn write_bounded<R>(
        &self,
        bounds: &Bounds,
        cell: &Cell,
        len: usize,
        spared: Spared<'_>,
        wait: Wait,
        work: &mut dyn FnMut(&mut Shard<Sparse>) -> Result<R>,
    ) -> Result<R> {
        let needed = room_for(len);
        let take = || bounds.take_bytes(needed).then_some(needed);
        let mut room = if bounds.is_full_of_several() {
            None
        } else {
            take()
        };
        let mut patience = PATIENCE;
        let (mut is_paid, mut has_expired) = (None, false);
        loop {
            let mut shard = match cell.write(wait) {
                Ok(shard) => shard,
                Err(error) => {
                    bounds.give_bytes(room.unwrap_or(0));
                    return Err(error);
                }
            };
            shard.begin_write(is_paid.unwrap_or(false), room.is_none());
            let result = work(&mut shard);
            self.finish(cell, shard, room.unwrap_or(0));
            room = match result {
                Err(Error::NeedsRoom) => {
                    is_paid = is_paid.or_else(|| Some(self.have_another_pay(cell, len)));
                    Some(self.take_room(cell, needed, spared, wait)?)
                }
                Err(Error::NothingToEvict | Error::StoreFull) if !bounds.evicts() => {
                    // Nothing that has expired shall keep a write out.
                    let tried = std::mem::replace(&mut has_expired, true);
                    if tried || !self.expire_until(wait, &mut || !bounds.is_full())? {
                        return Err(Error::StoreFull);
                    }
                    take()
                }
                Err(Error::NothingToEvict) => {
                    self.evict_until(cell, wait, &mut patience, |cx, shard, is_own, spared| {
                        if is_own {
                            Made::Nothing
                        } else {
                            shard.evict_one(cx, spared)
                        }
                    })?;
                    take()
                }
                other => return other,
            };
        }
    }

    /// Takes so many bytes; evicts where they are not there.
    ///
    /// # Errors
    /// [`Error::StoreFull`], [`Error::WouldBlock`].
    fn take_room(&self, cell: &Cell, room: u64, spared: Spared<'_>, wait: Wait) -> Result<u64> {
        let Some(bounds) = self.cx().bounds.as_ref().filter(|b| b.bounds_bytes()) else {
            return Ok(0);
        };
        if !bounds.could_hold(room) {
            return Err(Error::StoreFull);
        }
        if !bounds.evicts() {
            let found = self.expire_until(wait, &mut || bounds.take_bytes(room))?;
            return if found {
                Ok(room)
            } else {
                Err(Error::StoreFull)
            };
        }
        if let Spared::Key(order, key) = spared
            && !bounds.could_hold(room + cell.read(wait)?.bytes_with(order, key))
        {
            return Err(Error::StoreFull);
        }
        if !bounds.take_bytes(room) {
            let mut patience = PATIENCE;
            self.evict_until(cell, wait, &mut patience, |cx, shard, is_own, others| {
                let spared = if is_own { spared } else { others };
                shard.make_room(cx, room, spared)
            })?;
        }
        Ok(room)
    }

    /// Takes out what has expired until `is_enough`; says whether it is.
    ///
    /// # Errors
    /// [`Error::WouldBlock`].
    fn expire_until(&self, wait: Wait, is_enough: &mut dyn FnMut() -> bool) -> Result<bool> {
        if is_enough() {
            return Ok(true);
        }
        if !sweeper::may_expire(self.inner()) {
            return Ok(false);
        }
        if wait == Wait::Try {
            return Err(Error::WouldBlock);
        }
        let mut enough = false;
        sweeper::sweep_exactly(self.inner(), &mut || {
            enough = enough || is_enough();
            !enough
        });
        Ok(enough)
    }

    /// Goes round the shards, the write's own first, so that each gives something, until `make` has made room in one of them.
    /// Where none can, other threads hold the room: they are waited for, as long as there is patience.
    ///
    /// # Errors
    /// [`Error::StoreFull`] where nothing may be evicted, [`Error::WouldBlock`].
    #[cold]
    fn evict_until(
        &self,
        cell: &Cell,
        wait: Wait,
        patience: &mut u32,
        mut make: impl FnMut(&Context, &mut Shard<Sparse>, bool, Spared<'_>) -> Made,
    ) -> Result<()> {
        if !self.cx().bounds.as_ref().is_some_and(|b| b.evicts()) {
            return Err(Error::StoreFull);
        }
        let own = self.cells().iter().position(|c| std::ptr::eq(c, cell));
        let (before, from_own) = self.cells().split_at(own.unwrap_or(0));
        // What was just written goes only where there is nothing else.
        let mut others = Spared::Newest;
        loop {
            let (mut progress, mut blocked) = (false, false);
            for shard_cell in from_own.iter().chain(before) {
                let is_own = std::ptr::eq(shard_cell, cell);
                // What an empty one keeps goes last.
                if shard_cell.is_empty() && !is_own && !matches!(others, Spared::None) {
                    continue;
                }
                let Ok(mut shard) = shard_cell.write(wait) else {
                    blocked = true;
                    continue;
                };
                let made = make(self.cx(), &mut shard, is_own, others);
                self.finish(shard_cell, shard, 0);
                match made {
                    Made::Room => return Ok(()),
                    Made::Progress => progress = true,
                    Made::Nothing => {}
                }
                if progress && wait == Wait::Try {
                    return Err(Error::WouldBlock);
                }
            }
            if blocked {
                return Err(Error::WouldBlock);
            }
            if !progress {
                match self.evict_beside(wait, others, &mut make)? {
                    Made::Room => return Ok(()),
                    Made::Progress => progress = true,
                    Made::Nothing => {}
                }
            }
            match (progress, others) {
                (true, _) => {}
                (false, Spared::Newest) => others = Spared::None,
                (false, _) if wait == Wait::Try => return Err(Error::WouldBlock),
                (false, _) => {
                    *patience = patience.checked_sub(1).ok_or(Error::StoreFull)?;
                    if *patience > PATIENCE / 10 * 9 {
                        thread::yield_now();
                    } else {
                        thread::sleep(LONGEST_SLEEP);
                    }
                }
            }
        }
    }
}

impl Store {
    /// The other stores that count in the same bounds.
    fn beside_this(&self) -> impl Iterator<Item = fork::Pinned> {
        let is_this = |store: &fork::Pinned| std::ptr::eq(&raw const **store, self.inner());
        (0..)
            .map_while(fork::pin)
            .filter(move |store| !is_this(store) && store.shares_bounds(self.cx()))
    }

    /// Where several stores share bounds and these are full, each gives bytes for a new entry as often as it has entries: otherwise
    /// a database would only ever evict its own. Says whether another one has given them.
    fn have_another_pay(&self, cell: &Cell, len: usize) -> bool {
        let Some(bounds) = &self.cx().bounds else {
            return false;
        };
        if !bounds.is_full_of_several() {
            return false;
        }
        // Shards of one number have the same share of their stores.
        let own = self.cells().iter().position(|c| std::ptr::eq(c, cell));
        let number = own.unwrap_or(0);
        let others = || {
            let cell_of = |store: &fork::Pinned| store.cells[number].entries();
            self.beside_this()
                .map(move |store| (cell_of(&store), store))
        };
        let total = cell.entries() + others().map(|(entries, _)| entries).sum::<u64>();
        let Some(mut turn) = bounds.turn(total).checked_sub(cell.entries()) else {
            return false;
        };
        for (entries, store) in others() {
            if turn < entries {
                let Ok(mut shard) = store.cells[number].write(Wait::Try) else {
                    break;
                };
                shard.pay(&store.cx, len);
                shard.settle(&store.cx, 0);
                // Never earlier than before: nobody has to be woken.
                let _ = store.cells[number].publish(&shard);
                return true;
            }
            turn -= entries;
        }
        false
    }

    /// Has other stores that count in the same bounds make room.
    ///
    /// # Errors
    /// [`Error::WouldBlock`].
    fn evict_beside(
        &self,
        wait: Wait,
        spared: Spared<'_>,
        make: &mut impl FnMut(&Context, &mut Shard<Sparse>, bool, Spared<'_>) -> Made,
    ) -> Result<Made> {
        let mut all = Made::Nothing;
        for store in self.beside_this() {
            let gives = |cell: &&Cell| !cell.is_empty() || matches!(spared, Spared::None);
            for cell in store.cells.iter().filter(gives) {
                let mut shard = cell.write(wait)?;
                let made = make(&store.cx, &mut shard, false, spared);
                shard.settle(&store.cx, 0);
                // Never earlier than before: nobody has to be woken.
                let _ = cell.publish(&shard);
                match made {
                    Made::Room => return Ok(Made::Room),
                    Made::Progress => all = Made::Progress,
                    Made::Nothing => {}
                }
            }
        }
        Ok(all)
    }

    /// Takes room for writes that are made under several locks, before those are taken; evicts where it is not there.
    ///
    /// # Errors
    /// [`Error::StoreFull`].
    pub(super) fn reserve_room(&self, room: Room) -> Result<Reserved> {
        let Some(bounds) = &self.cx().bounds else {
            return Ok(Reserved::default());
        };
        let mut reserved = Reserved {
            bounds: Some(Arc::clone(bounds)),
            ..Reserved::default()
        };
        let few = bounds.room_in_advance(room.writes as u64 * ROOM_OF_A_WRITE);
        let bytes = few + room.blocks;
        if !bounds.could_hold(bytes) {
            return Err(Error::StoreFull);
        }
        let cell = &self.cells()[0];
        let mut patience = PATIENCE;
        for _ in 0..room.writes {
            while !bounds.take_entry() {
                if !bounds.evicts() {
                    if self.expire_until(Wait::Block, &mut || !bounds.is_full())? {
                        continue;
                    }
                    // They may replace what is there.
                    break;
                }
                self.evict_until(cell, Wait::Block, &mut patience, |cx, shard, _, spared| {
                    shard.evict_one(cx, spared)
                })?;
            }
            reserved.entries += 1;
        }
        reserved.bytes = self.take_room(cell, bytes, Spared::Newest, Wait::Block)?;
        Ok(reserved)
    }
}

/// What writes that are made as one step may need.
#[derive(Clone, Copy, Debug, Default)]
pub struct Room {
    writes: usize,
    /// Bytes of large values.
    blocks: u64,
}

impl Room {
    /// For nothing that grows.
    pub const NONE: Room = Room {
        writes: 0,
        blocks: 0,
    };

    /// Room for one more write, of a key and a value of so many bytes in all.
    #[must_use]
    pub fn and(self, len: usize) -> Room {
        Room {
            writes: self.writes + 1,
            blocks: self.blocks + record::block_bytes(len) as u64,
        }
    }
}

/// Room that was taken and is not used yet; what is left is given back.
#[derive(Default)]
pub(super) struct Reserved {
    bounds: Option<Arc<Bounds>>,
    entries: u64,
    bytes: u64,
}

impl Reserved {
    /// Takes the place of one entry out.
    pub(super) fn take_entry(&mut self) -> bool {
        let has = self.entries > 0;
        self.entries -= u64::from(has);
        has
    }

    /// Takes bytes out; false where they are not all there.
    pub(super) fn take_bytes(&mut self, bytes: u64) -> bool {
        let has = self.bytes >= bytes;
        self.bytes -= if has { bytes } else { 0 };
        has
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(bounds) = &self.bounds {
            bounds.give_entries(self.entries);
            bounds.give_bytes(self.bytes);
        }
    }
}

/// Bytes that a write of a record of `len` bytes may need.
pub(super) fn room_for(len: usize) -> u64 {
    ROOM_OF_A_WRITE + record::block_bytes(len) as u64
}
