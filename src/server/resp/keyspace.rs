//! The keys that a command may use: each for itself under its own lock, or all under locks that are held.

use std::sync::Arc;

use super::failure::Failure;
use crate::Error;
use crate::engine::{
    Change, Classes, Databases, Entry, Event, Filter, LockedDatabases, Page, Stats, Ttl,
};

/// Keys of all databases.
pub(crate) struct Keyspace<'c, 'd> {
    databases: &'c Arc<Databases>,
    locked: Option<&'c mut LockedDatabases<'d>>,
    /// The connection's database.
    pub(crate) db: u8,
}

impl<'c, 'd> Keyspace<'c, 'd> {
    /// Every access takes its key's lock.
    #[inline]
    pub(crate) fn free(databases: &'c Arc<Databases>, db: u8) -> Self {
        Keyspace {
            databases,
            locked: None,
            db,
        }
    }

    /// The locks are held.
    pub(crate) fn locked(
        databases: &'c Arc<Databases>,
        locked: &'c mut LockedDatabases<'d>,
        db: u8,
    ) -> Self {
        Keyspace {
            databases,
            locked: Some(locked),
            db,
        }
    }

    /// The time in milliseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        match &self.locked {
            Some(locked) => locked.unix_now() as i64,
            None => self.databases.unix_now() as i64,
        }
    }

    /// Calls `f` with a key's entry, or None.
    #[inline]
    pub(crate) fn read<R>(
        &mut self,
        db: u8,
        key: &[u8],
        f: impl FnOnce(Option<Entry<'_>>) -> R,
    ) -> Result<R, Failure> {
        if let Some(locked) = &mut self.locked {
            return Ok(f(locked.get(db, key)?));
        }
        let mut f = Some(f);
        let found = self
            .databases
            .read(db, key, |entry| f.take().map(|f| f(Some(entry))))?;
        match (found.flatten(), f) {
            (Some(result), _) => Ok(result),
            (None, Some(f)) => Ok(f(None)),
            (None, None) => Err(Failure::from(Error::NotLocked)),
        }
    }

    /// Calls `f` with the entries of several keys, at one moment; returns whether it was true for all.
    pub(crate) fn read_together(
        &mut self,
        db: u8,
        keys: &[&[u8]],
        mut f: impl FnMut(Option<Entry<'_>>) -> bool,
    ) -> Result<bool, Failure> {
        let mut read = |locked: &mut LockedDatabases<'_>| {
            let mut all = true;
            for key in keys {
                all &= f(locked.get(db, key)?);
            }
            Ok(all)
        };
        if let Some(locked) = &mut self.locked {
            return Ok(read(locked)?);
        }
        let named: Vec<_> = keys.iter().map(|key| (db, key)).collect();
        Ok(self.databases.with_locked(&named, read)?)
    }

    pub(crate) fn exists(&mut self, db: u8, key: &[u8]) -> Result<bool, Failure> {
        self.read(db, key, |entry| entry.is_some())
    }

    /// Writes a value and its time to live.
    #[inline]
    pub(crate) fn set(
        &mut self,
        db: u8,
        key: &[u8],
        value: &[u8],
        ttl: Ttl,
        event: Event,
    ) -> Result<(), Failure> {
        match &mut self.locked {
            Some(locked) => locked.set(db, key, value, ttl, event)?,
            None => self.databases.set(db, key, value, ttl, event)?,
        };
        Ok(())
    }

    /// Takes a key out; false where it was not there.
    pub(crate) fn delete(&mut self, db: u8, key: &[u8], event: Event) -> Result<bool, Failure> {
        Ok(match &mut self.locked {
            Some(locked) => locked.delete(db, key, event)?,
            None => self.databases.delete(db, key, event)?,
        })
    }

    /// Reads, decides and writes as one step. `len` is how long the value may become. A failure changes nothing.
    pub(crate) fn modify<'v, R>(
        &mut self,
        db: u8,
        key: &[u8],
        len: usize,
        event: Option<Event>,
        mut decide: impl FnMut(Option<Entry<'_>>) -> Result<(Change<'v>, R), Failure>,
    ) -> Result<R, Failure> {
        let decide = |entry: Option<Entry<'_>>| match decide(entry) {
            Ok((change, result)) => Ok((change, Ok(result))),
            Err(failure) => Ok((Change::Keep, Err(failure))),
        };
        match &mut self.locked {
            Some(locked) => locked.modify_up_to(db, key, len, event, decide)?,
            None => self.databases.modify_up_to(db, key, len, event, decide)?,
        }
    }

    /// Tells of something more that happened to a key whose lock is held.
    pub(crate) fn tell(&mut self, db: u8, key: &[u8], event: Event) -> Result<(), Failure> {
        if let Some(locked) = &mut self.locked {
            locked.tell(db, key, event)?;
        }
        Ok(())
    }

    /// Number of keys.
    pub(crate) fn len(&mut self, db: u8) -> Result<u64, Failure> {
        Ok(match &mut self.locked {
            Some(locked) => locked.len(db)?,
            None => self.databases.get(db).map_or(0, |store| store.len() as u64),
        })
    }

    pub(crate) fn clear(&mut self, db: u8) -> Result<(), Failure> {
        match &mut self.locked {
            Some(locked) => locked.clear(db)?,
            None => {
                if let Some(store) = self.databases.get(db) {
                    store.clear()?;
                }
            }
        }
        Ok(())
    }

    /// Figures of all databases together, and of each that was ever written.
    pub(crate) fn stats(&mut self) -> (Stats, Vec<(u8, Stats)>) {
        match &mut self.locked {
            Some(locked) => locked.stats(),
            None => self.databases.stats(),
        }
    }

    /// Empties all databases.
    pub(crate) fn clear_all(&mut self) -> Result<(), Failure> {
        let databases = Arc::clone(self.databases);
        databases.written().try_for_each(|db| self.clear(db))
    }

    /// Has changes of these classes queued from now on.
    pub(crate) fn set_notify(&mut self, classes: Classes) -> crate::Result<()> {
        match &mut self.locked {
            Some(locked) => locked.set_notify(classes),
            None => self.databases.set_notify(classes),
        }
    }

    /// About `count` keys from a cursor on; returns the next cursor.
    pub(crate) fn scan(
        &mut self,
        db: u8,
        cursor: u64,
        filter: &Filter,
        count: usize,
        page: &mut Page,
    ) -> Result<u64, Failure> {
        Ok(match &mut self.locked {
            Some(locked) => locked.scan(db, cursor, filter, count, false, page)?,
            None => match self.databases.get(db) {
                Some(store) => store.scan(cursor, filter, count, false, page)?,
                None => 0,
            },
        })
    }

    /// Any key; None where there is none.
    pub(crate) fn random_key(&mut self, db: u8) -> Result<Option<Vec<u8>>, Failure> {
        let mut key = Vec::new();
        let found = match &mut self.locked {
            Some(locked) => locked.random_key(db, &mut key)?,
            None => match self.databases.get(db) {
                Some(store) => store.random_key(&mut key)?,
                None => false,
            },
        };
        Ok(found.then_some(key))
    }

    pub(crate) fn swap(&mut self, a: u8, b: u8) -> Result<(), Failure> {
        match &mut self.locked {
            Some(locked) => locked.swap(a, b)?,
            None => self.databases.swap(a, b)?,
        }
        Ok(())
    }
}
