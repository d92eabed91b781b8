//! Writes of one key, under its shard's lock alone.

use super::Databases;
use crate::engine::events::Event;
use crate::engine::room::Kept;
use crate::engine::shard::{Change, Entry};
use crate::engine::store::{Store, Wait};
use crate::engine::ttl::Ttl;
use crate::{Error, Result, limits};

impl Databases {
    /// Runs one write in the store that is the database while the shard is locked. `work` answers [`Error::WouldBlock`] where
    /// `stays` says that it no longer is.
    fn write_one<R>(
        &self,
        db: u8,
        mut work: impl FnMut(&Store, &dyn Fn() -> bool) -> Result<R>,
    ) -> Result<R> {
        loop {
            let place = self.place(db)?;
            let store = self.made(db)?;
            match work(store, &|| self.place_of(db) == place) {
                Err(Error::WouldBlock) => {}
                done => return done,
            }
        }
    }

    /// As [`LockedDatabases::set`](super::LockedDatabases::set), for one key; a bounded store makes room anywhere.
    ///
    /// # Errors
    /// [`Error::NoSuchDatabase`], and those of [`Store::set_with`].
    #[inline]
    pub fn set(&self, db: u8, key: &[u8], value: &[u8], ttl: Ttl, event: Event) -> Result<bool> {
        limits::check_key(key.len())?;
        limits::check_value(value.len())?;
        let len = key.len() + value.len();
        self.write_one(db, |store, stays| {
            store.write(key, len, Kept::Nothing, Wait::Block, |shard, order| {
                if !stays() {
                    return Err(Error::WouldBlock);
                }
                shard.set(store.cx(), order, key, value, ttl, event)
            })
        })
    }

    /// As [`LockedDatabases::delete`](super::LockedDatabases::delete), for one key.
    ///
    /// # Errors
    /// [`Error::NoSuchDatabase`], and those of [`Store::delete`].
    pub fn delete(&self, db: u8, key: &[u8], event: Event) -> Result<bool> {
        self.write_one(db, |store, stays| {
            store.reduce_as(key, Wait::Block, Some(event), |entry| {
                if !stays() {
                    return Err(Error::WouldBlock);
                }
                Ok((Change::Delete, entry.is_some()))
            })
        })
    }

    /// As [`LockedDatabases::modify_up_to`](super::LockedDatabases::modify_up_to), for one key; a bounded store makes room anywhere.
    ///
    /// # Errors
    /// [`Error::NoSuchDatabase`], and those of [`Store::modify`].
    pub fn modify_up_to<'c, R>(
        &self,
        db: u8,
        key: &[u8],
        len: usize,
        event: Option<Event>,
        mut decide: impl FnMut(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        self.write_one(db, |store, stays| {
            store.modify_as(key, len, Wait::Block, event, |entry| {
                if !stays() {
                    return Err(Error::WouldBlock);
                }
                decide(entry)
            })
        })
    }
}
