//! The ordered map without a lock: leaves under the lower bounds of their keys.

use super::index::{Index, Position};
use super::leaf::{Leaf, Value};
use super::memory::copied;
use super::page::Page;
use crate::tables::MAX_KEY_LEN;
use crate::{Error, Result, limits};

/// Keys from `low` on and below `high`, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Interval<'a> {
    /// The first key that may be in it.
    pub low: &'a [u8],
    /// The first key beyond it.
    pub high: Option<&'a [u8]>,
}

impl Interval<'_> {
    fn is_empty(&self) -> bool {
        self.high.is_some_and(|high| high <= self.low)
    }
}

/// How much a page may hold, and in which direction.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Entries.
    pub entries: usize,
    /// From the greatest key down.
    pub reverse: bool,
    /// Whether values are left out.
    pub keys_only: bool,
}

/// An ordered map from bytes to bytes. The first leaf's bound is empty, so every key has a leaf once there is one.
#[derive(Default)]
pub struct Tree {
    leaves: Index,
    len: usize,
}

impl Tree {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory. O(leaves).
    pub fn allocated(&self) -> usize {
        self.leaves.allocated()
    }

    /// Bytes of keys and values. O(leaves).
    pub fn payload(&self) -> usize {
        self.leaves.leaves().map(Leaf::payload).sum()
    }

