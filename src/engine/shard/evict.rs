//! Eviction: which entry of a bounded store's shard makes room for a new one. The shape is S3-FIFO's (Yang et al. 2023) with one
//! visited bit: new entries pass a window; what was read there goes on to the main queue, a clock; keys that were evicted lately
//! go there at once, if the entry at the clock's hand has not been read. `benches/policies.rs` holds it against others.

use super::ghost::Ghost;
use super::{Context, Shard};
use crate::engine::arena::{Arena, Queue};
use crate::engine::bounds::Bounds;
use crate::engine::events::Event;
use crate::engine::index::{Found, Index};
use crate::engine::pool::CHUNK;
use crate::engine::table::{Table, try_box};
use crate::{Error, Result};

/// Entries that one eviction lets stay because they were read; then the next one goes, read or not.
const MOST_TURNS: usize = 16;
/// The window's share of the entries, in percent.
const WINDOW_PERCENT: u64 = 5;
/// Chunks that a shard may have for one entry alone, and what little else it has.
const CHUNKS_OF_AN_ENTRY: usize = 4;
/// Entries that make room for a large value while a shard is locked once: some 50 us.
const EVICTED_AT_ONCE: usize = 512;

/// What a shard knows for evicting.
#[derive(Default)]
pub(super) struct Eviction {
    ghost: Ghost,
    /// Where the entry is that was written last: reading it right away does not count, and it is not evicted.
    newest: Option<u32>,
    evictions: u64,
    /// Bytes that came to a full store and are to be evicted.
    debt: usize,
    /// Room for the next entry was made elsewhere.
    is_paid: bool,
    /// The write that goes on has no room: it ends in [`Error::NeedsRoom`] where it would grow.
    lacks_room: bool,
    /// Bytes of the shard that the store's bounds know of.
    accounted: u64,
    place: Place,
}

/// The place of an entry in the store that no entry has yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    None,
    /// The next entry that goes leaves its place to the shard, so that no other one takes it.
    Wanted,
    Held,
}

/// What a step towards room did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// There is room, and it was taken.
    Room,
    /// Entries went.
    Progress,
    Nothing,
}

/// Which entry stays while a shard makes room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spared<'k> {
    /// The one that was written last.
    Newest,
    /// This one, of an order hash and a key.
    Key(u32, &'k [u8]),
    None,
}

