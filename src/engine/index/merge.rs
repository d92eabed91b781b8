//! Merges of many sorted entries: sequential over the groups, through a window of a few of them.

use super::{Index, Item, Keys, MAX_DEPTH, PACKED, Sub};
use super::{capacity, groups_for, home, tag};
use crate::Result;
use crate::engine::table::{GROUP, GroupImage, NO_OFFSET, TOMBSTONE, Table, try_push};

/// Groups whose images a merge holds at a time; longer clusters take the slow way.
const WINDOW: usize = 4;

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

impl<T: Table> Index<T> {
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
                if groups > self.most_groups && depth < MAX_DEPTH {
                    let half = if fresh {
                        1
                    } else {
                        (groups / 2 + 1).min(self.most_groups)
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
}

/// No fewer than the keys of these sorted items; exact where those of one key are neighbours.
fn most_keys(items: &[Item], context: &impl Resolve) -> u32 {
    let again = |pair: &&[Item]| {
        pair[0] >> 32 == pair[1] >> 32 && context.same_key(pair[0] as u32, pair[1] as u32)
    };
    (items.len() - items.windows(2).filter(again).count()) as u32
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
