//! Expiry: the shard's time wheel, and what becomes of entries whose time is over.
//!
//! A record that expires has an entry in the wheel that fires no later than its deadline. A later deadline adds none: the
//! entry finds out when it fires, and enters the wheel again. Entries of records that are gone, or that have several, are left
//! behind; when they outnumber the records, a fresh wheel takes over: every record says which of the two knows of it, so that
//! each enters the fresh one once.

use super::loading::Gain;
use super::{ArenaKeys, Context, Shard};
use crate::Result;
use crate::engine::arena::Arena;
use crate::engine::events::Event;
use crate::engine::expired::Told;
use crate::engine::index::{Found, Keys};
use crate::engine::record::{Expiry, InWheel};
use crate::engine::table::{Table, try_box};
use crate::engine::wheel::Wheel;

/// Entries of the wheel that are looked up at a time, so that their cache misses overlap.
const AT_ONCE: usize = 32;
/// Entries that a write moves to a fresh wheel.
const MOVED_BY_A_WRITE: usize = 8;
/// So many more entries than two a record are not worth a fresh wheel.
const SLACK: u64 = 64;

/// What a shard knows of its expiring entries.
pub(super) struct Expiring {
    wheel: Wheel,
    /// The wheel before, until its entries have moved.
    before: Option<Wheel>,
    /// Which of the two names in records `wheel` has.
    odd: bool,
    /// Records with a deadline.
    records: u64,
    /// The sum of their deadlines.
    deadlines: u128,
    /// Records that no wheel knows of, because there was no memory for an entry.
    unknown: u64,
}

impl Expiring {
    fn name(&self) -> InWheel {
        if self.odd {
            InWheel::Odd
        } else {
            InWheel::Even
        }
    }

    /// What records call the wheel before.
    fn name_before(&self) -> InWheel {
        if self.odd {
            InWheel::Even
        } else {
            InWheel::Odd
        }
    }

    /// The wheel that records call `Even`, which a fresh one may have to become.
    fn even(&mut self, now: u64) -> &mut Wheel {
        if self.odd && self.before.is_none() {
            self.renew(now);
        }
        match &mut self.before {
            Some(before) if self.odd => before,
            _ => &mut self.wheel,
        }
    }

    fn renew(&mut self, now: u64) {
        self.before = Some(std::mem::replace(&mut self.wheel, Wheel::new(now)));
        self.odd = !self.odd;
    }

    /// Whether there is one wheel, and few enough of its entries stand for nothing.
    #[inline]
    fn is_tidy(&self) -> bool {
        self.before.is_none() && self.wheel.len() <= 2 * self.records + SLACK
    }

    fn entries(&self) -> u64 {
        self.wheel.len() + self.before.as_ref().map_or(0, Wheel::len)
    }
}

/// The expiry that a record is to have, and whether the wheel needs an entry for it.
pub(super) struct Armed {
    pub(super) expiry: Expiry,
    enters: bool,
}

/// What a step of sweeping did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Swept {
    /// Entries taken out.
    pub(crate) expired: u64,
    /// Whether there is more to do at this time.
    pub(crate) more: bool,
}

impl<T: Table> Shard<T> {
    fn expiring(&mut self, cx: &Context) -> Result<&mut Expiring> {
        match &mut self.expiring {
            Some(expiring) => Ok(expiring),
            none => {
                let expiring = try_box(Expiring {
                    wheel: Wheel::new(cx.time.now()),
                    before: None,
                    odd: false,
                    records: 0,
                    deadlines: 0,
                    unknown: 0,
                })?;
                Ok(none.insert(expiring))
            }
        }
    }