impl<T: Table> Shard<T> {
    /// An empty shard of a bounded store, whose sub-tables have at most so many groups.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn bounded(groups: u32) -> Result<Self> {
        let mut shard = Shard {
            index: Index::with_most_groups(groups),
            arena: Arena::with_queues()?,
            eviction: Some(try_box(Eviction::default())?),
            ..Shard::new()
        };
        let bytes = shard.bytes() as u64;
        if let Some(eviction) = &mut shard.eviction {
            eviction.accounted = bytes;
        }
        Ok(shard)
    }

    /// Keeps the place of one entry that the caller has taken for the next write.
    pub(crate) fn hold_place(&mut self) {
        if let Some(eviction) = &mut self.eviction {
            eviction.place = Place::Held;
        }
    }

    /// Gives the place back that the shard holds and no write needed.
    fn give_place(&mut self, cx: &Context) {
        if let Some(eviction) = &mut self.eviction
            && std::mem::take(&mut eviction.place) == Place::Held
        {
            cx.give_entries(1);
        }
    }

    /// An entry has gone: its place is the shard's where that wants it, and the store's otherwise.
    pub(super) fn leave_place(&mut self, cx: &Context) {
        match &mut self.eviction {
            Some(eviction) if eviction.place == Place::Wanted => eviction.place = Place::Held,
            _ => cx.give_entries(1),
        }
    }

    /// Takes the place that the shard holds, or one of the store's.
    fn take_place(&mut self, cx: &Context) -> bool {
        if let Some(eviction) = &mut self.eviction
            && std::mem::take(&mut eviction.place) == Place::Held
        {
            return true;
        }
        cx.bounds.as_ref().is_none_or(|b| b.take_entry())
    }

    /// Takes the place of one entry for a new key, evicting where there is none; returns the queue for its record.
    ///
    /// # Errors
    /// [`Error::StoreFull`], [`Error::NeedsRoom`]; [`Error::NothingToEvict`] where the shard has no entry.
    pub(super) fn admit(&mut self, cx: &Context, order: u32) -> Result<Queue> {
        let Some(bounds) = &cx.bounds else {
            return Ok(Queue::Window);
        };
        self.check_room()?;
        if let Some(eviction) = &mut self.eviction {
            if eviction.place == Place::Held {
                eviction.place = Place::None;
                return Ok(Queue::Window);
            }
            // Any entry may go.
            eviction.newest = None;
        }
        // The window is of use once something has to go; before, each record would be copied from it to the main queue.
        let mut queue = match bounds.has_plenty() {
            true => Queue::Main,
            false => Queue::Window,
        };
        let mut asked = false;
        let mut overtakes = |shard: &mut Self| {
            let first = !std::mem::replace(&mut asked, true);
            first && shard.overtakes(cx, order)
        };
        if bounds.is_nearly_full() && bounds.evicts() && overtakes(self) {
            queue = Queue::Main;
        }
        while !self.take_place(cx) {
            if self.entries == 0 {
                return Err(Error::NothingToEvict);
            }
            if let Some(eviction) = &mut self.eviction {
                eviction.place = Place::Wanted;
            }
            if self.expire_some(cx) {
                continue;
            }
            if bounds.evicts() && overtakes(self) {
                queue = Queue::Main;
            } else if !bounds.evicts() || !self.evict(cx) {
                self.give_place(cx);
                return Err(Error::StoreFull);
            }
        }
        Ok(queue)
    }

    /// Whether a new key was evicted lately and is worth more than the entry at the hand, which is dropped then. Otherwise the
    /// hand turns.
    fn overtakes(&mut self, cx: &Context, order: u32) -> bool {
        if !self.eviction.as_ref().is_some_and(|e| e.ghost.has(order)) {
            return false;
        }
        let Some(oldest) = self.arena.oldest(Queue::Main) else {
            return false;
        };
        let visited = self.arena.is_visited(oldest);
        if visited {
            self.turn(cx, oldest);
        } else {
            self.drop_entry(cx, oldest);
        }
        !visited
    }

    /// After a new record: moves the window on, or evicts as many bytes as have come.
    pub(super) fn make_up_for(&mut self, cx: &Context, offset: u32) {
        let (Some(bounds), Some(eviction)) = (&cx.bounds, &mut self.eviction) else {
            return;
        };
        eviction.newest = Some(offset);
        let is_paid = std::mem::take(&mut eviction.is_paid);
        if is_paid {
            return;
        }
        if !bounds.is_nearly_full() || !bounds.evicts() {
            eviction.debt = 0;
            return self.shorten_window(cx);
        }
        eviction.debt += self.arena.record(offset).len;
        while self.owes() && self.evict(cx) {}
    }

    /// Evicts one entry, not the one that was written last; false where there is no other. What has expired goes first.
    fn evict(&mut self, cx: &Context) -> bool {
        if self.expire_some(cx) {
            return true;
        }
        let entries = self.entries;
        if entries == 0 {
            return false;
        }
        if let Some(eviction) = &mut self.eviction {
            // Without memory it remembers less.
            let _ = eviction.ghost.grow(entries);
        }
        let newest = self.newest();
        let candidate = self.arena.oldest(Queue::Window);
        let Some(candidate) = candidate.filter(|_| self.window_is_full(1)) else {
            let victim = self.victim(cx).or(candidate);
            return victim.is_some_and(|victim| self.drop_entry(cx, victim));
        };
        if Some(candidate) == newest {
            let victim = self.victim(cx);
            return victim.is_some_and(|victim| self.drop_entry(cx, victim));
        }
        if self.arena.is_visited(candidate)
            && let Some(victim) = self.victim(cx)
        {
            self.drop_entry(cx, victim);
            self.turn(cx, candidate);
            return true;
        }
        let order = self.order_of(cx, candidate);
        if let Some(eviction) = &mut self.eviction {
            eviction.ghost.put(order);
        }
        self.drop_entry(cx, candidate)
    }

    /// Whether the window has more than its share once so many entries have come.
    fn window_is_full(&self, coming: u64) -> bool {
        let window = self.arena.in_queue(Queue::Window) + coming;
        window > (self.entries * WINDOW_PERCENT / 100).max(1)
    }

    /// While there is room the window's oldest entry goes on as it is.
    fn shorten_window(&mut self, cx: &Context) {
        if self.window_is_full(0)
            && let Some(oldest) = self.arena.oldest(Queue::Window)
            && Some(oldest) != self.newest()
        {
            self.move_on(cx, oldest);
        }
    }

    /// The entry of the main queue that goes next: those that were read since they were last asked stay.
    fn victim(&mut self, cx: &Context) -> Option<u32> {
        for _ in 0..MOST_TURNS {
            let oldest = self.arena.oldest(Queue::Main)?;
            let stays = self.arena.is_visited(oldest) || Some(oldest) == self.newest();
            if !stays || !self.turn(cx, oldest) {
                break;
            }
        }
        let oldest = self.arena.oldest(Queue::Main);
        oldest.filter(|_| oldest != self.newest())
    }

    /// Moves an entry to the end of the main queue as if it had not been read; false where there is no memory for it.
    fn turn(&mut self, cx: &Context, offset: u32) -> bool {
        self.arena.take_visited(offset);
        self.move_on(cx, offset)
    }

    fn move_on(&mut self, cx: &Context, offset: u32) -> bool {
        let order = self.order_of(cx, offset);
        let Ok(to) = self.arena.move_to(&cx.pool, offset, Queue::Main) else {
            return false;
        };
        if let Some(found) = self.index.find(order, |o| o == offset) {
            self.index.replace(found, order, to);
        }
        if let Some(eviction) = &mut self.eviction
            && eviction.newest == Some(offset)
        {
            eviction.newest = Some(to);
        }
        true
    }

    /// Takes an entry out to make room, and says whether it did.
    fn drop_entry(&mut self, cx: &Context, offset: u32) -> bool {
        let order = self.order_of(cx, offset);
        let Some(found) = self.index.find(order, |o| o == offset) else {
            debug_assert!(false, "every live record is in the index");
            return false;
        };
        self.evict_found(cx, order, found);
        true
    }

    fn evict_found(&mut self, cx: &Context, order: u32, found: Found) {
        let record = self.arena.record(found.offset);
        let live = !self.is_over(cx, record.expiry.deadline);
        let freed = record.len + record.value.block_len();
        if live && let Some(observers) = &mut self.observers {
            let record = self.arena.record(found.offset);
            observers.tell(order, record.key, Event::Evicted);
        }
        let told = self.tell_expired(cx, order, found, live);
        self.remove(cx, found);
        told.count(cx, &mut self.expirations);
        if let Some(eviction) = &mut self.eviction {
            eviction.evictions += u64::from(live);
            eviction.debt = eviction.debt.saturating_sub(freed);
        }
    }

    /// Takes out a few entries that have expired; says whether there were any.
    pub(crate) fn expire_some(&mut self, cx: &Context) -> bool {
        let now = self.now(cx);
        while self.wheel_due() <= now {
            let swept = self.sweep_some(cx, now);
            if swept.expired > 0 || !swept.more {
                return swept.expired > 0;
            }
        }
        false
    }

    fn newest(&self) -> Option<u32> {
        self.eviction.as_ref().and_then(|e| e.newest)
    }

    fn order_of(&self, cx: &Context, offset: u32) -> u32 {
        cx.placer.place(self.arena.record(offset).key).order
    }

    /// Notes that an entry is of use, unless it has only just come.
    #[inline]
    pub(super) fn visit(&self, offset: u32) {
        if let Some(eviction) = &self.eviction
            && eviction.newest != Some(offset)
        {
            self.arena.mark_visited(offset);
        }
    }

    /// Takes so many bytes in advance, evicting until they are there, or until the lock was held for long enough.
    pub(crate) fn make_room(&mut self, cx: &Context, bytes: u64, spared: Spared<'_>) -> Made {
        let Some(bounds) = &cx.bounds else {
            return Made::Room;
        };
        if self.is_broken() {
            return Made::Nothing;
        }
        self.spare(spared);
        self.changing(|shard| shard.evict_for(cx, bounds, bytes))
    }

    fn evict_for(&mut self, cx: &Context, bounds: &Bounds, bytes: u64) -> Made {
        let mut made = Made::Nothing;
        for _ in 0..EVICTED_AT_ONCE {
            if bounds.take_bytes(bytes) {
                return Made::Room;
            }
            if !(self.expire_some(cx) || bounds.evicts() && self.evict(cx)) {
                break;
            }
            made = Made::Progress;
            self.settle(cx, 0);
        }
        if self.entries == 0 && self.free_leftovers(cx) {
            made = Made::Progress;
            self.settle(cx, 0);
            if bounds.take_bytes(bytes) {
                return Made::Room;
            }
        }
        made
    }

    /// Frees what an empty shard keeps for entries to come, and what it remembers of those that went; says whether that was anything.
    fn free_leftovers(&mut self, cx: &Context) -> bool {
        let before = self.bytes();
        self.arena.clear(&cx.pool, |_| {});
        self.index = self.index.emptied();
        self.expiring = None;
        if let Some(eviction) = &mut self.eviction {
            eviction.ghost = Ghost::default();
            eviction.newest = None;
        }
        self.bytes() < before
    }

    /// Bytes that the shard has at least while it has the entry of this key.
    pub(crate) fn bytes_with(&self, order: u32, key: &[u8]) -> u64 {
        self.find(order, key).map_or(0, |found| {
            // And the first chunk, and those that take the next record of each queue.
            let chunks = CHUNKS_OF_AN_ENTRY * CHUNK;
            (self.arena.record(found.offset).value.block_len() + chunks) as u64
        })
    }

    /// Evicts so many bytes for an entry of another store.
    pub(crate) fn pay(&mut self, cx: &Context, bytes: usize) {
        if self.is_broken() {
            return;
        }
        if let Some(eviction) = &mut self.eviction {
            eviction.debt += bytes;
        }
        self.changing(|shard| while shard.owes() && shard.evict(cx) {});
    }

    fn owes(&self) -> bool {
        self.eviction.as_ref().is_some_and(|e| e.debt > 0)
    }

    /// Whether room for the next entry was made elsewhere, so that none is evicted here for it; and whether the write has no room,
    /// until [`Shard::settle`].
    pub(crate) fn begin_write(&mut self, is_paid: bool, lacks_room: bool) {
        if let Some(eviction) = &mut self.eviction {
            eviction.is_paid = is_paid;
            eviction.lacks_room = lacks_room;
        }
    }

    /// Called before a write grows anything.
    ///
    /// # Errors
    /// [`Error::NeedsRoom`].
    #[inline]
    pub(super) fn check_room(&self) -> Result<()> {
        match &self.eviction {
            Some(eviction) if eviction.lacks_room => Err(Error::NeedsRoom),
            _ => Ok(()),
        }
    }

    /// Evicts one entry for another shard.
    pub(crate) fn evict_one(&mut self, cx: &Context, spared: Spared<'_>) -> Made {
        if self.is_broken() {
            return Made::Nothing;
        }
        self.spare(spared);
        if self.changing(|shard| shard.evict(cx)) {
            Made::Room
        } else {
            Made::Nothing
        }
    }

    fn spare(&mut self, spared: Spared<'_>) {
        let spared = match spared {
            Spared::Newest => return,
            Spared::Key(order, key) => self.find(order, key).map(|found| found.offset),
            Spared::None => None,
        };
        if let Some(eviction) = &mut self.eviction {
            eviction.newest = spared;
        }
    }

    /// Tells the store's bounds what the shard holds by now; `taken` bytes were taken in advance.
    pub(crate) fn settle(&mut self, cx: &Context, taken: u64) {
        self.give_place(cx);
        if let Some(eviction) = &mut self.eviction {
            eviction.lacks_room = false;
        }
        let (Some(bounds), Some(_)) = (&cx.bounds, &self.eviction) else {
            return;
        };
        if !bounds.bounds_bytes() {
            return;
        }
        let now = self.bytes() as u64;
        if let Some(eviction) = &mut self.eviction {
            let before = std::mem::replace(&mut eviction.accounted, now);
            bounds.settle(taken, before, now);
        }
    }

    /// Bytes that the shard has allocated, the pool's chunks that it holds included.
    pub(crate) fn bytes(&self) -> usize {
        self.index.bytes()
            + self.arena.bytes()
            + self.arena.chunk_bytes()
            + self.wheel_bytes()
            + self.eviction_bytes()
    }

    /// Bytes that the shard keeps for evicting.
    pub(crate) fn eviction_bytes(&self) -> usize {
        self.eviction
            .as_ref()
            .map_or(0, |e| size_of::<Eviction>() + e.ghost.bytes())
    }

    pub(crate) fn evictions(&self) -> u64 {
        self.eviction.as_ref().map_or(0, |e| e.evictions)
    }
}
