//! Several keys at once: all their shards are locked, in order, for as long as it takes. The protocols' commands of
//! many keys stand on it; `set_many` does not, because nobody needs it to be one step.

use super::events::Event;
use super::held::{Held, Wanted};
use super::record::ValueRef;
use super::shard::{Change, Entry};
use super::store::Store;
use super::ttl::Ttl;
use crate::Result;

/// The shards of some keys, locked: nobody else reads or writes these keys meanwhile.
pub struct Locked<'s> {
    store: &'s Store,
    held: Held<'s>,
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
    /// In a bounded store each write makes room in the shard of its key only, and ends in [`crate::Error::StoreFull`] where that has
    /// nothing to evict.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] before `f` is called; else those of `f`, with what it did until then done.
    pub fn with_locked<R>(
        &self,
        keys: &[&[u8]],
        f: impl FnOnce(&mut Locked<'_>) -> Result<R>,
    ) -> Result<R> {
        let mut wanted = Wanted::default();
        keys.iter().try_for_each(|key| wanted.add_key(self, key))?;
        f(&mut Locked {
            store: self,
            held: wanted.lock()?,
        })
    }
}

impl Locked<'_> {
    /// The value of a key.
    ///
    /// # Errors
    /// [`crate::Error::NotLocked`].
    pub fn get(&mut self, key: &[u8]) -> Result<Option<ValueRef<'_>>> {
        Ok(self.held.get(self.store, key)?.map(|entry| entry.value))
    }

    /// As [`Store::set_with`].
    ///
    /// # Errors
    /// [`crate::Error::NotLocked`], and those of [`Store::set_with`].
    pub fn set(&mut self, key: &[u8], value: &[u8], ttl: Ttl) -> Result<bool> {
        self.held.set(self.store, key, value, ttl, Event::Set)
    }

    /// As [`Store::delete`].
    ///
    /// # Errors
    /// [`crate::Error::NotLocked`], and those of [`Store::delete`].
    pub fn delete(&mut self, key: &[u8]) -> Result<bool> {
        self.held.delete(self.store, key, Event::Del)
    }

    /// As [`Store::modify_up_to`].
    ///
    /// # Errors
    /// [`crate::Error::NotLocked`], and those of [`Store::modify`].
    pub fn modify_up_to<'c, R>(
        &mut self,
        key: &[u8],
        len: usize,
        decide: impl FnMut(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        self.held.modify(self.store, key, len, None, decide)
    }
}
