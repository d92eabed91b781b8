//! Writes. Each does a bounded amount of work, and either all of it or nothing.

use super::{Change, Context, Entry, Shard, Work};
use crate::engine::arena::Queue;
use crate::engine::events::Event;
use crate::engine::failpoint;
use crate::engine::index::Found;
use crate::engine::record::{Expiry, Form, Kind, ValueRef};
use crate::engine::table::{Table, try_copy, try_reserve_exact};
use crate::engine::ttl::{OVER, Ttl};
use crate::{Result, limits};

/// What a write puts in the place of an entry, or where there was none.
struct New<'v> {
    value: &'v [u8],
    /// 0: none.
    deadline: u64,
    kind: Kind,
    event: Event,
    /// The deadline is the one that the entry had.
    keeps_deadline: bool,
}

/// A key's entry, as a write finds it.
struct Old {
    found: Option<Found>,
    /// Whether it is there for the caller: it has not expired.
    live: bool,
    expiry: Expiry,
    kind: Kind,
}

/// What an event is where the deadline that it sets has passed.
fn when_over(event: Event) -> Event {
    match event {
        Event::Expire => Event::Del,
        other => other,
    }
}

impl Change<'_> {
    /// What it does, in a word.
    fn event(&self) -> Event {
        match self {
            Change::Keep => Event::Silent,
            Change::Put(_) | Change::Set(..) => Event::Set,
            Change::Append(_) => Event::Append,
            Change::Write(..) => Event::SetRange,
            Change::Expire(Ttl::Never) => Event::Persist,
            Change::Expire(_) => Event::Expire,
            Change::Delete => Event::Del,
        }
    }
}

impl<T: Table> Shard<T> {
    /// Finds what a write replaces. An entry that has expired is taken note of, and left to be overwritten or removed.
    #[inline]
    fn old(&mut self, cx: &Context, order: u32, key: &[u8]) -> Result<Old> {
        self.check_writable()?;
        // All lines that a write may need, at once: the search alone would wait for one of them after the other.
        self.index.prefetch_block(order);
        let found = self.find(order, key);
        let (expiry, kind) = found.map_or((Expiry::NEVER, Kind::STRING), |f| {
            let record = self.arena.record(f.offset);
            (record.expiry, record.kind)
        });
        let over = self.is_over(cx, expiry.deadline);
        Ok(Old {
            found,
            live: found.is_some() && !over,
            expiry,
            kind,
        })
    }

    /// Writes a value; true where the key is new.
    pub(crate) fn set(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        value: &[u8],
        ttl: Ttl,
        event: Event,
    ) -> Result<bool> {
        // On its way while the clock is read.
        self.index.prefetch_group(order);
        let deadline = self.deadline(cx, ttl)?;
        let old = self.old(cx, order, key)?;
        self.change(cx, |shard| {
            if deadline == OVER {
                shard.set_over(cx, order, key, &old, event);
                return Ok(());
            }
            let new = New {
                value,
                deadline,
                kind: Kind::STRING,
                event,
                keeps_deadline: false,
            };
            shard.put(cx, order, key, new, &old)
        })?;
        Ok(!old.live)
    }

    /// Runs a change, and does what follows each one that has succeeded. Where it panics the shard stays marked as changing, and is
    /// not used any more.
    #[inline(always)]
    fn change<R>(&mut self, cx: &Context, work: impl FnOnce(&mut Self) -> Result<R>) -> Result<R> {
        let before = self.work;
        self.changing = true;
        let result = work(self);
        if result.is_ok() {
            self.finish_write(cx, before);
        }
        self.changing = false;
        result
    }

    /// Writes another type, for tests.
    #[cfg(any(test, feature = "failpoints"))]
    pub(crate) fn set_kind(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        value: &[u8],
        kind: Kind,
    ) -> Result<()> {
        let old = self.old(cx, order, key)?;
        self.change(cx, |shard| {
            let new = New {
                value,
                deadline: 0,
                kind,
                event: Event::Set,
                keeps_deadline: false,
            };
            shard.put(cx, order, key, new, &old)
        })
    }

    /// When an entry that is written now expires, by the time of this lock.
    #[inline]
    fn deadline(&self, cx: &Context, ttl: Ttl) -> Result<u64> {
        let fixed = self.time_is_fixed.then(|| self.now(cx));
        cx.time.deadline(ttl, fixed)
    }

