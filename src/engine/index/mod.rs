//! The index of one shard: bounded sub-tables reached by hash prefix (extendible hashing, Fagin et al.
//! 1979), each probed linearly. It maps the order hash of a key to record offsets; it knows no keys and
//! reads them only through [`Keys`].
//!
//! The order hash is 32 bits. Its top bits pick the sub-table, the next bits the home bucket, and its low
//! byte is the tag in the slot, so the entries of a shard lie in hash order up to the displacement of
//! probing. A cursor is an order hash, and so outlives growth, splits and merges.

mod merge;
mod resize;

use super::table::{GROUP, GroupImage, NO_OFFSET, TOMBSTONE, Table, try_push};
use crate::Result;

pub(crate) use merge::{Merged, Resolve};

/// A sub-table of more groups is split in two: at most it holds 7,200 entries.
pub(crate) const MAX_GROUPS: u32 = 200;
/// Percent of the buckets that may be used before a table grows; that a table has which is built for what it holds;
/// that one has which is built to grow. Bounds are low because an empty bucket costs a third of a byte, and a probe
/// that finds nothing passes 8 slots at 75 % but 22 at 85 %.
const FULL: u64 = 75;
const PACKED: u64 = 70;
const GROWN: u64 = 55;
/// Deeper, hashes have no bits left to split by, and a table grows past [`MAX_GROUPS`] instead.
const MAX_DEPTH: u8 = 14;

/// How the index reads the keys that its offsets stand for.
pub(crate) trait Keys {
    /// Order hash of the key of the record at `offset`.
    fn order(&self, offset: u32) -> u32;
    /// Asks for the record's cache line.
    fn prefetch(&self, offset: u32);
}

/// Where an entry stands in the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) offset: u32,
    table: u32,
    position: u32,
}

struct Sub<T> {
    /// None while the sub-table is empty.
    table: Option<T>,
    groups: u32,
    depth: u8,
}

impl<T: Table> Sub<T> {
    const fn empty(depth: u8) -> Self {
        Sub {
            table: None,
            groups: 0,
            depth,
        }
    }

    fn used(&self) -> u32 {
        self.table.as_ref().map_or(0, T::used)
    }

    fn live(&self) -> u32 {
        self.table.as_ref().map_or(0, |t| t.used() - t.tombstones())
    }

    #[inline]
    fn home(&self, order: u32) -> u32 {
        home(order << self.depth, self.groups)
    }
}

/// Home bucket of a hash: its share of the table, so that hash order is bucket order.
#[inline]
fn home(hash: u32, groups: u32) -> u32 {
    ((u64::from(hash) * u64::from(groups * GROUP)) >> 32) as u32
}

#[inline]
fn tag(order: u32) -> u8 {
    order as u8
}

/// Most used buckets that a table of so many groups may have.
fn capacity(groups: u32) -> u32 {
    (u64::from(groups * GROUP) * FULL / 100) as u32
}

/// Groups for so many entries at a load of `percent`.
fn groups_for(entries: u32, percent: u64) -> u32 {
    (u64::from(entries) * 100).div_ceil(u64::from(GROUP) * percent) as u32
}

/// The index of one shard.
pub(crate) struct Index<T> {
    tables: Vec<Sub<T>>,
    /// By the top `depth` bits of the order hash; empty while there is one table.
    directory: Vec<u16>,
    depth: u8,
    /// A sub-table of more groups is split.
    most_groups: u32,
    slots_moved: u64,
}

/// Takes part in sorting: order hash above, offset below.
type Item = u64;

#[inline]
fn item(order: u32, offset: u32) -> Item {
    u64::from(order) << 32 | u64::from(offset)
}

impl<T: Table> Index<T> {
    pub(crate) const fn new() -> Self {
        Index {
            tables: Vec::new(),
            directory: Vec::new(),
            depth: 0,
            most_groups: MAX_GROUPS,
            slots_moved: 0,
        }
    }