    /// Prepares a record for a deadline, 0 for none, that takes the place of one with the expiry `old`. Makes room in the
    /// wheel; what is written first can still fail.
    pub(super) fn arm(&mut self, cx: &Context, deadline: u64, old: Expiry) -> Result<Armed> {
        if deadline == 0 {
            return Ok(Armed {
                expiry: Expiry::NEVER,
                enters: false,
            });
        }
        if old.wheel != InWheel::None && old.deadline <= deadline {
            let wheel = old.wheel;
            return Ok(Armed {
                expiry: Expiry { deadline, wheel },
                enters: false,
            });
        }
        self.check_room()?;
        let expiring = self.expiring(cx)?;
        expiring.wheel.reserve(deadline, 1)?;
        let wheel = expiring.name();
        Ok(Armed {
            expiry: Expiry { deadline, wheel },
            enters: true,
        })
    }

    /// Notes that a record with an armed expiry has taken the place of one with the expiry `old`.
    pub(super) fn enter(&mut self, order: u32, armed: Armed, old: Expiry) {
        if !armed.expiry.expires() {
            return self.leave(old);
        }
        if let Some(expiring) = &mut self.expiring {
            expiring.records += u64::from(!old.expires());
            expiring.deadlines += u128::from(armed.expiry.deadline);
            expiring.deadlines -= u128::from(old.deadline);
            if armed.enters {
                expiring.wheel.insert(order, armed.expiry.deadline);
            }
        }
    }

    /// Notes that a record is gone.
    pub(super) fn leave(&mut self, old: Expiry) {
        if !old.expires() {
            return;
        }
        if let Some(expiring) = &mut self.expiring {
            expiring.records -= 1;
            expiring.deadlines -= u128::from(old.deadline);
            if expiring.records == 0 && expiring.entries() > SLACK {
                self.expiring = None;
            }
        }
    }

    /// Notes that a load has replaced `lost` records, and added `sorted` ones (order hash above), of which those that expire
    /// have one deadline and say that the even wheel knows of them. Needs [`Shard::prepare_load`].
    pub(super) fn enter_loaded(&mut self, cx: &Context, sorted: &[u64], gain: Gain, lost: Gain) {
        let Some(expiring) = &mut self.expiring else {
            return;
        };
        let deadline = gain.deadline;
        let added = u128::from(deadline) * u128::from(gain.expiring);
        expiring.records = expiring.records + gain.expiring - lost.expiring;
        expiring.deadlines = expiring.deadlines + added - lost.deadlines;
        if deadline != 0 {
            let wheel = expiring.even(cx.time.now());
            // One entry stands for all records of an order hash.
            for same in sorted.chunk_by(|a, b| a >> 32 == b >> 32) {
                wheel.insert((same[0] >> 32) as u32, deadline);
            }
        }
    }

    /// Makes room for what [`Shard::enter_loaded`] is going to add.
    pub(crate) fn prepare_load(&mut self, cx: &Context, rows: usize, deadline: u64) -> Result<()> {
        self.check_writable()?;
        if deadline == 0 {
            return Ok(());
        }
        let now = self.now(cx);
        self.expiring(cx)?.even(now).reserve(deadline, rows)
    }

    /// A step towards a wheel without entries that stand for nothing, where they are too many; says whether it was one.
    #[inline]
    pub(crate) fn tend_wheel(&mut self, cx: &Context) -> bool {
        match &self.expiring {
            Some(expiring) if !expiring.is_tidy() => self.move_to_fresh_wheel(cx),
            _ => false,
        }
    }

    #[cold]
    fn move_to_fresh_wheel(&mut self, cx: &Context) -> bool {
        let Some(expiring) = &mut self.expiring else {
            return false;
        };
        if expiring.before.is_none() {
            expiring.renew(cx.time.now());
        }
        let mut hashes = [0; MOVED_BY_A_WRITE];
        let taken = match &mut expiring.before {
            Some(before) => before.take_any(&mut hashes),
            None => 0,
        };
        if taken < hashes.len() {
            expiring.before = None;
        }
        let name = expiring.name_before();
        for &hash in &hashes[..taken] {
            self.reenter(cx, hash, name);
        }
        true
    }

