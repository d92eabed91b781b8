//! Several keys at once: all their shards are locked, in order, for as long as it takes. The protocols' commands of
//! many keys stand on it; `set_many` does not, because nobody needs it to be one step.

use parking_lot::RwLockWriteGuard;

use super::cell::Due;
use super::record::ValueRef;
use super::room::room_for;
use super::shard::{Change, Context, Entry, Made, Shard, Spared};
use super::store::Store;
use super::table::{Sparse, try_reserve_exact};
use super::ttl::Ttl;
use crate::{Error, Result, limits};

/// The shards of some keys, locked: nobody else reads or writes these keys meanwhile.
pub struct Locked<'s> {
    store: &'s Store,
    /// By shard number, each once.
    shards: Vec<(u32, RwLockWriteGuard<'s, Shard<Sparse>>)>,
}

impl Store {
    /// Calls `f` with the shards of `keys` locked, so that what it does is one step for everybody else. `f` must not
    /// call the store itself. Locks are taken in the order of their shards, so calls never wait for each other in a
    /// ring. O(keys log keys), and what `f` does.
    ///
    /// ```
    /// use atbr::engine::{Options, Store, Ttl, Wait};
    /// let store = Store::new(&Options::default())?;
    /// store.set(b"from", b"100", Wait::Block)?;
    /// store.with_locked(&[b"from", b"to"], |locked| {
    ///     let value = locked.get(b"from")?.map(|v| v.as_slice().to_vec());
    ///     locked.delete(b"from")?;
    ///     locked.set(b"to", &value.unwrap_or_default(), Ttl::Default)
    /// })?;
    /// assert_eq!(store.get(b"to")?.as_deref(), Some(&b"100"[..]));
    /// # Ok::<(), atbr::Error>(())
    /// ```
    ///
    /// In a bounded store each write makes room in the shard of its key only, and ends in [`Error::StoreFull`] where that has
    /// nothing to evict.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] before `f` is called; else those of `f`, with what it did until then done.
    pub fn with_locked<R>(
        &self,
        keys: &[&[u8]],
        f: impl FnOnce(&mut Locked<'_>) -> Result<R>,
    ) -> Result<R> {
        let mut numbers = Vec::new();
        try_reserve_exact(&mut numbers, keys.len())?;
        numbers.extend(keys.iter().map(|key| self.cx().placer.place(key).shard));
        numbers.sort_unstable();
        numbers.dedup();
        let mut shards = Vec::new();
        try_reserve_exact(&mut shards, numbers.len())?;
        for &number in &numbers {
            shards.push((number, self.cells()[number as usize].lock.write()));
        }
        f(&mut Locked {
            store: self,
            shards,
        })
    }
}

impl Locked<'_> {
    /// The key's shard and order hash.
    ///
    /// # Errors
    /// [`Error::NotLocked`].
    fn shard(&mut self, key: &[u8]) -> Result<(&mut Shard<Sparse>, u32)> {
        let place = self.store.cx().placer.place(key);
        let at = self
            .shards
            .binary_search_by_key(&place.shard, |&(number, _)| number);
        let at = at.map_err(|_| Error::NotLocked)?;
        Ok((&mut self.shards[at].1, place.order))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::NotLocked`].
    pub fn get(&mut self, key: &[u8]) -> Result<Option<ValueRef<'_>>> {
        let cx = self.store.cx();
        let (shard, order) = self.shard(key)?;
        Ok(shard.get(cx, order, key))
    }

    /// As [`Store::set_with`].
    ///
    /// # Errors
    /// [`Error::NotLocked`], and those of [`Store::set_with`].
    pub fn set(&mut self, key: &[u8], value: &[u8], ttl: Ttl) -> Result<bool> {
        limits::check_key(key.len())?;
        limits::check_value(value.len())?;
        let cx = self.store.cx();
        let (shard, order) = self.shard(key)?;
        let len = key.len() + value.len();
        with_room(shard, cx, len, Spared::None, |shard| {
            shard.set(cx, order, key, value, ttl)
        })
    }

    /// As [`Store::delete`].
    ///
    /// # Errors
    /// [`Error::NotLocked`], and those of [`Store::delete`].
    pub fn delete(&mut self, key: &[u8]) -> Result<bool> {
        let cx = self.store.cx();
        let (shard, order) = self.shard(key)?;
        let there = shard.delete(cx, order, key);
        shard.settle(cx, 0);
        there
    }

    /// As [`Store::modify_up_to`].
    ///
    /// # Errors
    /// [`Error::NotLocked`], and those of [`Store::modify`].
    pub fn modify_up_to<'c, R>(
        &mut self,
        key: &[u8],
        len: usize,
        decide: impl FnOnce(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        limits::check_key(key.len())?;
        let cx = self.store.cx();
        let (shard, order) = self.shard(key)?;
        let spared = Spared::Key(order, key);
        with_room(shard, cx, key.len() + len, spared, |shard| {
            shard.modify(cx, order, key, decide)
        })
    }
}

/// Runs a write of a record of `len` bytes; in a bounded store with room that this shard alone has made.
fn with_room<R>(
    shard: &mut Shard<Sparse>,
    cx: &Context,
    len: usize,
    spared: Spared<'_>,
    work: impl FnOnce(&mut Shard<Sparse>) -> Result<R>,
) -> Result<R> {
    let room = cx.bounds.as_ref().map_or(0, |_| room_for(len));
    loop {
        match shard.make_room(cx, room, spared) {
            Made::Room => break,
            Made::Progress => {}
            Made::Nothing => return Err(Error::StoreFull),
        }
    }
    let result = shard.take_first_entry(cx).and_then(|()| work(shard));
    shard.settle(cx, room);
    result.map_err(|error| match error {
        Error::NothingToEvict => Error::StoreFull,
        other => other,
    })
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let mut due = Due::NEVER;
        for (number, shard) in self.shards.drain(..) {
            due = due.earlier(self.store.cells()[number as usize].publish(&shard));
        }
        self.store.notice(due);
    }
}
