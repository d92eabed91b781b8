//! The one place for limits of keys, values and structures.

use crate::{Error, Result};

/// Longest key, in bytes.
pub const MAX_KEY_LEN: usize = 64 * 1024;
/// Longest value, in bytes.
pub const MAX_VALUE_LEN: usize = u32::MAX as usize;
/// Values above this many bytes are copied out only while the GIL is released.
pub const SMALL_VALUE_LEN: usize = 4 * 1024;

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
