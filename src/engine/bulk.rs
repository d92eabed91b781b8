//! Bulk load: each thread copies records straight into chunks that belong to (thread, shard), and a second
//! pass per shard sorts eight-byte items and builds the index in order. Rounds keep peak memory down.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::arena::OpenChunk;
use super::block::Block;
use super::pool::{CHUNK, Chunk, Pages, Pool};
use super::record::{self, Parsed};
use super::shard::{Gain, Keep};
use super::store::{Cell, Store};
use super::sync::lock_mutex;
use super::table::{try_reserve, try_reserve_exact};
use crate::{Error, Result, limits};

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

/// Items of one stream, in chunks of the writer's own pool: large vectors that come and go would leave holes
/// between the index's groups in malloc.
struct Items {
    chunks: Vec<Chunk>,
    len: usize,
}

impl Items {
    const IN_CHUNK: usize = CHUNK / size_of::<u64>();

    /// Room for one more item.
    #[inline]
    fn reserve(&mut self, pool: &Pool) -> Result<()> {
        if self.len == self.chunks.len() * Self::IN_CHUNK {
            try_reserve(&mut self.chunks, 1)?;
            self.chunks.push(pool.take(Pages::Huge)?);
        }
        Ok(())
    }

    /// Needs [`Items::reserve`].
    #[inline]
    fn push(&mut self, item: u64) {
        let chunk = self.chunks[self.len / Self::IN_CHUNK];
        // SAFETY: the place is below IN_CHUNK; a chunk starts at a page.
        unsafe {
            chunk
                .memory
                .cast::<u64>()
                .add(self.len % Self::IN_CHUNK)
                .write(item)
        };
        self.len += 1;
    }

    fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let parts = self.chunks.iter().enumerate().map_while(|(i, chunk)| {
            let len = self
                .len
                .checked_sub(i * Self::IN_CHUNK)?
                .min(Self::IN_CHUNK);
            // SAFETY: the first `len` items of the chunk were written by `push`.
            Some(unsafe { std::slice::from_raw_parts(chunk.memory.cast::<u64>().as_ptr(), len) })
        });
        parts.flatten().copied()
    }
}

/// Rows of one thread for one shard since the last merge.
struct Stream {
    /// The chunk that is written now.
    memory: *mut u8,
    position: usize,
    /// Order hash above; below, number in `chunks` and position.
    items: Items,
    gain: Gain,
    chunks: Vec<OpenChunk>,
}

// SAFETY: a stream owns the chunks that it writes, beyond what the shard has adopted.
unsafe impl Send for Stream {}

impl Stream {
    const EMPTY: Stream = Stream {
        memory: std::ptr::null_mut(),
        position: CHUNK,
        items: Items {
            chunks: Vec::new(),
            len: 0,
        },
        gain: Gain {
            key_bytes: 0,
            value_bytes: 0,
            blocks: 0,
            block_bytes: 0,
        },
        chunks: Vec::new(),
    };

    fn next_chunk(&mut self, store: &Store, cell: &Cell, len: usize) -> Result<()> {
        if let Some(last) = self.chunks.last_mut() {
            last.used = self.position;
        }
        try_reserve(&mut self.chunks, 1)?;
        let lent = if self.chunks.is_empty() {
            cell.lock.write().lend_open(len)?
        } else {
            None
        };
        let open = match lent {
            Some(open) => open,
            None => OpenChunk {
                chunk: store.cx().pool.take(Pages::Huge)?,
                used: 0,
                adopted: 0,
                number: None,
            },
        };
        self.memory = open.chunk.memory.as_ptr();
        self.position = open.used;
        self.chunks.push(open);
        Ok(())
    }

    /// Notes how far the last chunk was written.
    fn seal(&mut self) {
        if let Some(last) = self.chunks.last_mut() {
            last.used = self.position;
        }
    }

    /// Forgets the rows since the last merge.
    fn discard(&mut self, store: &Store) {
        if self.gain.blocks > 0 {
            for item in self.items.iter() {
                let chunk = &self.chunks[(item as u32 >> CHUNK_BITS) as usize];
                let at = item as usize & (CHUNK - 1);
                // SAFETY: items are starts of records that this stream wrote and still owns.
                let parsed = unsafe { record::parse(chunk.chunk.memory.as_ptr().add(at)) };
                if let Parsed::Block { block, .. } = parsed {
                    // SAFETY: the record is forgotten, and its handle with it.
                    drop(unsafe { block.take() });
                }
            }
        }
        self.items.len = 0;
        self.gain = Gain::default();
        // Only the first chunk can have been adopted.
        for open in self.chunks.drain(1.min(self.chunks.len())..) {
            store.cx().pool.give(open.chunk);
        }
        match self.chunks.first_mut() {
            Some(first) => {
                first.used = first.adopted;
                self.memory = first.chunk.memory.as_ptr();
                self.position = first.used;
            }
            None => self.position = CHUNK,
        }
    }
}

/// One thread's side of a bulk load.
pub struct BulkWriter<'s> {
    store: &'s Store,
    streams: Box<[Stream]>,
    /// Memory of the streams' items.
    pool: Pool,
    rows: u64,
}

