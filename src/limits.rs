//! The one place for limits of keys, values and structures.

use crate::{Error, Result};

/// Longest key, in bytes.
pub const MAX_KEY_LEN: usize = 64 * 1024;
/// Longest value, in bytes.
pub const MAX_VALUE_LEN: usize = u32::MAX as usize;
/// Values above this many bytes are copied out only while the GIL is released.
pub const SMALL_VALUE_LEN: usize = 4 * 1024;

/// Longest time to live, in milliseconds: ten years of 365.25 days.
pub const MAX_TTL: u64 = 10 * 36_525 * 24 * 36_000;

/// Checks a time to live in milliseconds.
#[inline]
pub fn check_ttl(ttl: u64) -> Result<()> {
    if ttl == 0 || ttl > MAX_TTL {
        return Err(Error::TtlOutOfRange(ttl));
    }
    Ok(())
}

/// Checks the length of a key.
#[inline]
pub fn check_key(len: usize) -> Result<()> {
    if len > MAX_KEY_LEN {
        return Err(Error::KeyTooLong(len));
    }
    Ok(())
}

/// Checks the length of a value.
#[inline]
pub fn check_value(len: usize) -> Result<()> {
    if len > MAX_VALUE_LEN {
        return Err(Error::ValueTooLong(len));
    }
    Ok(())
}
