//! Changes of size: growth, splits, joins, and tables made anew. Each moves one sub-table, or two.

use super::{GROWN, Index, Item, Keys, MAX_DEPTH, PACKED, Sub};
use super::{capacity, groups_for, home, item, tag};
use crate::Result;
use crate::engine::table::{GROUP, GroupImage, Table, try_push, try_reserve, try_reserve_exact};

impl<T: Table> Index<T> {
    /// Makes room in a sub-table: as much again, or, at the bound, by a split in two.
    pub(super) fn grow(&mut self, sub: usize, keys: &impl Keys) -> Result<()> {
        let (groups, depth) = (self.tables[sub].groups, self.tables[sub].depth);
        let live = self.tables[sub].live();
        if live < capacity(groups) * 3 / 4 {
            return self.rebuild(sub, groups.max(1), keys);
        }
        let grown = 2 * groups + 1;
        if grown > self.most_groups && depth < MAX_DEPTH {
            self.split(sub, GROWN, groups_for(live / 2, GROWN).max(1), keys)
        } else {
            self.rebuild(sub, grown, keys)
        }
    }

    /// Makes a sub-table anew with `groups` groups.
    pub(super) fn rebuild(&mut self, sub: usize, groups: u32, keys: &impl Keys) -> Result<()> {
        let items = self.collect(sub, keys)?;
        self.place(sub, &items, groups)
    }

    /// Whether a table in which so many entries are left may be much too large. Where shrinking turns out to crowd them it is not
    /// tried again before a sixteenth of the buckets has become free.
    pub(super) fn may_shrink(groups: u32, live: u32) -> bool {
        let buckets = groups * GROUP;
        groups > 1 && live < buckets / 4 && live.is_multiple_of(buckets / 16)
    }

    /// Makes a sub-table anew with `groups` groups, or with as many more as it takes not to crowd its entries: when what is left
    /// has neighbouring hashes, because entries were taken out in the order of their hashes, few buckets would be home to all.
    pub(super) fn shrink(&mut self, sub: usize, groups: u32, keys: &impl Keys) -> Result<()> {
        let items = self.collect(sub, keys)?;
        let &Sub {
            groups: most,
            depth,
            ..
        } = &self.tables[sub];
        let groups = groups_not_crowded(&items, groups.max(1), most, depth);
        let tombstones = self.tables[sub].table.as_ref().map_or(0, Table::tombstones);
        if groups < most || tombstones > 0 {
            self.place(sub, &items, groups)?;
        }
        Ok(())
    }

    fn place(&mut self, sub: usize, items: &[Item], groups: u32) -> Result<()> {
        let table = build(items, groups, self.tables[sub].depth)?;
        self.slots_moved += items.len() as u64;
        self.tables[sub].table = Some(table);
        self.tables[sub].groups = groups;
        Ok(())
    }

    /// Splits a sub-table by the next bit of the order hash into two at a load of `percent`, each of
    /// `groups` groups at least.
    pub(super) fn split(
        &mut self,
        sub: usize,
        percent: u64,
        groups: u32,
        keys: &impl Keys,
    ) -> Result<()> {
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
            if groups > self.most_groups && depth < MAX_DEPTH {
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
            self.shrink(sub, groups, keys)?;
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
                || groups_for(joined, PACKED) > self.most_groups / 2
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
        let groups = groups_not_crowded(&items, groups, self.most_groups, depth);
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
}

/// How many groups sorted items take without being far from home, starting from so many, doubling, `most` at most.
fn groups_not_crowded(items: &[Item], mut groups: u32, most: u32, depth: u8) -> u32 {
    /// Buckets between an item and its home, in the mean: at a load of 95 % they are 9.
    const FAR: u64 = 16;
    while groups < most {
        let (mut next_free, mut away) = (0, 0);
        for &entry in items {
            let home = home(((entry >> 32) as u32) << depth, groups);
            let position = home.max(next_free);
            away += u64::from(position - home);
            next_free = position + 1;
        }
        if away <= FAR * items.len() as u64 {
            break;
        }
        groups *= 2;
    }
    groups.min(most)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn items(count: u64, share: u64) -> Vec<Item> {
        let order = |i| ((i << 32) / count / share) as u32;
        (0..count).map(|i| item(order(i), i as u32)).collect()
    }

    #[test]
    fn neighbouring_hashes_get_as_many_more_buckets_as_they_crowd() {
        let wanted = groups_for(1_000, GROWN);
        for (share, factor) in [(1, 1), (2, 2), (4, 4), (8, 8)] {
            let groups = groups_not_crowded(&items(1_000, share), wanted, u32::MAX, 0);
            assert!(
                groups <= wanted * factor && groups * 2 >= wanted * factor,
                "{share}: {groups} of {wanted}"
            );
            assert_eq!(groups_not_crowded(&items(1_000, share), wanted, 30, 0), 30);
        }
    }
}
