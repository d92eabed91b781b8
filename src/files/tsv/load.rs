//! Loads a TSV file into a store: cuts it into rounds, lets threads parse each round, and counts. Knows the store's
//! bulk load and not how it works.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::thread;

use super::bulk;
use super::crew::{Shared, Ticker};
use super::escape::{Escape, Unescaper};
use super::estimate;
use super::input::{self, Input, MappedInput, ReadInput};
use super::report::{LoadReport, Progress};
use super::scan::{self, Stop};
use crate::engine::{Keep, Store, Ttl, Wait};
use crate::files::{mapped, memory, os_error};
use crate::{Error, Result};

/// Bytes that are set row by row between two looks at the clock.
const STEP: usize = 256 << 10;
/// Input that is worth a thread of its own, and the most threads that a load takes.
const BYTES_PER_THREAD: u64 = 2 << 20;
const MAX_THREADS: usize = 256;
/// What a thread may leave unfilled in each shard.
const BYTES_PER_SHARD: u64 = 32 << 10;

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Threads that parse. `None`: as many as the machine gives this process, fewer for a small file. The result does not
    /// depend on it.
    pub threads: Option<usize>,
    /// Leave others a processor, and where threads have priorities, give way to them: for loads beside work that cannot
    /// wait, which take longer for it.
    pub gives_way: bool,
    /// Which row of several with one key stays.
    pub keep: Keep,
    /// Time to live of the rows.
    pub ttl: Ttl,
    /// How the rows hold tabs and newlines.
    pub escape: Escape,
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
            gives_way: false,
            keep: Keep::Last,
            ttl: Ttl::Default,
            escape: Escape::None,
            check_memory: true,
            bulk_from: 4 << 20,
            round_bytes: usize::MAX,
        }
    }
}

