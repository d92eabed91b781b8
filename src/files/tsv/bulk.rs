//! The rounds of a bulk load: each is cut into one range a thread, parsed by all at once, and merged as a whole. Knows
//! the store's bulk load and where rows come from only as an [`Input`].
//!
//! A round is in the store entirely or not at all, but for a bad row, before which all rows of its round go in, and for
//! a large merge that is cancelled and one that runs out of memory, after which some rows of its round may be in.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::crew;
use super::escape::{Escape, Unescaper};
use super::input::{Block, Input, Poll, after_newline, whole_rows};
use super::load::{Load, is_of_row};
use super::repeats;
use super::scan::{self, Stop};
use crate::engine::{BulkLoad, BulkWriter, Merged};
use crate::{Error, Result, limits};

/// Bytes that a thread parses between two looks at whether to stop.
const STEP: usize = 256 << 10;
/// No longer key is copied: one of which every byte is escaped.
const LONGEST_KEY: usize = 2 * limits::MAX_KEY_LEN;

/// Loads all rows of `input` by `threads` threads.
pub(super) fn load(load: &mut Load<'_>, input: &mut dyn Input, threads: usize) -> Result<()> {
    let mut bulk = BulkLoad::new(load.store, threads, load.options.keep, load.options.ttl)?;
    let outcome = rounds(load, &mut bulk, input);
    if outcome.is_err() {
        bulk.writers()
            .iter_mut()
            .for_each(|writer| writer.discard());
    }
    if matches!(outcome, Err(Error::Cancelled)) {
        // At once: an index that was sized for the whole file is made smaller by who needs the memory.
        return outcome;
    }
    let finished = bulk.finish();
    outcome.and(finished)
}

fn rounds(load: &mut Load<'_>, bulk: &mut BulkLoad<'_>, input: &mut dyn Input) -> Result<()> {
    let mostly_new = input
        .ahead()
        .is_some_and(|rows| repeats::mostly_new(load.store, rows));
    loop {
        load.ticker.tick()?;
        let goal = bulk
            .round_bytes(mostly_new)
            .min(load.options.round_bytes)
            .max(1);
        let block = match input.next_rows(goal, &mut || load.ticker.tick()) {
            Ok(block) => block,
            Err(failure) => return Err(load.unread(failure)),
        };
        if block.bytes.is_empty() {
            return Ok(());
        }
        round(load, bulk, block, mostly_new && load.report.rows == 0)?;
    }
}

/// Parses one block and makes its rows visible; with `sizes_index`, after room was made for the rest of the input.
fn round(
    load: &mut Load<'_>,
    bulk: &mut BulkLoad<'_>,
    block: Block<'_>,
    sizes_index: bool,
) -> Result<()> {
    let writers = bulk.writers();
    let threads = writers.len();
    let ranges = cut(block.bytes, threads, &mut || load.ticker.tick())?;
    let mut parts: Vec<Part<'_, '_>> = std::iter::zip(writers, ranges)
        .enumerate()
        .map(|(index, (writer, bytes))| Part {
            index,
            writer,
            bytes,
            stop: None,
        })
        .collect();
    let first_stop = AtomicUsize::new(usize::MAX);
    let (shared, escape) = (load.shared, load.options.escape);
    crew::run(
        threads,
        load.options.gives_way,
        parts.iter_mut().collect(),
        &mut load.ticker,
        |part, poll| {
            part.parse(block, escape, &first_stop, &mut || poll(), shared);
        },
    );
    shared.check()?;
    block.intact().map_err(|error| load.io(error))?;
    let stop = settle(&mut parts);
    drop(parts);
    match stop {
        None => {
            if sizes_index {
                reserve(load, bulk, block.bytes.len())?;
            }
            merge(load, bulk, block.bytes.len())
        }
        Some((Stop::Refused { error, .. }, _)) if !is_of_row(&error) => Err(error),
        Some((stop, bytes)) => {
            merge(load, bulk, bytes)?;
            Err(load.stopped(stop))
        }
    }
}

/// What one thread parses in a round.
struct Part<'a, 's> {
    index: usize,
    writer: &'a mut BulkWriter<'s>,
    bytes: &'a [u8],
    /// Why parsing ended early; the offset is from the start of `bytes`.
    stop: Option<Stop<Error>>,
}

