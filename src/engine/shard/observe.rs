//! Who is told of a shard's changes: watches of keys, and the queue of notifications. A shard without either has neither.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Context, Shard};
use crate::Result;
use crate::engine::events::{Event, MOST_IN_A_SHARD, Notification, Notifier};
use crate::engine::table::{Table, try_box, try_copy, try_reserve};

/// Somebody who wants to know whether a key changes.
pub(crate) struct Watched {
    order: u32,
    key: Vec<u8>,
    /// Whether the key was there when the watch began. What was not is not changed by being swept.
    was_live: bool,
    dirty: Arc<AtomicBool>,
}

/// The queue of a shard's events.
struct Notifying {
    notifier: Arc<Notifier>,
    db: u8,
    events: VecDeque<Notification>,
}

/// What a shard knows of those who are told of its changes.
#[derive(Default)]
pub(crate) struct Observers {
    watched: Vec<Watched>,
    /// One for each notifier; few stores have several.
    notifying: Vec<Notifying>,
}

impl Observers {
    /// A key changes, or has changed, or is going to; what is done last under this lock is told last.
    #[cold]
    pub(super) fn tell(&mut self, order: u32, key: &[u8], event: Event) {
        if event != Event::New {
            let is_meant = |w: &&Watched| w.order == order && w.key == key;
            for watched in self.watched.iter().filter(is_meant) {
                if watched.was_live || event != Event::Expired {
                    watched.dirty.store(true, Ordering::SeqCst);
                }
            }
        }
        for notifying in &mut self.notifying {
            notifying.push(key, event);
        }
    }
}

impl Notifying {
    fn push(&mut self, key: &[u8], event: Event) {
        let notifier = &*self.notifier;
        if !notifier.classes().has(event.class()) {
            return;
        }
        let bytes = size_of::<Notification>() + key.len();
        let mut copy = Vec::new();
        let has_room = self.events.len() < MOST_IN_A_SHARD
            && self.events.try_reserve(1).is_ok()
            && try_copy(&mut copy, key).is_ok();
        if !has_room || !notifier.take_room(bytes) {
            return notifier.drop_one();
        }
        self.events.push_back(Notification {
            db: self.db,
            event,
            key: copy.into_boxed_slice(),
            stamp: notifier.stamp(),
        });
        notifier.pushed();
    }
}

impl Drop for Notifying {
    fn drop(&mut self) {
        let bytes = self.events.iter().map(Notification::bytes).sum();
        self.notifier.give_room(bytes);
    }
}

impl<T: Table> Shard<T> {
    /// Tells those who want to know of a change; one branch where there are none.
    #[inline(always)]
    pub(crate) fn tell(&mut self, order: u32, key: &[u8], event: Event) {
        if let Some(observers) = &mut self.observers {
            observers.tell(order, key, event);
        }
    }

    fn observers(&mut self) -> Result<&mut Observers> {
        match &mut self.observers {
            Some(observers) => Ok(observers),
            none => Ok(none.insert(try_box(Observers::default())?)),
        }
    }

    fn drop_idle_observers(&mut self) {
        let idle = |o: &Observers| o.watched.is_empty() && o.notifying.is_empty();
        if self.observers.as_deref().is_some_and(idle) {
            self.observers = None;
        }
    }

