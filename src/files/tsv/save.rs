//! Saves a store as a TSV file, all or nothing. Knows the store's scan and `replace`, which puts a file in another's place.

use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;

use memchr::{memchr, memchr2};

use super::crew::{Shared, Ticker};
use super::escape::{self, Escape};
use super::report::{Progress, SaveReport};
use crate::engine::{Filter, Page, Store};
use crate::files::os_error;
use crate::files::replace::Replacement;
use crate::{Error, Result};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;
/// Entries of a page of the scan: at first, and at most.
const FIRST_PAGE: usize = 64;
const LARGEST_PAGE: usize = 8192;

/// How to save.
#[derive(Clone, Copy, Debug, Default)]
pub struct SaveOptions {
    /// How the rows hold tabs and newlines.
    pub escape: Escape,
    /// Leave out entries that expire: a file has no place for when.
    pub skip_expiring: bool,
}

/// Writes every entry as a row of the file at `path`, in no particular order, and replaces that file only when all of it
/// is on disk: a temporary file in the same folder, fsync, rename, fsync of the folder. Symbolic links are followed. The
/// file keeps its permissions; a new one gets 0666 less the umask.
///
/// `progress` is called on the calling thread about every 30 ms; [`ControlFlow::Break`] cancels. Whatever goes wrong,
/// the old file is as it was and the temporary file is gone; only where the last step fails, the fsync of the folder, is
/// the new file in place.
///
/// Entries written or deleted by other threads meanwhile may or may not be in the file; all others are.
///
/// # Errors
/// [`Error::NotRepresentable`] for a key with a tab or a newline or a value with a newline, unless rows are escaped; [`Error::Io`],
/// [`Error::Cancelled`].
pub fn save(
    store: &Store,
    path: &Path,
    options: &SaveOptions,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<SaveReport> {
    let file = Replacement::create(path).map_err(|error| os_error::at(path, error))?;
    save_into(store, file, path, options, progress)
}

/// As [`save`], into a file that has begun; `path` is what messages call it.
pub(crate) fn save_into(
    store: &Store,
    mut file: Replacement,
    path: &Path,
    options: &SaveOptions,
    progress: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<SaveReport> {
    let shared = Shared::default();
    let totals = Progress {
        total_rows: Some(store.len() as u64),
        ..Progress::default()
    };
    let mut ticker = Ticker::new(progress, &shared, totals);
    let at_path = |error| os_error::at(path, error);
    let mut rows = Rows::default();
    let mut skipped = 0;
    let mut page = Page::default();
    let mut count = FIRST_PAGE;
    let mut cursor = 0;
    loop {
        cursor = store.scan(cursor, &Filter::default(), count, true, &mut page)?;
        let before = rows.bytes();
        for index in 0..page.len() {
            if options.skip_expiring && page.time_left(index).is_some() {
                skipped += 1;
                continue;
            }
            rows.add(page.key(index), page.value(index), options.escape)?;
            if rows.buffer.len() >= BUFFER {
                rows.flush(&mut file).map_err(at_path)?;
                ticker.tick()?;
            }
        }
        let written = rows.bytes() - before;
        shared.count(page.len() as u64, written as usize);
        ticker.tick()?;
        if cursor == 0 {
            break;
        }
        count = next_page(count, written);
    }
    rows.flush(&mut file).map_err(at_path)?;
    file.sync().map_err(at_path)?;
    ticker.tick_now()?;
    file.commit().map_err(at_path)?;
    Ok(SaveReport {
        rows: rows.rows,
        skipped,
        bytes: rows.bytes(),
        seconds: ticker.seconds(),
    })
}

/// Entries to ask for after a page of `count` that took `bytes`: about one buffer of them, so that a page of large values
/// does not fill the memory.
fn next_page(count: usize, bytes: u64) -> usize {
    if bytes > BUFFER as u64 {
        (count / 2).max(1)
    } else if bytes < BUFFER as u64 / 4 {
        (count * 2).min(LARGEST_PAGE)
    } else {
        count
    }
}

/// Rows on their way to the file.
#[derive(Default)]
struct Rows {
    rows: u64,
    flushed: u64,
    buffer: Vec<u8>,
}

impl Rows {
    fn bytes(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    fn add(&mut self, key: &[u8], value: &[u8], escape: Escape) -> Result<()> {
        if escape == Escape::Backslash {
            escape::escape(key, &mut self.buffer)?;
            self.buffer.push(b'\t');
            escape::escape(value, &mut self.buffer)?;
            self.buffer.push(b'\n');
            self.rows += 1;
            return Ok(());
        }
        if memchr2(b'\t', b'\n', key).is_some() || memchr(b'\n', value).is_some() {
            return Err(Error::NotRepresentable(key.to_vec()));
        }
        let length = key.len() + value.len() + 2;
        self.buffer
            .try_reserve(length)
            .map_err(|_| Error::OutOfMemory)?;
        self.buffer.extend_from_slice(key);
        self.buffer.push(b'\t');
        self.buffer.extend_from_slice(value);
        self.buffer.push(b'\n');
        self.rows += 1;
        Ok(())
    }

    fn flush(&mut self, file: &mut Replacement) -> std::io::Result<()> {
        file.write_all(&self.buffer)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
