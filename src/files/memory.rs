//! How much memory this process may still take. Knows /proc and control groups, no file format.

/// Bytes that the machine and the control groups of this process leave it. `None` where that cannot be told.
pub fn available() -> Option<u64> {
    None
}
