//! The one error type of the crate. Each message names the value at fault and what to do.

use std::fmt;
use std::path::PathBuf;

use crate::limits;

/// What can go wrong in the engine and in the files.
#[derive(Debug)]
pub enum Error {
    /// The shard's lock is held by another thread and the caller asked not to wait.
    WouldBlock,
    /// The store has been closed.
    Closed,
    /// An allocation failed; the store is as it was before the call.
    OutOfMemory,
    /// A shard's arena has reached its 4 GiB; the store is as it was before the call.
    ArenaFull,
    /// The key is longer than [`limits::MAX_KEY_LEN`]. Holds its length in bytes.
    KeyTooLong(usize),
    /// The value is longer than [`limits::MAX_VALUE_LEN`]. Holds its length in bytes.
    ValueTooLong(usize),
    /// A time to live of 0 or over [`limits::MAX_TTL`]. Holds it in milliseconds.
    TtlOutOfRange(u64),
    /// A bound in bytes below [`crate::engine::MIN_BYTES`]. Holds it.
    BoundTooSmall(u64),
    /// A bounded store has no room, and was told not to evict; or the entry would not even fit into an empty one.
    StoreFull,
    /// A full store has nothing to evict in the shard of a new key. Never leaves the store.
    NothingToEvict,
    /// A write that has no room yet grows what is there. Never leaves the store.
    NeedsRoom,
    /// The operation is for stores without bounds.
    Bounded,
    /// There are 16 databases. Holds the number that was asked for.
    NoSuchDatabase(u8),
    /// A panic has left the key's shard half changed.
    Broken,
    /// A key is used under locks that were not taken for it.
    NotLocked,
    /// `incr` met a value that is not a decimal 64-bit integer.
    NotAnInteger,
    /// `incr` would leave the range of a signed 64-bit integer.
    IntegerOverflow,
    /// The call was cancelled (Ctrl-C or a progress callback that raised).
    Cancelled,
    /// The estimate of a load or of `reserve` does not fit into the memory that is available.
    NotEnoughMemory {
        /// Bytes that the call would need.
        needed: u64,
        /// Bytes that the machine or the cgroup has left.
        available: u64,
    },
    /// An operating-system error on a file.
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A row of a TSV file has no tab.
    MalformedRow {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// Offset of the row's first byte in the file.
        byte_offset: u64,
    },
    /// A row of a TSV file holds a key or a value over the limits, or a backslash that escapes nothing.
    BadRow {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// Offset of the row's first byte in the file.
        byte_offset: u64,
        /// [`Error::KeyTooLong`], [`Error::ValueTooLong`] or [`Error::BadEscape`].
        cause: Box<Error>,
    },
    /// What follows a backslash in a row is not `t`, `n` or another backslash.
    BadEscape,
    /// `save` met an entry that plain TSV cannot hold. Holds the key.
    NotRepresentable(Vec<u8>),
    /// Bytes are no encoded tuple.
    MalformedTuple {
        /// Offset of the element at fault.
        at: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// `Result` with the crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::WouldBlock => write!(f, "the shard is locked by another thread"),
            Error::Closed => write!(f, "store is closed"),
            Error::OutOfMemory => write!(f, "out of memory; the store is as it was before"),
            Error::ArenaFull => write!(
                f,
                "a shard is full (4 GiB of records); create the store with a larger capacity= to spread the data over more shards"
            ),
            Error::KeyTooLong(len) => write!(
                f,
                "key of {len} bytes is too long; the limit is {} bytes",
                limits::MAX_KEY_LEN
            ),
            Error::ValueTooLong(len) => write!(
                f,
                "value of {len} bytes is too long; the limit is {} bytes",
                limits::MAX_VALUE_LEN
            ),
            Error::TtlOutOfRange(ttl) => write!(
                f,
                "ttl of {} s is out of range; it must be positive and at most 10 years",
                *ttl as f64 / 1e3
            ),
            Error::BoundTooSmall(bytes) => write!(
                f,
                "a bound of {bytes} bytes is too small; the smallest is {} bytes",
                crate::engine::MIN_BYTES
            ),
            Error::StoreFull => write!(
                f,
                "the store is full; raise its bounds, delete entries, or let it evict"
            ),
            Error::NothingToEvict => write!(f, "nothing to evict in the shard"),
            Error::NeedsRoom => write!(f, "the write has no room"),
            Error::Bounded => write!(f, "a bounded store does not take bulk loads"),
            Error::NoSuchDatabase(db) => write!(f, "there is no database {db}; they are 0 to 15"),
            Error::Broken => write!(
                f,
                "an internal error has broken the part of the store that the key is in; save what can be read, and start anew"
            ),
            Error::NotLocked => write!(f, "the key is none of those whose shards were locked"),
            Error::NotAnInteger => write!(f, "value is not a decimal 64-bit integer"),
            Error::IntegerOverflow => {
                write!(f, "increment would overflow a signed 64-bit integer")
            }
            Error::Cancelled => write!(f, "cancelled"),
            Error::NotEnoughMemory { needed, available } => write!(
                f,
                "about {needed} bytes are needed and {available} are available; pass check_memory=False to try all the same"
            ),
            Error::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Error::MalformedRow {
                path,
                line,
                byte_offset,
            } => write!(
                f,
                "{}: line {line} (byte {byte_offset}) has no tab",
                path.display()
            ),
            Error::BadRow {
                path,
                line,
                byte_offset,
                cause,
            } => write!(
                f,
                "{}: line {line} (byte {byte_offset}): {cause}",
                path.display()
            ),
            Error::BadEscape => write!(
                f,
                "a backslash is followed by none of 't', 'n' and a backslash"
            ),
            Error::NotRepresentable(key) => write!(
                f,
                "the entry of key {:?} has a tab or newline where TSV cannot hold it; escape=\"backslash\" can",
                String::from_utf8_lossy(key)
            ),
            Error::MalformedTuple { at, what } => {
                write!(f, "no encoded tuple: {what} (byte {at})")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::BadRow { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
