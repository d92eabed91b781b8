//! A hierarchical time wheel (Varghese and Lauck 1987): order hashes of the expiring keys of one shard, by when the
//! shard has to look at them. It knows no records, no index and no clock.
//!
//! Time is counted in ticks of 128 ms. An entry's level is the highest digit, to the base of 64, in which its tick
//! differs from the wheel's position, and its slot is that digit. So all of a level comes before all of the next one,
//! no slot wraps around, and the first slot of the first level in use is always the next to fire.
//!
//! - A slot of level 0 fires when its tick is over, so that everything in it is due.
//! - A slot of a higher level fires when its first tick begins. The shard looks its entries up and inserts those that
//!   are not due again, by their real deadlines: at a lower level, because the position is now at the slot's beginning.
//! - A slot that fires is moved to `firing` as a whole, and only then does the position advance past it. Deadlines
//!   before the position go to `firing` too.

mod chain;
#[cfg(test)]
mod tests;

use chain::{Chain, Node, capacity_after, malloc_bytes};

use super::table::try_reserve;
use crate::Result;

/// Length of a tick, as a power of two of milliseconds.
const TICK_BITS: u32 = 7;
/// Milliseconds of a tick: an entry fires at most so long after its time.
pub(crate) const TICK: u64 = 1 << TICK_BITS;
/// A level's slots, as a power of two.
const DIGIT_BITS: u32 = 6;
const SLOTS: u64 = 1 << DIGIT_BITS;
/// Enough for 2^43 ms, which is 278 years.
const LEVELS: u32 = 6;
/// Deadlines after it are taken for it, and the shard inserts them again.
const LAST_TICK: u64 = (1 << (DIGIT_BITS * LEVELS)) - 1;

/// Entries of one shard, by time. Times are milliseconds since the store's epoch.
pub(crate) struct Wheel {
    /// The first tick whose slot has not fired.
    position: u64,
    levels: [Level; LEVELS as usize],
    /// Entries that have to be looked at whatever the time.
    firing: Chain,
    /// Empty nodes for entries that were announced, in the order of their use.
    spare: Chain,
    entries: u64,
    /// What [`Wheel::next_due`] says: every write asks. `u64::MAX`: there are no entries.
    next_due: u64,
    /// Of all nodes, the spare ones included.
    node_bytes: usize,
}

/// As in a sparse group, only slots in use take memory.
#[derive(Default)]
struct Level {
    /// A bit for each slot that has entries.
    occupied: u64,
    /// Their chains, the last slot first, so that the slot that fires is at the end.
    chains: Vec<Chain>,
}

#[derive(Clone, Copy)]
enum Place {
    Firing,
    Slot { level: u32, slot: u32 },
}

/// The slot that fires next.
struct Next {
    level: u32,
    slot: u32,
    /// It fires when this tick begins.
    tick: u64,
}

impl Wheel {
    /// A wheel without entries, for times from `now` on. Allocates nothing.
    pub(crate) fn new(now: u64) -> Wheel {
        Wheel {
            position: tick_of(now),
            levels: Default::default(),
            firing: Chain::default(),
            spare: Chain::default(),
            entries: 0,
            next_due: u64::MAX,
            node_bytes: 0,
        }
    }

    /// Makes room for `count` more entries of one deadline. It lasts until anything but these is inserted or taken.
    /// On failure the wheel is as it was. No other call allocates.
    pub(crate) fn reserve(&mut self, deadline: u64, count: usize) -> Result<()> {
        let place = self.place_of(deadline);
        let chain = self.chain(place);
        let mut missing = count.saturating_sub(chain.map_or(0, Chain::room));
        if missing == 0 {
            return Ok(());
        }
        let mut depth = chain.map_or(0, Chain::depth);
        let wanted = capacity_after(depth);
        // Left over where entries were announced and did not come. A node too large would waste memory.
        let usable = self.spare.nodes().next().map(Node::capacity) == Some(wanted);
        let mut left_over = self.spare.nodes().take_while(|_| usable);
        while missing > 0
            && let Some(node) = left_over.next()
        {
            missing = missing.saturating_sub(node.capacity());
            depth += 1;
        }
        drop(left_over);
        let mut fresh = Chain::default();
        while missing > 0 {
            fresh.link(Node::try_new(depth)?);
            missing = missing.saturating_sub(capacity_after(depth));
            depth += 1;
        }
        if let Place::Slot { level, slot } = place {
            self.levels[level as usize].reserve(slot)?;
        }
        self.keep_spare(usable, fresh);
        Ok(())
    }

