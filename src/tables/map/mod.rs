//! The ordered map behind `local://`: a lock around a tree of leaves.

mod fork;
mod index;
mod leaf;
mod memory;
mod page;
mod shared;
mod tree;

#[cfg(test)]
mod tests;

pub use page::Page;
pub use tree::{Bounds, Interval};

use std::sync::Arc;

use crate::engine::sync::Lock;
use crate::{Error, Result};
use tree::Tree;

/// Keys whose leaves are fetched from memory together.
const TOGETHER: usize = 16;

/// A write of a batch: a key and its new value, or None to remove it.
pub type Write<'a> = (&'a [u8], Option<&'a [u8]>);

/// An ordered map from bytes to bytes that any number of threads use; a forked child finds it whole.
///
/// ```
/// use atbr::tables::map::{Bounds, Interval, OrderedMap, Page};
/// let map = OrderedMap::new();
/// map.write(&[(b"b", Some(b"2")), (b"a", Some(b"1"))])?;
/// let mut page = Page::default();
/// let bounds = Bounds { entries: 10, reverse: false, keys_only: false };
/// map.fill(Interval { low: b"", high: None }, bounds, &mut page)?;
/// assert_eq!(page.iter().next(), Some((&b"a"[..], &b"1"[..])));
/// # Ok::<(), atbr::Error>(())
/// ```
pub struct OrderedMap {
    cell: Arc<Cell>,
}

/// What threads share, and the fork handlers see.
pub(crate) struct Cell {
    lock: Lock<Tree>,
}

/// What a map holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Entries.
    pub entries: usize,
    /// Bytes of keys and values.
    pub payload: usize,
    /// Bytes of memory, all told.
    pub allocated: usize,
}

impl Default for OrderedMap {
    fn default() -> Self {
        Self::new()
    }
}

impl OrderedMap {
    /// An empty map.
    pub fn new() -> Self {
        let cell = Arc::new(Cell {
            lock: Lock::new(Tree::default()),
        });
        fork::register(&cell);
        OrderedMap { cell }
    }

    /// Calls `found` with the value of `key`, if there is one, under the lock.
    pub fn get<R>(&self, key: &[u8], found: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.cell
            .lock
            .read()
            .get(key)
            .map(|value| found(value.as_slice()))
    }

    /// Adds one entry to `page` for each of `keys` that is there and returns which those are, all as of one moment.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn get_many(&self, keys: &[&[u8]], page: &mut Page) -> Result<Vec<bool>> {
        let tree = self.cell.lock.read();
        let mut found = Vec::new();
        found
            .try_reserve_exact(keys.len())
            .map_err(|_| Error::OutOfMemory)?;
        for keys in keys.chunks(TOGETHER) {
            let mut places = [None; TOGETHER];
            for (place, key) in places.iter_mut().zip(keys) {
                *place = tree.leaf_of(key).map(|leaf| (leaf, 0));
            }
            let there = || places.iter().flatten();
            there().for_each(|(leaf, _)| leaf.fetch_heads());
            for (place, key) in places.iter_mut().zip(keys) {
                if let Some((leaf, first)) = place {
                    *first = leaf.first_like(key);
                    leaf.fetch_slot(*first);
                }
            }
            let there = || places.iter().flatten();
            there().for_each(|&(leaf, first)| leaf.fetch_entry(first));
            for (place, key) in places.iter().zip(keys) {
                let value = place.and_then(|(leaf, first)| leaf.get_from(first, key));
                if let Some(value) = value {
                    page.push(&[], Some(value))?;
                }
                found.push(value.is_some());
            }
        }
        Ok(found)
    }

    /// Makes all of `writes`, in order, in one step for everybody else. O(writes log n).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; what came before it has been written then.
    pub fn write(&self, writes: &[Write<'_>]) -> Result<()> {
        let mut tree = self.cell.lock.write();
        for &(key, value) in writes {
            match value {
                Some(value) => {
                    tree.put(key, value)?;
                }
                None => {
                    tree.remove(key);
                }
            }
        }
        Ok(())
    }

    /// Removes `keys`; returns how many were there.
    pub fn remove_many(&self, keys: &[&[u8]]) -> usize {
        let mut tree = self.cell.lock.write();
        keys.iter().filter(|key| tree.remove(key)).count()
    }

    /// Decides by the value of `key`, as one step for everybody else, what it becomes: `Some(None)` removes it.
    ///
    /// # Errors
    /// Those of `decide`, and [`Error::OutOfMemory`].
    pub fn modify<R>(
        &self,
        key: &[u8],
        decide: impl FnOnce(Option<&[u8]>) -> Result<(Option<Option<Vec<u8>>>, R)>,
    ) -> Result<R> {
        let mut tree = self.cell.lock.write();
        let (change, result) = decide(tree.get(key).map(|value| value.as_slice()))?;
        match change {
            None => {}
            Some(None) => {
                tree.remove(key);
            }
            Some(Some(value)) => {
                tree.put(key, &value)?;
            }
        }
        Ok(result)
    }

    /// Adds the entries of an interval to `page`, as many as `bounds` lets in. O(log n + entries).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn fill(&self, interval: Interval<'_>, bounds: Bounds, page: &mut Page) -> Result<()> {
        self.cell.lock.read().fill(interval, bounds, page)
    }

    /// Entries of an interval. O(log n + its entries / 100).
    pub fn count(&self, interval: Interval<'_>) -> usize {
        self.cell.lock.read().count(interval)
    }

    /// Removes the entries of an interval; returns how many there were.
    pub fn remove_range(&self, interval: Interval<'_>) -> usize {
        self.cell.lock.write().remove_range(interval)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.cell.lock.read().len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries and bytes. O(n / 100).
    pub fn figures(&self) -> Figures {
        let tree = self.cell.lock.read();
        Figures {
            entries: tree.len(),
            payload: tree.payload(),
            allocated: tree.allocated(),
        }
    }

    /// Forgets every entry.
    pub fn clear(&self) {
        // What takes long, freeing, comes after the lock.
        let old = std::mem::take(&mut *self.cell.lock.write());
        drop(old);
    }
}