    /// An entry with this order hash that has expired.
    fn find_expired(&self, cx: &Context, hash: u32, now: u64) -> Option<Found> {
        self.index.find(hash, |offset| {
            let record = self.arena.record(offset);
            let Expiry { deadline, .. } = record.expiry;
            deadline != 0 && deadline <= now && cx.placer.place(record.key).order == hash
        })
    }

    /// Enters the records with this order hash whose entry was taken out of the wheel `from`. One entry stands for all of
    /// them, as after a load.
    fn reenter(&mut self, cx: &Context, hash: u32, from: InWheel) {
        let Shard {
            index,
            arena,
            expiring: Some(expiring),
            ..
        } = self
        else {
            return;
        };
        let deadline_of = |arena: &Arena, offset| {
            let record = arena.record(offset);
            let Expiry { deadline, wheel } = record.expiry;
            let is_meant = deadline != 0 && wheel == from;
            (is_meant && cx.placer.place(record.key).order == hash).then_some(deadline)
        };
        let mut soonest = u64::MAX;
        index.find(hash, |offset| {
            soonest = deadline_of(arena, offset).map_or(soonest, |at| soonest.min(at));
            false
        });
        if soonest == u64::MAX {
            return;
        }
        let wheel = match expiring.wheel.reserve(soonest, 1) {
            Ok(()) => {
                expiring.wheel.insert(hash, soonest);
                expiring.name()
            }
            // Nobody sees them once they have expired, and the next compaction finds them.
            Err(_) => InWheel::None,
        };
        if wheel == from {
            return;
        }
        index.find(hash, |offset| {
            if let Some(deadline) = deadline_of(arena, offset) {
                arena.write_expiry(offset, Expiry { deadline, wheel });
                expiring.unknown += u64::from(wheel == InWheel::None);
            }
            false
        });
    }

    /// When the sweeper has to look at the shard; `u64::MAX`: not at all, as where it is broken.
    #[inline]
    pub(crate) fn next_due(&self) -> u64 {
        if self.changing {
            u64::MAX
        } else {
            self.wheel_due()
        }
    }

    /// When the wheel has to be looked at; `u64::MAX`: not at all.
    #[inline]
    pub(super) fn wheel_due(&self) -> u64 {
        let Some(expiring) = &self.expiring else {
            return u64::MAX;
        };
        let due = |wheel: &Wheel| wheel.next_due().unwrap_or(u64::MAX);
        let before = expiring.before.as_ref().map_or(u64::MAX, due);
        due(&expiring.wheel).min(before)
    }

    /// Looks at a few of the entries that are due, and takes out those that have expired; once none is due, compacts a chunk.
    pub(crate) fn sweep(&mut self, cx: &Context, now: u64) -> Swept {
        if self.is_broken() {
            return Swept::default();
        }
        self.changing(|shard| shard.sweep_some(cx, now))
    }

    pub(super) fn sweep_some(&mut self, cx: &Context, now: u64) -> Swept {
        let mut hashes = [0; AT_ONCE];
        let Some(expiring) = &mut self.expiring else {
            return self.compact_after_sweeping(cx);
        };
        let mut name = expiring.name();
        let mut taken = expiring.wheel.take_due(now, &mut hashes);
        if let (0, Some(before)) = (taken, &mut expiring.before) {
            name = match name {
                InWheel::Odd => InWheel::Even,
                _ => InWheel::Odd,
            };
            taken = before.take_due(now, &mut hashes);
        }
        let hashes = &mut hashes[..taken];
        hashes.sort_unstable();
        hashes.iter().for_each(|&hash| self.prefetch_group(hash));
        hashes.iter().for_each(|&hash| self.prefetch_slots(hash));
        hashes.iter().for_each(|&hash| self.prefetch_record(hash));
        let mut expired = 0;
        for &hash in hashes.iter() {
            while let Some(found) = self.find_expired(cx, hash, now) {
                let told = self.tell_expired(cx, hash, found, false);
                self.remove(cx, found);
                told.count(cx, &mut self.expirations);
                expired += 1;
            }
            self.reenter(cx, hash, name);
        }
        if taken == 0 {
            return self.compact_after_sweeping(cx);
        }
        Swept {
            expired,
            more: true,
        }
    }