    /// Adds an entry that [`Wheel::reserve`] made room for. If its deadline has passed it fires at the next call of
    /// [`Wheel::take_due`].
    #[inline]
    pub(crate) fn insert(&mut self, hash: u32, deadline: u64) {
        let place = self.place_of(deadline);
        if !self.chain_mut(place).is_some_and(|chain| chain.push(hash)) {
            let Some(node) = self.spare.unlink() else {
                debug_assert!(false, "room was reserved");
                return;
            };
            let chain = match place {
                Place::Firing => &mut self.firing,
                Place::Slot { level, slot } => self.levels[level as usize].open(slot),
            };
            chain.link(node);
            chain.push(hash);
            self.find_next_due();
        }
        self.entries += 1;
    }

    /// No entry fires before this time; `None` where there are no entries.
    #[inline]
    pub(crate) fn next_due(&self) -> Option<u64> {
        (self.next_due != u64::MAX).then_some(self.next_due)
    }

    /// After a chain has come or gone, or the position has moved.
    fn find_next_due(&mut self) {
        self.next_due = match self.next() {
            _ if !self.firing.is_empty() => 0,
            Some(next) => next.tick << TICK_BITS,
            None => u64::MAX,
        };
    }

    /// Moves entries that the shard has to look at by `now` into `out`, and returns how many. Fewer than `out` holds
    /// means that nothing more fires at `now`. Whatever the shard finds not to be due it inserts again.
    pub(crate) fn take_due(&mut self, now: u64, out: &mut [u32]) -> usize {
        let taken = self.take_slots(tick_of(now), out);
        self.find_next_due();
        taken
    }

    fn take_slots(&mut self, now: u64, out: &mut [u32]) -> usize {
        let mut taken = 0;
        loop {
            taken += self.drain_firing(&mut out[taken..]);
            if taken == out.len() {
                return taken;
            }
            match self.next() {
                Some(next) if next.tick <= now => {
                    self.position = next.tick;
                    self.firing = self.levels[next.level as usize].take(next.slot);
                }
                // What is left fires later, so the position passes no slot.
                _ => {
                    self.position = self.position.max(now);
                    return taken;
                }
            }
        }
    }

    /// Has the entries of the tick that has begun by `now` and is not over fire at the next call of [`Wheel::take_due`],
    /// once: those that are not due may be inserted again. Only where nothing else fires at `now`.
    pub(crate) fn fire_early(&mut self, now: u64) {
        let now = tick_of(now);
        let fires = self.next().is_some_and(|next| next.tick <= now);
        if fires || !self.firing.is_empty() || now < self.position {
            return;
        }
        // As in `take_due`. All of the tick is at level 0: a higher slot that it is in would have fired.
        self.position = now;
        let slot = digit(now, 0);
        if self.levels[0].has(slot) {
            self.firing = self.levels[0].take(slot);
        }
        self.find_next_due();
    }

    /// Moves entries into `out` whatever their time, and returns how many; fewer than `out` holds means that none are
    /// left. Those left may fire too early.
    pub(crate) fn take_any(&mut self, out: &mut [u32]) -> usize {
        let mut taken = 0;
        loop {
            taken += self.drain_firing(&mut out[taken..]);
            match self.next() {
                Some(next) if taken < out.len() => {
                    self.firing = self.levels[next.level as usize].take(next.slot);
                }
                _ => break,
            }
        }
        self.find_next_due();
        taken
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries
    }

    /// Bytes allocated, the wheel's own box included.
    pub(crate) fn bytes(&self) -> usize {
        let lists = self.levels.iter().map(|level| level.chains.capacity());
        let lists: usize = lists.map(|n| malloc_bytes(n * size_of::<Chain>())).sum();
        malloc_bytes(size_of::<Wheel>()) + lists + self.node_bytes
    }

    fn place_of(&self, deadline: u64) -> Place {
        let tick = tick_of(deadline);
        if tick < self.position {
            return Place::Firing;
        }
        let level = (tick ^ self.position)
            .checked_ilog2()
            .map_or(0, |bit| bit / DIGIT_BITS);
        let slot = digit(tick, level);
        Place::Slot { level, slot }
    }