    /// Takes out what a write replaces by an entry whose time is over already.
    fn remove_old(&mut self, cx: &Context, order: u32, key: &[u8], old: &Old, event: Event) {
        let Some(found) = old.found else {
            return;
        };
        let told = self.tell_expired(cx, order, found, old.live);
        if old.live {
            self.tell(order, key, event);
        }
        self.remove(cx, found);
        told.count(cx, &mut self.expirations);
    }

    /// Writes a value whose time is over already: what a write leaves that waits until then.
    fn set_over(&mut self, cx: &Context, order: u32, key: &[u8], old: &Old, event: Event) {
        if event != Event::Set {
            return self.remove_old(cx, order, key, old, when_over(event));
        }
        self.remove_old(cx, order, key, old, Event::Silent);
        if !old.live {
            self.tell(order, key, Event::New);
        }
        for event in [Event::Set, Event::Expire, Event::Expired] {
            self.tell(order, key, event);
        }
        self.expirations += 1;
    }

    fn put(&mut self, cx: &Context, order: u32, key: &[u8], new: New<'_>, old: &Old) -> Result<()> {
        let Some(found) = old.found else {
            self.insert(cx, order, key, &new)?;
            self.tell_put(order, key, &new, true);
            return Ok(());
        };
        let armed = self.arm(cx, new.deadline, old.expiry)?;
        let form = Form {
            expiry: armed.expiry,
            kind: new.kind,
        };
        let value = new.value;
        let old_len = self.arena.record(found.offset).value.len() as u64;
        let told = self.take_expired(cx, found, old.live);
        let mut at = found.offset;
        if !self.arena.overwrite(at, key, value, form) {
            self.check_room()?;
            let queue = self.arena.queue_of(at);
            at = self.arena.append(&cx.pool, key, value, form, queue)?;
            failpoint::panic_here();
            self.index.replace(found, order, at);
            self.arena.kill(&cx.pool, found.offset);
        }
        self.visit(at);
        if !old.live {
            self.tell(order, key, Event::Expired);
        }
        self.tell_put(order, key, &new, !old.live);
        told.count(cx, &mut self.expirations);
        self.value_bytes = self.value_bytes - old_len + value.len() as u64;
        self.work.bytes_copied += (key.len() + value.len()) as u64;
        self.enter(order, armed, old.expiry);
        Ok(())
    }

    /// Tells of a value that was written.
    #[inline(always)]
    fn tell_put(&mut self, order: u32, key: &[u8], new: &New<'_>, is_new: bool) {
        if let Some(observers) = &mut self.observers {
            // What is restored is new also where it replaces an entry, as in Redis.
            if is_new || new.event == Event::Restore {
                observers.tell(order, key, Event::New);
            }
            observers.tell(order, key, new.event);
            if new.event == Event::Set && new.deadline != 0 && !new.keeps_deadline {
                observers.tell(order, key, Event::Expire);
            }
        }
    }

    /// Writes a new key.
    fn insert(&mut self, cx: &Context, order: u32, key: &[u8], new: &New<'_>) -> Result<()> {
        // Evicts before anything else, because that works on the index and on the wheel.
        let queue = self.admit(cx, order)?;
        let inserted = self.arm(cx, new.deadline, Expiry::NEVER).and_then(|armed| {
            let form = Form {
                expiry: armed.expiry,
                kind: new.kind,
            };
            let offset = self.insert_into(cx, order, key, new.value, form, queue)?;
            Ok((armed, offset))
        });
        let (armed, offset) = match inserted {
            Ok(inserted) => inserted,
            Err(error) => {
                cx.give_entries(1);
                return Err(error);
            }
        };
        self.entries += 1;
        self.key_bytes += key.len() as u64;
        self.value_bytes += new.value.len() as u64;
        self.work.bytes_copied += (key.len() + new.value.len()) as u64;
        self.enter(order, armed, Expiry::NEVER);
        self.make_up_for(cx, offset);
        Ok(())
    }

    /// Writes a record and its slot; returns where the record is.
    fn insert_into(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        value: &[u8],
        form: Form,
        queue: Queue,
    ) -> Result<u32> {
        let offset = self.arena.append(&cx.pool, key, value, form, queue)?;
        failpoint::panic_here();
        let moved = self.index.slots_moved();
        let keys = super::ArenaKeys {
            arena: &self.arena,
            placer: &cx.placer,
        };
        if let Err(error) = self.index.insert(order, offset, &keys) {
            self.arena.retract(offset);
            return Err(error);
        }
        self.work.slots_moved += self.index.slots_moved() - moved;
        Ok(offset)
    }

