//! The sub-table that the index is made of: a trait, and its implementation over google sparsehash.
//! A table stores slots (tag and offset) at positions; it knows no keys, hashes or records.

use cxx::UniquePtr;

use super::ffi;
pub(crate) use super::ffi::GroupImage;
use crate::{Error, Result};

/// Buckets of one group.
pub(crate) const GROUP: u32 = 48;
/// What `find` returns where no slot has the tag; no record lives there.
pub(crate) const NO_OFFSET: u32 = u32::MAX;
/// Marks a slot that was erased where probes must go on; no record lives there.
pub(crate) const TOMBSTONE: u32 = u32::MAX - 1;

impl GroupImage {
    pub(crate) const EMPTY: GroupImage = GroupImage {
        bitmap: 0,
        slots: [0; GROUP as usize],
    };

    pub(crate) fn is_set(&self, i: u32) -> bool {
        self.bitmap >> i & 1 != 0
    }

    pub(crate) fn tag(&self, i: u32) -> u8 {
        (self.slots[i as usize] >> 32) as u8
    }

    pub(crate) fn offset(&self, i: u32) -> u32 {
        self.slots[i as usize] as u32
    }

    pub(crate) fn set(&mut self, i: u32, tag: u8, offset: u32) {
        self.bitmap |= 1 << i;
        self.slots[i as usize] = u64::from(tag) << 32 | u64::from(offset);
    }

    /// Positions within the group and offsets of the live slots.
    pub(crate) fn live(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut bits = self.bitmap;
        std::iter::from_fn(move || {
            while bits != 0 {
                let i = bits.trailing_zeros();
                bits &= bits - 1;
                if self.offset(i) != TOMBSTONE {
                    return Some((i, self.offset(i)));
                }
            }
            None
        })
    }
}

/// Buckets in groups of 48, probed linearly. At least one bucket is always empty.
pub(crate) trait Table: Sized + Send + Sync {
    /// A table of `groups` empty groups.
    fn with_groups(groups: u32) -> Result<Self>;
    /// Offset and position of the first live slot with this tag at or after `position`;
    /// [`NO_OFFSET`] and the first empty position where there is none.
    fn find(&self, position: u32, tag: u8) -> (u32, u32);
    /// First position at or after `position` that is empty or a tombstone.
    fn find_free(&self, position: u32) -> u32;
    /// Fills a bucket. Fails only where the bucket was empty, and then changes nothing.
    fn put(&mut self, position: u32, tag: u8, offset: u32) -> Result<()>;
    /// Empties the bucket of a live slot.
    fn erase(&mut self, position: u32);
    /// Spreads a group out.
    fn read_group(&self, group: u32, image: &mut GroupImage);
    /// Replaces a group. On failure it is as it was.
    fn write_group(&mut self, group: u32, image: &GroupImage) -> Result<()>;
    /// Live slots and tombstones.
    fn used(&self) -> u32;
    /// Tombstones.
    fn tombstones(&self) -> u32;
    /// Groups that hold at least one slot.
    fn nonempty_groups(&self) -> u32;
    /// Bytes allocated.
    fn bytes(&self) -> usize;
    /// Asks for the cache line that holds the group of `position`.
    fn prefetch_group(&self, position: u32);
    /// Asks for the cache lines that hold the slots at and after `position`.
    fn prefetch_slots(&self, position: u32);
    /// Asks for the cache lines that putting a slot at `position` writes.
    fn prefetch_block(&self, position: u32);
}

/// A [`Table`] over `google::sparsegroup`.
pub(crate) struct Sparse(UniquePtr<ffi::SparseTable>);

impl Sparse {
    #[inline]
    fn table(&self) -> &ffi::SparseTable {
        debug_assert!(!self.0.is_null());
        // SAFETY: `with_groups` is the only constructor and refuses null.
        unsafe { &*self.0.as_ptr() }
    }
}

impl Table for Sparse {
    fn with_groups(groups: u32) -> Result<Self> {
        let table = ffi::new_sparse_table(groups);
        if table.is_null() {
            return Err(Error::OutOfMemory);
        }
        Ok(Sparse(table))
    }

    #[inline]
    fn find(&self, position: u32, tag: u8) -> (u32, u32) {
        let mut at = 0;
        let offset = self.table().find(position, tag, &mut at);
        (offset, at)
    }

    fn find_free(&self, position: u32) -> u32 {
        self.table().find_free(position)
    }

    fn put(&mut self, position: u32, tag: u8, offset: u32) -> Result<()> {
        if self.0.pin_mut().put(position, tag, offset) {
            Ok(())
        } else {
            Err(Error::OutOfMemory)
        }
    }

    fn erase(&mut self, position: u32) {
        self.0.pin_mut().erase(position);
    }

    fn read_group(&self, group: u32, image: &mut GroupImage) {
        self.table().read_group(group, image);
    }

    fn write_group(&mut self, group: u32, image: &GroupImage) -> Result<()> {
        if self.0.pin_mut().write_group(group, image) {
            Ok(())
        } else {
            Err(Error::OutOfMemory)
        }
    }

    fn used(&self) -> u32 {
        self.table().used()
    }

    fn tombstones(&self) -> u32 {
        self.table().tombstones()
    }

    fn nonempty_groups(&self) -> u32 {
        self.table().nonempty_groups()
    }

    fn bytes(&self) -> usize {
        self.table().bytes()
    }

    #[inline]
    fn prefetch_group(&self, position: u32) {
        self.table().prefetch_group(position);
    }

    #[inline]
    fn prefetch_slots(&self, position: u32) {
        self.table().prefetch_slots(position);
    }

    #[inline]
    fn prefetch_block(&self, position: u32) {
        self.table().prefetch_block(position);
    }
}

/// Makes room for `additional` more items, or says that memory ran out.
pub(crate) fn try_reserve<T>(vec: &mut Vec<T>, additional: usize) -> Result<()> {
    if vec.capacity() - vec.len() >= additional {
        return Ok(());
    }
    vec.try_reserve(additional).map_err(|_| Error::OutOfMemory)
}

/// As [`try_reserve`], without the slack that amortizes growth.
pub(crate) fn try_reserve_exact<T>(vec: &mut Vec<T>, additional: usize) -> Result<()> {
    if vec.capacity() - vec.len() >= additional {
        return Ok(());
    }
    vec.try_reserve_exact(additional)
        .map_err(|_| Error::OutOfMemory)
}

/// `push` that can fail.
pub(crate) fn try_push<T>(vec: &mut Vec<T>, item: T) -> Result<()> {
    try_reserve(vec, 1)?;
    vec.push(item);
    Ok(())
}

/// Copies bytes into an empty vector, or says that memory ran out.
pub(crate) fn try_copy(to: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    try_reserve_exact(to, bytes.len())?;
    to.extend_from_slice(bytes);
    Ok(())
}

/// `Box::new` that can fail.
pub(crate) fn try_box<T>(value: T) -> Result<Box<T>> {
    let mut one = Vec::new();
    try_reserve_exact(&mut one, 1)?;
    one.push(value);
    // Exactly one item: nothing is reallocated.
    let slice: Box<[T; 1]> = one
        .into_boxed_slice()
        .try_into()
        .map_err(|_| Error::OutOfMemory)?;
    let raw: *mut [T; 1] = Box::into_raw(slice);
    // SAFETY: an array of one T has T's layout, and the box was just given up.
    Ok(unsafe { Box::from_raw(raw.cast::<T>()) })
}
