//! The bytes of a record, and nothing else.
//!
//! | record | bytes |
//! |---|---|
//! | plain: key under 64 B | `0b0vkkkkkk`, value length (LEB128), key, value |
//! | extended: key under 63 B | `0b10kkkkkk`, flags, deadline, value length (LEB128), key, value |
//! | extended: longer key | `0b10111111`, flags, deadline, key length (u16), value length (LEB128), key, value |
//! | block: over [`MAX_INLINE`] | `0b10000000`, flags with `BLOCK`, deadline, pointer to a [`Block`] (8 bytes) |
//! | dead, n bytes | `0xC0`, n (u16), n - 3 bytes of anything |
//! | dead, 1 byte | `0xFF` |
//!
//! The upper three flags are the [`Kind`]; what is not a string is extended. A deadline takes 5 bytes with the flag `EXPIRES`, none
//! without it, and 8 without it where the flags of the wheel are set all the same: nobody but a far deadline has them then.
//! Integers are little-endian. `v` and the flag `VISITED` say that the entry was read since the bit was last cleared; readers set
//! them under the shard's shared lock, so the first two bytes of a record are read and written as atomics.
//! Records follow each other without padding, so that an arena can be read in order.

use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicU8, Ordering};

use super::block::{Block, BorrowedBlock};
use super::pool::CHUNK;
use crate::Result;

/// Longest record that lies in an arena; longer ones are blocks.
pub(crate) const MAX_INLINE: usize = CHUNK / 8;

const PLAIN_VISITED: u8 = 0x40;
const EXTENDED: u8 = 0x80;
const DEAD: u8 = 0xC0;
const DEAD_BYTE: u8 = 0xFF;
const BLOCK: u8 = 1;
const EXPIRES: u8 = 2;
const VISITED: u8 = 4;
const IN_WHEEL: u8 = 8;
const ODD_WHEEL: u8 = 16;
const WHEELS: u8 = IN_WHEEL | ODD_WHEEL;
const KIND_SHIFT: u32 = 5;
const DEADLINE_LEN: usize = 5;
const FAR_LEN: usize = 8;
/// Later deadlines are far: 34 years after the store was made.
const LAST_NEAR: u64 = (1 << 40) - 1;
const POINTER_LEN: usize = size_of::<*mut u8>();
/// In the place of a key's length: a u16 follows.
const LONG_KEY: usize = 63;

/// When a record expires, and whether its shard's time wheel knows of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// Milliseconds since the store's epoch; 0: never.
    pub(crate) deadline: u64,
    /// The wheel that holds an entry that fires no later than the deadline.
    pub(crate) wheel: InWheel,
}

/// Which of a shard's wheels holds an entry for a record. A shard that makes its wheel anew has two, an even and an odd one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum InWheel {
    #[default]
    None,
    Even,
    Odd,
}

impl Expiry {
    pub(crate) const NEVER: Expiry = Expiry {
        deadline: 0,
        wheel: InWheel::None,
    };

    #[inline]
    pub(crate) fn expires(self) -> bool {
        self.deadline != 0
    }

    #[inline]
    fn is_near(self) -> bool {
        self.deadline.wrapping_sub(1) < LAST_NEAR
    }

    /// Bytes of the deadline in a record.
    #[inline]
    pub(crate) fn len(self) -> usize {
        match self.deadline {
            0 => 0,
            1..=LAST_NEAR => DEADLINE_LEN,
            _ => FAR_LEN,
        }
    }

    #[inline]
    fn flags(self) -> u8 {
        let wheel = match self.wheel {
            InWheel::None => 0,
            InWheel::Even => IN_WHEEL,
            InWheel::Odd => WHEELS,
        };
        match self.deadline {
            0 => 0,
            1..=LAST_NEAR => EXPIRES | wheel,
            _ if wheel == 0 => ODD_WHEEL,
            _ => wheel,
        }
    }
}

/// What type of value an entry has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind(u8);

impl Kind {
    /// Bytes.
    pub const STRING: Kind = Kind(0);
    /// What no release writes, for tests of those who meet a type that is not theirs.
    #[cfg(any(test, feature = "failpoints"))]
    pub const OF_TESTS: Kind = Kind(7);
}

