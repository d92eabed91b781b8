//! Bulk load: each thread copies records straight into chunks that belong to (thread, shard), and a second
//! pass per shard sorts eight-byte items and builds the index in order. Rounds keep peak memory down.

mod sort;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::cell::Cell;
use super::pool::{CHUNK, Pool};
use super::record::{Expiry, InWheel};
use super::shard::{Gain, Keep};
use super::store::Store;
use super::sync::lock_mutex;
use super::table::{try_reserve, try_reserve_exact};
use super::ttl::Ttl;
use crate::{Error, Result};
use sort::sort_run;
use writer::Stream;

pub use writer::BulkWriter;

const CHUNK_BITS: u32 = CHUNK.trailing_zeros();
const MIN_ROUND: usize = 8 << 20;
const MAX_ROUND: usize = 256 << 20;
/// So much that one shard's share keeps its lock for a few ms, at 50 B a row.
const NEW_ROUND: usize = 1 << 30;
/// A merge of so few rows is not cancelled.
const FINISHED_ROWS: u64 = 1 << 20;
/// A load of so many rows leaves enough free memory to be worth handing back.
const TRIM_ROWS: u64 = 1 << 20;

/// What a merge has made visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Rows pushed.
    pub rows: u64,
    /// Keys that were not in the store.
    pub new: u64,
    /// Rows whose value took the place of another.
    pub replaced: u64,
}

/// A load of many rows at once. Rows are pushed by several writers in parallel and made visible by
/// [`BulkLoad::merge`], those of the first writer first.
pub struct BulkLoad<'s> {
    store: &'s Store,
    keep: Keep,
    ttl: Ttl,
    writers: Vec<BulkWriter<'s>>,
    reserved: bool,
    rows: u64,
}

/// What a merging thread needs again for each shard.
#[derive(Default)]
struct Scratch {
    sorted: Vec<u64>,
    ends: Vec<u32>,
    spare: Vec<u64>,
}

/// A shard, and the streams of all writers for it.
type Column<'a, 's> = (&'s Cell, Vec<&'a mut Stream>);

impl<'s> BulkLoad<'s> {
    /// A load with `threads` writers, of entries with this time to live; it begins with the round that a row is in.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Closed`], [`Error::TtlOutOfRange`]; [`Error::Bounded`], because a bounded store takes
    /// entries one by one.
    pub fn new(store: &'s Store, threads: usize, keep: Keep, ttl: Ttl) -> Result<Self> {
        if store.is_closed() {
            return Err(Error::Closed);
        }
        if store.cx().bounds.is_some() {
            return Err(Error::Bounded);
        }
        let expiry = expiry_of(store, ttl)?;
        let mut writers = Vec::new();
        try_reserve_exact(&mut writers, threads.max(1))?;
        for _ in 0..threads.max(1) {
            let mut streams = Vec::new();
            try_reserve_exact(&mut streams, store.cells().len())?;
            streams.resize_with(store.cells().len(), || Stream::EMPTY);
            writers.push(BulkWriter {
                store,
                streams: streams.into_boxed_slice(),
                pool: Pool::default(),
                rows: 0,
                expiry,
            });
        }
        Ok(BulkLoad {
            store,
            keep,
            ttl,
            writers,
            reserved: false,
            rows: 0,
        })
    }

    /// The writers, in the order of their rows.
    pub fn writers(&mut self) -> &mut [BulkWriter<'s>] {
        &mut self.writers
    }

    /// Sizes the index for so many keys more.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Closed`].
    pub fn reserve(&mut self, additional_keys: usize) -> Result<()> {
        self.reserved = true;
        self.store.reserve(additional_keys)
    }

    /// Bytes of input that the next round may hold. A round costs a pass over the index, so it is large; but where
    /// many rows replace others (`mostly_new` false) memory rises by a round before the replaced ones are
    /// reclaimed, so it is an eighth of the store.
    pub fn round_bytes(&self, mostly_new: bool) -> usize {
        if mostly_new {
            NEW_ROUND
        } else {
            (self.store.cx().pool.bytes() / 8).clamp(MIN_ROUND, MAX_ROUND)
        }
    }

