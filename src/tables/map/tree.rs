//! The ordered map without a lock: leaves under the lower bounds of their keys.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use super::bound::{LowerBound, Place, Probe, up_to};
use super::leaf::{Leaf, Value};
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
    leaves: BTreeMap<LowerBound, Leaf>,
    len: usize,
}

impl Tree {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory, by estimate for the tree above the leaves. O(leaves).
    pub fn allocated(&self) -> usize {
        let node = size_of::<LowerBound>() + size_of::<Leaf>();
        self.leaves
            .iter()
            .map(|(bound, leaf)| bound.bytes().len() + 16 + node * 3 / 2 + leaf.allocated())
            .sum()
    }

    /// Bytes of keys and values. O(leaves).
    pub fn payload(&self) -> usize {
        self.leaves.values().map(Leaf::payload).sum()
    }

    /// The value of a key. O(log n).
    pub fn get(&self, key: &[u8]) -> Option<Value<'_>> {
        self.leaf_of(key)?.get(key)
    }

    /// The leaf that has a key, if one has it. O(log n).
    pub fn leaf_of(&self, key: &[u8]) -> Option<&Leaf> {
        let below = self
            .leaves
            .range::<dyn Place, _>(up_to(&Probe::new(key)))
            .next_back();
        below.map(|(_, leaf)| leaf)
    }

    /// Sets the value of a key; true if the key is new. O(log n).
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<bool> {
        if key.len() > MAX_KEY_LEN {
            return Err(Error::KeyTooLong(key.len()));
        }
        limits::check_value(value.len())?;
        if self.leaves.is_empty() {
            self.leaves.insert(LowerBound::default(), Leaf::default());
        }
        let mut below = self
            .leaves
            .range_mut::<dyn Place, _>(up_to(&Probe::new(key)));
        let Some((bound, leaf)) = below.next_back() else {
            return Ok(false);
        };
        let found = leaf.find(key);
        let index = found.unwrap_or_else(|index| index);
        leaf.put(index, found.is_ok(), key, value)?;
        self.len += usize::from(found.is_err());
        if leaf.is_full() {
            let at_end = index + 1 == leaf.len();
            let bound = bound.clone();
            self.split(&bound, at_end)?;
        }
        Ok(found.is_err())
    }

    fn split(&mut self, bound: &LowerBound, at_end: bool) -> Result<()> {
        let is_last = self
            .leaves
            .range::<LowerBound, _>((Excluded(bound), Unbounded))
            .next()
            .is_none();
        let Some(leaf) = self.leaves.get_mut(bound) else {
            return Ok(());
        };
        let (left, right) = leaf.halves(at_end && is_last)?;
        // The shortest key that is above the left half and not above the right one.
        let (below, from) = (left.key(left.len() - 1), right.key(0));
        let shared = below.iter().zip(from).take_while(|(a, b)| a == b).count();
        let between = LowerBound::new(&from[..shared + 1]);
        *leaf = left;
        self.leaves.insert(between, right);
        Ok(())
    }

    /// Removes a key; true if it was there. O(log n).
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let mut below = self
            .leaves
            .range_mut::<dyn Place, _>(up_to(&Probe::new(key)));
        let Some((bound, leaf)) = below.next_back() else {
            return false;
        };
        let Ok(index) = leaf.find(key) else {
            return false;
        };
        leaf.remove(index);
        self.len -= 1;
        let bound = bound.clone();
        self.join_with_next(&bound);
        true
    }

    /// Joins a leaf with the one after it where both together are half a leaf.
    fn join_with_next(&mut self, bound: &LowerBound) {
        let mut from = self
            .leaves
            .range::<LowerBound, _>((Included(bound), Unbounded));
        let (Some((_, leaf)), Some((next, right))) = (from.next(), from.next()) else {
            return;
        };
        if !leaf.fits_with(right) {
            return;
        }
        // Without memory both stay as they are.
        let Ok(both) = leaf.joined(right) else {
            return;
        };
        let next = next.clone();
        self.leaves.remove(&next);
        if let Some(leaf) = self.leaves.get_mut(bound) {
            *leaf = both;
        }
    }

    /// The leaves that may have keys of an interval.
    fn within<'t>(
        &'t self,
        interval: Interval<'_>,
    ) -> impl DoubleEndedIterator<Item = (&'t LowerBound, &'t Leaf)> {
        let empty = Probe::new(&[]);
        let first: &dyn Place = self
            .leaves
            .range::<dyn Place, _>(up_to(&Probe::new(interval.low)))
            .next_back()
            .map_or(&empty, |(bound, _)| bound);
        // A bound below the first one would be no range, which BTreeMap does not take: an interval that ends within the
        // first leaf has that leaf alone.
        let end = Probe::new(interval.high.unwrap_or_default());
        let high = match interval.high {
            Some(high) if high > first.bytes() => Excluded(&end as &dyn Place),
            Some(_) => Included(first),
            None => Unbounded,
        };
        self.leaves.range::<dyn Place, _>((Included(first), high))
    }

    fn part_of(leaf: &Leaf, interval: Interval<'_>) -> (usize, usize) {
        let from = leaf.lower_bound(interval.low);
        let to = interval
            .high
            .map_or(leaf.len(), |high| leaf.lower_bound(high));
        (from, to.max(from))
    }

    /// Entries of an interval. O(leaves of the interval).
    pub fn count(&self, interval: Interval<'_>) -> usize {
        if interval.is_empty() {
            return 0;
        }
        self.within(interval)
            .map(|(_, leaf)| {
                let (from, to) = Self::part_of(leaf, interval);
                to - from
            })
            .sum()
    }

    /// Adds the entries of an interval to `page`, as many as `bounds` lets in. O(log n + entries).
    pub fn fill(&self, interval: Interval<'_>, bounds: Bounds, page: &mut Page) -> Result<()> {
        if interval.is_empty() {
            return Ok(());
        }
        let mut add = |leaf: &Leaf, index: usize| -> Result<bool> {
            if page.len() >= bounds.entries {
                return Ok(false);
            }
            let value = (!bounds.keys_only).then(|| leaf.value(index));
            page.push(leaf.key(index), value)?;
            Ok(true)
        };
        let leaves = self.within(interval).map(|(_, leaf)| leaf);
        if bounds.reverse {
            for leaf in leaves.rev() {
                let (from, to) = Self::part_of(leaf, interval);
                for index in (from..to).rev() {
                    if !add(leaf, index)? {
                        return Ok(());
                    }
                }
            }
        } else {
            for leaf in leaves {
                let (from, to) = Self::part_of(leaf, interval);
                for index in from..to {
                    if !add(leaf, index)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Removes the entries of an interval; returns how many there were. O(leaves of the interval).
    pub fn remove_range(&mut self, interval: Interval<'_>) -> usize {
        if interval.is_empty() {
            return 0;
        }
        let bounds: Vec<LowerBound> = self
            .within(interval)
            .map(|(bound, _)| bound.clone())
            .collect();
        let mut removed = 0;
        for bound in &bounds {
            let Some(leaf) = self.leaves.get_mut(bound) else {
                continue;
            };
            let (from, to) = Self::part_of(leaf, interval);
            removed += to - from;
            if to - from == leaf.len() && !bound.bytes().is_empty() {
                self.leaves.remove(bound);
            } else {
                leaf.remove_range(from, to);
            }
        }
        self.len -= removed;
        if let Some(bound) = bounds.first() {
            self.join_with_next(bound);
        }
        removed
    }
}
