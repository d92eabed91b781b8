//! The index of one shard: bounded sub-tables reached by hash prefix (extendible hashing, Fagin et al.
//! 1979), each probed linearly. It maps the order hash of a key to record offsets; it knows no keys and
//! reads them only through [`Keys`].
//!
//! The order hash is 32 bits. Its top bits pick the sub-table, the next bits the home bucket, and its low
//! byte is the tag in the slot, so the entries of a shard lie in hash order up to the displacement of
//! probing. A cursor is an order hash, and so outlives growth, splits and merges.

use super::table::{
    GROUP, GroupImage, NO_OFFSET, TOMBSTONE, Table, try_push, try_reserve, try_reserve_exact,
};
use crate::Result;

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
/// Groups whose images a merge holds at a time; longer clusters take the slow way.
const WINDOW: usize = 4;

/// How the index reads the keys that its offsets stand for.
pub(crate) trait Keys {
    /// Order hash of the key of the record at `offset`.
    fn order(&self, offset: u32) -> u32;
    /// Asks for the record's cache line.
    fn prefetch(&self, offset: u32);
}

/// How a merge decides between records.
pub(crate) trait Resolve {
    /// Whether the records at both offsets have the same key.
    fn same_key(&self, a: u32, b: u32) -> bool;
    /// Both records have the same key: returns the one to keep, and disposes of the other.
    fn keep(&mut self, old: u32, new: u32) -> u32;
    /// The record found no room: disposes of it.
    fn discard(&mut self, offset: u32);
}