    /// Makes all pushed rows visible, shard by shard, on as many threads as there are writers.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::OutOfMemory`], [`Error::ArenaFull`], [`Error::Closed`]: some of the rows may
    /// have become visible, the others are forgotten. Up to 2^20 rows are merged even where `cancel` says no: that
    /// takes some 50 ms, and a caller is better served by a whole round.
    pub fn merge(&mut self, cancel: &AtomicBool) -> Result<Merged> {
        let rows: u64 = self.writers.iter().map(BulkWriter::rows).sum();
        let total = Mutex::new(Merged {
            rows,
            ..Merged::default()
        });
        let failure = Mutex::new(None);
        let (store, keep, threads) = (self.store, self.keep, self.writers.len());
        let deadline = self.writers[0].expiry.deadline;
        let columns = Mutex::new(self.columns()?.into_iter());
        let work = || {
            let mut scratch = Scratch::default();
            loop {
                if rows > FINISHED_ROWS && cancel.load(Ordering::Relaxed) {
                    *lock_mutex(&failure) = Some(Error::Cancelled);
                    break;
                }
                // The lock must be free while the column is worked on.
                let next = lock_mutex(&columns).next();
                let Some((cell, mut streams)) = next else {
                    break;
                };
                match merge_shard(store, cell, &mut streams, keep, deadline, &mut scratch) {
                    Ok(merged) => {
                        let mut total = lock_mutex(&total);
                        total.new += merged.new;
                        total.replaced += if keep == Keep::Last { merged.old } else { 0 };
                    }
                    Err(error) => *lock_mutex(&failure) = Some(error),
                }
            }
        };
        // Starting a thread takes longer than to merge a few rows.
        let helpers = if rows > 4096 { threads - 1 } else { 0 };
        if helpers == 0 {
            work();
        } else {
            thread::scope(|scope| {
                for _ in 0..helpers {
                    // Where no thread can be had, this one does the work.
                    if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                        break;
                    }
                }
                work();
            });
        }
        drop(columns);
        let expiry = expiry_of(store, self.ttl)?;
        for writer in &mut self.writers {
            writer.rows = 0;
            writer.expiry = expiry;
        }
        self.rows += rows;
        match failure.into_inner() {
            Some(error) => {
                self.writers.iter_mut().for_each(BulkWriter::discard);
                Err(error)
            }
            None => Ok(total.into_inner()),
        }
    }

    fn columns(&mut self) -> Result<Vec<Column<'_, 's>>> {
        let threads = self.writers.len();
        let cells = self.store.cells();
        let mut columns: Vec<Column<'_, 's>> = Vec::new();
        try_reserve_exact(&mut columns, cells.len())?;
        for cell in cells {
            let mut streams = Vec::new();
            try_reserve_exact(&mut streams, threads)?;
            columns.push((cell, streams));
        }
        for writer in &mut self.writers {
            for (column, stream) in columns.iter_mut().zip(&mut writer.streams) {
                column.1.push(stream);
            }
        }
        Ok(columns)
    }

    /// Ends the load: chunks that are not full take records again, and an index that was reserved too large
    /// becomes smaller.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; the rows are in all the same.
    pub fn finish(self) -> Result<()> {
        let (store, reserved, rows) = (self.store, self.reserved, self.rows);
        drop(self);
        if reserved && store.stats().load_factor < 0.5 {
            for cell in store.cells() {
                cell.lock.write().compact_index(store.cx())?;
            }
        }
        if rows >= TRIM_ROWS {
            // Rounds that replaced much leave free chunks, and freed groups.
            store.cx().pool.trim(&mut || true);
            super::ffi::trim_malloc();
        }
        Ok(())
    }
}

/// The expiry of rows that are pushed now. Shards enter them into the wheel that records call even.
fn expiry_of(store: &Store, ttl: Ttl) -> Result<Expiry> {
    let deadline = store.cx().time.deadline(ttl)?;
    Ok(match deadline {
        0 => Expiry::NEVER,
        _ => Expiry {
            deadline,
            wheel: InWheel::Even,
        },
    })
}

