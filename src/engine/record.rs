//! The bytes of a record, and nothing else.
//!
//! | record | bytes |
//! |---|---|
//! | plain: key under 64 B | `0b00kkkkkk`, value length (LEB128), key, value |
//! | long key | `0x40`, flags `LONG_KEY`, key length (u16, little-endian), value length (LEB128), key, value |
//! | block: over [`MAX_INLINE`] | `0x40`, flags `BLOCK`, pointer to a [`Block`] (8 bytes) |
//! | dead, n bytes | `0x80`, n (u16, little-endian), n - 3 bytes of anything |
//! | dead, 1 byte | `0xFF` |
//!
//! Records follow each other without padding, so that an arena can be read in order.

use std::ptr;
use std::slice;

use super::block::{Block, BorrowedBlock};
use super::pool::CHUNK;
use crate::Result;

/// Longest record that lies in an arena; longer ones are blocks.
pub(crate) const MAX_INLINE: usize = CHUNK / 8;

const EXTENDED: u8 = 0x40;
const DEAD: u8 = 0x80;
const DEAD_BYTE: u8 = 0xFF;
const LONG_KEY: u8 = 1;
const BLOCK: u8 = 2;
const BLOCK_LEN: usize = 2 + size_of::<*mut u8>();
const SHORT_KEY_LEN: usize = 63;

/// What lies at a place of an arena.
pub(crate) enum Parsed<'a> {
    /// Key and value in the arena; `len` bytes in all.
    Inline {
        key: &'a [u8],
        value: &'a [u8],
        len: usize,
    },
    /// A large record, `len` bytes in the arena.
    Block {
        block: BorrowedBlock<'a>,
        len: usize,
    },
    /// Nothing, `len` bytes long.
    Dead { len: usize },
}

/// A value under the shard's lock.
pub enum ValueRef<'a> {
    /// In the arena.
    Inline(&'a [u8]),
    /// In a block of its own.
    Shared(BorrowedBlock<'a>),
}

impl<'a> ValueRef<'a> {
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &'a [u8] {
        match self {
            ValueRef::Inline(bytes) => bytes,
            ValueRef::Shared(block) => block.value(),
        }
    }

    /// Length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether the value has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A handle that outlives the lock, where the value is a block.
    pub fn share(&self) -> Option<Block> {
        match self {
            ValueRef::Inline(_) => None,
            ValueRef::Shared(block) => Some(block.share()),
        }
    }
}

/// Bytes that a record of these lengths takes in the arena, and whether it is a block.
#[inline]
pub(crate) fn encoded_len(key_len: usize, value_len: usize) -> (usize, bool) {
    let head = if key_len <= SHORT_KEY_LEN { 1 } else { 4 };
    let head = head + if value_len < 0x80 { 1 } else { 2 };
    let len = head + key_len + value_len;
    if len > MAX_INLINE {
        (BLOCK_LEN, true)
    } else {
        (len, false)
    }
}

/// Writes a record that is no block.
///
/// # Safety
/// `to` is valid for `encoded_len` bytes, and the record is no block.
#[inline]
pub(crate) unsafe fn write_inline(to: *mut u8, key: &[u8], value: &[u8]) {
    debug_assert!(!encoded_len(key.len(), value.len()).1);
    let mut at = to;
    let mut byte = |b: u8| {
        // SAFETY: the head's bytes are the first of `encoded_len`.
        unsafe {
            at.write(b);
            at = at.add(1);
        }
    };
    if key.len() <= SHORT_KEY_LEN {
        byte(key.len() as u8);
    } else {
        byte(EXTENDED);
        byte(LONG_KEY);
        byte(key.len() as u8);
        byte((key.len() >> 8) as u8);
    }
    if value.len() < 0x80 {
        byte(value.len() as u8);
    } else {
        byte(value.len() as u8 | 0x80);
        byte((value.len() >> 7) as u8);
    }
    // SAFETY: key and value are the rest of `encoded_len` bytes.
    unsafe {
        ptr::copy_nonoverlapping(key.as_ptr(), at, key.len());
        ptr::copy_nonoverlapping(value.as_ptr(), at.add(key.len()), value.len());
    }
}

/// Writes a record that is a block, taking its handle over.
///
/// # Safety
/// `to` is valid for the bytes of a block's record.
pub(crate) unsafe fn write_block(to: *mut u8, block: Block) {
    // SAFETY: BLOCK_LEN bytes, by the caller.
    unsafe {
        to.write(EXTENDED);
        to.add(1).write(BLOCK);
        to.add(2)
            .cast::<*mut u8>()
            .write_unaligned(block.into_raw());
    }
}

/// Makes a block for a record that is to be one.
pub(crate) fn block_for(key: &[u8], value: &[u8], is_block: bool) -> Result<Option<Block>> {
    if is_block {
        Block::new(key, value).map(Some)
    } else {
        Ok(None)
    }
}

/// Marks `len` bytes as dead.
///
/// # Safety
/// `at` is valid for `len` bytes.
pub(crate) unsafe fn write_dead(at: *mut u8, len: usize) {
    // SAFETY: by the caller; three bytes are written only where there are three.
    unsafe {
        if len < 3 {
            ptr::write_bytes(at, DEAD_BYTE, len);
        } else {
            at.write(DEAD);
            at.add(1).write(len as u8);
            at.add(2).write((len >> 8) as u8);
        }
    }
}

/// Reads what lies at `at`.
///
/// # Safety
/// `at` is the start of a record or of dead bytes, alive and unchanged for `'a`.
#[inline]
pub(crate) unsafe fn parse<'a>(at: *const u8) -> Parsed<'a> {
    // SAFETY: the record's own head says how far it goes.
    unsafe {
        let first = *at;
        if first < EXTENDED {
            let key_len = usize::from(first);
            let (value_len, head) = value_len(at.add(1), 1);
            return inline(at, head, key_len, value_len);
        }
        if first == DEAD_BYTE {
            return Parsed::Dead { len: 1 };
        }
        if first & DEAD != 0 {
            let len = usize::from(*at.add(1)) | usize::from(*at.add(2)) << 8;
            return Parsed::Dead { len };
        }
        if *at.add(1) & BLOCK != 0 {
            let raw = at.add(2).cast::<*mut u8>().read_unaligned();
            return Parsed::Block {
                block: BorrowedBlock::from_raw(raw),
                len: BLOCK_LEN,
            };
        }
        let key_len = usize::from(*at.add(2)) | usize::from(*at.add(3)) << 8;
        let (value_len, head) = value_len(at.add(4), 4);
        inline(at, head, key_len, value_len)
    }
}

/// # Safety
/// As [`parse`]; `head` bytes are followed by the key and the value.
#[inline]
unsafe fn inline<'a>(at: *const u8, head: usize, key_len: usize, value_len: usize) -> Parsed<'a> {
    // SAFETY: by the caller.
    unsafe {
        Parsed::Inline {
            key: slice::from_raw_parts(at.add(head), key_len),
            value: slice::from_raw_parts(at.add(head + key_len), value_len),
            len: head + key_len + value_len,
        }
    }
}

/// Value length, and the length of the head that it ends.
///
/// # Safety
/// `at` is the start of the value length.
#[inline]
unsafe fn value_len(at: *const u8, before: usize) -> (usize, usize) {
    // SAFETY: a set top bit says that a second byte follows.
    unsafe {
        let low = *at;
        if low < 0x80 {
            (usize::from(low), before + 1)
        } else {
            (
                usize::from(low & 0x7F) | usize::from(*at.add(1)) << 7,
                before + 2,
            )
        }
    }
}
