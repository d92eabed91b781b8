//! Keys that a connection watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure::Failure;
use crate::engine::{Databases, LockedDatabases, WatchedKey};

/// Keys under watch, and whether one of them has changed.
#[derive(Default)]
pub(crate) struct Watches {
    keys: Vec<WatchedKey>,
    dirty: Arc<AtomicBool>,
}

impl Watches {
    /// Begins to watch a key; one that is watched already stays so.
    pub(crate) fn add(
        &mut self,
        databases: &Arc<Databases>,
        db: u8,
        key: &[u8],
    ) -> Result<(), Failure> {
        if self
            .keys
            .iter()
            .any(|watched| watched.db() == db && watched.key() == key)
        {
            return Ok(());
        }
        self.keys.push(databases.watch(db, key, &self.dirty)?);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys, to lock them.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.keys
            .iter()
            .map(|watched| (watched.db(), watched.key()))
    }

    /// Whether one has changed, as far as is known without its lock.
    pub(crate) fn are_dirty(&self) -> bool {
        self.dirty.load(Ordering::SeqCst)
    }

    /// Whether one has changed or expired, under their locks.
    pub(crate) fn are_dirty_in(&self, locked: &mut LockedDatabases<'_>) -> Result<bool, Failure> {
        for watched in &self.keys {
            if locked.has_lapsed(watched)? {
                return Ok(true);
            }
        }
        Ok(self.are_dirty())
    }

    /// Ends all.
    pub(crate) fn clear(&mut self) {
        if !self.keys.is_empty() {
            self.keys.clear();
            self.dirty = Arc::default();
        }
    }
}