fn merge_shard(
    store: &Store,
    cell: &Cell,
    streams: &mut [&mut Stream],
    keep: Keep,
    deadline: u64,
    scratch: &mut Scratch,
) -> Result<super::index::Merged> {
    let rows: usize = streams.iter().map(|s| s.items.len).sum();
    if rows == 0 {
        return Ok(super::index::Merged::default());
    }
    let mut shard = cell.lock.write();
    let sorted = shard
        .prepare_load(store.cx(), rows, deadline)
        .and_then(|()| adopt_and_sort(&mut shard, streams, rows, scratch));
    if let Err(error) = sorted {
        drop(shard);
        streams.iter_mut().for_each(|stream| stream.discard(store));
        return Err(error);
    }
    let mut gain = Gain {
        deadline,
        expiring: if deadline == 0 { 0 } else { rows as u64 },
        ..Gain::default()
    };
    for stream in streams.iter_mut() {
        gain.key_bytes += stream.gain.key_bytes;
        gain.value_bytes += stream.gain.value_bytes;
        gain.blocks += stream.gain.blocks;
        gain.block_bytes += stream.gain.block_bytes;
        stream.gain = Gain::default();
        stream.items.len = 0;
    }
    let merged = shard.merge(store.cx(), &scratch.sorted, gain, keep);
    for stream in streams.iter_mut() {
        // The last chunk is written on in the next round.
        let full = stream.chunks.len().saturating_sub(1);
        for open in stream.chunks.drain(..full) {
            shard.unpin(store.cx(), &open, false);
        }
    }
    store.finish(cell, shard, 0);
    // The entries of rows that others replaced, a few at a time so that nobody waits for the lock.
    loop {
        let mut shard = cell.lock.write();
        let more = shard.tend_wheel(store.cx());
        store.finish(cell, shard, 0);
        if !more {
            return merged;
        }
    }
}

/// Makes the streams' chunks the shard's and sorts their items, now with offsets of the shard. Stable.
fn adopt_and_sort(
    shard: &mut super::shard::Shard<super::table::Sparse>,
    streams: &mut [&mut Stream],
    rows: usize,
    scratch: &mut Scratch,
) -> Result<()> {
    let Scratch {
        sorted,
        ends,
        spare,
    } = scratch;
    // About four items a bucket, which an insertion sort then puts in order.
    let bits = (rows / 4).max(1).ilog2().min(14);
    let bucket = |item: u64| (item >> 32 >> (32 - bits)) as usize;
    sorted.clear();
    try_reserve(sorted, rows)?;
    ends.clear();
    try_reserve(ends, 1 << bits)?;
    ends.resize(1 << bits, 0);
    for stream in streams.iter_mut() {
        stream.seal();
        for item in stream.items.iter() {
            ends[bucket(item)] += 1;
        }
    }
    // A run is long where many rows have one key.
    let longest = ends.iter().max().map_or(0, |&count| count as usize);
    spare.clear();
    try_reserve(spare, longest / 2)?;
    spare.resize(longest / 2, 0);
    shard.prepare_adoption(streams.iter().map(|s| s.chunks.len()).sum())?;
    // Nothing fails from here on.
    streams
        .iter_mut()
        .for_each(|stream| shard.adopt(&mut stream.chunks));
    let mut start = 0;
    for end in ends.iter_mut() {
        let count = *end;
        *end = start;
        start += count;
    }
    sorted.resize(rows, 0);
    for stream in streams.iter() {
        for item in stream.items.iter() {
            let chunk = &stream.chunks[(item as u32 >> CHUNK_BITS) as usize];
            let number = chunk.number.map_or(0, |(number, _)| number);
            let offset = u64::from(number << CHUNK_BITS) | item & (CHUNK as u64 - 1);
            let place = &mut ends[bucket(item)];
            sorted[*place as usize] = item >> 32 << 32 | offset;
            *place += 1;
        }
    }
    let mut first = 0;
    for &end in ends.iter() {
        sort_run(&mut sorted[first..end as usize], spare);
        first = end as usize;
    }
    Ok(())
}
