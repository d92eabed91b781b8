//! Shards of one or several stores, locked together: what is done under them is one step for everybody else. Locks are taken
//! in the order of the stores and of their shards, so that nobody waits for anybody in a ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLockWriteGuard;

use super::cell::Due;
use super::events::{Event, Notifier};
#[cfg(any(test, feature = "failpoints"))]
use super::record::Kind;
use super::room::{Reserved, room_for};
use super::scan::{Filter, Page, random_key};
use super::shard::{Change, Context, Entry, Made, Shard, Spared};
use super::stats::Stats;
use super::store::Store;
use super::table::{Sparse, try_reserve};
use super::ttl::Ttl;
use crate::{Error, Result, limits};

/// Of so many stores shards are locked at once: there are no more databases.
pub(super) const MOST_STORES: usize = 16;

type Guard<'s> = RwLockWriteGuard<'s, Shard<Sparse>>;

/// A shard of a store; sorts in the order of locking.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    /// The store's `Inner::serial`.
    store: u64,
    shard: u32,
}

struct HeldShard<'s> {
    name: Name,
    store: &'s Store,
    guard: Guard<'s>,
}

/// Locked shards.
#[derive(Default)]
pub(super) struct Held<'s> {
    /// By name, each once. The first one is apart, so that one key needs no memory.
    first: Option<HeldShard<'s>>,
    others: Vec<HeldShard<'s>>,
    reserved: Reserved,
}

/// Which shards to lock.
#[derive(Default)]
pub(super) struct Wanted<'s> {
    first: Option<(Name, &'s Store)>,
    others: Vec<(Name, &'s Store)>,
}

impl<'s> Wanted<'s> {
    /// The shard of a key.
    pub(super) fn add_key(&mut self, store: &'s Store, key: &[u8]) -> Result<()> {
        self.add(store, store.cx().placer.place(key).shard)
    }

    /// All shards.
    pub(super) fn add_all(&mut self, store: &'s Store) -> Result<()> {
        (0..store.cells().len()).try_for_each(|shard| self.add(store, shard as u32))
    }

    fn add(&mut self, store: &'s Store, shard: u32) -> Result<()> {
        let name = Name {
            store: store.serial(),
            shard,
        };
        if self.first.is_none() {
            self.first = Some((name, store));
            return Ok(());
        }
        try_reserve(&mut self.others, 1)?;
        self.others.push((name, store));
        Ok(())
    }

    /// Locks them, and fixes the time for what is done under the locks.
    pub(super) fn lock(mut self) -> Result<Held<'s>> {
        let Some(first) = &mut self.first else {
            return Ok(Held::default());
        };
        if !self.others.is_empty() {
            self.others.sort_unstable_by_key(|other| other.0);
            if let Some(least) = self.others.first_mut()
                && least.0 < first.0
            {
                std::mem::swap(first, least);
            }
            let first = first.0;
            self.others.sort_unstable_by_key(|other| other.0);
            // What was first may be among the others as well.
            self.others.dedup_by_key(|other| other.0);
            self.others.retain(|other| other.0 != first);
            self.others.dedup_by_key(|other| other.0);
        }
        let mut others = Vec::new();
        try_reserve(&mut others, self.others.len())?;
        let lock = |(name, store): (Name, &'s Store)| HeldShard {
            name,
            store,
            guard: store.cells()[name.shard as usize].lock.write(),
        };
        let first = self.first.map(lock);
        others.extend(self.others.into_iter().map(lock));
        let mut held = Held {
            first,
            others,
            reserved: Reserved::default(),
        };
        held.fix_time();
        Ok(held)
    }
}

impl<'s> Held<'s> {
    /// Has writes use room that was taken before.
    pub(super) fn with_room(mut self, reserved: Reserved) -> Self {
        self.reserved = reserved;
        self
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut HeldShard<'s>> {
        self.first.iter_mut().chain(&mut self.others)
    }

