//! A table of plain buckets: the oracle of the sparsehash one, and what Miri can run. Tests only.

use super::table::{GROUP, GroupImage, NO_OFFSET, TOMBSTONE, Table};
use crate::Result;

/// A [`Table`] in which nothing is packed.
pub(crate) struct Reference {
    buckets: Vec<Option<(u8, u32)>>,
}

impl Reference {
    fn after(&self, position: u32) -> u32 {
        (position + 1) % self.buckets.len() as u32
    }

    fn before(&self, position: u32) -> u32 {
        position
            .checked_sub(1)
            .unwrap_or(self.buckets.len() as u32 - 1)
    }

    fn is_tombstone(&self, position: u32) -> bool {
        matches!(self.buckets[position as usize], Some((_, TOMBSTONE)))
    }
}

impl Table for Reference {
    fn with_groups(groups: u32) -> Result<Self> {
        Ok(Reference {
            buckets: vec![None; (groups * GROUP) as usize],
        })
    }

    fn find(&self, mut position: u32, tag: u8) -> (u32, u32) {
        while let Some((slot_tag, offset)) = self.buckets[position as usize] {
            if slot_tag == tag && offset != TOMBSTONE {
                return (offset, position);
            }
            position = self.after(position);
        }
        (NO_OFFSET, position)
    }

    fn find_free(&self, mut position: u32) -> u32 {
        while self.buckets[position as usize].is_some() && !self.is_tombstone(position) {
            position = self.after(position);
        }
        position
    }

    fn put(&mut self, position: u32, tag: u8, offset: u32) -> Result<()> {
        self.buckets[position as usize] = Some((tag, offset));
        Ok(())
    }

    fn erase(&mut self, mut position: u32) {
        if self.buckets[self.after(position) as usize].is_some() {
            self.buckets[position as usize] = Some((0, TOMBSTONE));
            return;
        }
        self.buckets[position as usize] = None;
        position = self.before(position);
        while self.is_tombstone(position) {
            self.buckets[position as usize] = None;
            position = self.before(position);
        }
    }

    fn read_group(&self, group: u32, image: &mut GroupImage) {
        image.bitmap = 0;
        for i in 0..GROUP {
            if let Some((tag, offset)) = self.buckets[(group * GROUP + i) as usize] {
                image.set(i, tag, offset);
            }
        }
    }

    fn write_group(&mut self, group: u32, image: &GroupImage) -> Result<()> {
        for i in 0..GROUP {
            let slot = image.is_set(i).then(|| (image.tag(i), image.offset(i)));
            self.buckets[(group * GROUP + i) as usize] = slot;
        }
        Ok(())
    }

    fn used(&self) -> u32 {
        self.buckets.iter().flatten().count() as u32
    }

    fn tombstones(&self) -> u32 {
        (0..self.buckets.len() as u32)
            .filter(|&p| self.is_tombstone(p))
            .count() as u32
    }

    fn nonempty_groups(&self) -> u32 {
        let groups = self.buckets.chunks(GROUP as usize);
        groups
            .filter(|group| group.iter().any(Option::is_some))
            .count() as u32
    }

    fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Option<(u8, u32)>>()
    }

    fn prefetch_group(&self, _position: u32) {}

    fn prefetch_slots(&self, _position: u32) {}

    fn prefetch_block(&self, _position: u32) {}
}