    /// An index whose sub-tables are split at fewer groups than [`MAX_GROUPS`].
    pub(crate) fn with_most_groups(groups: u32) -> Self {
        Index {
            most_groups: groups.min(MAX_GROUPS),
            ..Index::new()
        }
    }

    /// An empty index that splits as this one does.
    pub(crate) fn emptied(&self) -> Self {
        Self::with_most_groups(self.most_groups)
    }

    /// Slots moved by growth, splits and shrinking since the index was made.
    pub(crate) fn slots_moved(&self) -> u64 {
        self.slots_moved
    }

    #[inline]
    fn sub_of(&self, order: u32) -> usize {
        if self.depth == 0 {
            0
        } else {
            usize::from(self.directory[(order >> (32 - self.depth)) as usize])
        }
    }

    /// The entry of this order hash for which `matches` says yes. O(1) expected.
    #[inline]
    pub(crate) fn find(&self, order: u32, mut matches: impl FnMut(u32) -> bool) -> Option<Found> {
        let sub = self.sub_of(order);
        let Sub {
            table: Some(table), ..
        } = self.tables.get(sub)?
        else {
            return None;
        };
        let mut position = self.tables[sub].home(order);
        loop {
            let (offset, at) = table.find(position, tag(order));
            if offset == NO_OFFSET {
                return None;
            }
            if matches(offset) {
                return Some(Found {
                    offset,
                    table: sub as u32,
                    position: at,
                });
            }
            position = if at + 1 == self.tables[sub].groups * GROUP {
                0
            } else {
                at + 1
            };
        }
    }

    /// Adds an entry that is not there yet. On failure nothing has changed but, perhaps, the tables' sizes.
    pub(crate) fn insert(&mut self, order: u32, offset: u32, keys: &impl Keys) -> Result<()> {
        if self.tables.is_empty() {
            try_push(&mut self.tables, Sub::empty(0))?;
        }
        loop {
            let sub = self.sub_of(order);
            let groups = self.tables[sub].groups;
            if self.tables[sub].used() < capacity(groups) {
                break;
            }
            self.grow(sub, keys)?;
        }
        let sub = self.sub_of(order);
        let home = self.tables[sub].home(order);
        let table = self.tables[sub].table.as_mut().expect("grown above");
        let position = table.find_free(home);
        table.put(position, tag(order), offset)
    }

    /// Points an entry to another record of the same key.
    pub(crate) fn replace(&mut self, found: Found, order: u32, offset: u32) {
        let table = self.tables[found.table as usize].table.as_mut();
        let put = table.map(|t| t.put(found.position, tag(order), offset));
        debug_assert!(matches!(put, Some(Ok(()))), "the bucket is occupied");
    }

    /// Takes an entry out, and makes its table smaller where it has become much too large.
    pub(crate) fn remove(&mut self, found: Found, keys: &impl Keys) {
        let sub = &mut self.tables[found.table as usize];
        let Some(table) = sub.table.as_mut() else {
            return;
        };
        table.erase(found.position);
        let buckets = sub.groups * GROUP;
        let live = table.used() - table.tombstones();
        if live == 0 {
            sub.table = None;
            sub.groups = 0;
        } else if Self::may_shrink(sub.groups, live) || table.tombstones() > buckets / 3 {
            // Out of memory here only means that the table stays as large as it is.
            let _ = self.shrink(found.table as usize, groups_for(live, GROWN), keys);
        }
    }

