//! A leaf: some hundred neighbouring entries of the ordered map, in one piece of memory. Single-threaded.
//!
//! Slots are in the order of the keys and point into `data`, where an entry is its key and then its value. A value over
//! [`BIG_VALUE_LEN`] is an allocation of its own that readers share; `data` has its number in the list then.

use super::shared::Shared;
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
    /// Four bytes of the key beyond what all keys of the leaf have in common, so that a search stays among the slots
    /// and reads one key or two.
    head: u32,
    at: u32,
    key_len: u16,
    value_len: u32,
}

impl Slot {
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
        let slot = self.slots[index];
        &self.data[slot.at as usize..][..usize::from(slot.key_len)]
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
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.len()),
            Ordering::Equal => {}
        }
        let head = head_of(key, self.common);
        self.slots.binary_search_by(|slot| {
            slot.head.cmp(&head).then_with(|| {
                let found = &self.data[slot.at as usize..][..usize::from(slot.key_len)];
                found.cmp(key)
            })
        })
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Value<'_>> {
        self.find(key).ok().map(|index| self.value(index))
    }

    /// Reads where a search will look first: those of several leaves wait for memory together.
    pub fn touch(&self) -> u32 {
        let quarter = self.len() / 4;
        let read = |index: usize| self.slots.get(index).map_or(0, |slot| slot.head);
        read(0) ^ read(quarter) ^ read(2 * quarter) ^ read(3 * quarter)
    }

    /// Reads the first byte of the entry that a search will probably find, and of the first one: as `touch`.
    pub fn touch_entry(&self, key: &[u8]) -> u8 {
        let head = head_of(key, self.common);
        let index = self.slots.partition_point(|slot| slot.head < head);
        let read = |index: usize| {
            let at = self.slots.get(index).map(|slot| slot.at as usize);
            at.and_then(|at| self.data.get(at)).copied().unwrap_or(0)
        };
        read(0) ^ read(index)
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
        for slot in &mut self.slots {
            let key = &self.data[slot.at as usize..][..usize::from(slot.key_len)];
            slot.head = head_of(key, common);
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
        if !replace {
            self.make_common_with(key);
        }
        let slot = Slot {
            head: head_of(key, self.common),
            at: self.data.len() as u32,
            key_len: key.len() as u16,
            value_len,
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
        }
        // Nothing is lost if there is no memory to tidy up with.
        let _ = self.tidy();
        Ok(())
    }

    /// Removes the entry at `index`.
    pub fn remove(&mut self, index: usize) {
        self.forget(index);
        self.slots.remove(index);
        // Nothing is lost if there is no memory to tidy up with.
        let _ = self.tidy();
    }

    /// Removes the entries from `from` to `to`.
    pub fn remove_range(&mut self, from: usize, to: usize) {
        for index in from..to {
            self.forget(index);
        }
        self.slots.drain(from..to);
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
        let mut part = Leaf::default();
        let slots = &self.slots[from..to];
        let len = slots.iter().map(|slot| slot.stored_len()).sum();
        part.data.try_reserve_exact(len).map_err(out_of_memory)?;
        part.slots
            .try_reserve_exact(slots.len())
            .map_err(out_of_memory)?;
        part.append(self, from, to)?;
        part.find_common();
        Ok(part)
    }

    /// What the first and the last key have in common, all keys between them have.
    fn find_common(&mut self) {
        if let Some(last) = self.len().checked_sub(1) {
            let (first, last) = (self.key(0), self.key(last));
            let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
            self.set_common(common);
        }
    }

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
        let mut both = self.part(0, self.len())?;
        let len = right.slots.iter().map(|slot| slot.stored_len()).sum();
        both.data.try_reserve_exact(len).map_err(out_of_memory)?;
        both.slots
            .try_reserve_exact(right.len())
            .map_err(out_of_memory)?;
        both.append(right, 0, right.len())?;
        both.find_common();
        Ok(both)
    }
}

/// Makes room by an eighth more than there is, where a Vec of its own would double: leaves are many.
pub fn reserve<T>(list: &mut Vec<T>, additional: usize) -> Result<()> {
    if list.capacity() - list.len() >= additional {
        return Ok(());
    }
    list.try_reserve_exact(additional.max(list.len() / 8 + 4))
        .map_err(out_of_memory)
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

pub fn copied(value: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(value.len()).map_err(out_of_memory)?;
    copy.extend_from_slice(value);
    Ok(copy)
}

fn out_of_memory(_: std::collections::TryReserveError) -> Error {
    Error::OutOfMemory
}
