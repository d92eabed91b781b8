//! Ordered tables: the encoding of tuple keys, and the ordered map behind `local://`. Knows no Python and no engine but
//! its lock.

pub mod map;
pub mod tuple;

/// Longest encoded key, in bytes. Cassandra's, and the map's lengths have 16 bits.
pub const MAX_KEY_LEN: usize = u16::MAX as usize;
