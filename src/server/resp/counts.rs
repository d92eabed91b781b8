//! How often each command ran, how long that took, and which errors there were.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::server::Shared;

/// Of one command.
#[derive(Default)]
struct Row {
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    rejected: AtomicU64,
}

/// Figures of INFO's rates: how many, and when they were counted.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// Per second, of late.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) commands: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// Counters of commands.
pub(crate) struct Counts {
    rows: Vec<Row>,
    errors: Mutex<BTreeMap<Vec<u8>, u64>>,
    sample: Mutex<(Option<Sample>, Rates)>,
}

/// Kinds of errors that are counted: texts of clients could make any number of them.
const MOST_KINDS: usize = 128;

impl Counts {
    pub(crate) fn new(rows: usize) -> Counts {
        Counts {
            rows: (0..rows).map(|_| Row::default()).collect(),
            errors: Mutex::default(),
            sample: Mutex::default(),
        }
    }

    /// A command, by its place among all, ran so often.
    #[inline]
    pub(crate) fn ran(&self, row: u16, calls: u64, nanoseconds: u64) {
        if let Some(row) = self.rows.get(usize::from(row)) {
            row.calls.fetch_add(calls, Ordering::Relaxed);
            row.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        }
    }

    pub(crate) fn rejected(&self, row: u16) {
        if let Some(row) = self.rows.get(usize::from(row)) {
            row.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An error reply began with this word.
    pub(crate) fn failed(&self, code: &[u8]) {
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(code) {
            *count += 1;
        } else if errors.len() < MOST_KINDS {
            errors.insert(code.to_vec(), 1);
        }
    }

    /// (place among all, calls, microseconds, rejected) of those that were called.
    pub(crate) fn called(&self) -> Vec<(usize, u64, u64, u64)> {
        let figures = |(i, row): (usize, &Row)| {
            let calls = row.calls.load(Ordering::Relaxed);
            let rejected = row.rejected.load(Ordering::Relaxed);
            (
                i,
                calls,
                row.nanoseconds.load(Ordering::Relaxed) / 1_000,
                rejected,
            )
        };
        self.rows
            .iter()
            .enumerate()
            .map(figures)
            .filter(|row| row.1 + row.3 > 0)
            .collect()
    }

    /// Errors by their first word.
    pub(crate) fn errors(&self) -> BTreeMap<Vec<u8>, u64> {
        self.errors.lock().clone()
    }

    /// Forgets all.
    pub(crate) fn reset(&self) {
        for row in &self.rows {
            for counter in [&row.calls, &row.nanoseconds, &row.rejected] {
                counter.store(0, Ordering::Relaxed);
            }
        }
        self.errors.lock().clear();
    }

    /// Called now and then, for the rates.
    pub(crate) fn sample(&self, shared: &Shared) {
        let stats = &shared.stats;
        let now = Sample {
            at: Instant::now(),
            commands: stats.commands.load(Ordering::Relaxed),
            bytes_in: stats.bytes_in.load(Ordering::Relaxed),
            bytes_out: stats.bytes_out.load(Ordering::Relaxed),
        };
        let mut known = self.sample.lock();
        if let Some(before) = known.0 {
            let millis = (now.at - before.at).as_millis().max(1) as u64;
            let rate = |now: u64, before: u64| now.saturating_sub(before) * 1_000 / millis;
            known.1 = Rates {
                commands: rate(now.commands, before.commands),
                bytes_in: rate(now.bytes_in, before.bytes_in),
                bytes_out: rate(now.bytes_out, before.bytes_out),
            };
        }
        known.0 = Some(now);
    }

    pub(crate) fn rates(&self) -> Rates {
        self.sample.lock().1
    }
}
