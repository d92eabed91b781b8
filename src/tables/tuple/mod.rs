//! FoundationDB's tuple encoding (its published specification): the order of the bytes is the order of the tuples.
//!
//! | element | bytes |
//! |---|---|
//! | null | `00`; within a tuple `00 ff` |
//! | bytes, text | `01` or `02`, the bytes with each `00` as `00 ff`, `00` |
//! | tuple | `05`, its elements, `00` |
//! | integer of n bytes, n <= 8 | `14 + n` and the value, or `14 - n` and the complement of the magnitude |
//! | integer of 9 to 255 bytes | `1d`, length and value, or `0b` and the complement of both |
//! | double | `21`, the bits with the sign flipped, or all flipped if negative |
//! | false, true | `26`, `27` |
//! | UUID | `30` and 16 bytes |
//! | moment, ours | `40` and microseconds since 1970 as 8 bytes with the sign flipped |
//!
//! 2^64 - 1 and its negative have the long form, as in FoundationDB's Python. Every element ends itself, so no key is a
//! prefix of another one's sibling: the keys that extend a tuple `t` are those from `t` to `t ff`.

mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::{Item, Reader};
pub use write::Writer;

/// Tuples within tuples that are taken, in writing and in reading.
pub const MAX_DEPTH: usize = 64;
/// The longest integer, in bytes.
pub const MAX_INT_LEN: usize = 255;

const NULL: u8 = 0x00;
const BYTES: u8 = 0x01;
const TEXT: u8 = 0x02;
const NESTED: u8 = 0x05;
const LONG_NEGATIVE: u8 = 0x0b;
const ZERO: u8 = 0x14;
const LONG_POSITIVE: u8 = 0x1d;
const DOUBLE: u8 = 0x21;
const FALSE: u8 = 0x26;
const TRUE: u8 = 0x27;
const UUID: u8 = 0x30;
const MOMENT: u8 = 0x40;
/// What follows a zero byte that is data.
const ESCAPE: u8 = 0xff;
const SIGN: u64 = 1 << 63;

/// The end of the keys that extend `prefix`: all of them are below it, and it is below every other that is greater.
pub fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    [prefix, &[0xff]].concat()
}
