//! Writes into bounded stores: they get their room before they begin, so that no bound is passed at any moment.

use std::thread;

use super::bounds::{Bounds, ROOM_OF_A_WRITE};
use super::record;
use super::shard::Shard;
use super::store::{Cell, Store, Wait};
use super::sweeper;
use super::table::Sparse;
use crate::{Error, Result};

/// So often a write looks for room that other threads give back.
const PATIENCE: u32 = 1_000;

impl Store {
    /// Runs a write of a record of `len` bytes with room for it.
    pub(super) fn write_bounded<R>(
        &self,
        cell: &Cell,
        len: usize,
        wait: Wait,
        work: &mut dyn FnMut(&mut Shard<Sparse>) -> Result<R>,
    ) -> Result<R> {
        let mut patience = PATIENCE;
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
                Err(Error::NothingToEvict) => self.evict_elsewhere(cell, wait, &mut patience)?,
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
        let mut patience = PATIENCE;
        while !bounds.take_bytes(room) {
            let mut shard = cell.write(wait)?;
            let made = shard.make_room(self.cx(), room);
            self.finish(cell, shard, 0);
            if made {
                break;
            }
            self.evict_elsewhere(cell, wait, &mut patience)?;
        }
        Ok(room)
    }

    fn give_room(&self, room: u64) {
        if let Some(bounds) = &self.cx().bounds {
            bounds.give_bytes(room);
        }
    }

    /// Evicts an entry of another shard. Where none has any, other threads hold the room: they are waited for, as long as there
    /// is patience.
    ///
    /// # Errors
    /// [`Error::StoreFull`] where nothing may be evicted, [`Error::WouldBlock`].
    #[cold]
    fn evict_elsewhere(&self, cell: &Cell, wait: Wait, patience: &mut u32) -> Result<()> {
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
        if *patience == 0 {
            return Err(Error::StoreFull);
        }
        *patience -= 1;
        thread::yield_now();
        Ok(())
    }
}

/// Bytes that a write of a record of `len` bytes may need.
pub(super) fn room_for(len: usize) -> u64 {
    ROOM_OF_A_WRITE + record::block_bytes(len) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Clock, Limits, ManualClock, OnFull, Options, Ttl};

    fn check(store: &Store) {
        let (mut entries, mut bytes) = (0, size_of_val(store.cells()));
        for cell in store.cells() {
            let shard = cell.lock.read();
            let mut indexed = Vec::new();
            shard.index().for_each(|offset| indexed.push(offset));
            indexed.sort_unstable();
            let mut live = shard.arena().check();
            live.sort_unstable();
            assert_eq!(indexed, live);
            assert_eq!(shard.len(), live.len() as u64);
            entries += shard.len();
            bytes += shard.bytes();
        }
        let bounds = store.cx().bounds.as_ref().unwrap();
        assert_eq!(bounds.entries(), entries);
        if bounds.bounds_bytes() {
            assert_eq!(bounds.bytes(), bytes as u64);
        }
    }

    fn run(ops: &[(u8, u16, u16)], limits: Limits) {
        let clock = ManualClock::default();
        let store = Store::new(&Options {
            limits,
            clock: Clock::Manual(clock.clone()),
            sweeps: false,
            ..Options::default()
        })
        .unwrap();
        let mut refused = 0;
        for (step, &(op, key, len)) in ops.iter().enumerate() {
            let key = (key % 2500).to_le_bytes();
            let value = vec![7; usize::from(len) % if op % 8 == 0 { 9000 } else { 120 }];
            let outcome = match op {
                0..=99 => store.set(&key, &value, Wait::Block).map(drop),
                100..=139 => store.get(&key).map(drop),
                140..=159 => store.delete(&key, Wait::Block).map(drop),
                160..=179 => store.append(&key, &value, Wait::Block).map(drop),
                180..=209 => {
                    let ttl = Ttl::Millis(1 + u64::from(len));
                    store.set_with(&key, &value, ttl, Wait::Block).map(drop)
                }
                210..=229 => {
                    clock.advance(u64::from(len) / 16);
                    store.touch(&key, Ttl::Millis(5_000), Wait::Block).map(drop)
                }
                230..=239 => store.expire().map(drop),
                240..=244 => store.compact(),
                245 => store.clear(),
                246..=250 => store.pop_any().map(drop),
                _ => store.with_locked(&[&key, b"other"], |locked| {
                    locked.set(&key, &value, Ttl::Never)?;
                    locked.delete(b"other").map(drop)
                }),
            };
            match outcome {
                Ok(()) => {}
                Err(Error::StoreFull) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            if step % 32 == 0 {
                check(&store);
            }
        }
        check(&store);
        if limits.on_full == OnFull::Evict {
            assert!(refused == 0 || limits.entries < 4, "{refused} are refused");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_bounds_know_is_what_shards_hold(
            ops in prop::collection::vec(any::<(u8, u16, u16)>(), 1..2500),
            entries in prop_oneof![Just(0), 1u64..3000],
            bytes in prop_oneof![Just(0), Just(1 << 20), Just(3 << 20)],
            error in any::<bool>(),
        ) {
            let on_full = if error { OnFull::Error } else { OnFull::Evict };
            prop_assume!(entries + bytes > 0);
            run(&ops, Limits { entries, bytes, on_full });
        }
    }

    fn bounded(entries: u64, bytes: u64, on_full: OnFull) -> Store {
        Store::new(&Options {
            limits: Limits {
                entries,
                bytes,
                on_full,
            },
            ..Options::default()
        })
        .unwrap()
    }

    #[test]
    fn a_cancelled_compaction_leaves_the_account_right() {
        let store = bounded(0, 4 << 20, OnFull::Evict);
        for i in 0..20_000u64 {
            store.set(&i.to_le_bytes(), &[7; 60], Wait::Block).unwrap();
        }
        for i in (0..20_000u64).filter(|i| i % 8 < 1) {
            store.delete(&i.to_le_bytes(), Wait::Block).unwrap();
        }
        assert!(store.compact_while(&mut || false).is_err());
        check(&store);
    }
}
