//! Writes of one key.

use std::sync::atomic::Ordering;

use super::events::Event;
use super::expired::{Expired, Watch};
use super::room::Kept;
use super::shard::{Change, Entry, Popped, Shard, Spared};
use super::store::{Store, Wait};
use super::sweeper;
use super::table::Sparse;
use super::ttl::Ttl;
use crate::{Error, Result, limits};

impl Store {
    /// Writes a value with the store's default time to live; true where the key is new. O(1) expected, amortized; the work of
    /// one call is bounded.
    ///
    /// # Errors
    /// [`Error::KeyTooLong`], [`Error::ValueTooLong`], [`Error::OutOfMemory`], [`Error::ArenaFull`],
    /// [`Error::Closed`], [`Error::WouldBlock`]; the store is then as it was.
    pub fn set(&self, key: &[u8], value: &[u8], wait: Wait) -> Result<bool> {
        self.set_with(key, value, Ttl::Default, wait)
    }

    /// As [`Store::set`], with a time to live.
    ///
    /// # Errors
    /// As [`Store::set`], and [`Error::TtlOutOfRange`].
    pub fn set_with(&self, key: &[u8], value: &[u8], ttl: Ttl, wait: Wait) -> Result<bool> {
        limits::check_key(key.len())?;
        limits::check_value(value.len())?;
        let len = key.len() + value.len();
        self.write(key, len, Kept::Nothing, wait, |shard, order| {
            shard.set(self.cx(), order, key, value, ttl, Event::Set)
        })
    }

    /// Takes a key out; false where it was not there. O(1) expected, amortized.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::WouldBlock`].
    pub fn delete(&self, key: &[u8], wait: Wait) -> Result<bool> {
        let (cell, order) = self.place(key);
        let mut shard = cell.write(wait)?;
        let there = shard.delete(self.cx(), order, key, Event::Del)?;
        self.finish(cell, shard, 0);
        Ok(there)
    }

    /// Reads, decides and writes as one step under the shard's write lock. `decide` sees the entry (None
    /// where the key is missing) and must not call back into the store; its error is passed on, and nothing
    /// is written then. A full store asks it once more, when it has made room for a change that grows.
    ///
    /// # Errors
    /// As [`Store::set_with`], and those of `decide`.
    pub fn modify<'c, R>(
        &self,
        key: &[u8],
        wait: Wait,
        decide: impl FnMut(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        self.modify_as(key, 0, wait, None, decide)
    }

    /// As [`Store::modify`], for a change that may leave a value of up to `len` bytes; a store that is bounded in bytes makes
    /// room for it first.
    ///
    /// # Errors
    /// As [`Store::modify`].
    pub fn modify_up_to<'c, R>(
        &self,
        key: &[u8],
        len: usize,
        wait: Wait,
        decide: impl FnMut(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        self.modify_as(key, len, wait, None, decide)
    }

    /// As [`Store::modify_up_to`], told of as `event`; None: as what the change is.
    pub(super) fn modify_as<'c, R>(
        &self,
        key: &[u8],
        len: usize,
        wait: Wait,
        event: Option<Event>,
        mut decide: impl FnMut(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        limits::check_key(key.len())?;
        self.write(key, key.len() + len, Kept::Key, wait, |shard, order| {
            shard.modify(self.cx(), order, key, event, &mut decide)
        })
    }

    /// As [`Store::modify`], for a change that needs no room: it takes the entry out, or its expiry away, or does nothing.
    ///
    /// # Errors
    /// As [`Store::modify`], without those of a store that is full.
    pub fn reduce<'c, R>(
        &self,
        key: &[u8],
        wait: Wait,
        decide: impl FnOnce(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        self.reduce_as(key, wait, None, decide)
    }

    /// As [`Store::reduce`], told of as `event`; None: as what the change is.
    pub(super) fn reduce_as<'c, R>(
        &self,
        key: &[u8],
        wait: Wait,
        event: Option<Event>,
        decide: impl FnOnce(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        limits::check_key(key.len())?;
        let (cell, order) = self.place(key);
        let mut shard = cell.write(wait)?;
        let result = shard.modify(self.cx(), order, key, event, decide);
        self.finish(cell, shard, 0);
        result
    }

    /// Runs one write of a key; in a bounded store with room for a record of `len` bytes.
    #[inline(always)]
    pub(super) fn write<R>(
        &self,
        key: &[u8],
        len: usize,
        kept: Kept,
        wait: Wait,
        mut work: impl FnMut(&mut Shard<Sparse>, u32) -> Result<R>,
    ) -> Result<R> {
        let (cell, order) = self.place(key);
        if let Some(bounds) = &self.cx().bounds {
            let spared = match kept {
                Kept::Nothing => Spared::None,
                Kept::Key => Spared::Key(order, key),
            };
            let mut work = |shard: &mut _| work(shard, order);
            return self.write_bounded(bounds, cell, len, spared, wait, &mut work);
        }
        let mut shard = cell.write(wait)?;
        let result = work(&mut shard, order)?;
        self.finish(cell, shard, 0);
        Ok(result)
    }

    /// Takes out all entries that have expired, and returns how many. The background thread does so all the time; after this
    /// call [`Store::len`] is exact. O(entries that have expired).
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn expire(&self) -> Result<u64> {
        self.expire_while(&mut || true)
    }

    /// As [`Store::expire`]; asks `go_on` now and then, with no lock held.
    ///
    /// # Errors
    /// As [`Store::expire`]; [`Error::Cancelled`] where `go_on` said no, with some of the entries taken out.
    pub fn expire_while(&self, go_on: &mut dyn FnMut() -> bool) -> Result<u64> {
        self.check_open()?;
        let mut cancelled = false;
        let expired = sweeper::sweep_exactly(self.inner(), &mut || {
            cancelled = cancelled || !go_on();
            !cancelled
        });
        if cancelled {
            return Err(Error::Cancelled);
        }
        Ok(expired)
    }

    /// Whether to keep entries that expire for [`Store::take_expired`]. Up to 65,536 entries and 64 MiB are kept; what
    /// comes beyond is counted in [`super::Stats`] and lost. A change lets go who waits.
    pub fn watch_expired(&self, watch: Watch) {
        if watch == Watch::Off || !self.is_closed() {
            self.cx().expired.watch(watch);
        }
    }

    /// Takes at most `most` of the entries that have expired, in no particular order, waiting so long for the first of them.
    /// One thread may wait at a time. None at once unless [`Watch::On`] was asked for.
    pub fn take_expired(&self, most: usize, timeout: std::time::Duration) -> Vec<Expired> {
        self.cx().expired.take(most, timeout)
    }

    /// Takes any entry out; None where there is none. O(1) amortized until the store is empty.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Closed`].
    pub fn pop_any(&self) -> Result<Option<Popped>> {
        let cursor = self.inner().pop_cursor.load(Ordering::Relaxed);
        let shards = self.cells().len();
        let (first, mut from) = ((cursor >> 32) as usize, cursor as u32);
        // The first shard is visited again at the end, from its start.
        for step in 0..=shards {
            let number = (first + step) % shards;
            let cell = &self.cells()[number];
            if cell.len.load(Ordering::Relaxed) > 0 {
                let mut shard = cell.lock.write();
                if let Some(popped) = shard.pop_from(self.cx(), from)? {
                    self.finish(cell, shard, 0);
                    let next = (number as u64) << 32 | u64::from(popped.order);
                    self.inner().pop_cursor.store(next, Ordering::Relaxed);
                    return Ok(Some(popped));
                }
            }
            from = 0;
        }
        self.check_open().map(|()| None)
    }
}