    fn chain(&self, place: Place) -> Option<&Chain> {
        match place {
            Place::Firing => Some(&self.firing),
            Place::Slot { level, slot } => self.levels[level as usize].chain(slot),
        }
    }

    #[inline]
    fn chain_mut(&mut self, place: Place) -> Option<&mut Chain> {
        match place {
            Place::Firing => Some(&mut self.firing),
            Place::Slot { level, slot } => self.levels[level as usize].chain_mut(slot),
        }
    }

    fn next(&self) -> Option<Next> {
        // Where the position has come to the first tick of a higher level's slot, that slot is due before all others.
        // It can be of one level only: at lower ones the position's digit is 0, and no slot 0 but level 0's has entries.
        let level = (self.position.trailing_zeros() / DIGIT_BITS).min(LEVELS - 1);
        let slot = digit(self.position, level);
        if level > 0 && self.levels[level as usize].has(slot) {
            let tick = self.position;
            return Some(Next { level, slot, tick });
        }
        let level = self.levels.iter().position(|level| level.occupied != 0)? as u32;
        let slot = self.levels[level as usize].occupied.trailing_zeros();
        let above = self.position >> (DIGIT_BITS * level) & !(SLOTS - 1);
        let begins = (above | u64::from(slot)) << (DIGIT_BITS * level);
        let tick = begins + u64::from(level == 0);
        Some(Next { level, slot, tick })
    }

    fn drain_firing(&mut self, out: &mut [u32]) -> usize {
        let (moved, freed) = self.firing.drain(out);
        self.entries -= moved as u64;
        self.node_bytes -= freed;
        moved
    }

    /// Puts fresh nodes, the last to be used first, to the spare ones, which are freed where they are not usable.
    fn keep_spare(&mut self, usable: bool, mut fresh: Chain) {
        if usable && fresh.is_empty() {
            return;
        }
        let mut kept = Chain::default();
        while let Some(node) = self.spare.unlink() {
            if usable {
                kept.link(node);
            } else {
                self.node_bytes -= node.bytes();
            }
        }
        while let Some(node) = fresh.unlink() {
            self.node_bytes += node.bytes();
            self.spare.link(node);
        }
        while let Some(node) = kept.unlink() {
            self.spare.link(node);
        }
    }
}

impl Level {
    fn has(&self, slot: u32) -> bool {
        self.occupied >> slot & 1 != 0
    }

    /// Where the chain of a slot is, or belongs.
    fn rank(&self, slot: u32) -> usize {
        (self.occupied >> slot >> 1).count_ones() as usize
    }

    fn chain(&self, slot: u32) -> Option<&Chain> {
        self.has(slot).then(|| &self.chains[self.rank(slot)])
    }

    #[inline]
    fn chain_mut(&mut self, slot: u32) -> Option<&mut Chain> {
        let rank = self.rank(slot);
        self.has(slot).then(|| &mut self.chains[rank])
    }

    /// Makes room for the chain of a slot.
    fn reserve(&mut self, slot: u32) -> Result<()> {
        if self.has(slot) {
            return Ok(());
        }
        try_reserve(&mut self.chains, 1)
    }

    /// The chain of a slot, an empty one where it had none.
    fn open(&mut self, slot: u32) -> &mut Chain {
        let rank = self.rank(slot);
        if !self.has(slot) {
            self.occupied |= 1 << slot;
            self.chains.insert(rank, Chain::default());
        }
        &mut self.chains[rank]
    }

    /// Takes the chain of an occupied slot out.
    fn take(&mut self, slot: u32) -> Chain {
        let chain = self.chains.remove(self.rank(slot));
        self.occupied &= !(1 << slot);
        if self.chains.is_empty() {
            // Thousands of shards would keep a kilobyte for each level they ever used.
            self.chains = Vec::new();
        }
        chain
    }
}

fn tick_of(time: u64) -> u64 {
    (time >> TICK_BITS).min(LAST_TICK)
}

fn digit(tick: u64, level: u32) -> u32 {
    (tick >> (DIGIT_BITS * level) & (SLOTS - 1)) as u32
}
