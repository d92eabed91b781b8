//! What a load or a save says while it runs and when it is done. Knows numbers only.

use std::fmt;

const MIB: f64 = (1u64 << 20) as f64;

/// Where a running load or save stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Rows read or written so far.
    pub rows: u64,
    /// Bytes read or written so far.
    pub bytes: u64,
    /// Bytes there will be in all, where that is known: the size of the file for a load, nothing for a save.
    pub total_bytes: Option<u64>,
    /// Rows there will be in all, where that is known: the store's length for a save (an estimate while others write).
    pub total_rows: Option<u64>,
    /// Seconds since the start.
    pub seconds: f64,
}

/// What a load did. `Display` gives four lines that mean what the four lines of the 2012 atbr meant, in its units.
///
/// ```
/// let report = atbr::files::tsv::LoadReport {
///     rows: 212_969,
///     new: 212_969,
///     replaced: 0,
///     evicted: 0,
///     bytes: 117_362_571,
///     seconds: 1.178468,
/// };
/// assert_eq!(format!("{:.3}", report.mb_per_second()), "94.803");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Rows that are in the store now: those before the row at fault if the load failed.
    pub rows: u64,
    /// Of these, rows whose key was new to the store.
    pub new: u64,
    /// Of these, rows that replaced a value: one from before the load or one of an earlier row.
    pub replaced: u64,
    /// Entries that a bounded store evicted while the load ran.
    pub evicted: u64,
    /// Bytes of input that these rows took, tabs and newlines included.
    pub bytes: u64,
    /// Seconds that the load took.
    pub seconds: f64,
}

impl LoadReport {
    /// Rows a second.
    pub fn pairs_per_second(&self) -> f64 {
        per_second(self.rows as f64, self.seconds)
    }

    /// MiB (2^20 bytes) a second, newlines not counted, as in 2012.
    pub fn mb_per_second(&self) -> f64 {
        per_second(megabytes(self.bytes, self.rows), self.seconds)
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Loaded in {:.6} seconds", self.seconds)?;
        writeln!(f, "New keys: {}", self.new)?;
        writeln!(f, "Rate: {:.6} pairs per second", self.pairs_per_second())?;
        write!(f, "Throughput: {:.6} MB per second", self.mb_per_second())
    }
}

/// What a save did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SaveReport {
    /// Rows written.
    pub rows: u64,
    /// Entries left out because they expire.
    pub skipped: u64,
    /// Bytes written, tabs and newlines included.
    pub bytes: u64,
    /// Seconds that the save took, the wait for the disk included.
    pub seconds: f64,
}

impl SaveReport {
    /// Rows a second.
    pub fn pairs_per_second(&self) -> f64 {
        per_second(self.rows as f64, self.seconds)
    }

    /// MiB (2^20 bytes) a second, newlines not counted, as for a load.
    pub fn mb_per_second(&self) -> f64 {
        per_second(megabytes(self.bytes, self.rows), self.seconds)
    }
}

/// MiB of input less one newline a row.
fn megabytes(bytes: u64, rows: u64) -> f64 {
    bytes.saturating_sub(rows) as f64 / MIB
}

/// A rate that is 0 where no time has passed, never infinite.
fn per_second(amount: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { amount / seconds } else { 0.0 }
}
