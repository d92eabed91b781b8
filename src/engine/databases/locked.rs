//! One step over many keys, whose shards are locked.

use super::{Databases, WatchedKey};
use crate::engine::events::{Classes, Event};
use crate::engine::held::Held;
use crate::engine::scan::{Filter, Page};
use crate::engine::shard::{Change, Entry};
use crate::engine::store::Store;
use crate::engine::ttl::Ttl;
use crate::{Error, Result};

/// Shards of databases, locked: nobody else reads or writes their keys meanwhile.
pub struct LockedDatabases<'d> {
    pub(super) databases: &'d Databases,
    pub(super) held: Held<'d>,
}

impl<'d> LockedDatabases<'d> {
    pub(super) fn store(&self, db: u8) -> Result<&'d Store> {
        self.databases
            .store(db)?
            .map(|store| &**store)
            .ok_or(Error::NotLocked)
    }

    pub(in crate::engine) fn parts(&mut self) -> (&'d Databases, &mut Held<'d>) {
        (self.databases, &mut self.held)
    }

    /// The entry of a key.
    ///
    /// # Errors
    /// [`Error::NotLocked`].
    pub fn get(&mut self, db: u8, key: &[u8]) -> Result<Option<Entry<'_>>> {
        let store = self.store(db)?;
        self.held.get(store, key)
    }

    /// Writes a value and its time to live; true where the key is new. A time that has passed takes the key out instead.
    ///
    /// # Errors
    /// [`Error::NotLocked`], and those of [`Store::set_with`].
    pub fn set(
        &mut self,
        db: u8,
        key: &[u8],
        value: &[u8],
        ttl: Ttl,
        event: Event,
    ) -> Result<bool> {
        let store = self.store(db)?;
        self.held.set(store, key, value, ttl, event)
    }

    /// As [`LockedDatabases::set`], of a type that is no string, without a deadline: for tests of those who meet it.
    ///
    /// # Errors
    /// As [`LockedDatabases::set`].
    #[cfg(any(test, feature = "failpoints"))]
    pub fn set_kind(
        &mut self,
        db: u8,
        key: &[u8],
        value: &[u8],
        kind: crate::engine::record::Kind,
    ) -> Result<()> {
        let store = self.store(db)?;
        self.held.set_kind(store, key, value, kind)
    }

    /// Takes a key out; false where it was not there.
    ///
    /// # Errors
    /// [`Error::NotLocked`], and those of [`Store::delete`].
    pub fn delete(&mut self, db: u8, key: &[u8], event: Event) -> Result<bool> {
        let store = self.store(db)?;
        self.held.delete(store, key, event)
    }

    /// As [`Store::modify_up_to`], told of as `event`; None: as what the change is.
    ///
    /// # Errors
    /// [`Error::NotLocked`], and those of [`Store::modify`].
    pub fn modify_up_to<'c, R>(
        &mut self,
        db: u8,
        key: &[u8],
        len: usize,
        event: Option<Event>,
        decide: impl FnMut(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        let store = self.store(db)?;
        self.held.modify(store, key, len, event, decide)
    }

    /// Tells of something more that happened to a key.
    ///
    /// # Errors
    /// [`Error::NotLocked`].
    pub fn tell(&mut self, db: u8, key: &[u8], event: Event) -> Result<()> {
        let store = self.store(db)?;
        self.held.tell(store, key, event)
    }

    /// Whether a watched key was there when its watch began, and has expired since. Where it has been swept, the watch is dirty.
    ///
    /// # Errors
    /// [`Error::NotLocked`].
    pub fn has_lapsed(&mut self, watched: &WatchedKey) -> Result<bool> {
        let store = self.store(watched.db)?;
        self.held.has_lapsed(store, &watched.key, &watched.dirty)
    }

    /// The time of all that is done under these locks, in milliseconds since 1970 as databases count it: the wall clock of when number
    /// 0 was made, and what has passed since.
    pub fn unix_now(&self) -> u64 {
        self.databases.unix_now()
    }

    /// Number of entries, of which some may have expired; 0 for a database that was never written. Needs all of its shards.
    ///
    /// # Errors
    /// [`Error::NotLocked`].
    pub fn len(&mut self, db: u8) -> Result<u64> {
        let store = self.store(db)?;
        self.held.len(store)
    }

    /// As [`Store::scan`]. Needs all shards of the database.
    ///
    /// # Errors
    /// [`Error::NotLocked`], and those of [`Store::scan`].
    pub fn scan(
        &mut self,
        db: u8,
        cursor: u64,
        filter: &Filter,
        count: usize,
        values: bool,
        page: &mut Page,
    ) -> Result<u64> {
        let store = self.store(db)?;
        self.held.scan(store, cursor, filter, count, values, page)
    }

    /// As [`Store::random_key`]. Needs all shards of the database.
    ///
    /// # Errors
    /// [`Error::NotLocked`], and those of [`Store::random_key`].
    pub fn random_key(&mut self, db: u8, key: &mut Vec<u8>) -> Result<bool> {
        let store = self.store(db)?;
        self.held.random_key(store, key)
    }

    /// Takes all entries out. Needs all shards of the database.
    ///
    /// # Errors
    /// [`Error::NotLocked`].
    pub fn clear(&mut self, db: u8) -> Result<()> {
        let store = self.store(db)?;
        self.held.clear(store)
    }

    /// As [`Databases::set_notify`]; what waits is handed out all the same. Needs [`Databases::with_everything_locked`].
    ///
    /// # Errors
    /// [`Error::NotLocked`], [`Error::OutOfMemory`].
    pub fn set_notify(&mut self, classes: Classes) -> Result<()> {
        let databases = self.databases;
        databases.notifier.set_classes(classes);
        for (place, store) in databases.stores.iter().enumerate() {
            if let Some(store) = store.get() {
                let db = (classes != Classes::NONE).then(|| databases.db_of(place));
                self.held.notify(store, &databases.notifier, db)?;
            }
        }
        Ok(())
    }

    /// As [`Databases::swap`]. Needs all shards of both.
    ///
    /// # Errors
    /// [`Error::NotLocked`], [`Error::NoSuchDatabase`].
    pub fn swap(&mut self, a: u8, b: u8) -> Result<()> {
        if a == b {
            return self.store(a).map(drop);
        }
        self.databases.exchange(&mut self.held, a, b)
    }
}