    pub(super) fn remove(&mut self, cx: &Context, found: Found) {
        let record = self.arena.record(found.offset);
        let (key_len, value_len) = (record.key.len(), record.value.len());
        self.leave(record.expiry);
        // Killed last: shrinking the index reads the keys of the others only.
        let moved = self.index.slots_moved();
        let keys = super::ArenaKeys {
            arena: &self.arena,
            placer: &cx.placer,
        };
        self.index.remove(found, &keys);
        self.work.slots_moved += self.index.slots_moved() - moved;
        self.arena.kill(&cx.pool, found.offset);
        self.leave_place(cx);
        self.entries -= 1;
        self.key_bytes -= key_len as u64;
        self.value_bytes -= value_len as u64;
    }

    /// Takes a key out; false where it is not there.
    pub(crate) fn delete(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        event: Event,
    ) -> Result<bool> {
        let old = self.old(cx, order, key)?;
        if old.found.is_none() {
            return Ok(false);
        }
        self.change(cx, |shard| {
            shard.remove_old(cx, order, key, &old, event);
            Ok(())
        })?;
        Ok(old.live)
    }

    /// Reads, decides and writes as one step.
    pub(crate) fn modify<'c, R>(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        event: Option<Event>,
        decide: impl FnOnce(Option<Entry<'_>>) -> Result<(Change<'c>, R)>,
    ) -> Result<R> {
        let old = self.old(cx, order, key)?;
        let live = old.found.filter(|_| old.live);
        let entry = live.map(|found| self.entry(cx, self.arena.record(found.offset)));
        let (change, result) = decide(entry)?;
        if let Some(found) = live {
            self.visit(found.offset);
        }
        if matches!(change, Change::Keep)
            || live.is_none() && matches!(change, Change::Delete | Change::Expire(_))
        {
            return Ok(result);
        }
        self.change(cx, |shard| shard.apply(cx, order, key, event, change, &old))?;
        Ok(result)
    }

    fn apply(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        event: Option<Event>,
        change: Change<'_>,
        old: &Old,
    ) -> Result<()> {
        let event = match &change {
            Change::Write(_, bytes) if bytes.is_empty() => Event::Silent,
            change => event.unwrap_or_else(|| change.event()),
        };
        let mut padded = Vec::new();
        let (value, ttl) = match &change {
            Change::Keep => return Ok(()),
            Change::Delete => {
                self.remove_old(cx, order, key, old, event);
                return Ok(());
            }
            Change::Append(tail) if old.live => {
                return self.write_at(cx, order, key, (usize::MAX, tail), old, event);
            }
            Change::Write(at, bytes) if old.live => {
                return self.write_at(cx, order, key, (*at, bytes), old, event);
            }
            Change::Write(at, bytes) => {
                limits::check_value(at.saturating_add(bytes.len()))?;
                try_reserve_exact(&mut padded, at + bytes.len())?;
                padded.resize(*at, 0);
                padded.extend_from_slice(bytes);
                (Some(&padded[..]), None)
            }
            Change::Expire(ttl) => (None, Some(*ttl)),
            Change::Append(tail) => (Some(*tail), None),
            Change::Put(value) => (Some(&**value), None),
            Change::Set(value, ttl) => (Some(&**value), Some(*ttl)),
        };
        limits::check_value(value.map_or(0, <[u8]>::len))?;
        let keeps_deadline = ttl.is_none() && old.live;
        let deadline = match ttl {
            None if old.live => old.expiry.deadline,
            ttl => self.deadline(cx, ttl.unwrap_or_default())?,
        };
        match value {
            Some(_) if deadline == OVER => {
                self.set_over(cx, order, key, old, event);
                Ok(())
            }
            None if deadline == OVER => {
                self.remove_old(cx, order, key, old, when_over(event));
                Ok(())
            }
            None => self.expire_at(cx, order, key, deadline, old, event),
            Some(value) => {
                let new = New {
                    value,
                    deadline,
                    kind: Kind::STRING,
                    event,
                    keeps_deadline,
                };
                self.put(cx, order, key, new, old)
            }
        }
    }

    /// Writes bytes from a place of a value on, or behind its end where the place is `usize::MAX`.
    fn write_at(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        (at, bytes): (usize, &[u8]),
        old: &Old,
        event: Event,
    ) -> Result<()> {
        let Some(found) = old.found else {
            return Ok(());
        };
        let value = self.arena.record(found.offset).value;
        let old_len = value.len();
        let at = if at == usize::MAX { old_len } else { at };
        let len = old_len.max(at.saturating_add(bytes.len()));
        limits::check_value(len)?;
        // What an inline value keeps its length in is written in place.
        let in_place = value.block_len() == 0 && len == old_len;
        if !in_place && value.room_to_write(len) > 0 {
            self.check_room()?;
        }
        if let Some(copied) = self.arena.write(&cx.pool, found.offset, at, bytes)? {
            self.value_bytes += (len - old_len) as u64;
            self.work.bytes_copied += copied as u64;
            self.tell(order, key, event);
            return Ok(());
        }
        // An inline value is short: at most MAX_INLINE bytes are copied twice.
        let mut joined = Vec::new();
        try_reserve_exact(&mut joined, len)?;
        joined.extend_from_slice(self.arena.record(found.offset).value.as_slice());
        joined.resize(len, 0);
        joined[at..at + bytes.len()].copy_from_slice(bytes);
        let new = New {
            value: &joined,
            deadline: old.expiry.deadline,
            kind: old.kind,
            event,
            keeps_deadline: true,
        };
        self.put(cx, order, key, new, old)
    }

    /// Gives an entry another deadline, 0 for none.
    fn expire_at(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        deadline: u64,
        old: &Old,
        event: Event,
    ) -> Result<()> {
        let Some(found) = old.found else {
            return Ok(());
        };
        let record = self.arena.record(found.offset);
        let expiry = Expiry {
            deadline,
            ..Expiry::NEVER
        };
        if deadline != 0 && expiry.len() == old.expiry.len() {
            let armed = self.arm(cx, deadline, old.expiry)?;
            self.arena.write_expiry(found.offset, armed.expiry);
            self.enter(order, armed, old.expiry);
        } else if let ValueRef::Inline(value) = record.value {
            // The record gets longer or shorter; inline ones are small.
            let mut copy = Vec::new();
            try_copy(&mut copy, value)?;
            let new = New {
                value: &copy,
                deadline,
                kind: old.kind,
                event,
                keeps_deadline: false,
            };
            return self.put(cx, order, key, new, old);
        } else {
            if deadline != 0 {
                self.check_room()?;
            }
            let armed = self.arm(cx, deadline, old.expiry)?;
            let offset = self
                .arena
                .move_block(&cx.pool, found.offset, armed.expiry)?;
            self.index.replace(found, order, offset);
            self.enter(order, armed, old.expiry);
        }
        self.tell(order, key, event);
        Ok(())
    }

    /// One bounded step of compaction and one of tending the wheel after a write, and the account of the write's work.
    pub(super) fn finish_write(&mut self, cx: &Context, before: Work) {
        self.tend_wheel(cx);
        if self.arena.is_loose()
            && !self.sweeper_compacts(cx)
            && let Some(victim) = self.arena.next_victim()
        {
            // Out of memory here only means that dead bytes stay a while longer.
            let _ = self.evacuate(cx, victim);
        }
        let work = &mut self.work;
        let slots = work.slots_moved - before.slots_moved;
        let bytes = work.bytes_copied - before.bytes_copied;
        let bounded = |count: u64| count.min(u32::MAX.into()) as u32;
        work.most_slots_moved = work.most_slots_moved.max(bounded(slots));
        work.most_bytes_copied = work.most_bytes_copied.max(bounded(bytes));
    }

    /// Whether something is due, so that copying what is left of a chunk is likely to be in vain: the sweeper compacts when it has
    /// taken out all. A store that is bounded cannot wait for it.
    fn sweeper_compacts(&self, cx: &Context) -> bool {
        self.eviction.is_none() && cx.sweeps && self.wheel_due() <= cx.time.recently()
    }

    pub(super) fn evacuate(&mut self, cx: &Context, chunk: u32) -> Result<()> {
        let Shard { index, arena, .. } = self;
        let copied = arena.evacuate(&cx.pool, chunk, |arena, from, to| {
            let order = cx.placer.place(arena.record(to).key).order;
            let found = index.find(order, |offset| offset == from);
            debug_assert!(found.is_some(), "every live record is in the index");
            if let Some(found) = found {
                index.replace(found, order, to);
            }
        })?;
        self.work.bytes_copied += copied;
        Ok(())
    }
}