    /// Deadlines of all shards are held against one moment, that of the last lock.
    fn fix_time(&mut self) {
        let mut last: Option<(u64, u64)> = None;
        for HeldShard { name, store, guard } in self.iter_mut() {
            let now = match last {
                Some((serial, now)) if serial == name.store => now,
                _ => store.cx().time.now(),
            };
            last = Some((name.store, now));
            guard.fix_time(Some(now));
        }
    }

    /// The shard of a store, where it is held.
    fn shard(&mut self, store: &Store, shard: u32) -> Result<&mut Guard<'s>> {
        let guard = self.shard_as_it_is(store, shard)?;
        if guard.is_broken() {
            return Err(Error::Broken);
        }
        Ok(guard)
    }

    /// As [`Held::shard`], broken or not.
    fn shard_as_it_is(&mut self, store: &Store, shard: u32) -> Result<&mut Guard<'s>> {
        let name = Name {
            store: store.serial(),
            shard,
        };
        let held = match &mut self.first {
            Some(first) if first.name == name => first,
            _ => {
                let at = self.others.binary_search_by_key(&name, |held| held.name);
                &mut self.others[at.map_err(|_| Error::NotLocked)?]
            }
        };
        Ok(&mut held.guard)
    }

    fn of_key(&mut self, store: &Store, key: &[u8]) -> Result<(&mut Guard<'s>, u32)> {
        let place = store.cx().placer.place(key);
        Ok((self.shard(store, place.shard)?, place.order))
    }

    pub(super) fn get(&mut self, store: &Store, key: &[u8]) -> Result<Option<Entry<'_>>> {
        let (shard, order) = self.of_key(store, key)?;
        Ok(shard.get_entry(store.cx(), order, key))
    }

    pub(super) fn set(
        &mut self,
        store: &Store,
        key: &[u8],
        value: &[u8],
        ttl: Ttl,
        event: Event,
    ) -> Result<bool> {
        limits::check_key(key.len())?;
        limits::check_value(value.len())?;
        let len = key.len() + value.len();
        self.write(store, key, len, Spared::None, |shard, order| {
            shard.set(store.cx(), order, key, value, ttl, event)
        })
    }

    /// Writes another type, for tests.
    #[cfg(any(test, feature = "failpoints"))]
    pub(super) fn set_kind(
        &mut self,
        store: &Store,
        key: &[u8],
        value: &[u8],
        kind: Kind,
    ) -> Result<()> {
        let len = key.len() + value.len();
        self.write(store, key, len, Spared::None, |shard, order| {
            shard.set_kind(store.cx(), order, key, value, kind)
        })
    }

    pub(super) fn delete(&mut self, store: &Store, key: &[u8], event: Event) -> Result<bool> {
        let cx = store.cx();
        let (shard, order) = self.of_key(store, key)?;
        let there = shard.delete(cx, order, key, event);
        shard.settle(cx, 0);
        there
    }

    pub(super) fn modify<'c, R>(
        &mut self,
        store: &Store,
        key: &[u8],
        len: usize,
        event: Option<Event>,
        mut decide: impl FnMut(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        limits::check_key(key.len())?;
        let order = store.cx().placer.place(key).order;
        let spared = Spared::Key(order, key);
        self.write(store, key, key.len() + len, spared, |shard, order| {
            shard.modify(store.cx(), order, key, event, &mut decide)
        })
    }

    /// Runs a write of a record of `len` bytes; in a bounded store with room that the shards held have made, where it grows.
    fn write<R>(
        &mut self,
        store: &Store,
        key: &[u8],
        len: usize,
        spared: Spared<'_>,
        mut work: impl FnMut(&mut Shard<Sparse>, u32) -> Result<R>,
    ) -> Result<R> {
        let cx = store.cx();
        let Some(bounds) = &cx.bounds else {
            let (shard, order) = self.of_key(store, key)?;
            return work(shard, order);
        };
        self.of_key(store, key)?;
        let room = room_for(len);
        let is_paid = self.reserved.take_bytes(room);
        let mut has_room = is_paid || bounds.take_bytes(room);
        loop {
            let has_place = has_room && self.reserved.take_entry();
            let (shard, order) = self.of_key(store, key)?;
            if has_place {
                shard.hold_place();
            }
            shard.begin_write(is_paid, !has_room);
            let result = work(shard, order);
            shard.settle(cx, if has_room { room } else { 0 });
            match result {
                Err(Error::NeedsRoom) => {
                    let of_store = |held: &&mut HeldShard<'_>| held.store.inner().shares_bounds(cx);
                    let held = self.iter_mut().filter(of_store);
                    let evicted = held.map(|held| held.guard.bytes() as u64).sum();
                    if !bounds.could_hold_after(room, evicted) {
                        return Err(Error::StoreFull);
                    }
                    self.evict_until(store, key, |cx, shard, is_own| {
                        let spared = if is_own { spared } else { Spared::Newest };
                        shard.make_room(cx, room, spared)
                    })?;
                    has_room = true;
                }
                Err(Error::NothingToEvict) if bounds.evicts() => {
                    self.evict_until(store, key, |cx, shard, is_own| {
                        if is_own {
                            Made::Nothing
                        } else {
                            shard.evict_one(cx, Spared::Newest)
                        }
                    })?;
                    has_room = bounds.take_bytes(room);
                }
                Err(Error::NothingToEvict) => return Err(Error::StoreFull),
                other => return other,
            }
        }
    }

    /// Goes round the shards that are held, the key's own first, until `make` has made room in one of them.
    ///
    /// # Errors
    /// [`Error::StoreFull`].
    #[cold]
    fn evict_until(
        &mut self,
        store: &Store,
        key: &[u8],
        mut make: impl FnMut(&Context, &mut Shard<Sparse>, bool) -> Made,
    ) -> Result<()> {
        loop {
            let mut progress = false;
            match make(store.cx(), self.of_key(store, key)?.0, true) {
                Made::Room => return Ok(()),
                Made::Progress => continue,
                Made::Nothing => {}
            }
            let own = Name {
                store: store.serial(),
                shard: store.cx().placer.place(key).shard,
            };
            for held in self.iter_mut().filter(|held| held.name != own) {
                let cx = held.store.cx();
                let made = make(cx, &mut held.guard, false);
                held.guard.settle(cx, 0);
                match made {
                    Made::Room => return Ok(()),
                    Made::Progress => progress = true,
                    Made::Nothing => {}
                }
            }
            if !progress {
                return Err(Error::StoreFull);
            }
        }
    }

    pub(super) fn len(&mut self, store: &Store) -> Result<u64> {
        let mut len = 0;
        for shard in 0..store.cells().len() {
            len += self.shard(store, shard as u32)?.len();
        }
        Ok(len)
    }

    pub(super) fn clear(&mut self, store: &Store) -> Result<()> {
        for shard in 0..store.cells().len() {
            let shard = self.shard(store, shard as u32)?;
            shard.clear(store.cx())?;
            shard.settle(store.cx(), 0);
        }
        Ok(())
    }

    pub(super) fn scan(
        &mut self,
        store: &Store,
        cursor: u64,
        filter: &Filter,
        count: usize,
        values: bool,
        page: &mut Page,
    ) -> Result<u64> {
        page.fill(cursor, store.cells().len(), count, |page, number, from| {
            let shard = self.shard(store, number as u32)?;
            page.add(store.cx(), shard, from, filter, values)
        })
    }

    pub(super) fn random_key(&mut self, store: &Store, key: &mut Vec<u8>) -> Result<bool> {
        let lens = |number: usize| store.cells()[number].len.load(Ordering::Relaxed);
        random_key(store.cells().len(), lens, key, |page, number, from| {
            let shard = self.shard(store, number as u32)?;
            page.add(store.cx(), shard, from, &Filter::default(), false)
        })
    }

    pub(super) fn watch(
        &mut self,
        store: &Store,
        key: &[u8],
        dirty: &Arc<AtomicBool>,
    ) -> Result<()> {
        let (shard, order) = self.of_key(store, key)?;
        shard.watch(store.cx(), order, key, dirty)
    }

    pub(super) fn unwatch(
        &mut self,
        store: &Store,
        key: &[u8],
        dirty: &Arc<AtomicBool>,
    ) -> Result<()> {
        self.of_key(store, key)?.0.unwatch(key, dirty);
        Ok(())
    }

    pub(super) fn has_lapsed(
        &mut self,
        store: &Store,
        key: &[u8],
        dirty: &Arc<AtomicBool>,
    ) -> Result<bool> {
        let (shard, order) = self.of_key(store, key)?;
        Ok(shard.has_lapsed(store.cx(), order, key, dirty))
    }

    /// Exchanges the watches of two stores of which all shards are held. Those are dirty whose keys are in either.
    pub(super) fn exchange_watches(&mut self, a: &Store, b: &Store) -> Result<()> {
        for number in 0..a.cells().len() as u32 {
            let watched = self.shard(a, number)?.has_watches();
            if self.shard(b, number)?.has_watches() || watched {
                self.shard(a, number)?.prepare_watches()?;
                self.shard(b, number)?.prepare_watches()?;
            }
        }
        for number in 0..a.cells().len() as u32 {
            let of_a = self.shard(a, number)?.take_watches();
            let of_b = self.shard(b, number)?.take_watches();
            for store in [a, b] {
                let shard = self.shard(store, number)?;
                shard.soil(&of_a);
                shard.soil(&of_b);
            }
            self.shard(a, number)?.put_watches(of_b);
            self.shard(b, number)?.put_watches(of_a);
        }
        Ok(())
    }

    /// Events are of this database from now on.
    pub(super) fn renumber(
        &mut self,
        store: &Store,
        notifier: &Arc<Notifier>,
        db: u8,
    ) -> Result<()> {
        for number in 0..store.cells().len() as u32 {
            self.shard(store, number)?.renumber(notifier, db);
        }
        Ok(())
    }

    /// As [`Shard::notify`], of a store of which all shards are held.
    pub(super) fn notify(
        &mut self,
        store: &Store,
        notifier: &Arc<Notifier>,
        db: Option<u8>,
    ) -> Result<()> {
        let mut shards = 0..store.cells().len() as u32;
        shards.try_for_each(|number| self.shard_as_it_is(store, number)?.notify(notifier, db))
    }

    /// Figures of a store of which all shards are held.
    pub(super) fn stats(&mut self, store: &Store) -> Result<Stats> {
        let mut outcome = Ok(());
        let stats = store.stats_by(
            |number, see| match self.shard_as_it_is(store, number as u32) {
                Ok(shard) => see(shard),
                Err(error) => outcome = Err(error),
            },
        );
        outcome.map(|()| stats)
    }

    pub(super) fn tell(&mut self, store: &Store, key: &[u8], event: Event) -> Result<()> {
        let (shard, order) = self.of_key(store, key)?;
        shard.tell(order, key, event);
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut dues: [Option<(&Store, Due)>; MOST_STORES] = [None; MOST_STORES];
        let mut stores = 0;
        let others = std::mem::take(&mut self.others);
        for HeldShard {
            name,
            store,
            mut guard,
        } in self.first.take().into_iter().chain(others)
        {
            guard.fix_time(None);
            let due = store.cells()[name.shard as usize].publish(&guard);
            drop(guard);
            // Shards of one store follow each other.
            match dues[..stores].last_mut() {
                Some(Some((last, earliest))) if std::ptr::eq(*last, store) => {
                    *earliest = earliest.earlier(due);
                }
                _ => {
                    dues[stores.min(MOST_STORES - 1)] = Some((store, due));
                    stores = (stores + 1).min(MOST_STORES);
                }
            }
        }
        for (store, due) in dues.into_iter().flatten() {
            store.notice(due);
        }
    }
}
