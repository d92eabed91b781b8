//! What others are told of: watched keys, and events.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use super::Databases;
use crate::Result;
use crate::engine::events::{Classes, Notification};
use crate::engine::store::Store;
use crate::engine::sync::lock_mutex;
use crate::engine::table::{try_copy, try_reserve};

impl Databases {
    /// Has `dirty` set when the key is changed, by whomever: written, deleted, expired, evicted, cleared, loaded, exchanged. The watch
    /// ends when what is returned is dropped.
    ///
    /// # Errors
    /// [`Error::NoSuchDatabase`](crate::Error::NoSuchDatabase), [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn watch(
        self: &Arc<Self>,
        db: u8,
        key: &[u8],
        dirty: &Arc<AtomicBool>,
    ) -> Result<WatchedKey> {
        self.with_locked(&[(db, key)], |locked| {
            let store = locked.store(db)?;
            let mut copy = Vec::new();
            try_copy(&mut copy, key)?;
            locked.held.watch(store, key, dirty)?;
            Ok(WatchedKey {
                databases: Arc::clone(self),
                db,
                key: copy,
                dirty: Arc::clone(dirty),
            })
        })
    }

    /// Has changes of these classes queued for [`Databases::take_events`] from now on. [`Classes::NONE`] ends it, and drops what waits.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
    pub fn set_notify(&self, classes: Classes) -> Result<()> {
        let _changes = lock_mutex(&self.locks.changes);
        self.notifier.set_classes(classes);
        for (place, store) in self.stores.iter().enumerate() {
            if let Some(store) = store.get() {
                self.notify_in(store, place, classes != Classes::NONE)?;
            }
        }
        if classes == Classes::NONE {
            *lock_mutex(&self.locks.taking) = Vec::new();
        }
        Ok(())
    }

    /// The classes of events that are queued.
    pub fn notifies(&self) -> Classes {
        self.notifier.classes()
    }

    pub(super) fn notify_in(&self, store: &Store, place: usize, on: bool) -> Result<()> {
        for cell in store.cells() {
            let mut shard = cell.lock.write();
            // Asked under the lock, without which no number changes.
            shard.notify(&self.notifier, on.then(|| self.db_of(place)))?;
        }
        Ok(())
    }

    /// Names what is called when events have come after all were taken. It is called under a shard's lock, by any thread, and must
    /// only take note.
    pub fn set_waker(&self, waker: impl Fn() + Send + Sync + 'static) {
        self.notifier.set_waker(Arc::new(waker));
    }

    /// Events that found no room in their queues, which hold 16,384 each, and 64 MiB together.
    pub fn dropped_events(&self) -> u64 {
        self.notifier.dropped()
    }

    /// Appends the events to `out` that have happened by now, in the order in which they did. O(shards), and the events.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory); events wait on then.
    pub fn take_events(&self, out: &mut Vec<Notification>) -> Result<()> {
        let events = &mut *lock_mutex(&self.locks.taking);
        if let Some(end) = self.notifier.begin_taking() {
            for store in self.stores.iter().filter_map(OnceLock::get) {
                for cell in store.cells() {
                    cell.lock.write().take_events(&self.notifier, events)?;
                }
            }
            events.sort_unstable_by_key(|event| event.stamp);
            // Of those that came meanwhile, some may be missing: the next call finds them.
            let ready = events.partition_point(|event| event.stamp < end);
            try_reserve(out, ready)?;
            out.extend(events.drain(..ready));
        }
        Ok(())
    }
}

/// A watch of a key; see [`Databases::watch`].
pub struct WatchedKey {
    databases: Arc<Databases>,
    pub(super) db: u8,
    pub(super) key: Vec<u8>,
    pub(super) dirty: Arc<AtomicBool>,
}

impl WatchedKey {
    /// The database's number.
    pub fn db(&self) -> u8 {
        self.db
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl Drop for WatchedKey {
    fn drop(&mut self) {
        let (db, key) = (self.db, &self.key[..]);
        // Without memory the shard keeps a watch that sets a flag which nobody reads.
        let _ = self.databases.with_locked(&[(db, key)], |locked| {
            let store = locked.store(db)?;
            locked.held.unwatch(store, key, &self.dirty)
        });
    }
}
