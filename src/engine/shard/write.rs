//! Writes. Each does a bounded amount of work, and either all of it or nothing.

use super::{Change, Context, Entry, Shard, Work};
use crate::engine::arena::Queue;
use crate::engine::events::Event;
use crate::engine::index::Found;
use crate::engine::record::{Expiry, ValueRef};
use crate::engine::table::{Table, try_copy, try_reserve_exact};
use crate::engine::ttl::{OVER, Ttl};
use crate::{Error, Result, limits};

/// A key's entry, as a write finds it.
struct Old {
    found: Option<Found>,
    /// Whether it is there for the caller: it has not expired.
    live: bool,
    expiry: Expiry,
}

/// What an event is where the deadline that it sets has passed.
fn when_over(event: Event) -> Event {
    match event {
        Event::Set | Event::Expire => Event::Del,
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
            Change::Expire(Ttl::Never) => Event::Persist,
            Change::Expire(_) => Event::Expire,
            Change::Delete => Event::Del,
        }
    }
}

impl<T: Table> Shard<T> {
    /// Finds what a write replaces. An entry that has expired is taken note of, and left to be overwritten or removed.
    /// `now` is the time if the caller has read it.
    #[inline]
    fn old(&mut self, cx: &Context, order: u32, key: &[u8], now: Option<u64>) -> Result<Old> {
        if self.closed {
            return Err(Error::Closed);
        }
        let found = self.find(order, key);
        let expiry = found.map_or(Expiry::NEVER, |f| self.arena.record(f.offset).expiry);
        let over = expiry.expires() && expiry.deadline <= now.unwrap_or_else(|| self.now(cx));
        Ok(Old {
            found,
            live: found.is_some() && !over,
            expiry,
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
        let (deadline, now) = self.deadline_and_now(cx, ttl)?;
        let old = self.old(cx, order, key, now)?;
        let before = self.work;
        if deadline == OVER {
            self.remove_old(cx, order, key, &old, when_over(event));
        } else {
            self.put(cx, order, key, value, deadline, &old, event)?;
        }
        self.finish_write(cx, before);
        Ok(!old.live)
    }

    /// As [`Time::deadline_and_now`], at the time of this lock.
    ///
    /// [`Time::deadline_and_now`]: crate::engine::ttl::Time::deadline_and_now
    #[inline]
    fn deadline_and_now(&self, cx: &Context, ttl: Ttl) -> Result<(u64, Option<u64>)> {
        cx.time.deadline_and_now(ttl, || self.now(cx))
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

    fn put(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        value: &[u8],
        deadline: u64,
        old: &Old,
        event: Event,
    ) -> Result<()> {
        let Some(found) = old.found else {
            self.insert(cx, order, key, value, deadline)?;
            self.tell_put(order, key, event, true, deadline);
            return Ok(());
        };
        let armed = self.arm(cx, deadline, old.expiry)?;
        let old_len = self.arena.record(found.offset).value.len() as u64;
        let told = self.take_expired(cx, found, old.live);
        let mut at = found.offset;
        if !self.arena.overwrite(at, key, value, armed.expiry) {
            let queue = self.arena.queue_of(at);
            at = self
                .arena
                .append(&cx.pool, key, value, armed.expiry, queue)?;
            self.index.replace(found, order, at);
            self.arena.kill(&cx.pool, found.offset);
        }
        self.visit(at);
        if !old.live {
            self.tell(order, key, Event::Expired);
        }
        self.tell_put(order, key, event, !old.live, deadline);
        told.count(cx, &mut self.expirations);
        self.value_bytes = self.value_bytes - old_len + value.len() as u64;
        self.work.bytes_copied += (key.len() + value.len()) as u64;
        self.enter(order, armed, old.expiry);
        Ok(())
    }

    /// Tells of a value that was written.
    #[inline(always)]
    fn tell_put(&mut self, order: u32, key: &[u8], event: Event, is_new: bool, deadline: u64) {
        if let Some(observers) = &mut self.observers {
            if is_new {
                observers.tell(order, key, Event::New);
            }
            observers.tell(order, key, event);
            if event == Event::Set && deadline != 0 {
                observers.tell(order, key, Event::Expire);
            }
        }
    }

    /// Writes a new key.
    fn insert(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        value: &[u8],
        deadline: u64,
    ) -> Result<()> {
        // Evicts before anything else, because that works on the index and on the wheel.
        let queue = self.admit(cx, order)?;
        let inserted = self.arm(cx, deadline, Expiry::NEVER).and_then(|armed| {
            let offset = self.insert_into(cx, order, key, value, armed.expiry, queue)?;
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
        self.value_bytes += value.len() as u64;
        self.work.bytes_copied += (key.len() + value.len()) as u64;
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
        expiry: Expiry,
        queue: Queue,
    ) -> Result<u32> {
        let offset = self.arena.append(&cx.pool, key, value, expiry, queue)?;
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
        let old = self.old(cx, order, key, None)?;
        if old.found.is_none() {
            return Ok(false);
        }
        let before = self.work;
        self.remove_old(cx, order, key, &old, event);
        self.finish_write(cx, before);
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
        let old = self.old(cx, order, key, None)?;
        let before = self.work;
        let live = old.found.filter(|_| old.live);
        let entry = live.map(|found| self.entry(cx, self.arena.record(found.offset)));
        let (change, result) = decide(entry)?;
        let event = event.unwrap_or_else(|| change.event());
        let over = when_over(event);
        if let Some(found) = live {
            self.visit(found.offset);
        }
        let kept = |shard: &Self| {
            if old.live {
                Ok(old.expiry.deadline)
            } else {
                Ok(shard.deadline_and_now(cx, Ttl::Default)?.0)
            }
        };
        match (change, live) {
            (Change::Keep, _) | (Change::Delete | Change::Expire(_), None) => return Ok(result),
            (Change::Put(value), _) => {
                limits::check_value(value.len())?;
                let deadline = kept(self)?;
                self.put(cx, order, key, &value, deadline, &old, event)?;
            }
            (Change::Set(value, ttl), _) => {
                limits::check_value(value.len())?;
                match self.deadline_and_now(cx, ttl)?.0 {
                    OVER => self.remove_old(cx, order, key, &old, over),
                    deadline => self.put(cx, order, key, &value, deadline, &old, event)?,
                }
            }
            (Change::Append(tail), Some(found)) => {
                self.append(cx, order, key, tail, found, &old, event)?;
            }
            (Change::Append(tail), None) => {
                limits::check_value(tail.len())?;
                let deadline = kept(self)?;
                self.put(cx, order, key, tail, deadline, &old, event)?;
            }
            (Change::Expire(ttl), Some(found)) => match self.deadline_and_now(cx, ttl)?.0 {
                OVER => self.remove_old(cx, order, key, &old, over),
                deadline => self.expire_at(cx, order, key, deadline, found, &old, event)?,
            },
            (Change::Delete, Some(_)) => self.remove_old(cx, order, key, &old, event),
        }
        self.finish_write(cx, before);
        Ok(result)
    }

    fn append(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        tail: &[u8],
        found: Found,
        old: &Old,
        event: Event,
    ) -> Result<()> {
        let value = self.arena.record(found.offset).value;
        let old_len = value.len();
        limits::check_value(old_len + tail.len())?;
        if self.arena.append_to_block(found.offset, tail)? {
            self.value_bytes += tail.len() as u64;
            self.work.bytes_copied += tail.len() as u64;
            self.tell(order, key, event);
            return Ok(());
        }
        // An inline value is short: at most MAX_INLINE bytes are copied twice.
        let mut joined = Vec::new();
        try_reserve_exact(&mut joined, old_len + tail.len())?;
        joined.extend_from_slice(self.arena.record(found.offset).value.as_slice());
        joined.extend_from_slice(tail);
        self.put(cx, order, key, &joined, old.expiry.deadline, old, event)
    }

    /// Gives an entry another deadline, 0 for none.
    fn expire_at(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        deadline: u64,
        found: Found,
        old: &Old,
        event: Event,
    ) -> Result<()> {
        let record = self.arena.record(found.offset);
        if old.expiry.expires() && deadline != 0 {
            let armed = self.arm(cx, deadline, old.expiry)?;
            self.arena.write_expiry(found.offset, armed.expiry);
            self.enter(order, armed, old.expiry);
        } else if let ValueRef::Inline(value) = record.value {
            // The record gets longer or shorter; inline ones are small.
            let mut copy = Vec::new();
            try_copy(&mut copy, value)?;
            return self.put(cx, order, key, &copy, deadline, old, event);
        } else {
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
        if let Some(victim) = self.arena.next_victim() {
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