impl Part<'_, '_> {
    fn parse(
        &mut self,
        block: Block<'_>,
        escape: Escape,
        first_stop: &AtomicUsize,
        poll: &mut Poll<'_>,
        shared: &crew::Shared,
    ) {
        let mut position = 0;
        let mut copy = KeyCopy::default();
        let mut unescaper = Unescaper::new(escape);
        while position < self.bytes.len() && first_stop.load(Ordering::Relaxed) > self.index {
            let rest = &self.bytes[position..];
            let Ok(length) = whole_rows(rest, STEP, poll) else {
                return;
            };
            let step = &rest[..length.unwrap_or(rest.len())];
            let before = self.writer.rows();
            let scanned = scan::rows(step, |key, value| {
                let (key, value) = unescaper.row(copy.of(key)?, value)?;
                self.writer.push(key, value)
            });
            if let Err(stop) = scanned {
                self.stop = Some(stop.after(position));
                first_stop.fetch_min(self.index, Ordering::Relaxed);
                return;
            }
            shared.count(self.writer.rows() - before, step.len());
            position += step.len();
            if poll().is_err() || block.intact().is_err() {
                return;
            }
        }
    }
}

/// A key copied out of the mapping. It is hashed and written from here: another process may write into the file between
/// one look at it and the next, and an entry whose hash is not its key's is lost to look-ups and to compaction.
#[derive(Default)]
struct KeyCopy(Vec<u8>);

impl KeyCopy {
    #[inline]
    fn of(&mut self, key: &[u8]) -> Result<&[u8]> {
        if key.len() > LONGEST_KEY {
            return Err(Error::KeyTooLong(key.len()));
        }
        self.0.clear();
        self.0
            .try_reserve(key.len())
            .map_err(|_| Error::OutOfMemory)?;
        self.0.extend_from_slice(key);
        // The compiler may take bytes behind a reference for constant, and must not look at the original again.
        Ok(black_box(&self.0))
    }
}

/// The first row in file order that stopped a part, and the bytes of the block before it. Forgets what was parsed after.
fn settle(parts: &mut [Part<'_, '_>]) -> Option<(Stop<Error>, usize)> {
    let index = parts.iter().position(|part| part.stop.is_some())?;
    parts[index + 1..]
        .iter_mut()
        .for_each(|part| part.writer.discard());
    let before: usize = parts[..index].iter().map(|part| part.bytes.len()).sum();
    let stop = parts[index].stop.take()?;
    let bytes = before + stop.offset();
    Some((stop, bytes))
}

/// Makes the rows that were pushed visible; they took `bytes` bytes of input.
fn merge(load: &mut Load<'_>, bulk: &mut BulkLoad<'_>, bytes: usize) -> Result<()> {
    let shared = load.shared;
    let mut merged = None;
    crew::run(
        1,
        load.options.gives_way,
        vec![(bulk, &mut merged)],
        &mut load.ticker,
        |(bulk, merged), _| {
            *merged = Some(bulk.merge(&shared.cancelled));
        },
    );
    let Merged {
        rows,
        new,
        replaced,
    } = merged.unwrap_or(Err(Error::Cancelled))?;
    load.report.rows += rows;
    load.report.new += new;
    load.report.replaced += replaced;
    load.report.bytes += bytes as u64;
    Ok(())
}

/// Before the first merge: room for as many keys as the input has if it goes on like its first `bytes` bytes.
fn reserve(load: &Load<'_>, bulk: &mut BulkLoad<'_>, bytes: usize) -> Result<()> {
    let rows: u64 = bulk.writers().iter().map(|writer| writer.rows()).sum();
    let total = load.ticker.total_bytes().unwrap_or(0);
    if total <= bytes as u64 {
        // The merge itself sizes the index for what it brings.
        return Ok(());
    }
    let keys = rows as f64 * total as f64 / bytes as f64;
    match bulk.reserve(keys as usize) {
        // Only a help: without it the index grows step by step, and says so where it cannot.
        Err(Error::OutOfMemory) => Ok(()),
        other => other,
    }
}

/// One range of whole rows for each of `parts` threads, about equal in bytes, some of them empty where rows are long.
fn cut<'a>(bytes: &'a [u8], parts: usize, poll: &mut Poll<'_>) -> Result<Vec<&'a [u8]>> {
    let mut ranges = Vec::with_capacity(parts);
    let mut start = 0;
    for part in 1..=parts {
        let even = (bytes.len() as u128 * part as u128 / parts as u128) as usize;
        let end = match even {
            _ if even <= start => start,
            _ if even == bytes.len() => even,
            _ => after_newline(bytes, even - 1, poll)?.unwrap_or(bytes.len()),
        };
        ranges.push(&bytes[start..end]);
        start = end;
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_whole_rows_and_together_the_block(
            lines in vec("[^\n]{0,40}", 0..30), ends in any::<bool>(), parts in 1usize..9
        ) {
            let mut block = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            if !ends {
                block.pop();
            }
            let ranges = cut(block.as_bytes(), parts, &mut || Ok(())).unwrap();
            prop_assert_eq!(ranges.len(), parts);
            prop_assert_eq!(ranges.concat(), block.as_bytes());
            let last = ranges.iter().rposition(|range| !range.is_empty());
            for range in &ranges[..last.unwrap_or(0)] {
                prop_assert!(range.is_empty() || range.ends_with(b"\n"));
            }
        }
    }
}
