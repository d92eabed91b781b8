//! A shard's side of a bulk load.

use super::{Context, Keep, Shard};
use crate::engine::arena::{Arena, OpenChunk};
use crate::engine::index::{Keys, Merged, Resolve};
use crate::engine::record::Parsed;
use crate::engine::table::Table;
use crate::{Error, Result};

impl<T: Table> Shard<T> {
    /// The last chunk of the log, lent to a bulk load; see [`Arena::lend_open`].
    pub(crate) fn lend_open(&mut self, len: usize) -> Result<Option<OpenChunk>> {
        self.arena.lend_open(len)
    }

    /// Takes a chunk back from a bulk load.
    pub(crate) fn unpin(&mut self, cx: &Context, open: &OpenChunk, reopen: bool) {
        self.arena.unpin(&cx.pool, open, reopen);
    }

    /// Room for so many chunks that a bulk load has written.
    pub(crate) fn prepare_adoption(&mut self, chunks: usize) -> Result<()> {
        if self.closed {
            return Err(Error::Closed);
        }
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
        let Shard { index, arena, .. } = self;
        arena.count_blocks(gain.blocks, gain.block_bytes);
        let mut context = MergeContext {
            arena,
            cx,
            keep,
            lost: Gain::default(),
        };
        let mut merged = Merged::default();
        let outcome = index.merge(items, &mut context, &mut merged);
        let lost = context.lost;
        self.entries += merged.new;
        self.key_bytes = self.key_bytes + gain.key_bytes - lost.key_bytes;
        self.value_bytes = self.value_bytes + gain.value_bytes - lost.value_bytes;
        while let Some(victim) = self.arena.next_victim() {
            if self.evacuate(cx, victim).is_err() {
                break;
            }
        }
        outcome.map(|()| merged)
    }
}

/// What records hold.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gain {
    pub(crate) key_bytes: u64,
    pub(crate) value_bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) block_bytes: u64,
}

/// What a merge needs of a shard.
struct MergeContext<'s> {
    arena: &'s mut Arena,
    cx: &'s Context,
    keep: Keep,
    lost: Gain,
}

impl Keys for MergeContext<'_> {
    fn order(&self, offset: u32) -> u32 {
        self.arena
            .with_key(offset, |key| self.cx.placer.place(key).order)
    }

    fn prefetch(&self, offset: u32) {
        self.arena.prefetch(offset);
    }
}

impl Resolve for MergeContext<'_> {
    fn same_key(&self, a: u32, b: u32) -> bool {
        self.arena
            .with_key(a, |a| self.arena.with_key(b, |b| a == b))
    }

    fn keep(&mut self, old: u32, new: u32) -> u32 {
        let (kept, gone) = match self.keep {
            Keep::Last => (new, old),
            Keep::First => (old, new),
        };
        self.discard(gone);
        kept
    }

    fn discard(&mut self, offset: u32) {
        let (key_len, value_len) = match self.arena.parse(offset) {
            Parsed::Inline { key, value, .. } => (key.len(), value.len()),
            Parsed::Block { block, .. } => (block.key().len(), block.value().len()),
            Parsed::Dead { .. } => (0, 0),
        };
        self.lost.key_bytes += key_len as u64;
        self.lost.value_bytes += value_len as u64;
        self.arena.kill(&self.cx.pool, offset);
    }
}