/// Why a load stopped, and what it had done by then: the store holds the rows that `report` counts, and they are the
/// first rows of the file; no others, unless the load was cancelled or ran out of memory in the middle of a merge. Only where memory or a shard's room ran out may it hold some of the rows after them.
#[derive(Debug)]
pub struct LoadFailure {
    /// What went wrong: [`Error::MalformedRow`], [`Error::BadRow`], [`Error::Io`], [`Error::NotEnoughMemory`],
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
/// load within 100 ms ([`Error::Cancelled`]). The store then holds the rows of the report, which are the first of the
/// file, and of a round of over 2^20 rows perhaps some that were being merged.
///
/// The last row of a key wins (or the first, by [`LoadOptions::keep`]), whatever the number of threads. On a row without
/// a tab exactly the rows before it are in. Time is linear in the size of the file.
pub fn load(
    store: &Store,
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> std::result::Result<LoadReport, LoadFailure> {
    let opened = mapped::open_regular(path);
    let len = opened.as_ref().ok().map(|(_, len)| *len);
    run(store, path, options, progress, len, |load| {
        let (file, len) = opened?;
        load.run(&file, len)
    })
}

/// As [`load`], for a regular file that is open; `path` is what messages call it.
pub fn load_file(
    store: &Store,
    file: &std::fs::File,
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> std::result::Result<LoadReport, LoadFailure> {
    let metadata = file.metadata().and_then(|metadata| {
        mapped::must_be_regular(&metadata)?;
        Ok(metadata.len())
    });
    let len = metadata.as_ref().ok().copied();
    run(store, path, options, progress, len, |load| {
        let len = metadata.map_err(|error| load.io(error))?;
        load.run(file, len)
    })
}

/// As [`load`], for what `reader` gives, row by row; `path` is what messages call it.
pub fn load_from(
    store: &Store,
    reader: impl io::Read,
    path: &Path,
    options: &LoadOptions,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> std::result::Result<LoadReport, LoadFailure> {
    run(store, path, options, progress, None, |load| {
        load.one_by_one(&mut ReadInput::new(reader))?;
        load.ticker.tick_now()
    })
}

fn run<'a>(
    store: &'a Store,
    path: &'a Path,
    options: &'a LoadOptions,
    progress: &'a mut dyn FnMut(&Progress) -> ControlFlow<()>,
    total_bytes: Option<u64>,
    work: impl FnOnce(&mut Load<'_>) -> Result<()>,
) -> std::result::Result<LoadReport, LoadFailure> {
    let shared = Shared::default();
    let totals = Progress {
        total_bytes,
        ..Progress::default()
    };
    let mut load = Load {
        store,
        path,
        options,
        shared: &shared,
        ticker: Ticker::new(progress, &shared, totals),
        report: LoadReport::default(),
    };
    let evictions = store.evictions();
    let outcome = work(&mut load);
    let mut report = load.report;
    report.evicted = store.evictions() - evictions;
    report.seconds = load.ticker.seconds();
    match outcome {
        Ok(()) => Ok(report),
        Err(error) => Err(LoadFailure { error, report }),
    }
}

/// A load that is running.
pub(super) struct Load<'a> {
    pub(super) store: &'a Store,
    path: &'a Path,
    pub(super) options: &'a LoadOptions,
    pub(super) shared: &'a Shared,
    pub(super) ticker: Ticker<'a>,
    /// What is in the store so far.
    pub(super) report: LoadReport,
}

impl Load<'_> {
    fn run(&mut self, file: &std::fs::File, len: u64) -> Result<()> {
        // A bounded store decides for each row what it drops.
        if len < self.options.bulk_from || self.store.is_bounded() {
            self.one_by_one(&mut ReadInput::new(file))?;
        } else {
            let mapped = mapped::Mapped::new(file, len).map_err(|error| self.io(error))?;
            if self.options.check_memory {
                let needed = estimate::memory_needed(mapped.as_bytes());
                mapped.intact().map_err(|error| self.io(error))?;
                check_memory(needed)?;
            }
            bulk::load(self, &mut MappedInput::new(&mapped), self.threads(len))?;
        }
        self.ticker.tick_now()
    }

    /// Threads for an input of `len` bytes.
    fn threads(&self, len: u64) -> usize {
        let wanted = self.options.threads.unwrap_or_else(|| {
            let mut machine = thread::available_parallelism().map_or(1, usize::from);
            if self.options.gives_way {
                machine = (machine - 1).max(1);
            }
            // Each thread begins a chunk of records and one of items in every shard.
            let begun = self.store.shards() as u64 * BYTES_PER_SHARD;
            machine.min((len / BYTES_PER_THREAD.max(4 * begun)) as usize)
        });
        wanted.clamp(1, MAX_THREADS)
    }

    /// Sets each row as it comes: the plain way, and what the bulk load is held against.
    fn one_by_one(&mut self, input: &mut dyn Input) -> Result<()> {
        loop {
            self.ticker.tick()?;
            let block = match input.next_rows(STEP, &mut || self.ticker.tick()) {
                Ok(block) => block,
                Err(failure) => return Err(self.unread(failure)),
            };
            if block.bytes.is_empty() {
                return Ok(());
            }
            let (mut rows, mut new) = (0, 0);
            let ttl = self.options.ttl;
            let mut unescaper = Unescaper::new(self.options.escape);
            let scanned = scan::rows(block.bytes, |key, value| {
                let (key, value) = unescaper.row(key, value)?;
                new += u64::from(match self.options.keep {
                    Keep::Last => self.store.set_with(key, value, ttl, Wait::Block)?,
                    Keep::First => self.store.add(key, value, ttl, Wait::Block)?,
                });
                rows += 1;
                Ok(())
            });
            let bytes = scanned
                .as_ref()
                .map_or_else(Stop::offset, |()| block.bytes.len());
            self.shared.count(rows, bytes);
            self.count(rows, new, bytes);
            scanned.map_err(|stop| self.stopped(stop))?;
        }
    }

    /// Adds rows that are in the store now to the report.
    fn count(&mut self, rows: u64, new: u64, bytes: usize) {
        self.report.rows += rows;
        self.report.new += new;
        self.report.bytes += bytes as u64;
        if self.options.keep == Keep::Last {
            self.report.replaced += rows - new;
        }
    }

    /// The error of the row after those that the report counts.
    pub(super) fn stopped(&self, stop: Stop<Error>) -> Error {
        let path = self.path.to_path_buf();
        let line = self.report.rows + 1;
        let byte_offset = self.report.bytes;
        match stop {
            Stop::NoTab { .. } => Error::MalformedRow {
                path,
                line,
                byte_offset,
            },
            Stop::Refused { error, .. } if is_of_row(&error) => Error::BadRow {
                path,
                line,
                byte_offset,
                cause: Box::new(error),
            },
            Stop::Refused { error, .. } => error,
        }
    }

    /// The error of an input that gave no rows.
    pub(super) fn unread(&self, failure: input::Failure) -> Error {
        match failure {
            input::Failure::Read(error) => self.io(error),
            input::Failure::Polled(error) => error,
        }
    }

    pub(super) fn io(&self, error: io::Error) -> Error {
        os_error::at(self.path, error)
    }
}

/// Whether the row itself is at fault, so that the rows before it may stay.
pub(super) fn is_of_row(error: &Error) -> bool {
    matches!(
        error,
        Error::KeyTooLong(_) | Error::ValueTooLong(_) | Error::BadEscape
    )
}

/// [`Error::NotEnoughMemory`] if `needed` bytes are more than there are.
fn check_memory(needed: u64) -> Result<()> {
    match memory::available() {
        Some(available) if needed > available => Err(Error::NotEnoughMemory { needed, available }),
        _ => Ok(()),
    }
}
