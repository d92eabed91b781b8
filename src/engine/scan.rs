//! Iteration in pages, by a stateless cursor in hash order: an entry that is there throughout is seen exactly
//! once, whatever grows, splits or shrinks meanwhile. A page locks one shard at a time, and only for itself.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher as _};
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::block::Block;
use super::glob::Glob;
use super::record::ValueRef;
use super::shard::{self, Context, Shard};
use super::store::{Store, Wait};
use super::table::{Sparse, try_reserve};
use crate::Result;

/// Which entries a scan returns.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// What keys begin with.
    pub prefix: Vec<u8>,
    /// What keys match.
    pub glob: Option<Glob>,
}

impl Filter {
    fn accepts(&self, key: &[u8]) -> bool {
        key.starts_with(&self.prefix) && self.glob.as_ref().is_none_or(|glob| glob.matches(key))
    }
}

/// Entries found by [`Store::scan`]. Large values are shared with the store, not copied.
#[derive(Default)]
pub struct Page {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    shared_bytes: usize,
}

struct Entry {
    key: Range<usize>,
    value: Value,
    time_left: Option<u64>,
}

enum Value {
    /// So many bytes that follow the key.
    Copied(usize),
    Shared(Block),
}

impl Page {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Key of entry `i`.
    pub fn key(&self, i: usize) -> &[u8] {
        &self.bytes[self.entries[i].key.clone()]
    }

    /// Value of entry `i`; empty where the scan was told to leave values out.
    pub fn value(&self, i: usize) -> &[u8] {
        let Entry { key, value, .. } = &self.entries[i];
        match value {
            Value::Copied(len) => &self.bytes[key.end..key.end + len],
            Value::Shared(block) => block.value(),
        }
    }

    /// The block of entry `i`, where its value is not copied.
    pub fn shared(&self, i: usize) -> Option<&Block> {
        match &self.entries[i].value {
            Value::Copied(_) => None,
            Value::Shared(block) => Some(block),
        }
    }

    /// Milliseconds that entry `i` had left when it was found; None: it does not expire.
    pub fn time_left(&self, i: usize) -> Option<u64> {
        self.entries[i].time_left
    }

    fn push(
        &mut self,
        key: &[u8],
        value: Option<ValueRef<'_>>,
        time_left: Option<u64>,
    ) -> Result<()> {
        let inline = match &value {
            Some(ValueRef::Inline(value)) => value,
            _ => &[][..],
        };
        try_reserve(&mut self.bytes, key.len() + inline.len())?;
        try_reserve(&mut self.entries, 1)?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(inline);
        let key = start..start + key.len();
        let value = match value {
            Some(ValueRef::Shared(block)) => {
                self.shared_bytes += block.value().len();
                Value::Shared(block.share())
            }
            _ => Value::Copied(inline.len()),
        };
        self.entries.push(Entry {
            key,
            value,
            time_left,
        });
        Ok(())
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.shared_bytes = 0;
    }

    /// Adds entries of one shard at and after a cursor; returns the next one within the shard.
    pub(super) fn add(
        &mut self,
        cx: &Context,
        shard: &Shard<Sparse>,
        from: u32,
        filter: &Filter,
        values: bool,
    ) -> Result<Option<u32>> {
        let mut outcome = Ok(());
        let mut next = None;
        if shard.len() > 0 {
            next = shard.scan(cx, from, BUCKETS, |key, found: shard::Entry<'_>| {
                if outcome.is_ok() && filter.accepts(key) {
                    let value = values.then_some(found.value);
                    outcome = self.push(key, value, found.time_left);
                }
            });
        }
        outcome.map(|()| next)
    }

    /// Fills the page from `shards` shards, of which `add` adds some entries at a time; returns the next cursor.
    pub(super) fn fill(
        &mut self,
        cursor: u64,
        shards: usize,
        count: usize,
        mut add: impl FnMut(&mut Page, usize, u32) -> Result<Option<u32>>,
    ) -> Result<u64> {
        self.clear();
        let mut number = (cursor >> 32) as usize;
        let mut from = cursor as u32;
        let mut looked_at = 0;
        while number < shards {
            match add(self, number, from)? {
                Some(next) => from = next,
                None => {
                    number += 1;
                    from = 0;
                }
            }
            looked_at += u64::from(BUCKETS);
            let full =
                self.len() >= count.max(1) || self.bytes.len() + self.shared_bytes >= PAGE_BYTES;
            if full || looked_at >= MOST_BUCKETS {
                break;
            }
        }
        if number >= shards {
            return Ok(0);
        }
        Ok((number as u64) << 32 | u64::from(from))
    }
}

