//! A shard's side of a bulk load.

use super::{Context, Keep, Shard};
use crate::Result;
use crate::engine::arena::{Arena, OpenChunk};
use crate::engine::events::Event;
use crate::engine::index::{Keys, Merged, Resolve};
use crate::engine::table::Table;

impl<T: Table> Shard<T> {
    /// The last chunk of the log, lent to a bulk load; see [`Arena::lend_open`].
    pub(crate) fn lend_open(&mut self, len: usize) -> Result<Option<OpenChunk>> {
        if self.is_broken() {
            return Ok(None);
        }
        self.arena.lend_open(len)
    }

    /// Takes a chunk back from a bulk load.
    pub(crate) fn unpin(&mut self, cx: &Context, open: &OpenChunk, reopen: bool) {
        if !self.is_broken() {
            self.arena.unpin(&cx.pool, open, reopen);
        }
    }

    /// Room for so many chunks that a bulk load has written.
    pub(crate) fn prepare_adoption(&mut self, chunks: usize) -> Result<()> {
        self.check_writable()?;
        self.arena.prepare_adoption(chunks)
    }

    /// Makes chunks known that a bulk load has written, so that their records have offsets.
    pub(crate) fn adopt(&mut self, written: &mut [OpenChunk]) {
        self.arena.adopt(written);
    }

    /// Makes records visible that lie in adopted chunks: items (order hash above, offset below) sorted by
    /// order hash, equal ones in the order of their rows; `gain` is what all of them hold. On failure the
    /// records that found no room are gone.
    pub(crate) fn merge(
        &mut self,
        cx: &Context,
        items: &[u64],
        gain: Gain,
        keep: Keep,
    ) -> Result<Merged> {
        self.changing(|shard| shard.merge_items(cx, items, gain, keep))
    }

    fn merge_items(
        &mut self,
        cx: &Context,
        items: &[u64],
        gain: Gain,
        keep: Keep,
    ) -> Result<Merged> {
        let places = self.watched_places()?;
        self.tell_loaded(cx, items, keep);
        let now = self.now(cx);
        let Shard { index, arena, .. } = self;
        arena.count_blocks(gain.blocks, gain.block_bytes);
        let mut context = MergeContext {
            arena,
            cx,
            keep,
            now,
            lost: Gain::default(),
            gone: 0,
        };
        let mut merged = Merged::default();
        let outcome = index.merge(items, &mut context, &mut merged);
        let (lost, gone) = (context.lost, context.gone);
        self.entries += merged.new;
        self.key_bytes = self.key_bytes + gain.key_bytes - lost.key_bytes;
        self.value_bytes = self.value_bytes + gain.value_bytes - lost.value_bytes;
        self.enter_loaded(cx, items, gain, lost);
        // Their keys were there for the index only.
        self.expirations += gone;
        merged.new += gone;
        merged.old -= gone;
        self.tell_replaced(&places);
        while let Some(victim) = self.arena.next_victim() {
            if self.evacuate(cx, victim).is_err() {
                break;
            }
        }
        outcome.map(|()| merged)
    }

    /// Queues what a merge is going to do, where anybody wants to know.
    fn tell_loaded(&mut self, cx: &Context, items: &[u64], keep: Keep) {
        if !self.notifies() {
            return;
        }
        for item in items {
            let (order, offset) = ((item >> 32) as u32, *item as u32);
            let record = self.arena.record(offset);
            let expires = record.expiry.expires();
            let old = self
                .find(order, record.key)
                .map(|f| self.arena.record(f.offset).expiry);
            let is_over = old.is_some_and(|expiry| self.is_over(cx, expiry.deadline));
            let is_live = old.is_some() && !is_over;
            let Shard {
                arena,
                observers: Some(observers),
                ..
            } = self
            else {
                return;
            };
            let key = arena.record(offset).key;
            if is_over {
                observers.tell(order, key, Event::Expired);
            }
            if !is_live {
                observers.tell(order, key, Event::New);
            } else if keep == Keep::First {
                continue;
            }
            observers.tell(order, key, Event::Set);
            if expires {
                observers.tell(order, key, Event::Expire);
            }
        }
    }
}

/// What records hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gain {
    pub(crate) key_bytes: u64,
    pub(crate) value_bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) block_bytes: u64,
    /// Records with a deadline.
    pub(crate) expiring: u64,
    /// Of the records of a load; 0: none.
    pub(crate) deadline: u64,
    /// The sum of the deadlines of records that are lost.
    pub(crate) deadlines: u128,
}

/// What a merge needs of a shard.
struct MergeContext<'s> {
    arena: &'s mut Arena,
    cx: &'s Context,
    keep: Keep,
    now: u64,
    lost: Gain,
    /// Records that had expired before they were replaced.
    gone: u64,
}

impl Keys for MergeContext<'_> {
    fn order(&self, offset: u32) -> u32 {
        self.cx.placer.place(self.arena.record(offset).key).order
    }

    fn prefetch(&self, offset: u32) {
        self.arena.prefetch(offset);
    }
}

impl Resolve for MergeContext<'_> {
    fn same_key(&self, a: u32, b: u32) -> bool {
        self.arena.record(a).key == self.arena.record(b).key
    }

    fn keep(&mut self, old: u32, new: u32) -> u32 {
        let deadline = self.arena.record(old).expiry.deadline;
        let over = deadline != 0 && deadline <= self.now;
        let (kept, gone) = match self.keep {
            Keep::First if !over => (old, new),
            _ => (new, old),
        };
        if over {
            let record = self.arena.record(old);
            let told = self.cx.expired.told(record.key, record.value.as_slice());
            told.count(self.cx, &mut self.gone);
        }
        self.discard(gone);
        kept
    }

    fn discard(&mut self, offset: u32) {
        let record = self.arena.record(offset);
        let (key_len, value_len) = (record.key.len(), record.value.len());
        self.lost.expiring += u64::from(record.expiry.expires());
        self.lost.deadlines += u128::from(record.expiry.deadline);
        self.lost.key_bytes += key_len as u64;
        self.lost.value_bytes += value_len as u64;
        self.arena.kill(&self.cx.pool, offset);
    }
}