/// What the head of a record says beside lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) expiry: Expiry,
    pub(crate) kind: Kind,
}

impl Form {
    #[inline]
    pub(crate) fn string(expiry: Expiry) -> Form {
        Form {
            expiry,
            kind: Kind::STRING,
        }
    }

    #[inline]
    fn flags(self) -> u8 {
        self.expiry.flags() | self.kind.0 << KIND_SHIFT
    }

    #[inline]
    fn is_plain(self) -> bool {
        !self.expiry.expires() && self.kind == Kind::STRING
    }
}

/// Bytes of the deadline in a record with these flags.
#[inline]
fn deadline_len(flags: u8) -> usize {
    match flags & (EXPIRES | WHEELS) {
        0 => 0,
        near if near & EXPIRES != 0 => DEADLINE_LEN,
        _ => FAR_LEN,
    }
}

/// What lies at a place of an arena.
pub(crate) enum Parsed<'a> {
    /// An entry.
    Live(Record<'a>),
    /// Nothing, `len` bytes long.
    Dead { len: usize },
}

/// An entry as its record says it.
pub(crate) struct Record<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: ValueRef<'a>,
    pub(crate) expiry: Expiry,
    pub(crate) kind: Kind,
    /// Bytes in the arena.
    pub(crate) len: usize,
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

    /// Bytes of the block, where the value is one.
    pub(crate) fn block_len(&self) -> usize {
        match self {
            ValueRef::Inline(_) => 0,
            ValueRef::Shared(block) => block.allocated(),
        }
    }

    /// Bytes of the value for which there has to be memory so that it can be written up to `end`.
    pub(crate) fn room_to_write(&self, end: usize) -> usize {
        let len = self.len();
        match self {
            ValueRef::Inline(_) => len.max(end),
            ValueRef::Shared(block) => block.room_to_grow(end.saturating_sub(len)),
        }
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
pub(crate) fn encoded_len(key_len: usize, value_len: usize, form: Form) -> (usize, bool) {
    let deadline = form.expiry.len();
    let head = match (form.is_plain(), key_len) {
        (true, 0..=63) => 1,
        (false, 0..LONG_KEY) => 2 + deadline,
        _ => 4 + deadline,
    };
    let head = head + if value_len < 0x80 { 1 } else { 2 };
    let len = head + key_len + value_len;
    if len > MAX_INLINE {
        (2 + deadline + POINTER_LEN, true)
    } else {
        (len, false)
    }
}

/// Bytes outside the arena of a record whose key and value have so many, no fewer than they will be.
pub(crate) fn block_bytes(len: usize) -> usize {
    let longest = Form::string(Expiry {
        deadline: u64::MAX,
        wheel: InWheel::None,
    });
    if encoded_len(0, len, longest).1 {
        Block::bytes_for(len)
    } else {
        0
    }
}

/// Writes a record that is no block.
///
/// # Safety
/// `to` is valid for `encoded_len` bytes, and the record is no block.
#[inline]
pub(crate) unsafe fn write_inline(to: *mut u8, key: &[u8], value: &[u8], form: Form) {
    debug_assert!(!encoded_len(key.len(), value.len(), form).1);
    let expiry = form.expiry;
    if expiry.is_near() && key.len() < LONG_KEY && value.len() < 0x80 {
        // The head that most have, in one write: kkkkkk, flags, deadline, value length.
        let first = u64::from(EXTENDED) | key.len() as u64;
        let middle = u64::from(form.flags()) << 8 | expiry.deadline << 16;
        let head = first | middle | (value.len() as u64) << 56;
        // SAFETY: head, key and value are the bytes of `encoded_len`.
        unsafe {
            to.cast::<[u8; 8]>().write(head.to_le_bytes());
            ptr::copy_nonoverlapping(key.as_ptr(), to.add(8), key.len());
            ptr::copy_nonoverlapping(value.as_ptr(), to.add(8 + key.len()), value.len());
        }
        return;
    }
    let mut at = to;
    let mut byte = |b: u8| {
        // SAFETY: the head's bytes are the first of `encoded_len`.
        unsafe {
            at.write(b);
            at = at.add(1);
        }
    };
    if key.len() <= 63 && form.is_plain() {
        byte(key.len() as u8);
    } else {
        byte(EXTENDED | key.len().min(LONG_KEY) as u8);
        byte(form.flags());
        let deadline = expiry.deadline.to_le_bytes();
        deadline[..expiry.len()].iter().copied().for_each(&mut byte);
        if key.len() >= LONG_KEY {
            byte(key.len() as u8);
            byte((key.len() >> 8) as u8);
        }
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
pub(crate) unsafe fn write_block(to: *mut u8, block: Block, form: Form) {
    // SAFETY: head, deadline and pointer are the bytes of a block's record.
    unsafe {
        to.write(EXTENDED);
        to.add(1).write(BLOCK | form.flags());
        write_deadline(to, form.expiry);
        block_pointer(to).write_unaligned(block.into_raw());
    }
}

/// Puts another block in the place of a record's; the rest of the record stays.
///
/// # Safety
/// `at` is the start of a block's record, whose handle the caller has taken.
pub(crate) unsafe fn replace_block(at: *mut u8, block: Block) {
    // SAFETY: by the caller.
    unsafe { block_pointer(at).write_unaligned(block.into_raw()) };
}

/// Where the pointer of a block's record lies.
///
/// # Safety
/// `at` is the start of a block's record whose flags are written.
#[inline]
unsafe fn block_pointer(at: *mut u8) -> *mut *mut u8 {
    // SAFETY: by the caller.
    unsafe { at.add(2 + deadline_len(*at.add(1))).cast() }
}

/// Writes a deadline behind the flags.
///
/// # Safety
/// `at` is the start of an extended record, exclusively borrowed, with as many bytes after the flags as the deadline takes.
#[inline]
unsafe fn write_deadline(at: *mut u8, expiry: Expiry) {
    let deadline = expiry.deadline.to_le_bytes();
    // SAFETY: by the caller.
    unsafe { ptr::copy_nonoverlapping(deadline.as_ptr(), at.add(2), expiry.len()) };
}

/// Writes another expiry into a record that expires.
///
/// # Safety
/// `at` is the start of a record with a deadline of as many bytes, exclusively borrowed; `expiry` expires.
pub(crate) unsafe fn write_expiry(at: *mut u8, expiry: Expiry) {
    // SAFETY: a record with a deadline has flags, and its bytes after them.
    unsafe {
        debug_assert_eq!(deadline_len(*at.add(1)), expiry.len());
        let kept = *at.add(1) & !(EXPIRES | WHEELS);
        at.add(1).write(kept | expiry.flags());
        write_deadline(at, expiry);
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

/// A byte of a record's head, which a reader may be marking at this moment.
///
/// # Safety
/// `at` is a byte of the head of a record that is alive.
#[inline]
unsafe fn head_byte(at: *const u8) -> u8 {
    // SAFETY: by the caller; all who write it under the shared lock do so atomically.
    unsafe { AtomicU8::from_ptr(at.cast_mut()) }.load(Ordering::Relaxed)
}

/// Reads what lies at `at`.
///
/// # Safety
/// `at` is the start of a record or of dead bytes, alive and unchanged for `'a` but for the bits that say that it was read.
#[inline(always)]
pub(crate) unsafe fn parse<'a>(at: *const u8) -> Parsed<'a> {
    // SAFETY: the record's own head says how far it goes.
    unsafe {
        let first = head_byte(at);
        if first < EXTENDED {
            let key_len = usize::from(first & !PLAIN_VISITED);
            let (value_len, head) = value_len(at.add(1), 1);
            let form = Form::string(Expiry::NEVER);
            return inline(at, head, key_len, value_len, form);
        }
        if first == DEAD_BYTE {
            return Parsed::Dead { len: 1 };
        }
        if first & DEAD == DEAD {
            let len = usize::from(*at.add(1)) | usize::from(*at.add(2)) << 8;
            return Parsed::Dead { len };
        }
        let flags = head_byte(at.add(1));
        let kind = Kind(flags >> KIND_SHIFT);
        let (expiry, mut head) = if flags & EXPIRES != 0 {
            (read_expiry(at, flags), 2 + DEADLINE_LEN)
        } else if flags & WHEELS == 0 {
            (Expiry::NEVER, 2)
        } else {
            (read_far(at, flags), 2 + FAR_LEN)
        };
        if flags & BLOCK != 0 {
            let raw = at.add(head).cast::<*mut u8>().read_unaligned();
            let block = BorrowedBlock::from_raw(raw);
            return Parsed::Live(Record {
                key: block.key(),
                value: ValueRef::Shared(block),
                expiry,
                kind,
                len: head + POINTER_LEN,
            });
        }
        let mut key_len = usize::from(first & !EXTENDED);
        if key_len == LONG_KEY {
            key_len = usize::from(*at.add(head)) | usize::from(*at.add(head + 1)) << 8;
            head += 2;
        }
        let (value_len, head) = value_len(at.add(head), head);
        inline(at, head, key_len, value_len, Form { expiry, kind })
    }
}

/// # Safety
/// `at` is the start of a record with a deadline, and `flags` its flags.
#[inline]
unsafe fn read_expiry(at: *const u8, flags: u8) -> Expiry {
    // SAFETY: the deadline follows the flags.
    let [a, b, c, d, e] = unsafe { at.add(2).cast::<[u8; DEADLINE_LEN]>().read() };
    Expiry {
        deadline: u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]),
        wheel: match (flags & IN_WHEEL != 0, flags & ODD_WHEEL != 0) {
            (false, _) => InWheel::None,
            (true, false) => InWheel::Even,
            (true, true) => InWheel::Odd,
        },
    }
}

/// # Safety
/// `at` is the start of a record with a far deadline, and `flags` its flags.
#[cold]
unsafe fn read_far(at: *const u8, flags: u8) -> Expiry {
    // SAFETY: the deadline follows the flags.
    let deadline = unsafe { at.add(2).cast::<[u8; FAR_LEN]>().read() };
    Expiry {
        deadline: u64::from_le_bytes(deadline),
        wheel: match flags & WHEELS {
            ODD_WHEEL => InWheel::None,
            IN_WHEEL => InWheel::Even,
            _ => InWheel::Odd,
        },
    }
}

/// # Safety
/// As [`parse`]; `head` bytes are followed by the key and the value.
#[inline(always)]
unsafe fn inline<'a>(
    at: *const u8,
    head: usize,
    key_len: usize,
    value_len: usize,
    form: Form,
) -> Parsed<'a> {
    // SAFETY: by the caller.
    unsafe {
        Parsed::Live(Record {
            key: slice::from_raw_parts(at.add(head), key_len),
            value: ValueRef::Inline(slice::from_raw_parts(at.add(head + key_len), value_len)),
            expiry: form.expiry,
            kind: form.kind,
            len: head + key_len + value_len,
        })
    }
}

/// Notes that the entry was read. Writes only where that was not noted yet.
///
/// # Safety
/// `at` is the start of a live record; the shard's lock is held, shared or not.
#[inline]
pub(crate) unsafe fn mark_visited(at: *mut u8) {
    // SAFETY: the first byte, and for an extended record the second one, are the record's.
    unsafe {
        let first = head_byte(at);
        let (byte, bit, now) = if first < EXTENDED {
            (at, PLAIN_VISITED, first)
        } else {
            (at.add(1), VISITED, head_byte(at.add(1)))
        };
        if now & bit == 0 {
            AtomicU8::from_ptr(byte).fetch_or(bit, Ordering::Relaxed);
        }
    }
}

/// Whether it was noted that the entry was read.
///
/// # Safety
/// `at` is the start of a live record; the shard's lock is held, shared or not.
pub(crate) unsafe fn is_visited(at: *const u8) -> bool {
    // SAFETY: by the caller.
    unsafe {
        let first = head_byte(at);
        if first < EXTENDED {
            first & PLAIN_VISITED != 0
        } else {
            head_byte(at.add(1)) & VISITED != 0
        }
    }
}

/// Forgets that the entry was read, and says whether it was.
///
/// # Safety
/// `at` is the start of a live record, exclusively borrowed.
pub(crate) unsafe fn take_visited(at: *mut u8) -> bool {
    // SAFETY: as in `mark_visited`, exclusively.
    unsafe {
        let (byte, bit) = if *at < EXTENDED {
            (at, PLAIN_VISITED)
        } else {
            (at.add(1), VISITED)
        };
        let visited = *byte & bit != 0;
        *byte &= !bit;
        visited
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