    /// Begins to watch a key.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(crate) fn watch(
        &mut self,
        cx: &Context,
        order: u32,
        key: &[u8],
        dirty: &Arc<AtomicBool>,
    ) -> Result<()> {
        let was_live = self.contains(cx, order, key);
        let mut copy = Vec::new();
        try_copy(&mut copy, key)?;
        let watched = &mut self.observers()?.watched;
        try_reserve(watched, 1)?;
        watched.push(Watched {
            order,
            key: copy,
            was_live,
            dirty: Arc::clone(dirty),
        });
        Ok(())
    }

    /// Whether a key that was there when its watch began has expired since; where it was swept, the watch is dirty.
    pub(crate) fn has_lapsed(
        &self,
        cx: &Context,
        order: u32,
        key: &[u8],
        dirty: &Arc<AtomicBool>,
    ) -> bool {
        let watched = self.observers.iter().flat_map(|o| &o.watched);
        let mut ours = watched.filter(|w| Arc::ptr_eq(&w.dirty, dirty) && w.key == key);
        ours.any(|w| w.was_live) && !self.contains(cx, order, key)
    }

    /// Ends one watch of a key.
    pub(crate) fn unwatch(&mut self, key: &[u8], dirty: &Arc<AtomicBool>) {
        if let Some(observers) = &mut self.observers {
            let is_it = |w: &Watched| Arc::ptr_eq(&w.dirty, dirty) && w.key == key;
            if let Some(at) = observers.watched.iter().position(is_it) {
                observers.watched.swap_remove(at);
            }
        }
        self.drop_idle_observers();
    }

    /// From now on changes are queued for the notifier as those of this database, or none are.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(crate) fn notify(&mut self, notifier: &Arc<Notifier>, db: Option<u8>) -> Result<()> {
        let Some(db) = db else {
            if let Some(observers) = &mut self.observers {
                let is_other = |n: &Notifying| !Arc::ptr_eq(&n.notifier, notifier);
                observers.notifying.retain(is_other);
            }
            self.drop_idle_observers();
            return Ok(());
        };
        let all = &mut self.observers()?.notifying;
        match all.iter_mut().find(|n| Arc::ptr_eq(&n.notifier, notifier)) {
            Some(notifying) => notifying.db = db,
            None => {
                try_reserve(all, 1)?;
                all.push(Notifying {
                    notifier: Arc::clone(notifier),
                    db,
                    events: VecDeque::new(),
                });
            }
        }
        Ok(())
    }

    fn notifying(&mut self, notifier: &Arc<Notifier>) -> Option<&mut Notifying> {
        let all = &mut self.observers.as_mut()?.notifying;
        all.iter_mut().find(|n| Arc::ptr_eq(&n.notifier, notifier))
    }

    /// Moves the events that wait for a notifier into `out`.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`]; they wait on then.
    pub(crate) fn take_events(
        &mut self,
        notifier: &Arc<Notifier>,
        out: &mut Vec<Notification>,
    ) -> Result<()> {
        let Some(notifying) = self.notifying(notifier) else {
            return Ok(());
        };
        try_reserve(out, notifying.events.len())?;
        let bytes = notifying.events.iter().map(Notification::bytes).sum();
        out.extend(notifying.events.drain(..));
        notifying.notifier.give_room(bytes);
        Ok(())
    }

    /// All entries are about to go.
    pub(super) fn tell_all_gone(&mut self) {
        if let Some(observers) = &self.observers {
            self.soil(&observers.watched);
        }
    }

    /// Sets the flags of those watches whose keys are here.
    pub(crate) fn soil(&self, watches: &[Watched]) {
        for watched in watches {
            if self.find(watched.order, &watched.key).is_some() {
                watched.dirty.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Whether a key is watched.
    pub(crate) fn has_watches(&self) -> bool {
        self.observers
            .as_ref()
            .is_some_and(|o| !o.watched.is_empty())
    }

    /// Makes room for [`Shard::put_watches`].
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(crate) fn prepare_watches(&mut self) -> Result<()> {
        self.observers().map(drop)
    }

    /// Takes all watches out.
    pub(crate) fn take_watches(&mut self) -> Vec<Watched> {
        let observers = self.observers.as_mut();
        observers.map_or_else(Vec::new, |o| std::mem::take(&mut o.watched))
    }

    /// Puts watches in, in the place of those that were taken out. Needs [`Shard::prepare_watches`].
    pub(crate) fn put_watches(&mut self, watches: Vec<Watched>) {
        if let Some(observers) = &mut self.observers {
            observers.watched = watches;
        }
        self.drop_idle_observers();
    }

    /// Events are of this database from now on.
    pub(crate) fn renumber(&mut self, notifier: &Arc<Notifier>, db: u8) {
        if let Some(notifying) = self.notifying(notifier) {
            notifying.db = db;
        }
    }

    /// Begins a load: where the keys that are watched are now.
    pub(super) fn watched_places(&self) -> Result<Vec<Option<u32>>> {
        let mut places = Vec::new();
        if let Some(observers) = &self.observers {
            try_reserve(&mut places, observers.watched.len())?;
            let place = |w: &Watched| self.find(w.order, &w.key).map(|found| found.offset);
            places.extend(observers.watched.iter().map(place));
        }
        Ok(places)
    }

    /// Ends a load: watches whose keys are elsewhere now are dirty. Nothing else has moved since.
    pub(super) fn tell_replaced(&mut self, before: &[Option<u32>]) {
        let Some(observers) = &self.observers else {
            return;
        };
        for (watched, &before) in observers.watched.iter().zip(before) {
            let now = self.find(watched.order, &watched.key).map(|f| f.offset);
            if now != before {
                watched.dirty.store(true, Ordering::SeqCst);
            }
        }
    }

    /// Whether changes are queued.
    pub(super) fn notifies(&self) -> bool {
        self.observers
            .as_ref()
            .is_some_and(|o| !o.notifying.is_empty())
    }
}
