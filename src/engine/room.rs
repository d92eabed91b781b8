//! Writes into bounded stores: they get their room before they begin, so that no bound is passed at any moment.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{Change, Clock, Limits, ManualClock, OnFull, Options, Ttl};

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
                160..=169 => store.append(&key, &value, Wait::Block).map(drop),
                170..=179 => {
                    let at = usize::from(len) / 16;
                    let end = at + value.len();
                    let needed = store.with_entry(&key, |entry| {
                        entry.map_or(end, |entry| entry.value.room_to_write(end))
                    });
                    store.modify_up_to(&key, needed.unwrap(), Wait::Block, |_| {
                        Ok((Change::Write(at, value.as_slice().into()), ()))
                    })
                }
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

    fn key_in(store: &Store, shard: usize, from: u64) -> [u8; 8] {
        let is_there = |key: &[u8; 8]| std::ptr::eq(store.place(key).0, &store.cells()[shard]);
        (from..).map(u64::to_le_bytes).find(is_there).unwrap()
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

    #[test]
    fn room_for_a_large_value_comes_from_all_shards() {
        let store = bounded(0, 64 << 20, OnFull::Evict);
        for i in 0..800_000u64 {
            store.set(&i.to_le_bytes(), &[7; 60], Wait::Block).unwrap();
        }
        let lens = || store.cells().iter().map(|cell| cell.lock.read().len());
        let least = lens().min().unwrap();
        store
            .set(b"large", &vec![1; 16 << 20], Wait::Block)
            .unwrap();
        assert!(
            lens().min().unwrap() > least / 3,
            "{:?}",
            lens().collect::<Vec<_>>()
        );
        check(&store);
    }

    #[test]
    fn nobody_takes_the_place_that_a_shard_of_one_entry_has_made() {
        let store = bounded(4096, 0, OnFull::Evict);
        assert_eq!(store.cells().len(), 2);
        store.set(&key_in(&store, 0, 0), b"", Wait::Block).unwrap();
        let mut next = 0;
        while store.len() < 4096 {
            let key = key_in(&store, 1, next);
            next = u64::from_le_bytes(key) + 1;
            store.set(&key, b"", Wait::Block).unwrap();
        }
        thread::scope(|scope| {
            for shard in [0, 1] {
                let store = &store;
                scope.spawn(move || {
                    let mut next = 1 << 40;
                    for _ in 0..300_000 {
                        let key = key_in(store, shard, next);
                        next = u64::from_le_bytes(key) + 1;
                        store.set(&key, b"", Wait::Block).unwrap();
                    }
                });
            }
        });
        check(&store);
    }

    #[test]
    fn what_writes_nothing_into_an_empty_shard_of_a_full_store_has_nothing_evicted() {
        for on_full in [OnFull::Evict, OnFull::Error] {
            let store = bounded(4096, 0, on_full);
            let mut next = 0;
            while store.len() < 4096 {
                let key = key_in(&store, 1, next);
                next = u64::from_le_bytes(key) + 1;
                store.set(&key, b"", Wait::Block).unwrap();
            }
            let missing = key_in(&store, 0, 0);
            assert!(!store.touch(&missing, Ttl::Millis(9), Wait::Block).unwrap());
            let set = store.compare_and_set(&missing, Some(b"1"), b"2", Wait::Block);
            assert!(!set.unwrap());
            let touched = store.with_locked(&[&missing], |locked| {
                locked.modify_up_to(&missing, 0, |_| Ok((Change::Expire(Ttl::Never), ())))
            });
            touched.unwrap();
            assert_eq!((store.len(), store.stats().evictions), (4096, 0));
        }
    }

    #[test]
    fn who_must_not_wait_does_not_wait_for_what_has_expired() {
        let clock = ManualClock::default();
        let store = Store::new(&Options {
            limits: Limits {
                entries: 4096,
                bytes: 0,
                on_full: OnFull::Error,
            },
            clock: Clock::Manual(clock.clone()),
            sweeps: false,
            ..Options::default()
        })
        .unwrap();
        let due = key_in(&store, 1, 0);
        store
            .set_with(&due, b"", Ttl::Millis(1000), Wait::Block)
            .unwrap();
        let mut next = 1;
        while store.len() < 4096 {
            store
                .set(&u64::to_le_bytes(1 << 50 | next), b"", Wait::Block)
                .unwrap();
            next += 1;
        }
        clock.advance(10_000);
        let new = key_in(&store, 0, 1 << 51);
        store
            .with_locked(&[&due], |_| {
                let tried = thread::scope(|scope| {
                    let tried = scope.spawn(|| store.set(&new, b"", Wait::Try));
                    let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
                    while !tried.is_finished() && std::time::Instant::now() < until {
                        thread::yield_now();
                    }
                    tried.is_finished()
                });
                assert!(tried);
                Ok(())
            })
            .unwrap();
    }
}