    /// Calls `visit(offset, order)` for the entries whose order hash is at least `from` and below the
    /// cursor that is returned (None: the end of the shard), about `buckets` buckets' worth of them.
    pub(crate) fn scan(
        &self,
        from: u32,
        buckets: u32,
        keys: &impl Keys,
        mut visit: impl FnMut(u32, u32),
    ) -> Option<u32> {
        let sub = self.tables.get(self.sub_of(from))?;
        let depth = sub.depth;
        let low = if depth == 0 {
            0
        } else {
            from >> (32 - depth) << (32 - depth)
        };
        let high = u64::from(low) + (1u64 << (32 - depth));
        let as_cursor = |order: u64| u32::try_from(order).ok();
        let Some(table) = &sub.table else {
            return as_cursor(high);
        };
        let all = sub.groups * GROUP;
        let first = sub.home(from);
        let last = (first + buckets.max(1)).min(all);
        let next = if last == all {
            high
        } else {
            // The smallest order hash whose home is `last`.
            let hash = (u64::from(last) << 32).div_ceil(u64::from(all));
            (u64::from(low) + hash.div_ceil(1 << depth)).min(high)
        };
        let mut position = first;
        let mut image = GroupImage::EMPTY;
        let mut loaded = u32::MAX;
        for step in 0..all {
            if position / GROUP != loaded {
                loaded = position / GROUP;
                table.read_group(loaded, &mut image);
                for (_, offset) in image.live() {
                    keys.prefetch(offset);
                }
            }
            let i = position % GROUP;
            if image.is_set(i) {
                let offset = image.offset(i);
                if offset != TOMBSTONE {
                    let order = keys.order(offset);
                    if order >= from && u64::from(order) < next {
                        visit(offset, order);
                    }
                }
            } else if first + step >= last {
                break;
            }
            position = if position + 1 == all { 0 } else { position + 1 };
        }
        as_cursor(next)
    }

    /// The sub-table of an order hash, unless it is empty, and the home bucket there.
    #[inline]
    fn table_of(&self, order: u32) -> Option<(&T, u32)> {
        let sub = self.tables.get(self.sub_of(order))?;
        Some((sub.table.as_ref()?, sub.home(order)))
    }

    /// Asks for the group header of an order hash.
    #[inline]
    pub(crate) fn prefetch_group(&self, order: u32) {
        if let Some((table, home)) = self.table_of(order) {
            table.prefetch_group(home);
        }
    }

    /// Asks for the slots of an order hash; its group header should have arrived.
    #[inline]
    pub(crate) fn prefetch_slots(&self, order: u32) {
        if let Some((table, home)) = self.table_of(order) {
            table.prefetch_slots(home);
        }
    }

    /// Asks for what a new slot of an order hash is going to change; its group header should have arrived.
    #[inline]
    pub(crate) fn prefetch_block(&self, order: u32) {
        if let Some((table, home)) = self.table_of(order) {
            table.prefetch_block(home);
        }
    }

    /// Offset of the first slot with the tag of an order hash: in most cases its record.
    #[inline]
    pub(crate) fn first_candidate(&self, order: u32) -> Option<u32> {
        let (table, home) = self.table_of(order)?;
        let (offset, _) = table.find(home, tag(order));
        (offset != NO_OFFSET).then_some(offset)
    }

    /// Every live offset, in no order.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(u32)) {
        let mut image = GroupImage::EMPTY;
        for sub in &self.tables {
            for group in 0..sub.groups {
                if let Some(table) = &sub.table {
                    table.read_group(group, &mut image);
                    image.live().for_each(|(_, offset)| visit(offset));
                }
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let tables: usize = self
            .tables
            .iter()
            .filter_map(|s| s.table.as_ref())
            .map(T::bytes)
            .sum();
        tables
            + self.tables.capacity() * size_of::<Sub<T>>()
            + self.directory.capacity() * size_of::<u16>()
    }

    pub(crate) fn buckets(&self) -> u64 {
        self.tables
            .iter()
            .map(|s| u64::from(s.groups * GROUP))
            .sum()
    }

    /// Groups that hold at least one slot.
    pub(crate) fn nonempty_groups(&self) -> u64 {
        let tables = self.tables.iter().filter_map(|s| s.table.as_ref());
        tables.map(|t| u64::from(t.nonempty_groups())).sum()
    }
}
