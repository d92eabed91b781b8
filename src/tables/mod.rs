//! Ordered tables: the encoding of tuple keys, and the ordered map behind `local://`. Knows no Python and no engine but
//! its lock.

pub mod map;
pub mod tuple;

/// Longest encoded key, in bytes. Cassandra's, and the map's lengths have 16 bits.
pub const MAX_KEY_LEN: usize = u16::MAX as usize;

/// Asks for what is at an address from memory, so that several such waits are one. Does nothing on processors without
/// such a hint.
#[inline]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