    /// The value of a key. O(log n).
    pub fn get(&self, key: &[u8]) -> Option<Value<'_>> {
        self.leaf_of(key)?.get(key)
    }

    /// The leaf that has a key, if one has it, asked for from memory. O(log n).
    pub fn leaf_of(&self, key: &[u8]) -> Option<&Leaf> {
        let leaf = self.leaves.leaf(self.leaves.find(key)?);
        leaf.fetch();
        Some(leaf)
    }

    /// Sets the value of a key; true if the key is new. Nothing is changed if memory runs out. O(log n).
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<bool> {
        if key.len() > MAX_KEY_LEN {
            return Err(Error::KeyTooLong(key.len()));
        }
        limits::check_value(value.len())?;
        if self.leaves.is_empty() {
            self.leaves.begin()?;
        }
        let Some(at) = self.leaves.find(key) else {
            return Ok(false);
        };
        let leaf = self.leaves.leaf_mut(at);
        let found = leaf.find(key);
        let index = found.unwrap_or_else(|index| index);
        leaf.put(index, found.is_ok(), key, value)?;
        self.len += usize::from(found.is_err());
        if leaf.is_full() {
            let at_end = index + 1 == leaf.len();
            // Without memory the leaf is larger for a while.
            let _ = self.split(at, at_end);
        }
        Ok(found.is_err())
    }

    fn split(&mut self, at: Position, at_end: bool) -> Result<()> {
        let is_last = self.leaves.next(at).is_none();
        let (left, right) = self.leaves.leaf(at).halves(at_end && is_last)?;
        // The shortest key that is above the left half and not above the right one.
        let (below, from) = (left.key(left.len() - 1), right.key(0));
        let shared = below.iter().zip(from).take_while(|(a, b)| a == b).count();
        let between = copied(&from[..shared + 1])?;
        self.leaves.replace(at, left, between, right)
    }

    /// Removes a key; true if it was there. O(log n).
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let Some(at) = self.leaves.find(key) else {
            return false;
        };
        let leaf = self.leaves.leaf_mut(at);
        let Ok(index) = leaf.find(key) else {
            return false;
        };
        leaf.remove(index);
        self.len -= 1;
        if leaf.len() == 0 && !self.leaves.bound(at).is_empty() {
            self.leaves.remove(at);
            return true;
        }
        // A join moves leaves, so `at` counts only as long as there was none.
        let previous = self.leaves.previous(at);
        if !previous.is_some_and(|previous| self.join_with_next(previous)) {
            self.join_with_next(at);
        }
        true
    }

    /// Joins a leaf with the one after it where both together are half a leaf; says whether it did.
    fn join_with_next(&mut self, at: Position) -> bool {
        let Some(next) = self.leaves.next(at) else {
            return false;
        };
        let (leaf, right) = (self.leaves.leaf(at), self.leaves.leaf(next));
        if !leaf.fits_with(right) {
            return false;
        }
        // Without memory both stay as they are.
        let Ok(both) = leaf.joined(right) else {
            return false;
        };
        *self.leaves.leaf_mut(at) = both;
        self.leaves.remove(next);
        true
    }

    /// Where the leaves begin and end that may have keys of an interval which is not empty.
    fn ends(&self, interval: Interval<'_>) -> Option<(Position, Position)> {
        let first = self.leaves.find(interval.low)?;
        let last = match interval.high {
            Some(high) => self.leaves.find(high)?,
            None => self.leaves.last()?,
        };
        Some((first, last))
    }

    fn part_of(leaf: &Leaf, interval: Interval<'_>) -> (usize, usize) {
        let from = leaf.lower_bound(interval.low);
        let to = interval
            .high
            .map_or(leaf.len(), |high| leaf.lower_bound(high));
        (from, to.max(from))
    }

    /// Calls `each` with every leaf that may have keys of an interval, in order or in reverse, until it returns false.
    fn walk(
        &self,
        interval: Interval<'_>,
        reverse: bool,
        mut each: impl FnMut(&Leaf, usize, usize) -> Result<bool>,
    ) -> Result<()> {
        if interval.is_empty() {
            return Ok(());
        }
        let Some((first, last)) = self.ends(interval) else {
            return Ok(());
        };
        let (mut at, end) = if reverse {
            (last, first)
        } else {
            (first, last)
        };
        loop {
            let leaf = self.leaves.leaf(at);
            let (from, to) = Self::part_of(leaf, interval);
            if !each(leaf, from, to)? || at == end {
                return Ok(());
            }
            let step = if reverse {
                self.leaves.previous(at)
            } else {
                self.leaves.next(at)
            };
            match step {
                Some(next) => at = next,
                None => return Ok(()),
            }
        }
    }

    /// Entries of an interval. O(leaves of the interval).
    pub fn count(&self, interval: Interval<'_>) -> usize {
        let mut sum = 0;
        let counted = self.walk(interval, false, |_, from, to| {
            sum += to - from;
            Ok(true)
        });
        debug_assert!(counted.is_ok());
        sum
    }

    /// Adds the entries of an interval to `page`, as many as `bounds` lets in. O(log n + entries).
    pub fn fill(&self, interval: Interval<'_>, bounds: Bounds, page: &mut Page) -> Result<()> {
        self.walk(interval, bounds.reverse, |leaf, from, to| {
            let room = bounds.entries.saturating_sub(page.len());
            let taken = room.min(to - from);
            let mut add = |index: usize| {
                let value = (!bounds.keys_only).then(|| leaf.value(index));
                page.push(leaf.key(index), value)
            };
            if bounds.reverse {
                (to - taken..to).rev().try_for_each(&mut add)?;
            } else {
                (from..from + taken).try_for_each(&mut add)?;
            }
            Ok(taken < room)
        })
    }

    /// Removes the entries of an interval; returns how many there were. O(leaves of the interval).
    pub fn remove_range(&mut self, interval: Interval<'_>) -> usize {
        let mut at = match interval.is_empty() {
            true => None,
            false => self.leaves.find(interval.low),
        };
        let mut removed = 0;
        while let Some(here) = at {
            let bound = self.leaves.bound(here);
            if interval.high.is_some_and(|high| bound >= high) {
                break;
            }
            let keeps_bound = bound.is_empty();
            let leaf = self.leaves.leaf_mut(here);
            let (from, to) = Self::part_of(leaf, interval);
            removed += to - from;
            at = if to - from == leaf.len() && !keeps_bound {
                self.leaves.remove(here)
            } else {
                leaf.remove_range(from, to);
                self.leaves.next(here)
            };
        }
        self.len -= removed;
        if let Some(at) = self.leaves.find(interval.low) {
            self.join_with_next(at);
        }
        removed
    }
}
