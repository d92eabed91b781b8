//! Loads a TSV file into a store: cuts it into rounds, lets threads parse each round, and counts. Knows the store's
//! bulk load and not how it works.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use super::report::{LoadReport, Progress};
use crate::Error;
use crate::engine::{Keep, Store};

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Threads that parse. `None`: as many as the machine gives this process, fewer for a small file. The result does not
    /// depend on it.
    pub threads: Option<usize>,
    /// Which row of several with one key stays.
    pub keep: Keep,
    /// Refuse a load whose estimated need exceeds the memory that is available.
    pub check_memory: bool,
    /// Files of fewer bytes are set row by row on the calling thread; others go through the bulk load.
    pub bulk_from: u64,
    /// Upper limit for the input bytes of one round of the bulk load.
    pub round_bytes: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            threads: None,
            keep: Keep::Last,
            check_memory: true,
            bulk_from: 4 << 20,
            round_bytes: usize::MAX,
        }
    }
}

/// Why a load stopped, and what it had done by then: the store holds exactly the rows that `report` counts, and they are
/// the first rows of the file.
#[derive(Debug)]
pub struct LoadFailure {
    /// What went wrong: [`Error::MalformedRow`], [`Error::RowTooLong`], [`Error::Io`], [`Error::NotEnoughMemory`],
    /// [`Error::Cancelled`], [`Error::Closed`], [`Error::OutOfMemory`] or [`Error::ArenaFull`].
    pub error: Error,
    /// The rows that are in.
    pub report: LoadReport,
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} rows are in)", self.error, self.report.rows)
    }
}

impl std::error::Error for LoadFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Loads the rows of the file at `path`.
///
/// `progress` is called on the calling thread, about every 30 ms and once at the end; [`ControlFlow::Break`] cancels the
/// load within 100 ms ([`Error::Cancelled`]). The store then holds a prefix of the file.
///
/// The last row of a key wins (or the first, by [`LoadOptions::keep`]), whatever the number of threads. On a row without
/// a tab exactly the rows before it are in. Time is linear in the size of the file.
pub fn load(
    store: &Store,
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> std::result::Result<LoadReport, LoadFailure> {
    let _ = (store, path, options, progress);
    todo!("lands with the bulk load")
}
