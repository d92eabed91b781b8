//! The one place for limits of keys, values and structures.

/// Longest key, in bytes.
pub const MAX_KEY_LEN: usize = 64 * 1024;
/// Longest value, in bytes.
pub const MAX_VALUE_LEN: usize = u32::MAX as usize;
/// Values above this many bytes are copied out only while the GIL is released.
pub const SMALL_VALUE_LEN: usize = 4 * 1024;