    /// Has the next steps of sweeping look at entries whose deadlines have passed though their tick is not over. Only where
    /// sweeping has nothing more to do at this time.
    pub(crate) fn fire_early(&mut self, now: u64) {
        if !self.changing
            && let Some(expiring) = &mut self.expiring
        {
            expiring.wheel.fire_early(now);
            if let Some(before) = &mut expiring.before {
                before.fire_early(now);
            }
        }
    }

    /// Compaction waits until nothing is due: chunks whose entries all expire need no copying.
    fn compact_after_sweeping(&mut self, cx: &Context) -> Swept {
        self.tend_wheel(cx);
        if self.expiring_records() == 0 {
            self.expiring = None;
        }
        let victim = self.arena.next_victim();
        let compacted = victim.is_some_and(|victim| self.evacuate(cx, victim).is_ok());
        Swept {
            more: compacted,
            ..Swept::default()
        }
    }

    /// What the expiry callback is to be told of an entry that is not `live` any more and goes now.
    pub(super) fn take_expired(&self, cx: &Context, found: Found, live: bool) -> Told {
        if live {
            return Told::Nothing;
        }
        let record = self.arena.record(found.offset);
        cx.expired.told(record.key, record.value.as_slice())
    }

    /// As [`Shard::take_expired`], and tells of it.
    pub(super) fn tell_expired(
        &mut self,
        cx: &Context,
        order: u32,
        found: Found,
        live: bool,
    ) -> Told {
        if !live && let Some(observers) = &mut self.observers {
            let record = self.arena.record(found.offset);
            observers.tell(order, record.key, Event::Expired);
        }
        self.take_expired(cx, found, live)
    }

    /// Enters records into the wheel for which there was no memory before.
    pub(super) fn find_unknown(&mut self, cx: &Context) -> Result<()> {
        let Shard {
            index,
            arena,
            expiring: Some(expiring),
            ..
        } = self
        else {
            return Ok(());
        };
        if expiring.unknown == 0 {
            return Ok(());
        }
        let mut outcome = Ok(());
        let name = expiring.name();
        index.for_each(|offset| {
            let record = arena.record(offset);
            let Expiry { deadline, wheel } = record.expiry;
            if deadline == 0 || wheel != InWheel::None || outcome.is_err() {
                return;
            }
            let order = ArenaKeys {
                arena,
                placer: &cx.placer,
            }
            .order(offset);
            outcome = expiring.wheel.reserve(deadline, 1);
            if outcome.is_ok() {
                expiring.wheel.insert(order, deadline);
                arena.write_expiry(
                    offset,
                    Expiry {
                        deadline,
                        wheel: name,
                    },
                );
            }
        });
        outcome?;
        expiring.unknown = 0;
        Ok(())
    }

    /// Entries that expire.
    pub(crate) fn expiring_records(&self) -> u64 {
        self.expiring.as_ref().map_or(0, |e| e.records)
    }

    /// The sum of their deadlines.
    pub(crate) fn deadlines(&self) -> u128 {
        self.expiring.as_ref().map_or(0, |e| e.deadlines)
    }

    /// Bytes of the time wheel.
    pub(crate) fn wheel_bytes(&self) -> usize {
        self.expiring.as_ref().map_or(0, |e| {
            size_of::<Expiring>() + e.wheel.bytes() + e.before.as_ref().map_or(0, Wheel::bytes)
        })
    }

    /// Entries of the wheel; tests hold them against the records.
    #[cfg(test)]
    pub(crate) fn wheel_entries(&self) -> u64 {
        self.expiring.as_ref().map_or(0, |e| e.entries())
    }
}
