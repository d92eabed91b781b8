//! A leaf: some hundred neighbouring entries of the ordered map, in one piece of memory. Single-threaded.
//!
//! Slots are in the order of the keys and point into `data`, where an entry is its key and then its value. A value over
//! [`BIG_VALUE_LEN`] is an allocation of its own that readers share; `data` has its number in the list then.

use super::memory::{out_of_memory, reserve};
use super::shared::Shared;
use crate::tables::prefetch;
use crate::{Error, Result};
use std::cmp::Ordering;

/// Bytes of `data` at which a leaf is split: a few pages of the processor, moved in well under a microsecond.
pub const SPLIT_LEN: usize = 4_096;
/// Entries at which a leaf is split.
pub const SPLIT_ENTRIES: usize = 256;
/// A longer value is kept apart.
pub const BIG_VALUE_LEN: usize = 1_024;
/// The length that stands for a value kept apart.
const APART: u32 = u32::MAX;
const NUMBER_LEN: usize = 4;
/// A line of the processor's cache.
const LINE: usize = 64;

/// A value as it is read.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// In the leaf.
    Inline(&'a [u8]),
    /// An allocation of its own.
    Apart(&'a Shared),
}

impl<'a> Value<'a> {
    /// Its bytes.
    pub fn as_slice(self) -> &'a [u8] {
        match self {
            Value::Inline(slice) => slice,
            Value::Apart(shared) => shared.as_slice(),
        }
    }
}

#[derive(Clone, Copy)]
struct Slot {
    at: u32,
    value_len: u32,
    key_len: u16,
}

impl Slot {
    fn key_range(self) -> std::ops::Range<usize> {
        let start = self.at as usize;
        start..start + usize::from(self.key_len)
    }

    fn stored_len(self) -> usize {
        let value = if self.value_len == APART {
            NUMBER_LEN
        } else {
            self.value_len as usize
        };
        usize::from(self.key_len) + value
    }
}

/// Entries in the order of their keys.
#[derive(Default)]
pub struct Leaf {
    data: Vec<u8>,
    slots: Vec<Slot>,
    /// Four bytes of each slot's key beyond what all keys have in common, so that a search stays among some lines of the
    /// processor's cache and reads one key or two.
    heads: Vec<u32>,
    apart: Vec<Option<Shared>>,
    /// Bytes of `data` that no slot points to.
    dead: usize,
    /// How many first bytes all keys have in common, at least.
    common: usize,
}

impl Leaf {
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn key(&self, index: usize) -> &[u8] {
        &self.data[self.slots[index].key_range()]
    }