/// What a merge has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Merged {
    /// Entries whose key was not there.
    pub(crate) new: u64,
    /// Entries whose key was there.
    pub(crate) old: u64,
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
            slots_moved: 0,
        }
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
        } else if (sub.groups > 1 && live < buckets / 4) || table.tombstones() > buckets / 3 {
            // Out of memory here only means that the table stays as large as it is.
            let _ = self.rebuild(found.table as usize, groups_for(live, GROWN), keys);
        }
    }

    /// Makes room in a sub-table: by a half more, or, at the bound, by a split in two.
    fn grow(&mut self, sub: usize, keys: &impl Keys) -> Result<()> {
        let (groups, depth) = (self.tables[sub].groups, self.tables[sub].depth);
        let live = self.tables[sub].live();
        if live < capacity(groups) * 3 / 4 {
            return self.rebuild(sub, groups.max(1), keys);
        }
        let grown = groups + groups / 2 + 1;
        if grown > MAX_GROUPS && depth < MAX_DEPTH {
            self.split(sub, GROWN, groups_for(live / 2, GROWN).max(1), keys)
        } else {
            self.rebuild(sub, grown, keys)
        }
    }

    /// Makes a sub-table anew with `groups` groups.
    fn rebuild(&mut self, sub: usize, groups: u32, keys: &impl Keys) -> Result<()> {
        let items = self.collect(sub, keys)?;
        let table = build(&items, groups, self.tables[sub].depth)?;
        self.slots_moved += items.len() as u64;
        self.tables[sub].table = Some(table);
        self.tables[sub].groups = groups;
        Ok(())
    }

    /// Splits a sub-table by the next bit of the order hash into two at a load of `percent`, each of
    /// `groups` groups at least.
    fn split(&mut self, sub: usize, percent: u64, groups: u32, keys: &impl Keys) -> Result<()> {
        let depth = self.tables[sub].depth;
        let items = self.collect(sub, keys)?;
        let bit = 1u64 << (63 - depth);
        let (low, high) = items.split_at(items.partition_point(|i| i & bit == 0));
        let make = |items: &[Item]| -> Result<Sub<T>> {
            let groups = groups_for(items.len() as u32, percent).max(groups);
            Ok(Sub {
                table: Some(build(items, groups, depth + 1)?),
                groups,
                depth: depth + 1,
            })
        };
        let (low, high) = (make(low)?, make(high)?);
        try_reserve(&mut self.tables, 1)?;
        if self.depth == depth {
            self.double_directory()?;
        }
        self.slots_moved += items.len() as u64;
        let fresh = self.tables.len() as u16;
        self.tables[sub] = low;
        self.tables.push(high);
        // The entries of a table are neighbours in the directory: the upper half of them moves.
        let span = 1usize << (self.depth - depth);
        let first = self
            .directory
            .iter()
            .position(|&t| usize::from(t) == sub)
            .expect("every table is in the directory");
        for entry in &mut self.directory[first + span / 2..first + span] {
            *entry = fresh;
        }
        Ok(())
    }

    fn double_directory(&mut self) -> Result<()> {
        let old: &[u16] = if self.depth == 0 {
            &[0]
        } else {
            &self.directory
        };
        let mut doubled = Vec::new();
        try_reserve_exact(&mut doubled, old.len() * 2)?;
        doubled.extend(old.iter().flat_map(|&t| [t, t]));
        self.directory = doubled;
        self.depth += 1;
        Ok(())
    }

    /// The live entries of a sub-table, in hash order.
    fn collect(&self, sub: usize, keys: &impl Keys) -> Result<Vec<Item>> {
        const AHEAD: usize = 16;
        let sub = &self.tables[sub];
        let mut items: Vec<Item> = Vec::new();
        let Some(table) = &sub.table else {
            return Ok(items);
        };
        try_reserve_exact(&mut items, sub.live() as usize)?;
        let mut image = GroupImage::EMPTY;
        for group in 0..sub.groups {
            table.read_group(group, &mut image);
            items.extend(image.live().map(|(_, offset)| item(0, offset)));
        }
        for i in 0..items.len() {
            if let Some(&ahead) = items.get(i + AHEAD) {
                keys.prefetch(ahead as u32);
            }
            let offset = items[i] as u32;
            items[i] = item(keys.order(offset), offset);
        }
        items.sort_unstable();
        Ok(items)
    }

    /// Sizes the index for `expected` entries in all, so that adding them moves none. O(entries).
    pub(crate) fn reserve(&mut self, expected: usize, keys: &impl Keys) -> Result<()> {
        if self.tables.is_empty() {
            try_push(&mut self.tables, Sub::empty(0))?;
        }
        let mut sub = 0;
        while sub < self.tables.len() {
            let depth = self.tables[sub].depth;
            let share = (expected >> depth).min(u32::MAX as usize / 100) as u32;
            let groups = groups_for(share, PACKED).max(1);
            if groups > MAX_GROUPS && depth < MAX_DEPTH {
                // Both halves are visited again: one here, one at the end.
                self.split(sub, PACKED, 1, keys)?;
            } else {
                if capacity(self.tables[sub].groups) < share {
                    self.rebuild(sub, groups, keys)?;
                }
                sub += 1;
            }
        }
        Ok(())
    }

    /// Number of sub-tables; each is a step of [`Index::compact`].
    pub(crate) fn tables(&self) -> usize {
        self.tables.len()
    }

    /// Makes one sub-table as small as its entries allow where it is less than 3/4 of what it could be.
    pub(crate) fn compact(&mut self, sub: usize, keys: &impl Keys) -> Result<()> {
        let Some(sub_table) = self.tables.get(sub) else {
            return Ok(());
        };
        let groups = groups_for(sub_table.live(), PACKED).max(1);
        if sub_table.table.is_some() && groups < sub_table.groups * 3 / 4 {
            self.rebuild(sub, groups, keys)?;
        }
        Ok(())
    }

    /// Joins sub-tables that have become small with their neighbours until none can be.
    pub(crate) fn join(&mut self, keys: &impl Keys) -> Result<()> {
        let mut slot = 0;
        while self.depth > 0 && slot < self.directory.len() {
            let sub = usize::from(self.directory[slot]);
            let depth = self.tables[sub].depth;
            let span = 1usize << (self.depth - depth);
            let buddy_slot = (slot & !(span - 1)) ^ span;
            let buddy = usize::from(self.directory[buddy_slot.min(self.directory.len() - 1)]);
            let joined = self.tables[sub].live() + self.tables[buddy].live();
            if depth == 0
                || buddy == sub
                || self.tables[buddy].depth != depth
                || groups_for(joined, PACKED) > MAX_GROUPS / 2
            {
                slot = (slot & !(span - 1)) + span;
                continue;
            }
            self.join_pair(sub.min(buddy), sub.max(buddy), keys)?;
            slot = 0;
        }
        Ok(())
    }

    fn join_pair(&mut self, kept: usize, gone: usize, keys: &impl Keys) -> Result<()> {
        let mut items = self.collect(kept, keys)?;
        let other = self.collect(gone, keys)?;
        try_reserve_exact(&mut items, other.len())?;
        items.extend_from_slice(&other);
        items.sort_unstable();
        let depth = self.tables[kept].depth - 1;
        let groups = groups_for(items.len() as u32, PACKED).max(1);
        let table = build(&items, groups, depth)?;
        self.slots_moved += items.len() as u64;
        self.tables[kept] = Sub {
            table: Some(table),
            groups,
            depth,
        };
        self.tables.swap_remove(gone);
        let moved = self.tables.len();
        for entry in &mut self.directory {
            if usize::from(*entry) == gone {
                *entry = kept as u16;
            } else if usize::from(*entry) == moved {
                *entry = gone as u16;
            }
        }
        while self.depth > 0 && self.tables.iter().all(|t| t.depth < self.depth) {
            self.depth -= 1;
            let mut i = 0;
            self.directory.retain(|_| {
                i += 1;
                i % 2 == 1
            });
        }
        let mut exact = Vec::new();
        // Out of memory here only means that the directory keeps its capacity.
        if self.directory.len() < self.directory.capacity()
            && try_reserve_exact(&mut exact, self.directory.len()).is_ok()
        {
            exact.extend_from_slice(&self.directory);
            self.directory = exact;
        }
        Ok(())
    }

    /// Adds entries sorted by order hash; of equal order hashes, in the order given. Sequential over the
    /// groups, each written once by one exact allocation. On failure the entries that found no room are
    /// discarded, the others are in.
    pub(crate) fn merge(
        &mut self,
        items: &[Item],
        context: &mut (impl Keys + Resolve),
        merged: &mut Merged,
    ) -> Result<()> {
        let mut done = 0;
        let outcome = self.merge_all(items, context, merged, &mut done);
        if outcome.is_err() {
            for &entry in &items[done..] {
                context.discard(entry as u32);
            }
        }
        outcome
    }

    fn merge_all(
        &mut self,
        items: &[Item],
        context: &mut (impl Keys + Resolve),
        merged: &mut Merged,
        done: &mut usize,
    ) -> Result<()> {
        if self.tables.is_empty() && !items.is_empty() {
            try_push(&mut self.tables, Sub::empty(0))?;
        }
        while *done < items.len() {
            let rest = &items[*done..];
            let sub = self.sub_of((rest[0] >> 32) as u32);
            let depth = self.tables[sub].depth;
            let prefix = |i: Item| if depth == 0 { 0 } else { i >> (64 - depth) };
            let end = rest.partition_point(|&i| prefix(i) <= prefix(rest[0]));
            // Room for all of them before the first: sorted entries would crowd a table that grows as it
            // fills at its front.
            let mut needed = self.tables[sub].used() + end as u32;
            if needed > capacity(self.tables[sub].groups) {
                needed = self.tables[sub].used() + most_keys(&rest[..end], context);
            }
            if needed > capacity(self.tables[sub].groups) {
                // A table that has to grow now will have to again; a fresh one is just right, once it is split often
                // enough.
                let fresh = self.tables[sub].used() == 0;
                let slack = if fresh { 0 } else { needed / 4 };
                let groups = groups_for(needed + slack, PACKED);
                if groups > MAX_GROUPS && depth < MAX_DEPTH {
                    let half = if fresh {
                        1
                    } else {
                        (groups / 2 + 1).min(MAX_GROUPS)
                    };
                    self.split(sub, PACKED, half, context)?;
                } else {
                    self.rebuild(sub, groups, context)?;
                }
                continue;
            }
            self.merge_into(sub, &rest[..end], context, merged, done)?;
        }
        Ok(())
    }

    /// Adds items to one sub-table, which has room for all of them.
    fn merge_into(
        &mut self,
        sub: usize,
        items: &[Item],
        context: &mut impl Resolve,
        merged: &mut Merged,
        done: &mut usize,
    ) -> Result<()> {
        let groups = self.tables[sub].groups;
        let depth = self.tables[sub].depth;
        let table = self.tables[sub]
            .table
            .as_mut()
            .expect("items need room, so there is a table");
        let mut window = Window::new(groups);
        for &entry in items {
            let order = (entry >> 32) as u32;
            let offset = entry as u32;
            let start = home(order << depth, groups);
            window.advance(table, start / GROUP, context, merged)?;
            let added = match window.add(table, start, tag(order), offset, context) {
                Some(added) => added,
                None => {
                    // The probe ran off the window: write it back and go one by one.
                    window.flush(table, context, merged)?;
                    add_one(table, groups, start, tag(order), offset, context)?
                }
            };
            *done += 1;
            merged.new += u64::from(added);
            merged.old += u64::from(!added);
        }
        window.flush(table, context, merged)
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

/// No fewer than the keys of these sorted items; exact where those of one key are neighbours.
fn most_keys(items: &[Item], context: &impl Resolve) -> u32 {
    let again = |pair: &&[Item]| {
        pair[0] >> 32 == pair[1] >> 32 && context.same_key(pair[0] as u32, pair[1] as u32)
    };
    (items.len() - items.windows(2).filter(again).count()) as u32
}

/// A table of `groups` groups with the sorted items in it, each group one exact allocation.
fn build<T: Table>(items: &[Item], groups: u32, depth: u8) -> Result<T> {
    let mut table = T::with_groups(groups)?;
    let mut image = GroupImage::EMPTY;
    let mut group = 0;
    let mut next_free = 0;
    for (i, &entry) in items.iter().enumerate() {
        let order = (entry >> 32) as u32;
        let position = home(order << depth, groups).max(next_free);
        if position == groups * GROUP {
            // The last cluster wraps around: what is left goes to the front.
            table.write_group(group, &image)?;
            for &entry in &items[i..] {
                let free = table.find_free(0);
                table.put(free, tag((entry >> 32) as u32), entry as u32)?;
            }
            return Ok(table);
        }
        if position / GROUP != group {
            table.write_group(group, &image)?;
            image.bitmap = 0;
            group = position / GROUP;
        }
        image.set(position % GROUP, tag(order), entry as u32);
        next_free = position + 1;
    }
    table.write_group(group, &image)?;
    Ok(table)
}

/// Adds one item by probing the table itself.
fn add_one<T: Table>(
    table: &mut T,
    groups: u32,
    start: u32,
    tag: u8,
    offset: u32,
    context: &mut impl Resolve,
) -> Result<bool> {
    let mut position = start;
    loop {
        let (old, at) = table.find(position, tag);
        if old == NO_OFFSET {
            let free = table.find_free(start);
            table.put(free, tag, offset)?;
            return Ok(true);
        }
        if context.same_key(old, offset) {
            let kept = context.keep(old, offset);
            table.put(at, tag, kept)?;
            return Ok(false);
        }
        position = if at + 1 == groups * GROUP { 0 } else { at + 1 };
    }
}

/// Images of a few neighbouring groups, written back as a merge passes them.
struct Window {
    images: [GroupImage; WINDOW],
    dirty: [bool; WINDOW],
    first: u32,
    loaded: usize,
    groups: u32,
}

impl Window {
    fn new(groups: u32) -> Self {
        Window {
            images: [GroupImage::EMPTY; WINDOW],
            dirty: [false; WINDOW],
            first: 0,
            loaded: 0,
            groups,
        }
    }

    fn slot(group: u32) -> usize {
        group as usize % WINDOW
    }

    /// Writes back the groups before `group`.
    fn advance<T: Table>(
        &mut self,
        table: &mut T,
        group: u32,
        context: &mut impl Resolve,
        merged: &mut Merged,
    ) -> Result<()> {
        while self.loaded > 0 && self.first < group {
            self.write_first(table, context, merged)?;
        }
        if self.loaded == 0 {
            self.first = group;
        }
        Ok(())
    }

    fn flush<T: Table>(
        &mut self,
        table: &mut T,
        context: &mut impl Resolve,
        merged: &mut Merged,
    ) -> Result<()> {
        self.advance(table, u32::MAX, context, merged)
    }

    fn write_first<T: Table>(
        &mut self,
        table: &mut T,
        context: &mut impl Resolve,
        merged: &mut Merged,
    ) -> Result<()> {
        let slot = Self::slot(self.first);
        if self.dirty[slot] {
            let written = table.write_group(self.first, &self.images[slot]);
            if written.is_err() {
                self.abandon(table, context, merged);
                return written;
            }
        }
        self.first += 1;
        self.loaded -= 1;
        Ok(())
    }

    /// Memory ran out: keeps what replaces an entry in place, which needs none, and discards what is new,
    /// because a probe may have passed over a bucket that stays empty.
    fn abandon<T: Table>(
        &mut self,
        table: &mut T,
        context: &mut impl Resolve,
        merged: &mut Merged,
    ) {
        let mut before = GroupImage::EMPTY;
        for group in self.first..self.first + self.loaded as u32 {
            let image = &self.images[Self::slot(group)];
            table.read_group(group, &mut before);
            for (i, offset) in image.live() {
                if !before.is_set(i) || before.offset(i) == TOMBSTONE {
                    context.discard(offset);
                    merged.new -= 1;
                } else if before.offset(i) != offset {
                    let put = table.put(group * GROUP + i, image.tag(i), offset);
                    debug_assert!(put.is_ok(), "the bucket is occupied");
                }
            }
        }
        self.loaded = 0;
    }

    /// Adds an item whose home is `start`; None where the probe leaves the window or the table.
    fn add<T: Table>(
        &mut self,
        table: &T,
        start: u32,
        tag: u8,
        offset: u32,
        context: &mut impl Resolve,
    ) -> Option<bool> {
        let mut free = None;
        let mut position = start;
        loop {
            let group = position / GROUP;
            if group == self.groups || (group - self.first) as usize >= WINDOW {
                return None;
            }
            let slot = Self::slot(group);
            if (group - self.first) as usize == self.loaded {
                table.read_group(group, &mut self.images[slot]);
                self.dirty[slot] = false;
                self.loaded += 1;
            }
            let image = &mut self.images[slot];
            let i = position % GROUP;
            if !image.is_set(i) {
                break;
            }
            let old = image.offset(i);
            if old == TOMBSTONE {
                free = free.or(Some(position));
            } else if image.tag(i) == tag && context.same_key(old, offset) {
                let kept = context.keep(old, offset);
                image.set(i, tag, kept);
                self.dirty[slot] = true;
                return Some(false);
            }
            position += 1;
        }
        let target = free.unwrap_or(position);
        let slot = Self::slot(target / GROUP);
        self.images[slot].set(target % GROUP, tag, offset);
        self.dirty[slot] = true;
        Some(true)
    }
}