/// Bytes after which a page ends, shared ones included, so that who copies a page does not copy much.
const PAGE_BYTES: usize = 1 << 20;
/// Buckets that are looked at under one lock.
const BUCKETS: u32 = 96;
/// Calls end after so many buckets, also where the filter lets nothing through.
const MOST_BUCKETS: u64 = 1 << 16;

impl Store {
    /// Finds about `count` entries at and after a cursor, and returns the next cursor. 0 starts, and 0 is
    /// returned at the end; cursors stay below 2^45. Keys added or removed during a scan may or may not be
    /// seen. A page may be empty. `page` is cleared first.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn scan(
        &self,
        cursor: u64,
        filter: &Filter,
        count: usize,
        values: bool,
        page: &mut Page,
    ) -> Result<u64> {
        page.fill(cursor, self.cells().len(), count, |page, number, from| {
            let shard = self.cells()[number].read(Wait::Block)?;
            page.add(self.cx(), &shard, from, filter, values)
        })
    }

    /// Copies the key of an entry into `key`, any of them with about the same chance; false where there is none. O(1) expected,
    /// and O(shards).
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub fn random_key(&self, key: &mut Vec<u8>) -> Result<bool> {
        let lens = |number: usize| self.cells()[number].len.load(Ordering::Relaxed);
        random_key(self.cells().len(), lens, key, |page, number, from| {
            let shard = self.cells()[number].read(Wait::Block)?;
            page.add(self.cx(), &shard, from, &Filter::default(), false)
        })
    }
}

/// Picks a shard by its length and a place in it by chance, and one of the entries there; goes on from there where there is none.
pub(super) fn random_key(
    shards: usize,
    len_of: impl Fn(usize) -> u64,
    key: &mut Vec<u8>,
    mut add: impl FnMut(&mut Page, usize, u32) -> Result<Option<u32>>,
) -> Result<bool> {
    let random = || RandomState::new().build_hasher().finish();
    let total: u64 = (0..shards).map(&len_of).sum();
    let mut wanted = if total == 0 { 0 } else { random() % total };
    let beyond = |&number: &usize| {
        let len = len_of(number);
        let is_it = wanted < len;
        wanted = wanted.saturating_sub(len);
        is_it
    };
    let first = (0..shards).find(beyond).unwrap_or(0);
    let mut page = Page::default();
    let mut from = Some(random() as u32);
    // The first shard once more at the end, from its beginning.
    for step in 0..=shards {
        let number = (first + step) % shards;
        while let Some(at) = from {
            from = add(&mut page, number, at)?;
            if !page.is_empty() {
                key.clear();
                let found = page.key(random() as usize % page.len());
                try_reserve(key, found.len())?;
                key.extend_from_slice(found);
                return Ok(true);
            }
        }
        from = Some(0);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Options, Wait};

    #[test]
    fn large_values_are_not_copied_into_a_page() {
        let store = Store::new(&Options::default()).unwrap();
        let value = vec![7; 1 << 20];
        let keys: Vec<_> = (0..u64::MAX)
            .map(u64::to_le_bytes)
            .filter(|key| store.cx().placer.place(key).shard == 0)
            .take(20)
            .collect();
        for key in &keys {
            store.set(key, &value, Wait::Block).unwrap();
        }
        let mut page = Page::default();
        store
            .scan(0, &Filter::default(), 1000, true, &mut page)
            .unwrap();
        assert!(page.bytes.capacity() < PAGE_BYTES, "{}", page.bytes.len());
        assert!(!page.is_empty());
        assert!((0..page.len()).all(|i| page.value(i) == value));
        store
            .scan(0, &Filter::default(), 1000, false, &mut page)
            .unwrap();
        assert!((0..page.len()).all(|i| page.value(i).is_empty()));
    }
}