    pub fn value(&self, index: usize) -> Value<'_> {
        let slot = self.slots[index];
        let start = slot.at as usize + usize::from(slot.key_len);
        if slot.value_len == APART {
            // A slot of this kind always has its number, and the list its value.
            let mut number = [0; NUMBER_LEN];
            number.copy_from_slice(&self.data[start..][..NUMBER_LEN]);
            match &self.apart[u32::from_le_bytes(number) as usize] {
                Some(shared) => Value::Apart(shared),
                None => Value::Inline(&[]),
            }
        } else {
            Value::Inline(&self.data[start..][..slot.value_len as usize])
        }
    }

    /// Where `key` is, or would be.
    pub fn find(&self, key: &[u8]) -> std::result::Result<usize, usize> {
        if self.slots.is_empty() {
            return Err(0);
        }
        let shared = self.common.min(key.len());
        match key[..shared].cmp(&self.key(0)[..self.common]) {
            Ordering::Less => Err(0),
            Ordering::Greater => Err(self.len()),
            Ordering::Equal => self.find_from(self.first_like(key), key),
        }
    }

    /// Index of the first entry whose head is not below that of `key`: where `key` is, if it is there and no other has its
    /// head.
    pub fn first_like(&self, key: &[u8]) -> usize {
        let head = head_of(key, self.common);
        self.heads.partition_point(|&found| found < head)
    }

    /// Where `key` is, or would be among the entries that have its head, of which `first` is the first.
    fn find_from(&self, first: usize, key: &[u8]) -> std::result::Result<usize, usize> {
        let head = head_of(key, self.common);
        let same = self.heads[first..].partition_point(|&found| found == head);
        let found = self.slots[first..first + same]
            .binary_search_by(|slot| self.data[slot.key_range()].cmp(key));
        found.map(|at| first + at).map_err(|at| first + at)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Value<'_>> {
        self.get_from(self.first_like(key), key)
    }

    /// The value of a key, of which `first` is what `first_like` says.
    pub fn get_from(&self, first: usize, key: &[u8]) -> Option<Value<'_>> {
        // Without what all keys have in common: a key that differs there differs as a whole.
        self.find_from(first, key).ok().map(|at| self.value(at))
    }

    /// Asks from memory for the leaf itself; then for what `first_like` reads; for one slot; and for its entry. Each of
    /// these reads what the one before asked for.
    pub fn fetch(&self) {
        prefetch(&self.data);
        prefetch(&self.heads);
    }

    pub fn fetch_heads(&self) {
        let lines = self.heads.chunks(LINE / size_of::<u32>());
        lines.for_each(|line| prefetch(line.as_ptr()));
    }

    pub fn fetch_slot(&self, index: usize) {
        let slot = self.slots.get(index);
        slot.into_iter().for_each(|slot| prefetch(slot));
    }

    pub fn fetch_entry(&self, index: usize) {
        if let Some(slot) = self.slots.get(index) {
            let entry = &self.data[slot.at as usize..];
            entry
                .iter()
                .step_by(LINE)
                .take(2)
                .for_each(|byte| prefetch(byte));
        }
    }

    /// Keeps heads right for a key that is about to be inserted.
    fn make_common_with(&mut self, key: &[u8]) {
        if self.slots.is_empty() {
            self.common = key.len();
            return;
        }
        let first = &self.key(0)[..self.common];
        let common = first.iter().zip(key).take_while(|(a, b)| a == b).count();
        if common < self.common {
            self.set_common(common);
        }
    }

    fn set_common(&mut self, common: usize) {
        self.common = common;
        for (head, slot) in self.heads.iter_mut().zip(&self.slots) {
            *head = head_of(&self.data[slot.key_range()], common);
        }
    }

    /// Index of the first entry whose key is not below `key`.
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        self.find(key).unwrap_or_else(|index| index)
    }

    /// Bytes of keys and values, those apart included.
    pub fn payload(&self) -> usize {
        let apart: usize = self
            .apart
            .iter()
            .flatten()
            .map(|value| value.as_slice().len())
            .sum();
        self.data.len() - self.dead + apart
    }

    /// Bytes of memory.
    pub fn allocated(&self) -> usize {
        let apart: usize = self.apart.iter().flatten().map(Shared::allocated).sum();
        self.data.capacity()
            + self.slots.capacity() * size_of::<Slot>()
            + self.heads.capacity() * size_of::<u32>()
            + self.apart.capacity() * size_of::<Option<Shared>>()
            + apart
    }

    /// Inserts at `index`, or replaces what is there. The leaf is as it was if memory runs out.
    pub fn put(&mut self, index: usize, replace: bool, key: &[u8], value: &[u8]) -> Result<()> {
        let (shared, value_len, inline) = if value.len() > BIG_VALUE_LEN {
            reserve(&mut self.apart, 1)?;
            (Some(Shared::copy_of(value)?), APART, NUMBER_LEN)
        } else {
            (None, value.len() as u32, value.len())
        };
        if replace && shared.is_none() && self.slots[index].value_len == value_len {
            let slot = self.slots[index];
            let start = slot.at as usize + usize::from(slot.key_len);
            self.data[start..][..value.len()].copy_from_slice(value);
            return Ok(());
        }
        if self.data.len() + key.len() + inline > u32::MAX as usize {
            return Err(Error::OutOfMemory);
        }
        reserve(&mut self.data, key.len() + inline)?;
        reserve(&mut self.slots, 1)?;
        reserve(&mut self.heads, 1)?;
        if !replace {
            self.make_common_with(key);
        }
        let slot = Slot {
            at: self.data.len() as u32,
            value_len,
            key_len: key.len() as u16,
        };
        self.data.extend_from_slice(key);
        match shared {
            None => self.data.extend_from_slice(value),
            Some(shared) => {
                let number = self.apart.len() as u32;
                self.data.extend_from_slice(&number.to_le_bytes());
                self.apart.push(Some(shared));
            }
        }
        if replace {
            self.forget(index);
            self.slots[index] = slot;
        } else {
            self.slots.insert(index, slot);
            self.heads.insert(index, head_of(key, self.common));
        }
        // Nothing is lost if there is no memory to tidy up with.
        let _ = self.tidy();
        Ok(())
    }

    /// Removes the entry at `index`.
    pub fn remove(&mut self, index: usize) {
        self.forget(index);
        self.slots.remove(index);
        self.heads.remove(index);
        // Nothing is lost if there is no memory to tidy up with.
        let _ = self.tidy();
    }

    /// Removes the entries from `from` to `to`.
    pub fn remove_range(&mut self, from: usize, to: usize) {
        for index in from..to {
            self.forget(index);
        }
        self.slots.drain(from..to);
        self.heads.drain(from..to);
        let _ = self.tidy();
    }

    fn forget(&mut self, index: usize) {
        let slot = self.slots[index];
        self.dead += slot.stored_len();
        if slot.value_len == APART {
            let start = slot.at as usize + usize::from(slot.key_len);
            let mut number = [0; NUMBER_LEN];
            number.copy_from_slice(&self.data[start..][..NUMBER_LEN]);
            self.apart[u32::from_le_bytes(number) as usize] = None;
        }
    }

    /// Copies what is alive together when half of `data` is dead.
    fn tidy(&mut self) -> Result<()> {
        if self.dead > SPLIT_LEN / 4 && self.dead * 2 > self.data.len() {
            *self = self.part(0, self.len())?;
        }
        Ok(())
    }

    /// A copy of the entries from `from` to `to` without a byte too many.
    fn part(&self, from: usize, to: usize) -> Result<Leaf> {
        Self::of(&[(self, from, to)])
    }

    /// A leaf of some entries of others, which come in order.
    fn of(parts: &[(&Leaf, usize, usize)]) -> Result<Leaf> {
        let mut leaf = Leaf::default();
        let slots = || {
            parts
                .iter()
                .map(|&(from, low, high)| &from.slots[low..high])
        };
        let count = slots().map(<[Slot]>::len).sum();
        let len = slots().flatten().map(|slot| slot.stored_len()).sum();
        leaf.data.try_reserve_exact(len).map_err(out_of_memory)?;
        leaf.slots.try_reserve_exact(count).map_err(out_of_memory)?;
        leaf.heads.try_reserve_exact(count).map_err(out_of_memory)?;
        for &(from, low, high) in parts {
            leaf.append(from, low, high)?;
        }
        leaf.find_common();
        Ok(leaf)
    }

    /// What the first and the last key have in common, all keys between them have.
    fn find_common(&mut self) {
        if let Some(last) = self.len().checked_sub(1) {
            let (first, last) = (self.key(0), self.key(last));
            let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
            self.set_common(common);
        }
    }

    /// Copies entries to the end; their heads are found later.
    fn append(&mut self, other: &Leaf, from: usize, to: usize) -> Result<()> {
        for (index, slot) in other.slots[from..to].iter().enumerate() {
            let at = self.data.len() as u32;
            let stored = &other.data[slot.at as usize..][..slot.stored_len()];
            self.data.extend_from_slice(stored);
            if let Value::Apart(shared) = other.value(from + index) {
                reserve(&mut self.apart, 1)?;
                let number = (self.apart.len() as u32).to_le_bytes();
                let start = self.data.len() - NUMBER_LEN;
                self.data[start..].copy_from_slice(&number);
                self.apart.push(Some(shared.clone()));
            }
            self.slots.push(Slot { at, ..*slot });
            self.heads.push(0);
        }
        Ok(())
    }

    /// Whether the leaf is to be split.
    pub fn is_full(&self) -> bool {
        self.len() > 1 && (self.len() > SPLIT_ENTRIES || self.data.len() - self.dead > SPLIT_LEN)
    }

    /// The two halves of the leaf; where entries come in order, at the end of the last leaf, the first is all but one.
    pub fn halves(&self, in_order: bool) -> Result<(Leaf, Leaf)> {
        let middle = if in_order {
            self.len() - 1
        } else {
            let half = (self.data.len() - self.dead) / 2;
            let mut sum = 0;
            let within = |slot: &&Slot| {
                sum += slot.stored_len();
                sum < half
            };
            self.slots
                .iter()
                .take_while(within)
                .count()
                .clamp(1, self.len() - 1)
        };
        Ok((self.part(0, middle)?, self.part(middle, self.len())?))
    }

    /// Whether the leaf and its right neighbour are small enough to be one.
    pub fn fits_with(&self, right: &Leaf) -> bool {
        self.data.len() - self.dead + right.data.len() - right.dead < SPLIT_LEN / 2
            && self.len() + right.len() < SPLIT_ENTRIES / 2
    }

    /// The leaf and its right neighbour as one.
    pub fn joined(&self, right: &Leaf) -> Result<Leaf> {
        Self::of(&[(self, 0, self.len()), (right, 0, right.len())])
    }
}

/// Four bytes of a key from `from` on, zeros after its end. Equal heads say nothing.
fn head_of(key: &[u8], from: usize) -> u32 {
    let rest = key.get(from..).unwrap_or_default();
    match rest.first_chunk::<4>() {
        Some(head) => u32::from_be_bytes(*head),
        None => {
            let mut head = [0; 4];
            head[..rest.len()].copy_from_slice(rest);
            u32::from_be_bytes(head)
        }
    }
}