impl BulkWriter<'_> {
    /// Adds a row. It becomes visible by [`BulkLoad::merge`].
    ///
    /// # Errors
    /// [`Error::KeyTooLong`], [`Error::ValueTooLong`], [`Error::OutOfMemory`]; the rows before it stay.
    #[inline]
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        limits::check_key(key.len())?;
        limits::check_value(value.len())?;
        let place = self.store.cx().placer.place(key);
        let stream = &mut self.streams[place.shard as usize];
        let (len, is_block) = record::encoded_len(key.len(), value.len());
        if stream.position + len > CHUNK {
            let cell = &self.store.cells()[place.shard as usize];
            stream.next_chunk(self.store, cell, len)?;
        }
        stream.items.reserve(&self.pool)?;
        let block = if is_block {
            Some(Block::new(key, value)?)
        } else {
            None
        };
        // SAFETY: `len` bytes at `position` lie within the chunk, which this stream alone writes.
        unsafe {
            let at = stream.memory.add(stream.position);
            match block {
                None => record::write_inline(at, key, value),
                Some(block) => {
                    stream.gain.blocks += 1;
                    stream.gain.block_bytes += block.allocated() as u64;
                    record::write_block(at, block);
                }
            }
        }
        let local = (stream.chunks.len() - 1) << CHUNK_BITS | stream.position;
        stream
            .items
            .push(u64::from(place.order) << 32 | local as u64);
        stream.position += len;
        stream.gain.key_bytes += key.len() as u64;
        stream.gain.value_bytes += value.len() as u64;
        self.rows += 1;
        Ok(())
    }

    /// Rows since the last merge.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Forgets the rows since the last merge.
    pub fn discard(&mut self) {
        self.streams
            .iter_mut()
            .for_each(|stream| stream.discard(self.store));
        self.rows = 0;
    }
}

impl Drop for BulkWriter<'_> {
    fn drop(&mut self) {
        self.discard();
        for (stream, cell) in self.streams.iter_mut().zip(self.store.cells()) {
            for open in stream.chunks.drain(..) {
                cell.lock.write().unpin(self.store.cx(), &open, true);
            }
        }
    }
}

/// A load of many rows at once. Rows are pushed by several writers in parallel and made visible by
/// [`BulkLoad::merge`], those of the first writer first.
pub struct BulkLoad<'s> {
    store: &'s Store,
    keep: Keep,
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
    /// A load with `threads` writers.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Closed`].
    pub fn new(store: &'s Store, threads: usize, keep: Keep) -> Result<Self> {
        if store.is_closed() {
            return Err(Error::Closed);
        }
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
            });
        }
        Ok(BulkLoad {
            store,
            keep,
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
                match merge_shard(store, cell, &mut streams, keep, &mut scratch) {
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
        self.writers.iter_mut().for_each(|writer| writer.rows = 0);
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
            store.cx().pool.trim();
            super::ffi::trim_malloc();
        }
        Ok(())
    }
}

fn merge_shard(
    store: &Store,
    cell: &Cell,
    streams: &mut [&mut Stream],
    keep: Keep,
    scratch: &mut Scratch,
) -> Result<super::index::Merged> {
    let rows: usize = streams.iter().map(|s| s.items.len).sum();
    if rows == 0 {
        return Ok(super::index::Merged::default());
    }
    let mut shard = cell.lock.write();
    let sorted = adopt_and_sort(&mut shard, streams, rows, scratch);
    if let Err(error) = sorted {
        drop(shard);
        streams.iter_mut().for_each(|stream| stream.discard(store));
        return Err(error);
    }
    let mut gain = Gain::default();
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
    cell.publish(&shard);
    merged
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

#[inline]
fn order(item: u64) -> u64 {
    item >> 32
}

/// Sorts by order hash, stably; `spare` is half as long as the run. Unlike the standard library's, allocates nothing.
#[inline]
fn sort_run(run: &mut [u64], spare: &mut [u64]) {
    const SHORT: usize = 32;
    if run.len() > SHORT {
        return merge_sort(run, spare);
    }
    for i in 1..run.len() {
        let item = run[i];
        let mut at = i;
        while at > 0 && order(run[at - 1]) > order(item) {
            run[at] = run[at - 1];
            at -= 1;
        }
        run[at] = item;
    }
}

fn merge_sort(run: &mut [u64], spare: &mut [u64]) {
    let middle = run.len() / 2;
    sort_run(&mut run[..middle], spare);
    sort_run(&mut run[middle..], spare);
    if order(run[middle - 1]) <= order(run[middle]) {
        return;
    }
    let left = &mut spare[..middle];
    left.copy_from_slice(&run[..middle]);
    let (mut from_left, mut from_right) = (0, middle);
    for to in 0..run.len() {
        // What is left of the right half is in its place already.
        let Some(&item) = left.get(from_left) else {
            break;
        };
        if from_right < run.len() && order(run[from_right]) < order(item) {
            run[to] = run[from_right];
            from_right += 1;
        } else {
            run[to] = item;
            from_left += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::sort_run;

    proptest! {
        #[test]
        fn runs_are_sorted_stably(orders in prop::collection::vec(0u64..9, 0..300)) {
            let mut run: Vec<u64> = (0..).zip(&orders).map(|(i, order)| order << 32 | i).collect();
            let mut sorted = run.clone();
            // By order and then by place, which is what a stable sort gives.
            sorted.sort_unstable();
            sort_run(&mut run, &mut vec![0; orders.len() / 2]);
            prop_assert_eq!(run, sorted);
        }
    }
}
